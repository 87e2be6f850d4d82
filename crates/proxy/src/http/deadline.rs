//! How long requests may take.

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use super::exchange::Exchange;
use super::head::names;
use super::upload::Upload;
use crate::config::http::{RetryPolicy, RouteAction, RouteTimeouts, Router};

/// When a request has taken too long: so long after downstream has said all.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    timeout: Duration,
    upload: Option<Rc<Upload>>,
    begun: Instant,
}

impl Deadline {
    pub(crate) fn new(timeout: Duration, upload: Option<Rc<Upload>>) -> Deadline {
        Deadline { timeout, upload, begun: Instant::now() }
    }

    /// How much of the time has passed.
    fn elapsed(&self) -> Duration {
        match &self.upload {
            Some(upload) => upload.ended().map_or(Duration::ZERO, |ended| ended.elapsed()),
            None => self.begun.elapsed(),
        }
    }

    /// Waits until it has passed.
    pub(crate) async fn passed(self) {
        let begun = match &self.upload {
            Some(upload) => {
                upload.completed().await;
                upload.ended().unwrap_or(self.begun)
            }
            None => self.begun,
        };
        tokio::time::sleep_until(begun + self.timeout).await;
    }
}

/// How long a request may take, as its headers and its route say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// With all attempts.
    pub(crate) whole: Option<Duration>,
    /// Each attempt.
    pub(crate) attempt: Option<Duration>,
}

/// What the router takes out of requests, having heeded it as far as it does. How requests are hedged and counted by
/// other names it does not heed.
const FOR_THE_ROUTER: [HeaderName; 10] = [
    names::X_ENVOY_TIMEOUT,
    names::X_ENVOY_PER_TRY_TIMEOUT,
    names::X_ENVOY_TIMEOUT_ALT_RESPONSE,
    names::X_ENVOY_RETRY_ON,
    names::X_ENVOY_RETRY_GRPC_ON,
    names::X_ENVOY_MAX_RETRIES,
    names::X_ENVOY_RETRIABLE_STATUS_CODES,
    names::X_ENVOY_RETRIABLE_HEADER_NAMES,
    names::X_ENVOY_ALT_STAT_NAME,
    names::X_ENVOY_HEDGE,
];

impl Limits {
    /// What the headers of a request say comes before what the route says.
    pub(crate) fn of_request(
        exchange: &Exchange,
        parts: &Parts,
        action: &RouteAction,
        policy: Option<&RetryPolicy>,
    ) -> Limits {
        let headers = &parts.headers;
        let router = &exchange.connection.manager.config.router;
        let whole = asked_for(headers, router).or_else(|| of_route(exchange, headers, &action.timeouts));
        let whole = whole.filter(|timeout| !timeout.is_zero());
        let attempt = milliseconds(headers, names::X_ENVOY_PER_TRY_TIMEOUT);
        let attempt = attempt.or_else(|| policy.and_then(|p| p.per_try_timeout));
        // An attempt that may take all of the time has no limit of its own.
        let shorter = |attempt: &Duration| !attempt.is_zero() && whole.is_none_or(|whole| *attempt < whole);
        Limits { whole, attempt: attempt.filter(shorter) }
    }

    /// Takes what was asked for out of the headers, and tells upstream how long it has.
    pub(crate) fn announce(&self, headers: &mut HeaderMap, router: &Router) {
        for name in &FOR_THE_ROUTER {
            headers.remove(name);
        }
        self.tell(headers, Duration::ZERO, router);
    }

    /// Tells upstream how long it has for another attempt.
    pub(crate) fn announce_again(&self, headers: &mut HeaderMap, deadline: Option<&Deadline>, router: &Router) {
        self.tell(headers, deadline.map_or(Duration::ZERO, Deadline::elapsed), router);
    }

    fn tell(&self, headers: &mut HeaderMap, elapsed: Duration, router: &Router) {
        // None at all would be for ever.
        let left = self.whole.map(|whole| whole.saturating_sub(elapsed).max(Duration::from_millis(1)));
        let least = self.attempt.into_iter().chain(left).min();
        if let Some(least) = least.filter(|_| !router.suppress_envoy_headers) {
            let least = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
            headers.insert(names::X_ENVOY_EXPECTED_TIMEOUT, least.into());
        }
    }
}

/// How long a request says that it may take: to a proxy that heeds what the one before it expects, that comes first.
fn asked_for(headers: &HeaderMap, router: &Router) -> Option<Duration> {
    let expected = Some(names::X_ENVOY_EXPECTED_TIMEOUT).filter(|_| router.respect_expected_timeout);
    let name = expected.filter(|name| headers.contains_key(name)).unwrap_or(names::X_ENVOY_TIMEOUT);
    milliseconds(headers, name)
}

fn of_route(exchange: &Exchange, headers: &HeaderMap, timeouts: &RouteTimeouts) -> Option<Duration> {
    let said = grpc_timeout(headers).filter(|_| exchange.grpc);
    match (timeouts.grpc_max, said) {
        (Some(most), Some(said)) => {
            let said = said.saturating_sub(timeouts.grpc_offset.unwrap_or_default());
            Some(if most.is_zero() { said } else { said.min(most) })
        }
        (Some(most), None) if exchange.grpc => Some(most),
        _ => timeouts.response,
    }
}

fn milliseconds(headers: &HeaderMap, name: HeaderName) -> Option<Duration> {
    headers.get(name)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// What `grpc-timeout` says (grpc.io, "gRPC over HTTP2").
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(names::GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}
