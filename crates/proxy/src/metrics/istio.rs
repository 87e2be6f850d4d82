//! Istio's standard metrics of TCP connections (istio.io, "Istio Standard Metrics").

use std::sync::Arc;

use super::stats::stats;
use super::{Counter, Kind, Stats};
use crate::access_log::Flags;

stats! {
    /// Of connections with the same labels.
    IstioTcpStats {
        /// Bytes of responses.
        sent: Counter "istio_tcp_sent_bytes_total",
        /// Bytes of requests.
        received: Counter "istio_tcp_received_bytes_total",
        /// Connections that were opened.
        opened: Counter "istio_tcp_connections_opened_total",
        /// Connections that were closed.
        closed: Counter "istio_tcp_connections_closed_total",
    }
}

/// The labels of Istio's TCP metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcpLabels {
    /// Which end reports.
    pub reporter: Reporter,
    /// Who opened the connection.
    pub source: Arc<Workload>,
    /// Who took it.
    pub destination: Arc<Workload>,
    /// What it was opened to.
    pub service: Arc<Service>,
    /// What went wrong.
    pub flags: Flags,
    /// How it was protected.
    pub security: Security,
}

/// Which end of a connection reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The end that opened it.
    Source,
    /// The end that took it.
    Destination,
}

/// How a connection was protected, as far as the reporter knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// It was not.
    None,
    /// By TLS with certificates of both ends.
    MutualTls,
    /// The reporter does not say: a source, in Istio.
    Unknown,
}

/// An end of a connection; what is empty is reported as `unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its SPIFFE ID.
    pub principal: Arc<str>,
    /// Its label `app`.
    pub app: Arc<str>,
    /// Its label `version`.
    pub version: Arc<str>,
    /// The cluster that it runs in.
    pub cluster: Arc<str>,
    /// Its canonical service.
    pub canonical_service: Arc<str>,
    /// Its canonical revision.
    pub canonical_revision: Arc<str>,
}

/// A service; what is empty is reported as `unknown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    /// Its host name.
    pub host: Arc<str>,
    /// Its short name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

impl TcpLabels {
    /// Tells each label with its value, in the order in which they are shown.
    pub(super) fn visit(&self, tell: &mut dyn FnMut(&'static str, &str)) {
        let (source, destination) = (&self.source, &self.destination);
        let flags = self.flags.to_string();
        tell("reporter", if self.reporter == Reporter::Source { "source" } else { "destination" });
        for (label, value) in [
            ("source_workload", &*source.name),
            ("source_canonical_service", &source.canonical_service),
            ("source_canonical_revision", &source.canonical_revision),
            ("source_workload_namespace", &source.namespace),
            ("source_principal", &source.principal),
            ("source_app", &source.app),
            ("source_version", &source.version),
            ("source_cluster", &source.cluster),
            ("destination_workload", &destination.name),
            ("destination_workload_namespace", &destination.namespace),
            ("destination_principal", &destination.principal),
            ("destination_app", &destination.app),
            ("destination_version", &destination.version),
            ("destination_service", &self.service.host),
            ("destination_canonical_service", &destination.canonical_service),
            ("destination_canonical_revision", &destination.canonical_revision),
            ("destination_service_name", &self.service.name),
            ("destination_service_namespace", &self.service.namespace),
            ("destination_cluster", &destination.cluster),
            ("request_protocol", "tcp"),
            ("response_flags", &flags),
        ] {
            tell(label, if value.is_empty() { "unknown" } else { value });
        }
        let security = match self.security {
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
            Security::Unknown => "unknown",
        };
        tell("connection_security_policy", security);
    }
}
