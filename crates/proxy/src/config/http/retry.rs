//! When a request is sent again.

use std::time::Duration;

use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType;
use envoy::envoy::config::route::v3::retry_policy::{RetryBackOff, RetryHostPredicate};
use envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use http::StatusCode;

use super::route_match::HeaderMatch;
use crate::config::field::{Checked, Path, fields};

/// How long the first pause is if the policy does not say (Envoy 1.40).
const BASE_INTERVAL: Duration = Duration::from_millis(25);

/// A retry policy.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// What is worth another attempt.
    pub on: RetryOn,
    /// How many attempts follow the first.
    pub retries: u32,
    /// How long an attempt may take; `None` is as long as the request.
    pub per_try_timeout: Option<Duration>,
    /// Whether an endpoint that has been tried is avoided.
    pub avoid_previous_hosts: bool,
    /// How often an endpoint is drawn to find one that is not avoided.
    pub selection_attempts: u32,
    /// The statuses of [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub statuses: Box<[StatusCode]>,
    /// The response headers of [`RetryOn::RETRIABLE_HEADERS`].
    pub response_headers: Box<[HeaderMatch]>,
    /// If there are any, one must match the request for it to be retried.
    pub request_headers: Box<[HeaderMatch]>,
    /// The pause before the first retry, which doubles from one to the next, and the longest.
    pub back_off: (Duration, Duration),
}

/// A set of conditions of retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RetryOn(u32);

/// Every condition by its name.
const NAMES: &[(&str, RetryOn)] = &[
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::ENVOY_RATELIMITED),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::RETRIABLE_STATUS_CODES),
    ("retriable-headers", RetryOn::RETRIABLE_HEADERS),
    // There is no HTTP/3 here, so that this never happens.
    ("http3-post-connect-failure", RetryOn(0)),
    ("cancelled", RetryOn::CANCELLED),
    ("deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
    ("internal", RetryOn::INTERNAL),
    ("resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::UNAVAILABLE),
];

impl RetryOn {
    /// A status from 500 on, or no response at all.
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    /// 502, 503 or 504, or no response at all.
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    /// No response: the upstream disconnected, reset, or took too long to read.
    pub const RESET: RetryOn = RetryOn(1 << 2);
    /// Reset before the request had been sent.
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    /// No connection.
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    /// The header `x-envoy-ratelimited` is there.
    pub const ENVOY_RATELIMITED: RetryOn = RetryOn(1 << 5);
    /// 409.
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    /// The upstream reset the stream with `REFUSED_STREAM`.
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    /// A status of the policy's list.
    pub const RETRIABLE_STATUS_CODES: RetryOn = RetryOn(1 << 8);
    /// A header of the policy's list.
    pub const RETRIABLE_HEADERS: RetryOn = RetryOn(1 << 9);
    /// gRPC status 1.
    pub const CANCELLED: RetryOn = RetryOn(1 << 10);
    /// gRPC status 4.
    pub const DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 11);
    /// gRPC status 8.
    pub const RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 12);
    /// gRPC status 13.
    pub const INTERNAL: RetryOn = RetryOn(1 << 13);
    /// gRPC status 14.
    pub const UNAVAILABLE: RetryOn = RetryOn(1 << 14);

    /// The conditions of a list with commas, and the first word that is not one.
    pub fn parse(list: &str) -> (RetryOn, Option<&str>) {
        let mut unknown = None;
        let on =
            list.split(',').map(str::trim).filter(|word| !word.is_empty()).fold(RetryOn(0), |on, word| {
                match NAMES.iter().find(|(name, _)| *name == word) {
                    Some((_, condition)) => on.union(*condition),
                    None => {
                        unknown = unknown.or(Some(word));
                        on
                    }
                }
            });
        (on, unknown)
    }

    /// The conditions of both sets.
    #[must_use]
    pub fn union(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// Whether a condition is in both sets.
    pub fn intersects(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is no condition.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl RetryPolicy {
    pub(in crate::config) fn from_message(at: &Path<'_>, message: v3::RetryPolicy) -> Checked<RetryPolicy> {
        fields!(at, message => v3::RetryPolicy { retry_on, num_retries, per_try_timeout,
                retry_host_predicate, host_selection_retry_max_attempts, retriable_status_codes, retry_back_off,
                retriable_headers, retriable_request_headers }
            refuse { per_try_idle_timeout, retry_priority, retry_options_predicates, rate_limited_retry_back_off, refresh_cluster_on_retry });
        let (on, unknown) = RetryOn::parse(&retry_on);
        if let Some(word) = unknown {
            return Err(at.field("retry_on").reject(format_args!("{word:?} is not a condition of retries")));
        }
        let attempts_at = at.field("host_selection_retry_max_attempts");
        let attempts = u32::try_from(host_selection_retry_max_attempts);
        let statuses_at = at.field("retriable_status_codes");
        let statuses = retriable_status_codes.into_iter().enumerate();
        Ok(RetryPolicy {
            on,
            retries: num_retries.unwrap_or(1),
            per_try_timeout: at.field("per_try_timeout").timeout(per_try_timeout, None)?,
            avoid_previous_hosts: avoid_previous_hosts(&at.field("retry_host_predicate"), retry_host_predicate)?,
            selection_attempts: attempts.map_err(|_| attempts_at.reject("must not be negative"))?.max(1),
            statuses: statuses.map(|(i, code)| status(&statuses_at.index(i), code)).collect::<Checked<_>>()?,
            response_headers: HeaderMatch::from_messages(&at.field("retriable_headers"), retriable_headers)?,
            request_headers: HeaderMatch::from_messages(
                &at.field("retriable_request_headers"),
                retriable_request_headers,
            )?,
            back_off: back_off(&at.field("retry_back_off"), retry_back_off)?,
        })
    }
}

/// A status of HTTP.
pub(super) fn status(at: &Path<'_>, code: u32) -> Checked<StatusCode> {
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| at.reject(format_args!("{code} is not a status")))
}

fn avoid_previous_hosts(at: &Path<'_>, predicates: Vec<RetryHostPredicate>) -> Checked<bool> {
    let avoids = !predicates.is_empty();
    for (i, predicate) in predicates.into_iter().enumerate() {
        let at = at.index(i);
        // The name of a predicate is free text.
        fields!(at, predicate => RetryHostPredicate { config_type } ignore { name });
        let at = at.field("typed_config");
        let ConfigType::TypedConfig(any) = at.required(config_type)?;
        match any.type_url.as_str() {
            "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" => {
                let PreviousHostsPredicate {} = at.decode(&any)?;
            }
            _ => return Err(at.unknown_type(&any)),
        }
    }
    Ok(avoids)
}

fn back_off(at: &Path<'_>, message: Option<RetryBackOff>) -> Checked<(Duration, Duration)> {
    let Some(message) = message else { return Ok((BASE_INTERVAL, BASE_INTERVAL * 10)) };
    fields!(at, message => RetryBackOff { base_interval, max_interval });
    let base_at = at.field("base_interval");
    let base = base_at.required(base_at.duration(base_interval)?)?;
    let longest_at = at.field("max_interval");
    let longest = longest_at.duration(max_interval)?.unwrap_or(base * 10);
    if base.is_zero() {
        return Err(base_at.reject("must be more than zero"));
    }
    if longest < base {
        return Err(longest_at.reject("must not be less than base_interval"));
    }
    Ok((base, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_from_a_list() {
        let (on, unknown) = RetryOn::parse("connect-failure,refused-stream, unavailable,503");
        assert_eq!(unknown, Some("503"));
        assert!(on.intersects(RetryOn::UNAVAILABLE) && on.intersects(RetryOn::REFUSED_STREAM));
        assert!(!on.intersects(RetryOn::SERVER_ERROR.union(RetryOn::CANCELLED)));
        assert!(RetryOn::parse("").0.is_empty());
    }
}
