//! Istio's standard metrics of connections and of requests (istio.io, "Istio Standard Metrics").

use std::sync::Arc;

use super::stats::stats;
use super::{Counter, Histogram, Kind, Stats};
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

/// Of requests with the same labels.
#[derive(Debug, Default)]
pub struct IstioHttpStats {
    /// Requests.
    pub requests: Counter,
    /// How long they took, in milliseconds.
    pub duration: Histogram,
    /// The size of the requests, in bytes.
    pub request_bytes: Histogram,
    /// The size of the responses, in bytes.
    pub response_bytes: Histogram,
    /// Messages of gRPC in requests.
    pub request_messages: Counter,
    /// Messages of gRPC in responses.
    pub response_messages: Counter,
}

impl Stats for IstioHttpStats {
    fn visit(&self, tell: &mut dyn FnMut(&'static str, Kind, u64)) {
        tell("istio_requests_total", Kind::Counter, self.requests.get());
        self.duration.visit("istio_request_duration_milliseconds", tell);
        self.request_bytes.visit("istio_request_bytes", tell);
        self.response_bytes.visit("istio_response_bytes", tell);
        let messages = [
            ("istio_request_messages_total", self.request_messages.get()),
            ("istio_response_messages_total", self.response_messages.get()),
        ];
        // Only gRPC has messages.
        for (name, count) in messages.into_iter().filter(|(_, count)| *count > 0) {
            tell(name, Kind::Counter, count);
        }
    }
}

/// What the labels of a request say beside those of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestLabels {
    /// Whether it is gRPC.
    pub grpc: bool,
    /// The status of the response; 0 if there is none.
    pub status: u16,
    /// What gRPC says.
    pub grpc_status: Option<u32>,
}

/// The labels of Istio's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallLabels {
    /// Which end reports.
    pub reporter: Reporter,
    /// Who opened the connection.
    pub source: Arc<Workload>,
    /// Who took it.
    pub destination: Arc<Workload>,
    /// What it was opened to.
    pub service: Arc<Service>,
    /// What it was, if it was a request.
    pub request: Option<RequestLabels>,
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

impl CallLabels {
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
        ] {
            tell(label, if value.is_empty() { "unknown" } else { value });
        }
        match self.request {
            None => tell("request_protocol", "tcp"),
            Some(RequestLabels { grpc, status, grpc_status }) => {
                tell("request_protocol", if grpc { "grpc" } else { "http" });
                tell("response_code", &status.to_string());
                tell("grpc_response_status", &grpc_status.map(|status| status.to_string()).unwrap_or_default());
            }
        }
        tell("response_flags", &flags);
        let security = match self.security {
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
            Security::Unknown => "unknown",
        };
        tell("connection_security_policy", security);
    }
}
