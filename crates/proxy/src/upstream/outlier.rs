//! Endpoints that are out of rotation for their failures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Host, HostRecord, Upstream};
use crate::config::OutlierDetection;

impl HostRecord {
    /// A connection came about.
    pub(super) fn succeeded(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A connection did not come about. If that is one too many, the endpoint goes out of rotation, for as long as is
    /// returned; then it must be [readmitted](Self::readmit).
    pub(super) fn failed(&self, host: &Host) -> Option<Duration> {
        host.record.failed.fetch_add(1, Ordering::Relaxed);
        let failures = host.record.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let detection = self.config.outlier_detection.as_ref()?;
        if !is_too_many(detection, failures) || !self.may_eject(detection) {
            return None;
        }
        if host.record.ejected.swap(true, Ordering::Relaxed) {
            return None;
        }
        host.record.failures_in_a_row.store(0, Ordering::Relaxed);
        let times = host.record.ejections.fetch_add(1, Ordering::Relaxed) + 1;
        self.refresh();
        Some(detection.base_ejection_time.saturating_mul(times).min(detection.max_ejection_time))
    }

    /// Puts an endpoint back into rotation.
    pub(crate) fn readmit(&self, record: &Arc<HostRecord>) {
        record.ejected.store(false, Ordering::Relaxed);
        self.refresh();
    }

    /// Whether another endpoint may go out of rotation.
    fn may_eject(&self, detection: &OutlierDetection) -> bool {
        let hosts = self.hosts();
        let ejected = hosts.iter().filter(|h| h.record.ejected.load(Ordering::Relaxed)).count();
        let share = 100 * (ejected + 1) / hosts.len().max(1);
        (ejected == 0 && detection.always_eject_one)
            || share <= usize::try_from(detection.max_ejection_percent).unwrap_or(usize::MAX)
    }
}

/// On L4 a failure to connect is a failure of every kind, unless kinds are told apart.
fn is_too_many(detection: &OutlierDetection, failures: u32) -> bool {
    let reached = |threshold: u32| threshold > 0 && failures >= threshold;
    if detection.split_local_origin {
        return reached(detection.consecutive_local_origin_failure);
    }
    reached(detection.consecutive_5xx) || reached(detection.consecutive_gateway_failure)
}
