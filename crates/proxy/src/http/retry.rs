//! Whether a request is worth another attempt.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};

use super::failure::Failure;
use super::head::names;
use crate::config::http::{RetryOn, RetryPolicy};

/// What a request may still try.
#[derive(Debug)]
pub(crate) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    on: RetryOn,
    left: u32,
    statuses: Vec<StatusCode>,
    /// Response headers that are worth another attempt if they are there.
    headers: Vec<HeaderName>,
    /// How many there were.
    done: u32,
}

impl<'a> Retries<'a> {
    /// What the route's policy allows, and what the request asks for in its headers.
    pub(crate) fn new(policy: Option<&'a RetryPolicy>, parts: &Parts) -> Retries<'a> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let mut on = policy.map(|p| p.on).unwrap_or_default();
        for list in [text(names::X_ENVOY_RETRY_ON), text(names::X_ENVOY_RETRY_GRPC_ON)].into_iter().flatten() {
            on = on.union(RetryOn::parse(list).0);
        }
        let wanted =
            policy.is_none_or(|p| p.request_headers.is_empty() || p.request_headers.iter().any(|m| m.holds(parts)));
        let asked = text(names::X_ENVOY_MAX_RETRIES).and_then(|n| n.parse().ok());
        let left = if on.is_empty() || !wanted { 0 } else { asked.unwrap_or(policy.map_or(1, |p| p.retries)) };
        let codes = text(names::X_ENVOY_RETRIABLE_STATUS_CODES).unwrap_or_default().split(',');
        let statuses: Vec<StatusCode> = codes.filter_map(|code| code.trim().parse().ok()).collect();
        let names = text(names::X_ENVOY_RETRIABLE_HEADER_NAMES).unwrap_or_default().split(',');
        let headers = names.filter_map(|name| name.trim().parse().ok()).collect();
        Retries { policy, on, left, statuses, headers, done: 0 }
    }

    /// Whether there may be another attempt at all.
    pub(crate) fn are_possible(&self) -> bool {
        self.left > 0 && !self.on.is_empty()
    }

    /// Whether a response is worth another attempt.
    pub(crate) fn wants_after(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let code = status.as_u16();
        let on = |condition| self.on.intersects(condition);
        if headers.contains_key(names::X_ENVOY_RATELIMITED) {
            return on(RetryOn::ENVOY_RATELIMITED);
        }
        let listed = || {
            let policy = self.policy.map(|p| &*p.statuses).unwrap_or_default();
            policy.contains(&status) || self.statuses.contains(&status)
        };
        let marked = || {
            let matches = self.policy.map(|p| &*p.response_headers).unwrap_or_default();
            matches.iter().any(|m| m.holds_of_response(headers))
                || self.headers.iter().any(|name| headers.contains_key(name))
        };
        (on(RetryOn::SERVER_ERROR) && (500..600).contains(&code))
            || (on(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code))
            || (on(RetryOn::RETRIABLE_4XX) && code == 409)
            || (on(RetryOn::RETRIABLE_STATUS_CODES) && listed())
            || (on(RetryOn::RETRIABLE_HEADERS) && marked())
            || grpc_condition(headers).is_some_and(on)
    }

    /// Whether the lack of a response is worth another attempt.
    pub(crate) fn wants_after_failure(&self, failure: &Failure, sent: bool) -> bool {
        let on = |condition| self.on.intersects(condition);
        if matches!(failure, Failure::Overflow | Failure::Timeout) {
            return false;
        }
        let none = RetryOn::SERVER_ERROR.union(RetryOn::GATEWAY_ERROR).union(RetryOn::RESET);
        on(none)
            || (on(RetryOn::RESET_BEFORE_REQUEST) && !sent)
            || match failure {
                Failure::Connect(_) | Failure::ConnectTimeout => on(RetryOn::CONNECT_FAILURE),
                Failure::Refused => on(RetryOn::REFUSED_STREAM),
                _ => false,
            }
    }

    /// Takes one of the attempts that are left; `false` if there is none.
    pub(crate) fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.done += u32::from(some);
        some
    }

    /// How long to wait before the attempt that was just taken; `random` is uniform over all of `u64`.
    pub(crate) fn pause(&self, random: u64) -> Duration {
        let (base, most) = self.policy.map_or(DEFAULT_BACK_OFF, |p| p.back_off);
        let factor = 1_u32.checked_shl(self.done).map_or(u32::MAX, |power| power - 1).max(1);
        let bound = base.saturating_mul(factor).min(most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(random % nanos)
    }
}

/// The pauses of requests that bring their conditions themselves.
const DEFAULT_BACK_OFF: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

/// The condition that stands for the status that gRPC gives in the headers, without a body.
fn grpc_condition(headers: &HeaderMap) -> Option<RetryOn> {
    match headers.get(names::GRPC_STATUS)?.as_bytes() {
        b"1" => Some(RetryOn::CANCELLED),
        b"4" => Some(RetryOn::DEADLINE_EXCEEDED),
        b"8" => Some(RetryOn::RESOURCE_EXHAUSTED),
        b"13" => Some(RetryOn::INTERNAL),
        b"14" => Some(RetryOn::UNAVAILABLE),
        _ => None,
    }
}
