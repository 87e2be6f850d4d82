//! Envoy's command operators, as far as a connection has what they name.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::{Entry, Flag};

/// What stands between two percent signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime,
    /// Something that a connection never has, such as a request's header.
    Absent,
    ResponseCode,
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
    RequestedServerName,
    DownstreamPeerUriSan,
    DownstreamLocalUriSan,
    DownstreamTlsVersion,
    FilterChainName,
    ConnectionId,
}

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
    ("PROTOCOL", Operator::Absent),
    ("RESPONSE_CODE_DETAILS", Operator::Absent),
    ("ROUTE_NAME", Operator::Absent),
    ("VIRTUAL_CLUSTER_NAME", Operator::Absent),
    ("REQUEST_DURATION", Operator::Absent),
    ("RESPONSE_DURATION", Operator::Absent),
    ("RESPONSE_TX_DURATION", Operator::Absent),
    ("GRPC_STATUS", Operator::Absent),
    ("GRPC_STATUS_NUMBER", Operator::Absent),
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
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Operator::DownstreamRemoteAddress(Part::Whole)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Operator::DownstreamRemoteAddress(Part::Ip)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Operator::DownstreamRemoteAddress(Part::Port)),
    ("REQUESTED_SERVER_NAME", Operator::RequestedServerName),
    ("DOWNSTREAM_PEER_URI_SAN", Operator::DownstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_URI_SAN", Operator::DownstreamLocalUriSan),
    ("DOWNSTREAM_TLS_VERSION", Operator::DownstreamTlsVersion),
    ("FILTER_CHAIN_NAME", Operator::FilterChainName),
    ("CONNECTION_ID", Operator::ConnectionId),
];

/// The operators with an argument whose value a connection never has: what belongs to a request or response, and what
/// filters note that this proxy does not have.
const ABSENT: &[&str] = &["REQ", "RESP", "TRAILER", "DYNAMIC_METADATA", "FILTER_STATE", "UPSTREAM_FILTER_STATE"];

impl Operator {
    /// The operator that `command` names, which stood between percent signs. The error is a clause.
    pub(super) fn parse(command: &str) -> Result<Operator, String> {
        if let Some((name, rest)) = command.split_once('(') {
            // A limit on the length may follow the argument; there is nothing to cut.
            let closed = rest.rsplit_once(')').is_some_and(|(_, limit)| {
                limit.strip_prefix(':').map_or(limit.is_empty(), |digits| digits.parse::<u32>().is_ok())
            });
            if ABSENT.contains(&name) && closed {
                return Ok(Operator::Absent);
            }
        }
        let known = PLAIN.iter().find(|(name, _)| *name == command).map(|(_, operator)| *operator);
        known.ok_or_else(|| format!("has the unknown operator %{command}%"))
    }

    /// Whether the value is a number.
    pub(super) fn is_number(self) -> bool {
        matches!(
            self,
            Operator::ResponseCode
                | Operator::BytesReceived
                | Operator::BytesSent
                | Operator::Duration
                | Operator::ConnectionId
                | Operator::UpstreamLocalAddress(Part::Port)
                | Operator::UpstreamRemoteAddress(Part::Port)
                | Operator::DownstreamLocalAddress(Part::Port)
                | Operator::DownstreamRemoteAddress(Part::Port)
        )
    }

    /// Writes the value, if there is one; returns whether there is.
    pub(super) fn write(self, entry: &Entry<'_>, out: &mut impl Write) -> Result<bool, fmt::Error> {
        match self {
            Operator::Absent => Ok(false),
            Operator::StartTime => start_time(entry, out),
            Operator::ResponseCode => number(out, 0),
            Operator::ResponseFlags => flags(entry, out, Flag::short),
            Operator::ResponseFlagsLong => flags(entry, out, Flag::long),
            Operator::ConnectionTerminationDetails => shown(out, entry.termination),
            Operator::UpstreamTransportFailureReason => text(out, entry.upstream_failure),
            Operator::DownstreamTransportFailureReason => text(out, entry.downstream_failure),
            Operator::BytesReceived => number(out, entry.received),
            Operator::BytesSent => number(out, entry.sent),
            Operator::Duration => number(out, u64::try_from(entry.duration.as_millis()).unwrap_or(u64::MAX)),
            Operator::UpstreamHost => address(out, entry.upstream_host, Part::Whole),
            Operator::UpstreamCluster => text(out, entry.cluster_stat_name),
            Operator::UpstreamClusterRaw => text(out, entry.cluster),
            Operator::UpstreamLocalAddress(part) => address(out, entry.upstream_local, part),
            Operator::UpstreamRemoteAddress(part) => address(out, entry.upstream_host, part),
            Operator::DownstreamLocalAddress(part) => address(out, Some(entry.downstream_local), part),
            Operator::DownstreamRemoteAddress(part) => address(out, Some(entry.downstream_remote), part),
            Operator::RequestedServerName => text(out, entry.server_name),
            Operator::DownstreamPeerUriSan => text(out, entry.peer_identity),
            Operator::DownstreamLocalUriSan => text(out, entry.local_identity),
            Operator::DownstreamTlsVersion => text(out, entry.tls_version),
            Operator::FilterChainName => text(out, entry.filter_chain),
            Operator::ConnectionId => number(out, entry.connection_id),
        }
    }
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
        entry.flags.write(out, name)?
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
