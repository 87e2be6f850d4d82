//! One sort of load, and what it costs each program.
//!
//! Every program has the same requests at the same fixed rate, seven tenths of what Envoy can do, or less if the client cannot
//! ask that often. Runs are interleaved (A-B-B-A), so that what else the machine does meets all alike. A ratio is
//! not given where the client, the upstream or an error had a say in it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::pace::{Outcome, at_most, at_rate};
use crate::process::Spent;
use crate::proxy::certificates::Certificates;
use crate::proxy::client::{Client, Kind, Secured};
use crate::proxy::hop::{Hop, Terminate, Work};
use crate::proxy::upstream::Upstream;
use crate::proxy::{Program, Proxy, free_address};
use crate::statistics::{Spread, microseconds, percentile};

/// The part of Envoy's largest rate at which all are measured.
const PART: f64 = 0.7;
/// How much of its core the load may need for that.
const LOAD: f64 = 0.75;
/// From which part of a core on whoever uses it is what holds the others up.
const BUSY: f64 = 0.9;
/// How much of what is asked for must be answered in time.
const KEPT_UP: f64 = 0.97;
const WARM: Duration = Duration::from_millis(300);
const FASTEST: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// How often all programs have their turn, there and back.
    pub(crate) rounds: usize,
    /// For how long requests come at the fixed rate.
    pub(crate) time: Duration,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Per {
    Requests,
    Connections,
    /// Requests that carry so many bytes each.
    Bytes(usize),
}

impl Per {
    /// In how many requests something is counted once.
    fn scale(self) -> f64 {
        match self {
            Per::Requests | Per::Connections => 1e5,
            Per::Bytes(bytes) => 1e9 / bytes as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Per::Requests => "100,000 requests",
            Per::Connections => "100,000 connections",
            Per::Bytes(_) => "gigabyte",
        }
    }
}

/// A sort of load.
pub(crate) struct Load<'a> {
    pub(crate) what: &'static str,
    pub(crate) per: Per,
    /// What our processor time may be of Envoy's.
    pub(crate) target: Option<f64>,
    pub(crate) lanes: usize,
    pub(crate) kind: Kind,
    pub(crate) upstream: Upstream,
    pub(crate) work: Work,
    pub(crate) terminate: Option<Terminate<'a>>,
    pub(crate) tls: Option<Secured>,
    /// There are two proxies on the way, with mutual TLS between them.
    pub(crate) between: Option<&'a Certificates>,
    /// Whether the client can speak to the upstream itself.
    pub(crate) direct: bool,
}

/// Proxies on the way to an upstream, and the client.
struct Stand {
    proxies: Vec<Proxy>,
    client: Client,
}

impl Load<'_> {
    fn stand(&self, program: &Program, runtime: &Runtime) -> anyhow::Result<Option<Stand>> {
        let mut endpoint = runtime.block_on(self.upstream.start())?;
        let mut proxies = Vec::new();
        let mut hop = |terminate, originate| {
            let listen = free_address()?;
            let hop = Hop { listen, endpoint, terminate, originate, work: self.work };
            let Some(proxy) = Proxy::start(program, &hop)? else { return anyhow::Ok(false) };
            proxies.push(proxy);
            endpoint = listen;
            Ok(true)
        };
        let is_served = match (program, self.between) {
            (Program::Direct, _) => self.direct,
            // They do not tell HTTP/2 from HTTP/1.1 on one port without TLS.
            (Program::Nginx(_) | Program::Haproxy(_), _) if matches!(self.kind, Kind::Http2 { .. } | Kind::Grpc) => {
                false
            }
            (_, None) => hop(self.terminate, None)?,
            (_, Some(both)) => hop(Some(Terminate::Mutual(both)), None)? && hop(self.terminate, Some(both))?,
        };
        let client = Client::new(endpoint, self.kind.clone(), self.tls.clone());
        Ok(is_served.then_some(Stand { proxies, client }))
    }

    /// The rate for all, and what part it is of what `program` can do.
    fn rate(&self, program: &Program) -> anyhow::Result<(f64, f64)> {
        let runtime = runtime()?;
        let stand = self.stand(program, &runtime)?.with_context(|| format!("{}: nothing to begin with", self.what))?;
        let mut lanes = runtime.block_on(stand.client.lanes(self.lanes))?;
        runtime.block_on(at_most(&stand.client, &mut lanes, WARM))?;
        let most = stand.most(&runtime, &mut lanes)?;
        // Where the proxy still had time, it could have done more.
        let largest = if most.proxies > 0.0 { most.rate / most.proxies.min(1.0) } else { most.rate };
        let rate = (PART * largest).min(LOAD * most.rate / most.load);
        Ok((rate, rate / largest))
    }

    fn sample(&self, program: &Program, rate: f64, time: Duration) -> anyhow::Result<Option<Sample>> {
        let runtime = runtime()?;
        let Some(stand) = self.stand(program, &runtime)? else { return Ok(None) };
        let idle = stand.resident()?;
        let mut lanes = runtime.block_on(stand.client.lanes(self.lanes))?;
        runtime.block_on(at_rate(&stand.client, &mut lanes, rate, WARM))?;
        let (before, own) = (stand.spent()?, own_time()?);
        let outcome = runtime.block_on(at_rate(&stand.client, &mut lanes, rate, time))?;
        let (spent, own) = (stand.spent()? - before, own_time()? - own);
        let loaded = stand.resident()?;
        let most = stand.most(&runtime, &mut lanes)?;
        Ok(Some(self.evaluate(&outcome, spent, own, &most, (idle, loaded))))
    }

    fn evaluate(&self, outcome: &Outcome, spent: Spent, own: Spent, most: &Most, (idle, loaded): (f64, f64)) -> Sample {
        let each = self.per.scale() / outcome.times.len().max(1) as f64;
        let late = |percent| microseconds(percentile(&outcome.times, percent));
        let system = spent.in_kernel();
        let values = [
            ("cpu", spent.seconds() * each),
            ("user", (spent.seconds() - system) * each),
            ("system", system * each),
            ("rate", outcome.per_second()),
            ("p50", late(50.0)),
            ("p99", late(99.0)),
            ("p99.9", late(99.9)),
            ("most", most.rate),
            ("busy", most.proxies),
            ("idle", idle),
            ("loaded", loaded),
            ("load", own.seconds() / outcome.wall.as_secs_f64()),
        ];
        Sample {
            values,
            errors: outcome.errors + most.errors,
            complaint: outcome.complaint.clone().or(most.complaint.clone()),
        }
    }
}

/// As much as is answered.
struct Most {
    rate: f64,
    /// How much of a core the proxies used meanwhile, and the load.
    proxies: f64,
    load: f64,
    errors: u64,
    complaint: Option<String>,
}

impl Stand {
    fn spent(&self) -> anyhow::Result<Spent> {
        self.proxies.iter().try_fold(Spent::default(), |sum, proxy| Ok(sum + proxy.spent()?))
    }

    fn resident(&self) -> anyhow::Result<f64> {
        self.proxies.iter().try_fold(0.0, |sum, proxy| Ok(sum + proxy.resident()?))
    }

    fn most(&self, runtime: &Runtime, lanes: &mut [crate::proxy::client::Lane]) -> anyhow::Result<Most> {
        let (before, own) = (self.spent()?, own_time()?);
        let outcome = runtime.block_on(at_most(&self.client, lanes, FASTEST))?;
        let part = |spent: Spent| spent.seconds() / outcome.wall.as_secs_f64();
        Ok(Most {
            rate: outcome.per_second(),
            proxies: part(self.spent()? - before),
            load: part(own_time()? - own),
            errors: outcome.errors,
            complaint: outcome.complaint.clone(),
        })
    }
}

/// A runtime for one run: what it has begun ends with it.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What client and upstream have spent, which are this process.
pub(crate) fn own_time() -> anyhow::Result<Spent> {
    Spent::by(Pid::this())
}

/// What one run came to, by the names of [`Line::values`].
struct Sample {
    values: [(&'static str, f64); 12],
    errors: u64,
    complaint: Option<String>,
}

/// A load and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) what: &'static str,
    /// What processor time is counted for.
    pub(crate) per: &'static str,
    /// Requests in a second, the same for all.
    pub(crate) rate: f64,
    /// The part that this is of the largest rate of [`Comparison::of`].
    pub(crate) part: f64,
    pub(crate) of: &'static str,
    pub(crate) lines: Vec<Line>,
    /// Ours by Envoy's, of some values.
    pub(crate) ratios: BTreeMap<&'static str, f64>,
    /// Why ratios are missing.
    pub(crate) refused: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<f64>,
}

/// What one program's runs came to.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) program: &'static str,
    /// `cpu`, `user` and `system` in seconds for each of what is counted; `rate` and `most` (as many as are answered) in a
    /// second; `p50`, `p99` and `p99.9` in microseconds; `idle` and `loaded` in megabytes; `busy` and `load` in parts of a
    /// core, of the proxies when they have the most to do, and of the client and the upstream at the fixed rate.
    pub(crate) values: BTreeMap<&'static str, Spread>,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) complaint: Option<String>,
}

impl Line {
    pub(crate) fn median(&self, name: &str) -> f64 {
        self.values.get(name).map_or(f64::NAN, |spread| spread.median)
    }

    /// What makes its numbers say something else than what the program can do.
    fn doubt(&self, rate: f64) -> Option<String> {
        let Line { program, errors, complaint, .. } = self;
        if *errors > 0 {
            return Some(format!("{program} had {errors} errors: {}", complaint.as_deref().unwrap_or_default()));
        }
        if self.median("load") > BUSY {
            return Some(format!("client and upstream were busy with {program}, {:.0} %", self.median("load") * 100.0));
        }
        let kept_up = self.median("rate") / rate;
        (kept_up < KEPT_UP).then(|| format!("{program} answered only {:.0} % in time", kept_up * 100.0))
    }

    /// Whether its largest rate is its own, and not the client's.
    pub(crate) fn is_limit(&self) -> bool {
        self.median("busy") > BUSY
    }
}

/// Measures a load with all programs that can have it.
pub(crate) fn compare(load: &Load<'_>, programs: &[Program], extent: Extent) -> anyhow::Result<Comparison> {
    let standard = programs.iter().find(|program| matches!(program, Program::Envoy(_))).unwrap_or(&programs[0]);
    let (rate, part) = load.rate(standard)?;
    let mut samples: Vec<Vec<Sample>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..extent.rounds {
        let there = 0..programs.len();
        for n in there.clone().chain(there.rev()) {
            let sample = load.sample(&programs[n], rate, extent.time);
            samples[n].extend(sample.with_context(|| format!("{}, {}", load.what, programs[n].name()))?);
        }
    }
    let lines = programs.iter().zip(samples).filter_map(|(program, samples)| line(program, &samples)).collect();
    let (what, per, target) = (load.what, load.per.unit(), load.target);
    let (ratios, refused) = (BTreeMap::new(), Vec::new());
    let of = standard.name();
    let mut comparison = Comparison { what, per, rate, part, of, lines, ratios, refused, target };
    comparison.judge();
    Ok(comparison)
}

fn line(program: &Program, samples: &[Sample]) -> Option<Line> {
    let of = |n: usize| Spread::of(samples.iter().map(|sample| sample.values[n].1).collect());
    let names = samples.first()?.values.iter().enumerate();
    let values = names.filter_map(|(n, (name, _))| Some((*name, of(n)?))).collect();
    let errors = samples.iter().map(|sample| sample.errors).sum();
    let complaint = samples.iter().find_map(|sample| sample.complaint.clone());
    Some(Line { program: program.name(), values, errors, complaint })
}

impl Comparison {
    pub(crate) fn line(&self, program: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.program == program)
    }

    /// Gives the ratios that may be given.
    fn judge(&mut self) {
        let (Some(ours), Some(theirs)) = (self.line("isthmus"), self.line("envoy")) else {
            self.refused.push("there is no Envoy to compare with".to_owned());
            return;
        };
        let mut refused: Vec<String> = [ours, theirs].iter().filter_map(|line| line.doubt(self.rate)).collect();
        let mut ratios = BTreeMap::new();
        if refused.is_empty() {
            let names = ["cpu", "p50", "p99", "p99.9", "idle", "loaded"];
            ratios.extend(names.map(|name| (name, ours.median(name) / theirs.median(name))));
            if ours.is_limit() && theirs.is_limit() {
                ratios.insert("most", ours.median("most") / theirs.median("most"));
            } else {
                refused.push("of the largest rates: the client or the upstream was the limit".to_owned());
            }
        }
        (self.ratios, self.refused) = (ratios, refused);
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part * 100.0;
        writeln!(
            f,
            "  {} ({:.0}/s, {part:.0} % of {}'s largest rate; s per {})",
            self.what, self.rate, self.of, self.per
        )?;
        writeln!(
            f,
            "    {:<8} {:>7} {:>15} {:>6} {:>6} {:>8} {:>8} {:>8} {:>10} {:>6} {:>6} {:>5} {:>6}",
            "",
            "CPU",
            "(from to)",
            "user",
            "system",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "largest/s",
            "idle",
            "loaded",
            "load",
            "errors"
        )?;
        for line in &self.lines {
            let cpu = line.values["cpu"];
            let most = format!("{}{:.0}", if line.is_limit() { "" } else { ">" }, line.median("most"));
            writeln!(
                f,
                "    {:<8} {:>7.3} {:>15} {:>6.3} {:>6.3} {:>8.0} {:>8.0} {:>8.0} {most:>10} {:>6.1} {:>6.1} {:>4.0}% {:>6}",
                line.program,
                cpu.median,
                format!("({:.3} {:.3})", cpu.low, cpu.high),
                line.median("user"),
                line.median("system"),
                line.median("p50"),
                line.median("p99"),
                line.median("p99.9"),
                line.median("idle"),
                line.median("loaded"),
                line.median("load") * 100.0,
                line.errors,
            )?;
        }
        if !self.ratios.is_empty() {
            let shown: Vec<String> = self.ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
            write!(f, "    isthmus / envoy: {}", shown.join(", "))?;
            match self.target {
                Some(target) => writeln!(f, "   (target: cpu {target})")?,
                None => writeln!(f)?,
            }
        }
        for reason in &self.refused {
            writeln!(f, "    no comparison: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &'static str, cpu: f64, load: f64, errors: u64) -> Line {
        let exactly = |value| Spread { median: value, low: value, high: value };
        let values =
            [("cpu", cpu), ("rate", 100.0), ("load", load), ("busy", 0.5)].map(|(name, value)| (name, exactly(value)));
        Line { program, values: values.into(), errors, complaint: None }
    }

    fn judged(ours: Line, theirs: Line, rate: f64) -> Comparison {
        let (ratios, refused) = (BTreeMap::new(), Vec::new());
        let lines = vec![ours, theirs];
        let mut comparison =
            Comparison { what: "w", per: "r", rate, part: 0.7, of: "envoy", lines, ratios, refused, target: None };
        comparison.judge();
        comparison
    }

    #[test]
    fn a_ratio_is_ours_by_theirs() {
        let judged = judged(line("isthmus", 1.0, 0.5, 0), line("envoy", 4.0, 0.5, 0), 100.0);
        assert_eq!(judged.ratios["cpu"], 0.25);
        assert!(!judged.ratios.contains_key("most"), "neither had as much to do as it can");
    }

    #[test]
    fn nothing_is_compared_that_something_else_had_a_say_in() {
        let refused = |ours, theirs, rate| {
            let judged = judged(ours, theirs, rate);
            assert!(judged.ratios.is_empty());
            judged.refused.join("; ")
        };
        let fine = || line("isthmus", 1.0, 0.5, 0);
        assert_eq!(refused(fine(), line("envoy", 1.0, 0.5, 3), 100.0), "envoy had 3 errors: ");
        assert!(refused(fine(), line("envoy", 1.0, 0.95, 0), 100.0).contains("busy with envoy, 95 %"));
        assert!(refused(fine(), line("envoy", 1.0, 0.5, 0), 200.0).contains("answered only 50 % in time"));
        assert!(refused(fine(), line("nginx", 1.0, 0.5, 0), 100.0).contains("no Envoy"));
    }
}
