//! Counters in the Prometheus text format, under the names that kube-apiserver uses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The upper bounds of the duration histogram, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    /// `GET`, `LIST`, `WATCH`, `POST`, …, as Kubernetes labels them.
    pub(super) verb: &'static str,
    pub(super) group: String,
    /// Only resources that exist are named, so that clients cannot make up series.
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) code: u16,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len()],
}

/// What the server counts.
#[derive(Default)]
pub(super) struct Metrics {
    series: RwLock<BTreeMap<Series, Arc<Counts>>>,
    watches: AtomicI64,
    rejected: AtomicU64,
}

/// Counts one watch for as long as it lives.
pub(super) struct Watching(Arc<Metrics>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Relaxed);
    }
}

impl Metrics {
    pub(super) fn watching(self: &Arc<Metrics>) -> Watching {
        self.watches.fetch_add(1, Relaxed);
        Watching(self.clone())
    }

    /// A request was turned away because too many are being served.
    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(super) fn request(&self, series: Series, took: Duration) {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&series).cloned();
        let counts = known.unwrap_or_else(|| {
            self.series.write().unwrap_or_else(PoisonError::into_inner).entry(series).or_default().clone()
        });
        counts.requests.fetch_add(1, Relaxed);
        counts.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        for (bound, bucket) in BOUNDS.iter().zip(&counts.buckets) {
            if took.as_secs_f64() <= *bound {
                bucket.fetch_add(1, Relaxed);
            }
        }
    }

    /// The exposition, with the store's revision.
    pub(super) fn render(&self, revision: u64) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, revision);
        text
    }

    fn write(&self, out: &mut String, revision: u64) -> std::fmt::Result {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "# HELP apiserver_request_total Requests by verb, resource and response code.")?;
        writeln!(out, "# TYPE apiserver_request_total counter")?;
        for (series, counts) in series.iter() {
            let Series { verb, group, resource, subresource, code } = series;
            write!(out, "apiserver_request_total{{verb=\"{verb}\",group=\"{group}\",resource=\"{resource}\",")?;
            writeln!(out, "subresource=\"{subresource}\",code=\"{code}\"}} {}", counts.requests.load(Relaxed))?;
        }
        writeln!(out, "# HELP apiserver_request_duration_seconds Time to answer, by verb and resource.")?;
        writeln!(out, "# TYPE apiserver_request_duration_seconds histogram")?;
        for ((verb, group, resource, subresource), sum) in durations(&series) {
            let labels =
                format!("verb=\"{verb}\",group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\"");
            for (bound, count) in BOUNDS.iter().zip(sum.buckets) {
                writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            }
            let Sum { requests, micros, .. } = sum;
            writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {requests}")?;
            writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", micros as f64 / 1e6)?;
            writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {requests}")?;
        }
        writeln!(out, "# HELP apiserver_longrunning_requests Watches that are open.")?;
        writeln!(out, "# TYPE apiserver_longrunning_requests gauge")?;
        writeln!(out, "apiserver_longrunning_requests{{verb=\"WATCH\"}} {}", self.watches.load(Relaxed))?;
        writeln!(out, "# HELP apiserver_rejected_requests_total Requests turned away because too many were served.")?;
        writeln!(out, "# TYPE apiserver_rejected_requests_total counter")?;
        writeln!(out, "apiserver_rejected_requests_total {}", self.rejected.load(Relaxed))?;
        writeln!(out, "# HELP isthmus_store_revision The revision of the newest committed write.")?;
        writeln!(out, "# TYPE isthmus_store_revision gauge")?;
        writeln!(out, "isthmus_store_revision {revision}")
    }
}

#[derive(Default)]
struct Sum {
    requests: u64,
    micros: u64,
    buckets: [u64; BOUNDS.len()],
}

type Timed<'a> = (&'static str, &'a str, &'a str, &'a str);

/// Durations are reported without the response code.
fn durations(series: &BTreeMap<Series, Arc<Counts>>) -> BTreeMap<Timed<'_>, Sum> {
    let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
    for (series, counts) in series {
        let Series { verb, group, resource, subresource, code: _ } = series;
        let sum = sums.entry((*verb, group.as_str(), resource.as_str(), subresource.as_str())).or_default();
        sum.requests += counts.requests.load(Relaxed);
        sum.micros += counts.micros.load(Relaxed);
        for (total, bucket) in sum.buckets.iter_mut().zip(&counts.buckets) {
            *total += bucket.load(Relaxed);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_watches_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let series = |code| Series {
            verb: "GET",
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: String::new(),
            code,
        };
        metrics.request(series(200), Duration::from_millis(2));
        metrics.request(series(404), Duration::from_millis(20));
        let watching = metrics.watching();
        let text = metrics.render(7);
        let labels = "verb=\"GET\",group=\"\",resource=\"pods\",subresource=\"\"";
        for line in [
            format!("apiserver_request_total{{{labels},code=\"404\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 1"),
            format!("apiserver_request_duration_seconds_count{{{labels}}} 2"),
            "apiserver_longrunning_requests{verb=\"WATCH\"} 1".to_owned(),
            "isthmus_store_revision 7".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        drop(watching);
        assert!(metrics.render(7).contains("{verb=\"WATCH\"} 0"));
    }
}
