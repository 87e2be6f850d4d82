//! What answers in a row say of an endpoint.

use std::time::Duration;

use super::probe::Finding;
use crate::config::HealthCheck;
use crate::upstream::Verdict;

/// The answers of an endpoint so far.
#[derive(Debug)]
pub(super) struct Session {
    healthy: bool,
    /// Whether there was none yet.
    first: bool,
    good: u32,
    bad: u32,
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Unchanged,
    /// Some more like this one will change it.
    Pending,
    Changed,
}

impl Session {
    /// A session with an endpoint that was found like this before.
    pub(super) fn new(verdict: Verdict) -> Session {
        let healthy = matches!(verdict, Verdict::Healthy | Verdict::Degraded);
        Session { healthy, first: verdict == Verdict::Unknown, good: 0, bad: 0 }
    }

    pub(super) fn note(&mut self, check: &HealthCheck, finding: Finding) -> Turn {
        let first = std::mem::replace(&mut self.first, false);
        let counted = if finding.is_good() { (&mut self.good, &mut self.bad) } else { (&mut self.bad, &mut self.good) };
        *counted.1 = 0;
        if self.healthy == finding.is_good() {
            *counted.0 = 0;
            return Turn::Unchanged;
        }
        *counted.0 += 1;
        let (at_once, threshold) = match finding {
            Finding::Good | Finding::Degraded => (first, check.healthy_threshold),
            // An endpoint that says itself that it is not well is believed.
            Finding::Worse => (true, check.unhealthy_threshold),
            Finding::Bad | Finding::Unreachable => (false, check.unhealthy_threshold),
        };
        if !at_once && *counted.0 < threshold {
            return Turn::Pending;
        }
        *counted.0 = 0;
        self.healthy = finding.is_good();
        Turn::Changed
    }
}

/// How long it is until the next question; `used` is whether the cluster has ever been used.
pub(super) fn pause(check: &HealthCheck, good: bool, turn: Turn, used: bool, random: u64) -> Duration {
    let intervals = &check.intervals;
    let base = match (used, good, turn == Turn::Pending) {
        (false, true, false) => intervals.no_traffic_healthy,
        (false, ..) => intervals.no_traffic,
        (true, true, false) => intervals.healthy,
        (true, true, true) => intervals.healthy_edge,
        (true, false, false) => intervals.unhealthy,
        (true, false, true) => intervals.unhealthy_edge,
    };
    let part = base.saturating_mul(check.jitter_percent) / 100;
    // One number decides twice: each half on one of the two.
    base + drawn(part, random & 0xffff_ffff) + drawn(check.jitter, random >> 32)
}

/// Some time that is shorter than this one, to the millisecond.
pub(super) fn drawn(most: Duration, random: u64) -> Duration {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.checked_rem(most).unwrap_or_default())
}

#[cfg(test)]
mod tests;
