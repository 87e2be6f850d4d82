//! When an endpoint is taken out of rotation for its failures.

use std::time::Duration;

use envoy::envoy::config::cluster::v3;

use super::field::{Checked, Path, fields};

/// Outlier detection.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// Failures in a row, over HTTP answers from 500 on.
    pub consecutive_5xx: Trigger,
    /// Failures of a gateway in a row: over HTTP 502 to 504.
    pub consecutive_gateway_failure: Trigger,
    /// Failures to connect in a row, when they are counted apart.
    pub consecutive_local_origin_failure: Trigger,
    /// Whether failures to connect are counted apart from those that the endpoint answers.
    pub split_local_origin: bool,
    /// Endpoints that do worse than the others.
    pub success_rate: SuccessRate,
    /// Endpoints that fail too large a part of their requests.
    pub failure_percentage: FailurePercentage,
    /// How often ejections and rates are looked over.
    pub interval: Duration,
    /// How long the first ejection lasts; the n-th lasts n times as long.
    pub base_ejection_time: Duration,
    /// How long an ejection lasts at most, but for the jitter.
    pub max_ejection_time: Duration,
    /// How much longer, by chance, an ejection may last.
    pub jitter: Duration,
    /// How many endpoints may be out at once, in percent.
    pub max_ejection_percent: u32,
    /// Whether one endpoint may be out whatever the percentage says.
    pub always_eject_one: bool,
    /// Whether an endpoint comes back when it says that it is well.
    pub readmit_on_health: bool,
}

/// So many failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trigger {
    /// How many; 0 is never reached.
    pub failures: u32,
    /// How often the endpoint is then ejected, in percent; otherwise it is only counted.
    pub enforcing: u32,
}

/// When an endpoint does worse than the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate {
    /// With how many endpoints there is something to compare.
    pub minimum_hosts: u32,
    /// With how many requests in an interval an endpoint counts.
    pub request_volume: u32,
    /// How many standard deviations below the mean are too low.
    pub deviations: f64,
    /// How often such an endpoint is ejected, in percent.
    pub enforcing: u32,
    /// The same for failures to connect, when they are counted apart.
    pub enforcing_local_origin: u32,
}

/// When an endpoint fails too large a part of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePercentage {
    /// The part that is too large, in percent.
    pub threshold: u32,
    /// How many endpoints there must be.
    pub minimum_hosts: u32,
    /// With how many requests in an interval an endpoint counts.
    pub request_volume: u32,
    /// How often such an endpoint is ejected, in percent.
    pub enforcing: u32,
    /// The same for failures to connect, when they are counted apart.
    pub enforcing_local_origin: u32,
}

/// The defaults are Envoy 1.40's.
pub(super) fn from_message(at: &Path<'_>, message: v3::OutlierDetection) -> Checked<OutlierDetection> {
    fields!(at, message => v3::OutlierDetection { consecutive_5xx, interval, base_ejection_time, max_ejection_percent,
            enforcing_consecutive_5xx, enforcing_success_rate, success_rate_minimum_hosts,
            success_rate_request_volume, success_rate_stdev_factor, consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
            consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
            enforcing_local_origin_success_rate, failure_percentage_threshold, enforcing_failure_percentage,
            enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts,
            failure_percentage_request_volume, max_ejection_time, max_ejection_time_jitter, always_eject_one_host,
            successful_active_health_check_uneject_host }
        refuse { monitors, detect_degraded_hosts });
    let percent = |name: &str, value: Option<u32>, default: u32| match value.unwrap_or(default) {
        percent if percent > 100 => Err(at.field(name).reject("must be at most 100")),
        percent => Ok(percent),
    };
    let span =
        |name: &str, value, default| at.field(name).duration(value).map(|d| d.unwrap_or(Duration::from_secs(default)));
    let interval = span("interval", interval, 10)?;
    if interval.is_zero() {
        return Err(at.field("interval").reject("must be more than zero"));
    }
    let base_ejection_time = span("base_ejection_time", base_ejection_time, 30)?;
    let longest_at = at.field("max_ejection_time");
    let longest = longest_at.duration(max_ejection_time)?;
    if longest.is_some_and(|longest| longest < base_ejection_time) {
        return Err(longest_at.reject("must not be less than base_ejection_time"));
    }
    let trigger = |name: &str, failures: Option<u32>, enforcing: Option<u32>, default: u32| {
        Ok(Trigger { failures: failures.unwrap_or(5), enforcing: percent(name, enforcing, default)? })
    };
    Ok(OutlierDetection {
        consecutive_5xx: trigger("enforcing_consecutive_5xx", consecutive_5xx, enforcing_consecutive_5xx, 100)?,
        consecutive_gateway_failure: trigger(
            "enforcing_consecutive_gateway_failure",
            consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure,
            0,
        )?,
        consecutive_local_origin_failure: trigger(
            "enforcing_consecutive_local_origin_failure",
            consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure,
            100,
        )?,
        split_local_origin: split_external_local_origin_errors,
        success_rate: SuccessRate {
            minimum_hosts: success_rate_minimum_hosts.unwrap_or(5),
            request_volume: success_rate_request_volume.unwrap_or(100),
            deviations: f64::from(success_rate_stdev_factor.unwrap_or(1900)) / 1000.0,
            enforcing: percent("enforcing_success_rate", enforcing_success_rate, 100)?,
            enforcing_local_origin: percent(
                "enforcing_local_origin_success_rate",
                enforcing_local_origin_success_rate,
                100,
            )?,
        },
        failure_percentage: FailurePercentage {
            threshold: percent("failure_percentage_threshold", failure_percentage_threshold, 85)?,
            minimum_hosts: failure_percentage_minimum_hosts.unwrap_or(5),
            request_volume: failure_percentage_request_volume.unwrap_or(50),
            enforcing: percent("enforcing_failure_percentage", enforcing_failure_percentage, 0)?,
            enforcing_local_origin: percent(
                "enforcing_failure_percentage_local_origin",
                enforcing_failure_percentage_local_origin,
                0,
            )?,
        },
        interval,
        base_ejection_time,
        max_ejection_time: longest.unwrap_or(Duration::from_secs(300)).max(base_ejection_time),
        jitter: span("max_ejection_time_jitter", max_ejection_time_jitter, 0)?,
        max_ejection_percent: percent("max_ejection_percent", max_ejection_percent, 10)?,
        always_eject_one: always_eject_one_host.unwrap_or(false),
        readmit_on_health: successful_active_health_check_uneject_host.unwrap_or(true),
    })
}
