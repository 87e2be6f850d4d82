//! Traces: to which one a request belongs, whether it is recorded, and what its next hop is told.
//!
//! As in Envoy a trace that a request brings is continued, and recorded if it is recorded elsewhere; one that begins
//! here is recorded as the shares of the configuration say. What a request says in B3 it says there, too.

mod context;
mod otlp;
mod span;
mod spans;

use http::HeaderMap;
use http::request::Parts;

pub(crate) use context::{TraceContext, forget};
pub(crate) use span::Noted;
pub(crate) use spans::Spans;

use super::head::names;
use super::head::request_id::{self, Reason};
use crate::config::Direction;
use crate::config::http::{Decorator, RequestId, Tracing};

/// The part of a trace that a request is here.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) context: TraceContext,
    /// What the part is called, if somebody has said that.
    operation: Option<String>,
    /// Whether the name came with the request.
    named_by_caller: bool,
    /// What is told of the request, if it is recorded.
    noted: Option<Noted>,
}

impl Trace {
    /// The part of a trace that a request is; tells upstream in its headers.
    pub(crate) fn begin(parts: &mut Parts, tracing: &Tracing, ids: RequestId, direction: Direction) -> Option<Trace> {
        tracing.collector.as_ref()?;
        let wanted = decide(&mut parts.headers, tracing, ids);
        let context = TraceContext::continued(&parts.headers).unwrap_or_else(|| TraceContext::root(wanted));
        let mut operation = None;
        if direction == Direction::Inbound
            && let Some(said) = parts.headers.remove(names::X_ENVOY_DECORATOR_OPERATION)
        {
            operation = said.to_str().ok().filter(|said| !said.is_empty()).map(str::to_owned);
        }
        let noted = context.sampled.then(|| Noted::new(parts, tracing));
        context.inject(&mut parts.headers);
        Some(Trace { context, named_by_caller: operation.is_some(), operation, noted })
    }

    /// Takes the name that a route has for its requests; a callee is told of it in the request, a caller in the response.
    pub(crate) fn decorate(&mut self, decorator: &Decorator, direction: Direction, request: &mut HeaderMap) {
        if direction != Direction::Inbound {
            if decorator.propagate {
                tell(request, &decorator.operation);
            }
        } else if self.named_by_caller {
            return;
        }
        self.operation = Some(decorator.operation.to_string());
    }

    /// Tells a caller, or takes what a callee tells.
    pub(crate) fn respond(&mut self, decorator: Option<&Decorator>, direction: Direction, response: &mut HeaderMap) {
        if direction != Direction::Inbound {
            let said = response.remove(names::X_ENVOY_DECORATOR_OPERATION);
            if let Some(said) = said.as_ref().and_then(|said| said.to_str().ok()).filter(|said| !said.is_empty()) {
                self.operation = Some(said.to_owned());
            }
        } else if let Some(decorator) = decorator.filter(|d| d.propagate && !self.named_by_caller) {
            tell(response, &decorator.operation);
        }
    }
}

fn tell(headers: &mut HeaderMap, operation: &str) {
    if let Ok(operation) = operation.parse() {
        headers.insert(names::X_ENVOY_DECORATOR_OPERATION, operation);
    }
}

/// Whether a trace that begins with this request is recorded. The identifier of the request decides, so that all proxies
/// decide alike, and remembers it.
fn decide(headers: &mut HeaderMap, tracing: &Tracing, ids: RequestId) -> bool {
    let Some((number, known)) = request_id::number(headers).filter(|_| ids.for_sampling) else {
        return includes(tracing.random_sampling, fastrand::u64(..))
            && includes(tracing.overall_sampling, fastrand::u64(..));
    };
    let mut reason = known;
    if reason == Reason::Not {
        if headers.contains_key(names::X_CLIENT_TRACE_ID) && includes(tracing.client_sampling, fastrand::u64(..)) {
            reason = Reason::Client;
        } else if headers.contains_key(names::X_ENVOY_FORCE_TRACE) {
            reason = Reason::Service;
        } else if includes(tracing.random_sampling, number) {
            reason = Reason::Sampled;
        }
    }
    if reason != Reason::Not && !includes(tracing.overall_sampling, number) {
        reason = Reason::Not;
    }
    if reason != known && ids.pack_trace_reason {
        request_id::pack(headers, reason);
    }
    reason != Reason::Not
}

/// Whether a number is among so many percent of all numbers, with two digits after the point.
fn includes(percent: f64, number: u64) -> bool {
    // No more than two digits count, as in Envoy, and every number up to ten thousand is exact.
    ((number % 10_000) as f64) < percent * 100.0
}
