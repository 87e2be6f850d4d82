//! When an endpoint is taken out of rotation for its failures.

use std::time::Duration;

use envoy::envoy::config::cluster::v3;

use super::field::{Checked, Path, fields};

/// Outlier detection by consecutive failures. On L4 a refused or timed-out connection is a failure of every kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row that eject an endpoint; 0 never does.
    pub consecutive_5xx: u32,
    /// Failures of a gateway (502 to 504, or no connection) in a row that eject; 0 never does.
    pub consecutive_gateway_failure: u32,
    /// Failures to connect in a row that eject, when they are counted apart; 0 never does.
    pub consecutive_local_origin_failure: u32,
    /// Whether failures to connect are counted apart from those that the endpoint answers.
    pub split_local_origin: bool,
    /// How often ejections are looked over.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th lasts n times as long.
    pub base_ejection_time: Duration,
    /// How long an ejection lasts at most.
    pub max_ejection_time: Duration,
    /// How many endpoints may be out at once, in percent.
    pub max_ejection_percent: u32,
    /// Whether one endpoint may be out whatever the percentage says.
    pub always_eject_one: bool,
}

pub(super) fn from_message(at: &Path<'_>, message: v3::OutlierDetection) -> Checked<OutlierDetection> {
    // Without enforcement of success rate and failure percentage, their parameters do nothing; there are no active
    // health checks that could uneject.
    fields!(at, message => v3::OutlierDetection { consecutive_5xx, interval, base_ejection_time, max_ejection_percent,
            enforcing_consecutive_5xx, enforcing_success_rate, consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
            consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
            enforcing_local_origin_success_rate, enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin, max_ejection_time, always_eject_one_host }
        refuse { max_ejection_time_jitter, monitors, detect_degraded_hosts }
        ignore { success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
            failure_percentage_threshold, failure_percentage_minimum_hosts, failure_percentage_request_volume,
            successful_active_health_check_uneject_host });
    for (name, percent) in [
        ("enforcing_success_rate", enforcing_success_rate),
        ("enforcing_local_origin_success_rate", enforcing_local_origin_success_rate),
        ("enforcing_failure_percentage", enforcing_failure_percentage),
        ("enforcing_failure_percentage_local_origin", enforcing_failure_percentage_local_origin),
    ] {
        // Success rates are enforced by default in Envoy, but only from five busy endpoints on, and only over HTTP.
        if percent.is_some_and(|p| p > 0) {
            return Err(at.field(name).reject("only consecutive failures are supported"));
        }
    }
    let span =
        |name: &str, value, default| at.field(name).duration(value).map(|d| d.unwrap_or(Duration::from_secs(default)));
    let base_ejection_time = span("base_ejection_time", base_ejection_time, 30)?;
    let max_ejection_percent = max_ejection_percent.unwrap_or(10);
    if max_ejection_percent > 100 {
        return Err(at.field("max_ejection_percent").reject("must be at most 100"));
    }
    let threshold = |name: &str, count: Option<u32>, enforcing: Option<u32>, default_enforcing: u32| match enforcing
        .unwrap_or(default_enforcing)
    {
        0 => Ok(0),
        100 => Ok(count.unwrap_or(5)),
        _ => Err(at.field(name).reject("only 0 and 100 are supported")),
    };
    Ok(OutlierDetection {
        consecutive_5xx: threshold("enforcing_consecutive_5xx", consecutive_5xx, enforcing_consecutive_5xx, 100)?,
        consecutive_gateway_failure: threshold(
            "enforcing_consecutive_gateway_failure",
            consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure,
            0,
        )?,
        consecutive_local_origin_failure: threshold(
            "enforcing_consecutive_local_origin_failure",
            consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure,
            100,
        )?,
        split_local_origin: split_external_local_origin_errors,
        interval: span("interval", interval, 10)?,
        base_ejection_time,
        max_ejection_time: span("max_ejection_time", max_ejection_time, 300)?.max(base_ejection_time),
        max_ejection_percent,
        always_eject_one: always_eject_one_host.unwrap_or(false),
    })
}
