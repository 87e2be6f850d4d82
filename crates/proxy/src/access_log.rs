//! Access log lines: formats compiled once, rendered into a buffer of the caller without allocation.

mod flags;
mod format;
mod json;
mod operator;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

pub use flags::{Flag, Flags};
pub use format::Format;
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
    /// Where the connection came from.
    pub downstream_remote: SocketAddr,
    /// The server name of its ClientHello.
    pub server_name: Option<&'a str>,
    /// The peer's identity.
    pub peer_identity: Option<&'a str>,
    /// The identity that was shown to the peer.
    pub local_identity: Option<&'a str>,
    /// The version of TLS from downstream, such as `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// The name of the filter chain.
    pub filter_chain: Option<&'a str>,
    /// The number of the connection in this process.
    pub connection_id: u64,
}
