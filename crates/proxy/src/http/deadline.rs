//! How long requests may take.

use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use tokio::time::Instant;

use super::exchange::Exchange;
use super::head::names;
use super::upload::Upload;
use crate::config::http::{RetryPolicy, RouteAction, Router};

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

/// How long a request may take: what its headers say comes before what the route says.
pub(crate) fn of_request(exchange: &Exchange, parts: &Parts, action: &RouteAction) -> Option<Duration> {
    let timeouts = &action.timeouts;
    let asked = milliseconds(&parts.headers, names::X_ENVOY_TIMEOUT);
    let said = grpc_timeout(&parts.headers).filter(|_| exchange.grpc);
    let of_route = match (timeouts.grpc_max, said) {
        (Some(most), Some(said)) => {
            let said = said.saturating_sub(timeouts.grpc_offset.unwrap_or_default());
            Some(if most.is_zero() { said } else { said.min(most) })
        }
        (Some(most), None) if exchange.grpc => Some(most),
        _ => timeouts.response,
    };
    asked.or(of_route).filter(|timeout| !timeout.is_zero())
}

/// Takes what was asked for out of the headers, and tells upstream how long it has.
pub(crate) fn announce(parts: &mut Parts, policy: Option<&RetryPolicy>, timeout: Option<Duration>, router: &Router) {
    let headers = &mut parts.headers;
    for name in [
        names::X_ENVOY_TIMEOUT,
        names::X_ENVOY_PER_TRY_TIMEOUT,
        names::X_ENVOY_RETRY_ON,
        names::X_ENVOY_RETRY_GRPC_ON,
        names::X_ENVOY_MAX_RETRIES,
        names::X_ENVOY_RETRIABLE_STATUS_CODES,
        names::X_ENVOY_RETRIABLE_HEADER_NAMES,
    ] {
        headers.remove(name);
    }
    let attempt = policy.and_then(|p| p.per_try_timeout);
    let least = attempt.into_iter().chain(timeout).min();
    if let Some(least) = least.filter(|_| !router.suppress_envoy_headers) {
        let least = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
        headers.insert(names::X_ENVOY_EXPECTED_TIMEOUT, least.into());
    }
}

fn milliseconds(headers: &HeaderMap, name: http::HeaderName) -> Option<Duration> {
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
