//! How clients reach a service.

mod http;
mod load_balancer;

pub use http::{H2UpgradePolicy, Http2KeepAlive, HttpPool};
pub use load_balancer::{
    ConsistentHash, CookieAttribute, HashCookie, LoadBalancer, LocalityDistribute, LocalityFailover,
    LocalityLoadBalancer, Maglev, RingHash, SimpleLoadBalancer, Warmup,
};

use serde::Deserialize;
use serde_json::Value;

use super::{Duration, PortNumber, Spec, WorkloadSelector};
use crate::selector::Labels;

/// Policies for traffic to a host, after routing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DestinationRule {
    /// The service.
    pub host: String,
    /// The policy of every subset that does not say otherwise.
    #[serde(alias = "traffic_policy")]
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service's endpoints.
    pub subsets: Vec<Subset>,
    /// The namespaces that see the rule.
    #[serde(alias = "export_to")]
    pub export_to: Vec<String>,
    /// The clients that it is for; absent is all.
    #[serde(alias = "workload_selector")]
    pub workload_selector: Option<WorkloadSelector>,
}

impl Spec for DestinationRule {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "DestinationRule";
}

/// Endpoints with certain labels, or simply a name for other policies towards all of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subset {
    /// The name.
    pub name: String,
    /// The labels that an endpoint must have.
    pub labels: Labels,
    /// Laid over the rule's policy, field by field.
    #[serde(alias = "traffic_policy")]
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How to reach endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    #[serde(alias = "load_balancer")]
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections may be open.
    #[serde(alias = "connection_pool")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left alone for a while.
    #[serde(alias = "outlier_detection")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Encryption.
    pub tls: Option<ClientTls>,
    /// How many retries there may be beside other requests.
    #[serde(alias = "retry_budget")]
    pub retry_budget: Option<RetryBudget>,
    /// How connections go through another proxy.
    pub tunnel: Option<Value>,
    /// A header that says who the client is.
    #[serde(alias = "proxy_protocol")]
    pub proxy_protocol: Option<Value>,
    /// Policies of single ports, which replace all of the above for their port.
    #[serde(alias = "port_level_settings")]
    pub port_level_settings: Vec<PortTrafficPolicy>,
}

/// The policy of one port of the service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: PortNumber,
    /// How an endpoint is chosen.
    #[serde(alias = "load_balancer")]
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections may be open.
    #[serde(alias = "connection_pool")]
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left alone for a while.
    #[serde(alias = "outlier_detection")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Encryption.
    pub tls: Option<ClientTls>,
}

/// How many retries there may be beside other requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Percent of the requests that are under way.
    pub percent: Option<f64>,
    /// So many may always be.
    #[serde(alias = "min_retry_concurrency")]
    pub min_retry_concurrency: Option<u32>,
    /// The time over which requests are counted.
    #[serde(alias = "budget_interval")]
    pub budget_interval: Option<Duration>,
}

/// How many connections may be open.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConnectionPool {
    /// Of every protocol.
    pub tcp: Option<TcpPool>,
    /// Of HTTP.
    pub http: Option<HttpPool>,
}

/// Limits on TCP connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpPool {
    /// How many may be open.
    #[serde(alias = "max_connections")]
    pub max_connections: Option<u32>,
    /// How long one may take to open.
    #[serde(alias = "connect_timeout")]
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes.
    #[serde(alias = "tcp_keepalive")]
    pub tcp_keepalive: Option<KeepAlive>,
    /// How long one may live.
    #[serde(alias = "max_connection_duration")]
    pub max_connection_duration: Option<Duration>,
    /// How long one may be silent.
    #[serde(alias = "idle_timeout")]
    pub idle_timeout: Option<Duration>,
}

/// Keep-alive probes; unset values are the kernel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeepAlive {
    /// How many go unanswered before the connection is dead.
    pub probes: Option<u32>,
    /// How long a connection is silent before the first.
    pub time: Option<Duration>,
    /// How far they are apart.
    pub interval: Option<Duration>,
}

/// When an endpoint is left alone for a while.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Failures in a row; the deprecated form, which counts gateway errors.
    #[serde(alias = "consecutive_errors")]
    pub consecutive_errors: Option<u32>,
    /// Gateway errors in a row; on TCP, failed connections. 0 is off.
    #[serde(alias = "consecutive_gateway_errors")]
    pub consecutive_gateway_errors: Option<u32>,
    /// Server errors in a row. 0 is off.
    #[serde(rename = "consecutive5xxErrors", alias = "consecutive_5xx_errors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Whether failures of the connection are counted apart from those that the peer reports.
    #[serde(alias = "split_external_local_origin_errors")]
    pub split_external_local_origin_errors: bool,
    /// Failures of the connection in a row, when counted apart.
    #[serde(alias = "consecutive_local_origin_failures")]
    pub consecutive_local_origin_failures: Option<u32>,
    /// How often endpoints are looked at.
    pub interval: Option<Duration>,
    /// How long an endpoint is left alone, times the number of times that it was.
    #[serde(alias = "base_ejection_time")]
    pub base_ejection_time: Option<Duration>,
    /// At most this share of endpoints is left alone.
    #[serde(alias = "max_ejection_percent")]
    pub max_ejection_percent: Option<u32>,
    /// With fewer healthy endpoints than this share, health is disregarded.
    #[serde(alias = "min_health_percent")]
    pub min_health_percent: u32,
    /// Which statuses are errors, if not those from 500 on.
    #[serde(alias = "outlier_detection_http_error_codes")]
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// Encryption of connections to a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    /// The mode; unset is DISABLE, as the first of protobuf's values.
    pub mode: Option<ClientTlsMode>,
    /// The file of the client's certificate chain.
    #[serde(alias = "client_certificate")]
    pub client_certificate: String,
    /// The file of the client's key.
    #[serde(alias = "private_key")]
    pub private_key: String,
    /// The file of the authorities that the server's certificate must come from.
    #[serde(alias = "ca_certificates")]
    pub ca_certificates: String,
    /// The file of what these authorities have revoked.
    #[serde(alias = "ca_crl")]
    pub ca_crl: String,
    /// The name of a secret, instead of files.
    #[serde(alias = "credential_name")]
    pub credential_name: String,
    /// Names of which the server's certificate must have one.
    #[serde(alias = "subject_alt_names")]
    pub subject_alt_names: Vec<String>,
    /// The server name in the handshake.
    pub sni: String,
    /// Whether the server's certificate is taken unverified.
    #[serde(alias = "insecure_skip_verify")]
    pub insecure_skip_verify: bool,
}

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Not at all.
    Disable,
    /// TLS; only the server has a certificate.
    Simple,
    /// TLS with given certificates on both sides.
    Mutual,
    /// TLS with the workload's own certificate.
    IstioMutual,
}
