//! What is known of a connection, for its logs and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::access_log::{Entry, Flags};
use crate::config::{Cluster, FilterChain};
use crate::metrics::{ClusterStats, IstioTcpStats, TcpStats};
use crate::relay::Traffic;

/// What is known of a connection.
pub(super) struct Record {
    pub(super) number: u64,
    start: SystemTime,
    begun: Instant,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) flags: Flags,
    pub(super) details: Option<&'static str>,
    pub(super) termination: Option<Arc<str>>,
    pub(super) downstream_failure: Option<Arc<str>>,
    pub(super) upstream_failure: Option<Arc<str>>,
    pub(super) upstream_host: Option<SocketAddr>,
    pub(super) upstream_local: Option<SocketAddr>,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) chain: Option<Arc<FilterChain>>,
    pub(super) server_name: Option<Box<str>>,
    pub(super) peer_identity: Option<Arc<str>>,
    pub(super) own_identity: Option<Arc<str>>,
    pub(super) tls_version: Option<&'static str>,
}

impl Record {
    pub(super) fn new(number: u64, local: SocketAddr, remote: SocketAddr) -> Record {
        Record {
            number,
            start: SystemTime::now(),
            begun: Instant::now(),
            local,
            remote,
            received: 0,
            sent: 0,
            flags: Flags::default(),
            details: None,
            termination: None,
            downstream_failure: None,
            upstream_failure: None,
            upstream_host: None,
            upstream_local: None,
            cluster: None,
            chain: None,
            server_name: None,
            peer_identity: None,
            own_identity: None,
            tls_version: None,
        }
    }

    /// The connection as logs show it.
    pub(super) fn entry(&self) -> Entry<'_> {
        // Istio's format has no place for a failure of TLS from downstream, except why the proxy ended the connection.
        let termination = self.termination.as_ref().or(self.downstream_failure.as_ref());
        Entry {
            start: self.start,
            duration: self.begun.elapsed(),
            received: self.received,
            sent: self.sent,
            flags: self.flags,
            details: self.details,
            termination: termination.map(|t| t as &dyn std::fmt::Display),
            upstream_failure: self.upstream_failure.as_deref(),
            downstream_failure: self.downstream_failure.as_deref(),
            upstream_host: self.upstream_host,
            cluster: self.cluster.as_ref().map(|c| &*c.name),
            cluster_stat_name: self.cluster.as_ref().map(|c| &*c.stat_name),
            upstream_local: self.upstream_local,
            downstream_local: self.local,
            downstream_remote: self.remote,
            direct_remote: self.remote,
            server_name: self.server_name.as_deref(),
            peer_identity: self.peer_identity.as_deref(),
            peer_subject: None,
            peer_fingerprint: None,
            local_identity: self.own_identity.as_deref(),
            tls_version: self.tls_version,
            filter_chain: self.chain.as_ref().map(|c| &*c.name),
            connection_id: self.number,
            http: None,
        }
    }
}

/// Counts bytes as they go by.
pub(super) struct Counts<'a> {
    pub(super) tcp: &'a TcpStats,
    pub(super) cluster: &'a ClusterStats,
    pub(super) istio: &'a IstioTcpStats,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Traffic for Counts<'_> {
    fn sent_up(&mut self, bytes: u64) {
        self.received += bytes;
        self.tcp.rx_bytes.add(bytes);
        self.cluster.tx_bytes.add(bytes);
        self.istio.received.add(bytes);
    }

    fn sent_down(&mut self, bytes: u64) {
        self.sent += bytes;
        self.tcp.tx_bytes.add(bytes);
        self.cluster.rx_bytes.add(bytes);
        self.istio.sent.add(bytes);
    }

    fn paused(&mut self) {
        self.tcp.rx_paused.inc();
    }

    fn resumed(&mut self) {
        self.tcp.rx_resumed.inc();
    }
}
