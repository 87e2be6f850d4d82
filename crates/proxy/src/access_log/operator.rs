//! Envoy's command operators, as far as a connection has what they name.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use http::Version;
use prost_types::Value;
use prost_types::value::Kind;

use super::header::HeaderOperator;
use super::{Entry, Flag, HttpEntry};
use crate::dynamic_metadata;

/// What stands between two percent signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime,
    /// Something that there never is.
    Absent,
    Request(HeaderOperator),
    RequestWithoutQuery(HeaderOperator),
    Response(HeaderOperator),
    Trailer(HeaderOperator),
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    RouteName,
    AttemptCount,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    GrpcStatus(Grpc),
    PeerSubject,
    PeerFingerprint,
    StreamId,
    TraceId,
    /// What a filter has noted: its name, and the keys that lead to a value; and how much of it is shown.
    DynamicMetadata(Box<[Box<str>]>, Option<usize>),
    ResponseFlags,
    ResponseFlagsLong,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    DownstreamTransportFailureReason,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamLocalAddress(Part),
    UpstreamRemoteAddress(Part),
    DownstreamLocalAddress(Part),
    DownstreamRemoteAddress(Part),
    DirectRemoteAddress(Part),
    RequestedServerName,
    DownstreamPeerUriSan,
    DownstreamLocalUriSan,
    DownstreamTlsVersion,
    FilterChainName,
    ConnectionId,
}

/// How a status of gRPC is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grpc {
    Camel,
    Snake,
    Number,
}

/// The names of gRPC's statuses, by number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// How much of an address is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Ip,
    Port,
}

/// The operators that take no argument.
const PLAIN: &[(&str, Operator)] = &[
    ("START_TIME", Operator::StartTime),
    ("PROTOCOL", Operator::Protocol),
    ("RESPONSE_CODE_DETAILS", Operator::ResponseCodeDetails),
    ("ROUTE_NAME", Operator::RouteName),
    ("VIRTUAL_CLUSTER_NAME", Operator::Absent),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Operator::AttemptCount),
    ("REQUEST_DURATION", Operator::RequestDuration),
    ("RESPONSE_DURATION", Operator::ResponseDuration),
    ("RESPONSE_TX_DURATION", Operator::ResponseTxDuration),
    ("GRPC_STATUS", Operator::GrpcStatus(Grpc::Camel)),
    ("GRPC_STATUS(CAMEL_STRING)", Operator::GrpcStatus(Grpc::Camel)),
    ("GRPC_STATUS(SNAKE_STRING)", Operator::GrpcStatus(Grpc::Snake)),
    ("GRPC_STATUS(NUMBER)", Operator::GrpcStatus(Grpc::Number)),
    ("GRPC_STATUS_NUMBER", Operator::GrpcStatus(Grpc::Number)),
    ("DOWNSTREAM_PEER_SUBJECT", Operator::PeerSubject),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", Operator::PeerFingerprint),
    ("STREAM_ID", Operator::StreamId),
    ("TRACE_ID", Operator::TraceId),
    ("RESPONSE_CODE", Operator::ResponseCode),
    ("RESPONSE_FLAGS", Operator::ResponseFlags),
    ("RESPONSE_FLAGS_LONG", Operator::ResponseFlagsLong),
    ("CONNECTION_TERMINATION_DETAILS", Operator::ConnectionTerminationDetails),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Operator::UpstreamTransportFailureReason),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Operator::DownstreamTransportFailureReason),
    ("BYTES_RECEIVED", Operator::BytesReceived),
    ("BYTES_SENT", Operator::BytesSent),
    ("DURATION", Operator::Duration),
    ("UPSTREAM_HOST", Operator::UpstreamHost),
    ("UPSTREAM_CLUSTER", Operator::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Operator::UpstreamClusterRaw),
    ("UPSTREAM_LOCAL_ADDRESS", Operator::UpstreamLocalAddress(Part::Whole)),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::UpstreamLocalAddress(Part::Ip)),
    ("UPSTREAM_LOCAL_PORT", Operator::UpstreamLocalAddress(Part::Port)),
    ("UPSTREAM_REMOTE_ADDRESS", Operator::UpstreamRemoteAddress(Part::Whole)),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::UpstreamRemoteAddress(Part::Ip)),
    ("UPSTREAM_REMOTE_PORT", Operator::UpstreamRemoteAddress(Part::Port)),
    ("DOWNSTREAM_LOCAL_ADDRESS", Operator::DownstreamLocalAddress(Part::Whole)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Operator::DownstreamLocalAddress(Part::Ip)),
    ("DOWNSTREAM_LOCAL_PORT", Operator::DownstreamLocalAddress(Part::Port)),
    ("DOWNSTREAM_REMOTE_ADDRESS", Operator::DownstreamRemoteAddress(Part::Whole)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DownstreamRemoteAddress(Part::Ip)),
    ("DOWNSTREAM_REMOTE_PORT", Operator::DownstreamRemoteAddress(Part::Port)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::DirectRemoteAddress(Part::Whole)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DirectRemoteAddress(Part::Ip)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Operator::DirectRemoteAddress(Part::Port)),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("DOWNSTREAM_PEER_URI_SAN", Operator::DownstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_URI_SAN", Operator::DownstreamLocalUriSan),
    ("DOWNSTREAM_TLS_VERSION", Operator::DownstreamTlsVersion),
    ("FILTER_CHAIN_NAME", Operator::FilterChainName),
    ("CONNECTION_ID", Operator::ConnectionId),
];

/// The operators with an argument whose value there never is: what filters note that this proxy does not have.
const ABSENT: &[&str] = &["FILTER_STATE", "UPSTREAM_FILTER_STATE"];

impl Operator {
    /// The operator that `command` names, which stood between percent signs. The error is a clause.
    pub(super) fn parse(command: &str) -> Result<Operator, String> {
        let known = PLAIN.iter().find(|(name, _)| *name == command).map(|(_, operator)| operator.clone());
        let found = known.map(Ok).or_else(|| Operator::with_argument(command));
        found.unwrap_or_else(|| Err(format!("has the unknown operator %{command}%")))
    }

    /// An operator such as `REQ(X-A?:PATH):20`; `None` if it is not of this form, or not known.
    fn with_argument(command: &str) -> Option<Result<Operator, String>> {
        let (name, rest) = command.split_once('(')?;
        let (argument, limit) = rest.rsplit_once(')')?;
        let limit = match limit.strip_prefix(':') {
            Some(digits) => Some(digits.parse().ok()?),
            None if limit.is_empty() => None,
            None => return None,
        };
        let header = || HeaderOperator::parse(argument, limit);
        match name {
            "REQ" => Some(header().map(Operator::Request)),
            "REQ_WITHOUT_QUERY" => Some(header().map(Operator::RequestWithoutQuery)),
            "RESP" => Some(header().map(Operator::Response)),
            "TRAILER" => Some(header().map(Operator::Trailer)),
            "DYNAMIC_METADATA" => {
                let path = argument.split(':').map(Into::into).collect();
                Some(Ok(Operator::DynamicMetadata(path, limit)))
            }
            name if ABSENT.contains(&name) => Some(Ok(Operator::Absent)),
            _ => None,
        }
    }

    /// The headers of a request that it may show.
    pub(super) fn request(&self) -> Option<&HeaderOperator> {
        match self {
            Operator::Request(header) | Operator::RequestWithoutQuery(header) => Some(header),
            _ => None,
        }
    }

    /// The headers of a response that it may show.
    pub(super) fn response(&self) -> Option<&HeaderOperator> {
        match self {
            Operator::Response(header) => Some(header),
            _ => None,
        }
    }

    /// Whether the value is a number.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Operator::ResponseCode
                | Operator::AttemptCount
                | Operator::RequestDuration
                | Operator::ResponseDuration
                | Operator::ResponseTxDuration
                | Operator::GrpcStatus(Grpc::Number)
                | Operator::BytesReceived
                | Operator::BytesSent
                | Operator::Duration
                | Operator::ConnectionId
                | Operator::UpstreamLocalAddress(Part::Port)
                | Operator::UpstreamRemoteAddress(Part::Port)
                | Operator::DownstreamLocalAddress(Part::Port)
                | Operator::DownstreamRemoteAddress(Part::Port)
                | Operator::DirectRemoteAddress(Part::Port)
        )
    }

    /// Writes the value, if there is one; returns whether there is.
    pub(super) fn write(&self, entry: &Entry<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        match self {
            Operator::Absent => Ok(false),
            Operator::StartTime => start_time(entry, out),
            Operator::ResponseCode => number(out, entry.http.and_then(|http| http.status).map_or(0, u64::from)),
            Operator::PeerSubject => text(out, entry.peer_subject),
            Operator::PeerFingerprint => text(out, entry.peer_fingerprint),
            Operator::Request(_)
            | Operator::RequestWithoutQuery(_)
            | Operator::Response(_)
            | Operator::Trailer(_)
            | Operator::Protocol
            | Operator::RouteName
            | Operator::AttemptCount
            | Operator::RequestDuration
            | Operator::ResponseDuration
            | Operator::ResponseTxDuration
            | Operator::GrpcStatus(_)
            | Operator::StreamId
            | Operator::DynamicMetadata(..)
            | Operator::TraceId => entry.http.map_or(Ok(false), |http| self.write_http(http, out)),
            Operator::ResponseFlags => flags(entry, out, Flag::short),
            Operator::ResponseFlagsLong => flags(entry, out, Flag::long),
            Operator::ResponseCodeDetails => text(out, entry.details),
            Operator::ConnectionTerminationDetails => shown(out, entry.termination),
            Operator::UpstreamTransportFailureReason => text(out, entry.upstream_failure),
            Operator::DownstreamTransportFailureReason => text(out, entry.downstream_failure),
            Operator::BytesReceived => number(out, entry.received),
            Operator::BytesSent => number(out, entry.sent),
            Operator::Duration => milliseconds(out, Some(entry.duration)),
            Operator::UpstreamHost => address(out, entry.upstream_host, Part::Whole),
            Operator::UpstreamCluster => text(out, entry.cluster_stat_name),
            Operator::UpstreamClusterRaw => text(out, entry.cluster),
            Operator::UpstreamLocalAddress(part) => address(out, entry.upstream_local, *part),
            Operator::UpstreamRemoteAddress(part) => address(out, entry.upstream_host, *part),
            Operator::DownstreamLocalAddress(part) => address(out, Some(entry.downstream_local), *part),
            Operator::DownstreamRemoteAddress(part) => address(out, Some(entry.downstream_remote), *part),
            Operator::DirectRemoteAddress(part) => address(out, Some(entry.direct_remote), *part),
            Operator::RequestedServerName => text(out, entry.server_name),
            Operator::DownstreamPeerUriSan => text(out, entry.peer_identity),
            Operator::DownstreamLocalUriSan => text(out, entry.local_identity),
            Operator::DownstreamTlsVersion => text(out, entry.tls_version),
            Operator::FilterChainName => text(out, entry.filter_chain),
            Operator::ConnectionId => number(out, entry.connection_id),
        }
    }

    fn write_http(&self, http: &HttpEntry<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        match self {
            Operator::Request(header) => header.write_request(&http.request, out),
            Operator::RequestWithoutQuery(header) => header.write_without_query(&http.request, out),
            Operator::Response(header) => header.write_response(http.response, out),
            Operator::Trailer(header) => header.write_response(http.trailers, out),
            Operator::Protocol => text(out, Some(protocol(http.protocol))),
            Operator::RouteName => text(out, http.route),
            Operator::AttemptCount => number(out, http.attempts.into()),
            Operator::RequestDuration => milliseconds(out, http.request_duration),
            Operator::ResponseDuration => milliseconds(out, http.response_duration),
            Operator::ResponseTxDuration => milliseconds(out, http.response_tx_duration),
            Operator::GrpcStatus(shape) => grpc_status(out, http.grpc_status, *shape),
            Operator::StreamId => text(out, http.stream_id),
            Operator::TraceId => text(out, http.trace_id),
            Operator::DynamicMetadata(path, limit) => noted(out, http, path, *limit),
            _ => Ok(false),
        }
    }
}

/// A text as it is, and everything else in JSON.
fn noted(
    out: &mut impl Write,
    http: &HttpEntry<'_>,
    path: &[Box<str>],
    limit: Option<usize>,
) -> Result<bool, fmt::Error> {
    let Some((filter, keys)) = path.split_first() else { return Ok(false) };
    let shown = match (http.metadata.of(filter), http.metadata.get(filter, keys.iter().map(|key| &**key))) {
        (Some(facts), None) if keys.is_empty() => dynamic_metadata::json(facts).to_string(),
        (_, Some(Value { kind: Some(Kind::StringValue(text)) })) => text.clone(),
        (_, Some(value)) => dynamic_metadata::json_value(value).to_string(),
        (_, None) => return Ok(false),
    };
    text(out, Some(shown.get(..limit.unwrap_or(shown.len())).unwrap_or(&shown)))
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn grpc_status(out: &mut impl Write, status: Option<u32>, shape: Grpc) -> Result<bool, fmt::Error> {
    let Some(status) = status else { return Ok(false) };
    let known = usize::try_from(status).ok().and_then(|s| GRPC.get(s));
    match (shape, known) {
        (Grpc::Number, _) | (_, None) => write!(out, "{status}")?,
        (Grpc::Camel, Some((camel, _))) => out.write_str(camel)?,
        (Grpc::Snake, Some((_, snake))) => out.write_str(snake)?,
    }
    Ok(true)
}

fn milliseconds(out: &mut impl Write, time: Option<std::time::Duration>) -> Result<bool, fmt::Error> {
    time.map_or(Ok(false), |time| number(out, u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}

fn start_time(entry: &Entry<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
    match jiff::Timestamp::try_from(entry.start) {
        Ok(time) => write!(out, "{time:.3}").map(|()| true),
        Err(_) => Ok(false),
    }
}

fn flags(entry: &Entry<'_>, out: &mut impl Write, name: fn(Flag) -> &'static str) -> Result<bool, fmt::Error> {
    // No flag is a value too, in JSON as in text.
    if entry.flags.is_empty() {
        out.write_str("-")?
    } else {
        entry.flags.write(out, entry.http.is_some(), name)?
    };
    Ok(true)
}

fn text(out: &mut impl Write, value: Option<&str>) -> Result<bool, fmt::Error> {
    match value {
        Some(text) if !text.is_empty() => out.write_str(text).map(|()| true),
        _ => Ok(false),
    }
}

fn shown(out: &mut impl Write, value: Option<&dyn fmt::Display>) -> Result<bool, fmt::Error> {
    value.map_or(Ok(false), |v| write!(out, "{v}").map(|()| true))
}

fn number(out: &mut impl Write, value: u64) -> Result<bool, fmt::Error> {
    write!(out, "{value}").map(|()| true)
}

fn address(out: &mut impl Write, address: Option<SocketAddr>, part: Part) -> Result<bool, fmt::Error> {
    let Some(address) = address else { return Ok(false) };
    match part {
        Part::Whole => write!(out, "{address}")?,
        Part::Ip => write!(out, "{}", address.ip())?,
        Part::Port => write!(out, "{}", address.port())?,
    }
    Ok(true)
}
