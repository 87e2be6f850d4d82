//! What is told of a request that is recorded.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{self, HeaderName};
use http::request::Parts;

use super::Trace;
use super::otlp::{KeyValue, Span, SpanKind, Status};
use crate::access_log::Entry;
use crate::config::Direction;
use crate::config::http::{TagSource, Tracing};
use crate::http::head::names;
use crate::routing;

/// What OpenTelemetry calls an error.
const ERROR: i32 = 2;

/// What is told of the head of a request as it came.
#[derive(Debug)]
pub(crate) struct Noted(Vec<KeyValue>);

impl Noted {
    pub(super) fn new(parts: &Parts, tracing: &Tracing) -> Noted {
        let text = |name: &HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let path = routing::full_path(parts);
        let end = (0..=tracing.max_path_length.min(path.len())).rev().find(|end| path.is_char_boundary(*end));
        let path = path.get(..end.unwrap_or_default()).unwrap_or_default();
        let url = format!("{}://{}{path}", routing::scheme(parts), routing::authority(parts));
        let mut all = vec![
            KeyValue::new("component", "proxy"),
            KeyValue::new("http.url", url),
            KeyValue::new("http.method", parts.method.as_str()),
        ];
        for (key, name) in [
            ("user_agent", header::USER_AGENT),
            ("guid:x-request-id", names::X_REQUEST_ID),
            ("guid:x-client-trace-id", names::X_CLIENT_TRACE_ID),
        ] {
            all.extend(text(&name).map(|value| KeyValue::new(key, value)));
        }
        for tag in &tracing.tags {
            let value = match &tag.source {
                TagSource::Literal(text) => text,
                TagSource::Header(name, default) => text(name).unwrap_or(default),
            };
            if !value.is_empty() {
                all.push(KeyValue::new(&*tag.name, value));
            }
        }
        Noted(all)
    }
}

impl Trace {
    /// What is told of a request that has ended; `None` if it is not recorded.
    pub(super) fn span(&mut self, entry: &Entry<'_>, direction: Direction) -> Option<Span> {
        let Noted(mut attributes) = self.noted.take()?;
        let http = entry.http?;
        let protocol = match http.protocol {
            http::Version::HTTP_2 => "HTTP/2",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        let status = http.status.unwrap_or_default();
        let mut add = |key: &str, value: String| attributes.push(KeyValue::new(key, value));
        add("http.protocol", protocol.to_owned());
        add("http.status_code", status.to_string());
        add("request_size", entry.received.to_string());
        add("response_size", entry.sent.to_string());
        add("response_flags", entry.flags.to_string());
        add("peer.address", entry.downstream_remote.ip().to_string());
        add("upstream_cluster", entry.cluster.unwrap_or("-").to_owned());
        add("upstream_cluster.name", entry.cluster_stat_name.unwrap_or("-").to_owned());
        if let Some(address) = entry.upstream_host {
            add("upstream_address", address.to_string());
        }
        if let Some(status) = http.grpc_status {
            add("grpc.status_code", status.to_string());
        }
        let failed = status >= 500 || http.status.is_none();
        if failed {
            add("error", "true".to_owned());
        }
        let usual = || match direction {
            Direction::Inbound => "ingress".to_owned(),
            _ => format!("egress {}", http.request.authority),
        };
        let context = &self.context;
        Some(Span {
            trace_id: context.trace.to_be_bytes().to_vec(),
            span_id: context.span.to_be_bytes().to_vec(),
            trace_state: context.state.as_ref().and_then(state).unwrap_or_default(),
            parent_span_id: context.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name: self.operation.take().unwrap_or_else(usual),
            kind: if direction == Direction::Inbound { SpanKind::Server } else { SpanKind::Client }.into(),
            start_time_unix_nano: nanoseconds(entry.start),
            end_time_unix_nano: nanoseconds(entry.start + entry.duration),
            attributes,
            status: failed.then_some(Status { code: ERROR }),
        })
    }
}

fn state(value: &HeaderValue) -> Option<String> {
    value.to_str().ok().map(str::to_owned)
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
