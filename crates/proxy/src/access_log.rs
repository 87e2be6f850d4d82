//! Access log lines: formats compiled once, rendered into a buffer of the caller without allocation.

mod flags;
mod format;
mod header;
mod json;
mod operator;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use crate::dynamic_metadata::DynamicMetadata;

pub use flags::{Flag, Flags};
pub use format::{Format, Text};
pub use header::{Headers, RequestHead};
pub(crate) use writer::{FLUSH_INTERVAL, Lines, LogWriter};

/// What a line can tell of a connection. What is `None` shows as `-` in text and as `null` in JSON.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// When the connection was accepted.
    pub start: SystemTime,
    /// How long it lasted.
    pub duration: Duration,
    /// Bytes that came from downstream.
    pub received: u64,
    /// Bytes that were sent to downstream.
    pub sent: u64,
    /// What went wrong.
    pub flags: Flags,
    /// Why the response, or the fate of a connection without any, is what it is.
    pub details: Option<&'a str>,
    /// Why the proxy ended the connection, if it did.
    pub termination: Option<&'a dyn fmt::Display>,
    /// Why TLS to upstream failed, if it did.
    pub upstream_failure: Option<&'a str>,
    /// Why TLS from downstream failed, if it did.
    pub downstream_failure: Option<&'a str>,
    /// The endpoint.
    pub upstream_host: Option<SocketAddr>,
    /// The cluster's name.
    pub cluster: Option<&'a str>,
    /// What the cluster's statistics are called.
    pub cluster_stat_name: Option<&'a str>,
    /// The proxy's end of the connection to upstream.
    pub upstream_local: Option<SocketAddr>,
    /// Where the connection was going before it was captured.
    pub downstream_local: SocketAddr,
    /// Where the connection, or the request, came from.
    pub downstream_remote: SocketAddr,
    /// Where the connection came from.
    pub direct_remote: SocketAddr,
    /// The server name of its ClientHello.
    pub server_name: Option<&'a str>,
    /// The peer's identity.
    pub peer_identity: Option<&'a str>,
    /// The subject of the peer's certificate.
    pub peer_subject: Option<&'a str>,
    /// The SHA-256 of the peer's certificate, in hexadecimal.
    pub peer_fingerprint: Option<&'a str>,
    /// The identity that was shown to the peer.
    pub local_identity: Option<&'a str>,
    /// The version of TLS from downstream, such as `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// The name of the filter chain.
    pub filter_chain: Option<&'a str>,
    /// The number of the connection in this process.
    pub connection_id: u64,
    /// The request, where it is about one.
    pub http: Option<&'a HttpEntry<'a>>,
}

/// What a line can tell of a request.
#[derive(Debug, Clone, Copy)]
pub struct HttpEntry<'a> {
    /// The version of HTTP that downstream speaks.
    pub protocol: Version,
    /// The request.
    pub request: RequestHead<'a>,
    /// The status of the response; `None` if there was none.
    pub status: Option<u16>,
    /// The headers of the response.
    pub response: Headers<'a>,
    /// The trailers of the response.
    pub trailers: Headers<'a>,
    /// The name of the route.
    pub route: Option<&'a str>,
    /// How often the request was sent upstream.
    pub attempts: u32,
    /// How long until the request was there whole.
    pub request_duration: Option<Duration>,
    /// How long until upstream began to answer.
    pub response_duration: Option<Duration>,
    /// How long from then until the response was sent whole.
    pub response_tx_duration: Option<Duration>,
    /// The status that gRPC gives.
    pub grpc_status: Option<u32>,
    /// What the request is called.
    pub stream_id: Option<&'a str>,
    /// The trace that it belongs to.
    pub trace_id: Option<&'a str>,
    /// What filters have noted.
    pub metadata: &'a DynamicMetadata,
}
