//! Endpoints that are out of rotation for their failures.
//!
//! What came of a request is noted without a lock, by any worker. Ejections are decided by whoever holds the cluster's
//! records, one at a time. Nothing here reads a clock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::{HostRecord, lock};
use crate::config::{OutlierDetection, Trigger};
use crate::metrics::OutlierStats;

/// What came of a connection or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The endpoint answered over HTTP; a gRPC status counts as what HTTP would say.
    Response(StatusCode),
    /// A connection came about.
    Connected,
    /// It is passed on as it is: nothing more will be known of it.
    Carried,
    /// No connection came about, or it broke before the answer.
    Failed,
    /// There was no connection, or no answer, in time.
    TimedOut,
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    external: Rate,
    local: Rate,
    ejection: Mutex<Ejection>,
}

/// Requests, and those that succeeded, in an interval.
#[derive(Debug, Default)]
struct Rate {
    total: AtomicU32,
    succeeded: AtomicU32,
}

#[derive(Debug, Default)]
struct Ejection {
    since: Option<Instant>,
    /// How many times the base ejection time it lasts.
    times: u32,
    jitter: Duration,
}

/// The moment at which something is decided, and the dice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) time: Instant,
    pub(super) random: fn() -> u64,
}

impl Now {
    pub(super) fn real() -> Now {
        Now { time: Instant::now(), random: || fastrand::u64(..) }
    }
}

impl Monitor {
    /// Notes what came of a connection or a request. Failures that are now one too many are returned.
    pub(super) fn note(&self, detection: &OutlierDetection, outcome: Outcome) -> [Option<Cause>; 2] {
        if detection.split_local_origin {
            return match outcome {
                Outcome::Response(status) => self.answered(detection, status),
                Outcome::Connected => self.connected(),
                // That it came about was noted already.
                Outcome::Carried => [None, None],
                Outcome::Failed | Outcome::TimedOut => self.not_connected(detection),
            };
        }
        match outcome {
            Outcome::Response(status) => self.answered(detection, status),
            // What comes of the requests will tell more.
            Outcome::Connected => [None, None],
            Outcome::Carried => self.answered(detection, StatusCode::OK),
            Outcome::Failed => self.answered(detection, StatusCode::SERVICE_UNAVAILABLE),
            Outcome::TimedOut => self.answered(detection, StatusCode::GATEWAY_TIMEOUT),
        }
    }

    fn answered(&self, detection: &OutlierDetection, status: StatusCode) -> [Option<Cause>; 2] {
        self.external.note(!status.is_server_error());
        if !status.is_server_error() {
            self.consecutive_5xx.store(0, Ordering::Relaxed);
            self.consecutive_gateway_failure.store(0, Ordering::Relaxed);
            return [None, None];
        }
        let gateway = matches!(status.as_u16(), 502..=504);
        if !gateway {
            self.consecutive_gateway_failure.store(0, Ordering::Relaxed);
        }
        let gateway = gateway && one_more(&self.consecutive_gateway_failure, &detection.consecutive_gateway_failure);
        let any = one_more(&self.consecutive_5xx, &detection.consecutive_5xx);
        [gateway.then_some(Cause::ConsecutiveGatewayFailure), any.then_some(Cause::Consecutive5xx)]
    }

    fn connected(&self) -> [Option<Cause>; 2] {
        self.local.note(true);
        self.consecutive_local_origin_failure.store(0, Ordering::Relaxed);
        [None, None]
    }

    fn not_connected(&self, detection: &OutlierDetection) -> [Option<Cause>; 2] {
        self.local.note(false);
        let trigger = &detection.consecutive_local_origin_failure;
        let reached = one_more(&self.consecutive_local_origin_failure, trigger);
        [reached.then_some(Cause::ConsecutiveLocalOriginFailure), None]
    }

    fn reset(&self, cause: Cause) {
        let counter = match cause {
            Cause::Consecutive5xx => &self.consecutive_5xx,
            Cause::ConsecutiveGatewayFailure => &self.consecutive_gateway_failure,
            Cause::ConsecutiveLocalOriginFailure => &self.consecutive_local_origin_failure,
            // Rates begin anew with each interval.
            Cause::SuccessRate
            | Cause::LocalOriginSuccessRate
            | Cause::FailurePercentage
            | Cause::LocalOriginFailurePercentage => return,
        };
        counter.store(0, Ordering::Relaxed);
    }

    /// Whether the endpoint has been out for long enough.
    fn is_over(&self, detection: &OutlierDetection, now: Instant) -> bool {
        let ejection = lock(&self.ejection);
        let time = detection.base_ejection_time.saturating_mul(ejection.times).min(detection.max_ejection_time);
        ejection.since.is_none_or(|since| now.saturating_duration_since(since) >= time + ejection.jitter)
    }
}

/// Counts a failure, and says whether it is exactly the one that is too many.
fn one_more(counter: &AtomicU32, trigger: &Trigger) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == trigger.failures
}

impl Rate {
    fn note(&self, success: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.succeeded.fetch_add(u32::from(success), Ordering::Relaxed);
    }

    /// The requests of the interval that ends, and the percentage of those that succeeded.
    fn take(&self) -> (u32, f64) {
        let (succeeded, total) = (self.succeeded.swap(0, Ordering::Relaxed), self.total.swap(0, Ordering::Relaxed));
        (total, f64::from(succeeded) * 100.0 / f64::from(total))
    }
}

/// Decides about the endpoints of a cluster. Whoever has it holds the lock on the cluster's records, and so is the only
/// one who writes the statistics.
pub(super) struct Detector<'a> {
    pub(super) detection: &'a OutlierDetection,
    pub(super) stats: &'a OutlierStats,
    pub(super) records: &'a [Arc<HostRecord>],
    pub(super) now: Now,
}

impl Detector<'_> {
    /// Acts on failures that were too many. Returns whether the endpoint is ejected.
    pub(super) fn act(&self, record: &HostRecord, causes: [Option<Cause>; 2]) -> bool {
        let mut ejected = false;
        for cause in causes.into_iter().flatten().filter(|_| self.knows(record)) {
            if !record.is_ejected() {
                ejected |= self.detected(record, cause);
                record.monitor.reset(cause);
            }
        }
        ejected
    }

    /// Looks everything over, as happens once in each interval. Returns whether an endpoint was ejected or came back.
    pub(super) fn look_over(&self) -> bool {
        let over =
            |record: &&Arc<HostRecord>| record.is_ejected() && record.monitor.is_over(self.detection, self.now.time);
        let mut changed = false;
        for record in self.records.iter().filter(over) {
            self.uneject(record);
            changed = true;
        }
        changed |= self.compare(|monitor| &monitor.external, [Cause::SuccessRate, Cause::FailurePercentage]);
        let local = [Cause::LocalOriginSuccessRate, Cause::LocalOriginFailurePercentage];
        changed |= self.compare(|monitor| &monitor.local, local);
        for record in self.records.iter().filter(|record| !record.is_ejected()) {
            let mut ejection = lock(&record.monitor.ejection);
            ejection.times = ejection.times.saturating_sub(1);
        }
        changed
    }

    /// Puts an endpoint back into rotation.
    pub(super) fn uneject(&self, record: &HostRecord) {
        record.ejected.store(false, Ordering::Relaxed);
        self.stats.ejections_active.dec();
        [Cause::Consecutive5xx, Cause::ConsecutiveGatewayFailure, Cause::ConsecutiveLocalOriginFailure]
            .into_iter()
            .for_each(|cause| record.monitor.reset(cause));
    }

    /// Ejects endpoints whose rates are bad: compared with the others, or in themselves.
    fn compare(&self, rate: fn(&Monitor) -> &Rate, [success_cause, failure_cause]: [Cause; 2]) -> bool {
        let (success, failure) = (&self.detection.success_rate, &self.detection.failure_percentage);
        let rates: Vec<_> = self.records.iter().map(|record| (record, rate(&record.monitor).take())).collect();
        let rates: Vec<_> =
            rates.into_iter().filter(|(record, (total, _))| *total > 0 && !record.is_ejected()).collect();
        let with = |volume: u32| {
            let enough = rates.iter().filter(move |(_, (total, _))| *total >= volume);
            enough.map(|(record, (_, percent))| (*record, *percent)).collect::<Vec<_>>()
        };
        let mut changed = false;
        let valid = with(success.request_volume);
        if !valid.is_empty() && valid.len() >= size(success.minimum_hosts) {
            let threshold = threshold(&valid, success.deviations);
            for (record, _) in valid.iter().filter(|(_, percent)| *percent < threshold) {
                self.stats.ejections_success_rate.inc();
                changed |= self.detected(record, success_cause);
            }
        }
        let valid = with(failure.request_volume);
        if !valid.is_empty() && valid.len() >= size(failure.minimum_hosts) {
            for (record, _) in valid.iter().filter(|(_, percent)| 100.0 - percent >= f64::from(failure.threshold)) {
                changed |= self.detected(record, failure_cause);
            }
        }
        changed
    }

    /// Counts an outlier, and ejects it if that is allowed and enforced.
    fn detected(&self, record: &HostRecord, cause: Cause) -> bool {
        let stats = self.stats;
        let (detected, enforced, enforcing) = self.numbers(cause);
        detected.inc();
        if cause == Cause::Consecutive5xx {
            stats.ejections_consecutive_5xx.inc();
        }
        if !self.may_eject() {
            stats.ejections_overflow.inc();
            return false;
        }
        if matches!(cause, Cause::Consecutive5xx | Cause::SuccessRate) {
            stats.ejections_total.inc();
        }
        // An endpoint may be an outlier in two ways at once.
        if record.is_ejected() || (self.now.random)() % 100 >= u64::from(enforcing) {
            return false;
        }
        enforced.inc();
        stats.ejections_enforced_total.inc();
        stats.ejections_active.inc();
        self.eject(record);
        true
    }

    fn eject(&self, record: &HostRecord) {
        let detection = self.detection;
        let mut ejection = lock(&record.monitor.ejection);
        ejection.since = Some(self.now.time);
        let longest = u64::try_from(detection.jitter.as_millis()).unwrap_or(u64::MAX);
        ejection.jitter = Duration::from_millis((self.now.random)() % longest.saturating_add(1));
        // Beyond the longest time there is nothing to count.
        let time = detection.base_ejection_time.saturating_mul(ejection.times);
        if time < detection.max_ejection_time + detection.base_ejection_time {
            ejection.times += 1;
        }
        record.ejected.store(true, Ordering::Relaxed);
        record.fell.notify_waiters();
    }

    /// Whether the endpoint is still one of the cluster's.
    fn knows(&self, record: &HostRecord) -> bool {
        self.records.iter().any(|known| std::ptr::eq(&**known, record))
    }

    /// Whether another endpoint may go out of rotation.
    fn may_eject(&self) -> bool {
        let ejected = self.records.iter().filter(|record| record.is_ejected()).count();
        let share = 100.0 * (ejected + 1) as f64 / self.records.len().max(1) as f64;
        (ejected == 0 && self.detection.always_eject_one) || share <= f64::from(self.detection.max_ejection_percent)
    }

    /// What counts outliers of a cause, and their ejections, and how often they are ejected.
    fn numbers(&self, cause: Cause) -> (&crate::metrics::Counter, &crate::metrics::Counter, u32) {
        let (stats, detection) = (self.stats, self.detection);
        match cause {
            Cause::Consecutive5xx => {
                (&stats.detected_consecutive_5xx, &stats.enforced_consecutive_5xx, detection.consecutive_5xx.enforcing)
            }
            Cause::ConsecutiveGatewayFailure => (
                &stats.detected_consecutive_gateway_failure,
                &stats.enforced_consecutive_gateway_failure,
                detection.consecutive_gateway_failure.enforcing,
            ),
            Cause::ConsecutiveLocalOriginFailure => (
                &stats.detected_consecutive_local_origin_failure,
                &stats.enforced_consecutive_local_origin_failure,
                detection.consecutive_local_origin_failure.enforcing,
            ),
            Cause::SuccessRate => {
                (&stats.detected_success_rate, &stats.enforced_success_rate, detection.success_rate.enforcing)
            }
            Cause::LocalOriginSuccessRate => (
                &stats.detected_local_origin_success_rate,
                &stats.enforced_local_origin_success_rate,
                detection.success_rate.enforcing_local_origin,
            ),
            Cause::FailurePercentage => (
                &stats.detected_failure_percentage,
                &stats.enforced_failure_percentage,
                detection.failure_percentage.enforcing,
            ),
            Cause::LocalOriginFailurePercentage => (
                &stats.detected_local_origin_failure_percentage,
                &stats.enforced_local_origin_failure_percentage,
                detection.failure_percentage.enforcing_local_origin,
            ),
        }
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The success rate below which an endpoint does worse than the others.
fn threshold(rates: &[(&Arc<HostRecord>, f64)], deviations: f64) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - deviations * variance.sqrt()
}

#[cfg(test)]
mod tests;
