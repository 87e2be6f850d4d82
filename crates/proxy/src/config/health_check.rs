//! How endpoints are asked whether they are well.

use std::ops::Range;
use std::time::Duration;

use envoy::envoy::config::core::v3::health_check::payload::Payload as Bytes;
use envoy::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck,
};
use envoy::envoy::config::core::v3::{HealthCheck as Message, RequestMethod};
use envoy::envoy::r#type::v3::{CodecClientType, Int64Range};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};

use super::field::{Checked, Path, fields};

/// How often an endpoint is asked to which nothing was sent yet, if the cluster does not say (Envoy 1.40).
const NO_TRAFFIC: Duration = Duration::from_secs(60);
/// The statuses that are good if the cluster does not say.
const WELL: Range<u16> = 200..201;

/// How the endpoints of a cluster are asked whether they are well.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// How long an answer may take.
    pub timeout: Duration,
    /// The most that the first question waits.
    pub initial_jitter: Duration,
    /// The most that every other one waits for longer than its interval.
    pub jitter: Duration,
    /// The same in percent of the interval.
    pub jitter_percent: u32,
    /// How many failures in a row make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// How many good answers in a row make one healthy that was not.
    pub healthy_threshold: u32,
    /// Where endpoints are asked, if not at their own port.
    pub port: Option<u16>,
    /// Whether one connection carries all questions.
    pub reuse: bool,
    /// How long it is until the next question.
    pub intervals: Intervals,
    /// What is asked.
    pub question: Question,
}

/// How long it is from an answer to the next question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// To a healthy endpoint.
    pub healthy: Duration,
    /// To one that is not known to be well again.
    pub healthy_edge: Duration,
    /// To an unhealthy one.
    pub unhealthy: Duration,
    /// To one that is not known to be unwell.
    pub unhealthy_edge: Duration,
    /// As long as nobody has used the cluster.
    pub no_traffic: Duration,
    /// The same, to a healthy endpoint.
    pub no_traffic_healthy: Duration,
}

/// What an endpoint is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// A request of HTTP.
    Http(HttpQuestion),
    /// A connection, in which something may be said and heard.
    Tcp {
        /// What is said.
        send: Box<[u8]>,
        /// What must be heard, one after the other.
        receive: Box<[Box<[u8]>]>,
    },
    /// A call of `grpc.health.v1.Health`.
    Grpc {
        /// The service that it is about; empty for the whole endpoint.
        service: Box<str>,
        /// What is called, if not the cluster.
        authority: Option<Box<str>>,
    },
}

/// A request that asks for health.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpQuestion {
    /// Its authority, if not the name of the cluster.
    pub host: Option<HeaderValue>,
    /// Its path.
    pub path: PathAndQuery,
    /// Its method.
    pub method: Method,
    /// The statuses that are good.
    pub expected: Box<[Range<u16>]>,
    /// The statuses that count as failures, while others make an endpoint unhealthy at once.
    pub retriable: Box<[Range<u16>]>,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
}

/// The only health check of a cluster, as in Envoy.
pub(super) fn take(at: &Path<'_>, messages: Vec<Message>, speaks_http2: bool) -> Checked<Option<HealthCheck>> {
    let mut messages = messages.into_iter();
    let first = messages.next();
    if messages.next().is_some() {
        return Err(at.index(1).reject("only one is supported"));
    }
    first.map(|message| HealthCheck::from_message(&at.index(0), message, speaks_http2)).transpose()
}

impl HealthCheck {
    fn from_message(at: &Path<'_>, message: Message, speaks_http2: bool) -> Checked<HealthCheck> {
        // What is found is logged in any case when it changes.
        fields!(at, message => Message { timeout, interval, initial_jitter, interval_jitter, interval_jitter_percent,
                unhealthy_threshold, healthy_threshold, alt_port, reuse_connection, no_traffic_interval,
                no_traffic_healthy_interval, unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval,
                health_checker }
            refuse { event_log_path, event_logger, event_service, tls_options, transport_socket_match_criteria }
            ignore { always_log_health_check_failures, always_log_health_check_success });
        let span = |name: &str, value, default: Option<Duration>| {
            let at = at.field(name);
            let value = at.required(at.duration(value)?.or(default))?;
            if value.is_zero() { Err(at.reject("must be more than zero")) } else { Ok(value) }
        };
        let jitter = |name: &str, value| at.field(name).duration(value).map(Option::unwrap_or_default);
        let healthy = span("interval", interval, None)?;
        let no_traffic = span("no_traffic_interval", no_traffic_interval, Some(NO_TRAFFIC))?;
        let unhealthy = span("unhealthy_interval", unhealthy_interval, Some(healthy))?;
        let port = alt_port.map(|port| at.field("alt_port").port(port)).transpose()?;
        Ok(HealthCheck {
            timeout: span("timeout", timeout, None)?,
            initial_jitter: jitter("initial_jitter", initial_jitter)?,
            jitter: jitter("interval_jitter", interval_jitter)?,
            jitter_percent: interval_jitter_percent,
            unhealthy_threshold: at.field("unhealthy_threshold").required(unhealthy_threshold)?,
            healthy_threshold: at.field("healthy_threshold").required(healthy_threshold)?,
            port,
            reuse: reuse_connection.unwrap_or(true),
            intervals: Intervals {
                healthy,
                healthy_edge: span("healthy_edge_interval", healthy_edge_interval, Some(healthy))?,
                unhealthy,
                unhealthy_edge: span("unhealthy_edge_interval", unhealthy_edge_interval, Some(unhealthy))?,
                no_traffic,
                no_traffic_healthy: span("no_traffic_healthy_interval", no_traffic_healthy_interval, Some(no_traffic))?,
            },
            question: question(at, health_checker, speaks_http2)?,
        })
    }
}

fn question(at: &Path<'_>, checker: Option<HealthChecker>, speaks_http2: bool) -> Checked<Question> {
    match checker {
        Some(HealthChecker::HttpHealthCheck(message)) => {
            Ok(Question::Http(HttpQuestion::from_message(&at.field("http_health_check"), message)?))
        }
        Some(HealthChecker::TcpHealthCheck(message)) => {
            let at = at.field("tcp_health_check");
            fields!(at, message => TcpHealthCheck { send, receive } refuse { proxy_protocol_config });
            let send = send.map(|send| payload(&at.field("send"), send)).transpose()?.unwrap_or_default();
            let receive_at = at.field("receive");
            let receive = receive.into_iter().enumerate().map(|(i, p)| payload(&receive_at.index(i), p));
            Ok(Question::Tcp { send, receive: receive.collect::<Checked<_>>()? })
        }
        Some(HealthChecker::GrpcHealthCheck(message)) => {
            let at = at.field("grpc_health_check");
            if !speaks_http2 {
                return Err(at.reject("the cluster must speak HTTP/2"));
            }
            fields!(at, message => GrpcHealthCheck { service_name, authority } refuse { initial_metadata });
            let authority = Some(authority).filter(|authority| !authority.is_empty()).map(Into::into);
            Ok(Question::Grpc { service: service_name.into(), authority })
        }
        Some(HealthChecker::CustomHealthCheck(_)) => Err(at.field("custom_health_check").reject("is not supported")),
        None => Err(at.field("health_checker").reject("is required")),
    }
}

impl HttpQuestion {
    fn from_message(at: &Path<'_>, message: HttpHealthCheck) -> Checked<HttpQuestion> {
        fields!(at, message => HttpHealthCheck { host, path, expected_statuses, retriable_statuses, codec_client_type,
                method }
            refuse { send, receive, response_buffer_size, request_headers_to_add, request_headers_to_remove,
                service_name_matcher });
        let host_at = at.field("host");
        let host_value = HeaderValue::try_from(host).map_err(|_| host_at.reject("is not the value of a header"))?;
        let codec_at = at.field("codec_client_type");
        let http2 = match codec_at.enumeration(codec_client_type)? {
            CodecClientType::Http1 => false,
            CodecClientType::Http2 => true,
            CodecClientType::Http3 => return Err(codec_at.reject("HTTP3 is not supported")),
        };
        let method_at = at.field("method");
        let method = match method_at.enumeration(method)? {
            RequestMethod::MethodUnspecified | RequestMethod::Get => Method::GET,
            RequestMethod::Head => Method::HEAD,
            RequestMethod::Post => Method::POST,
            RequestMethod::Put => Method::PUT,
            RequestMethod::Delete => Method::DELETE,
            RequestMethod::Options => Method::OPTIONS,
            RequestMethod::Trace => Method::TRACE,
            RequestMethod::Patch => Method::PATCH,
            RequestMethod::Connect => return Err(method_at.reject("CONNECT asks for no health")),
        };
        let path_at = at.field("path");
        let path = PathAndQuery::try_from(path_at.named(&path)?).map_err(|e| path_at.reject(e))?;
        let expected = statuses(&at.field("expected_statuses"), expected_statuses)?;
        Ok(HttpQuestion {
            host: Some(host_value).filter(|host| !host.is_empty()),
            path,
            method,
            expected: if expected.is_empty() { Box::new([WELL]) } else { expected },
            retriable: statuses(&at.field("retriable_statuses"), retriable_statuses)?,
            http2,
        })
    }
}

fn statuses(at: &Path<'_>, ranges: Vec<Int64Range>) -> Checked<Box<[Range<u16>]>> {
    let range = |(i, Int64Range { start, end }): (usize, Int64Range)| {
        let status = |value: i64| u16::try_from(value).ok().filter(|status| (100..=600).contains(status));
        match (status(start), status(end)) {
            (Some(start), Some(end)) if start < end => Ok(start..end),
            _ => Err(at.index(i).reject("must be a range of statuses from 100 to 599")),
        }
    };
    ranges.into_iter().enumerate().map(range).collect()
}

/// Bytes, or their digits in base 16.
fn payload(at: &Path<'_>, message: Payload) -> Checked<Box<[u8]>> {
    let text = match message.payload {
        Some(Bytes::Binary(bytes)) => return Ok(bytes.into()),
        Some(Bytes::Text(text)) => text,
        None => return Err(at.field("payload").reject("is required")),
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Box<[u8]>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty()).ok_or_else(|| at.field("text").reject("must be bytes in base 16"))
}
