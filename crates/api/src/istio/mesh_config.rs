//! What holds for the whole mesh.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Compatibility, DecodeError, DefaultProviders, Duration, ExtensionProvider, H2UpgradePolicy, KeepAlive,
    LocalityLoadBalancer, Retries, TrustDomain, decode_spec,
};

/// The mesh's configuration: the key `mesh` of the ConfigMap `istio` in the root namespace, in YAML.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// The namespace whose policies are the mesh's.
    #[serde(alias = "root_namespace")]
    pub root_namespace: String,
    /// The trust domain of the mesh's identities.
    #[serde(alias = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// Other trust domains whose identities count as the mesh's own.
    #[serde(alias = "trust_domain_aliases")]
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// Whether clients use mutual TLS wherever the server can.
    #[serde(alias = "enable_auto_mtls")]
    pub enable_auto_mtls: bool,
    /// The file of access logs, usually `/dev/stdout`; empty is none.
    #[serde(alias = "access_log_file")]
    pub access_log_file: String,
    /// The format of a line; empty is Istio's.
    #[serde(alias = "access_log_format")]
    pub access_log_format: String,
    /// `TEXT` or `JSON`.
    #[serde(alias = "access_log_encoding")]
    pub access_log_encoding: String,
    /// What happens to calls of hosts that the mesh does not know.
    #[serde(alias = "outbound_traffic_policy")]
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// How long a connection may take to open.
    #[serde(alias = "connect_timeout")]
    pub connect_timeout: Duration,
    /// How long to wait for a connection's first bytes to tell its protocol; 0 is for ever.
    #[serde(alias = "protocol_detection_timeout")]
    pub protocol_detection_timeout: Duration,
    /// Keep-alive probes on connections between workloads.
    #[serde(alias = "tcp_keepalive")]
    pub tcp_keepalive: Option<KeepAlive>,
    /// Which places are preferred.
    #[serde(alias = "locality_lb_setting")]
    pub locality_lb_setting: LocalityLoadBalancer,
    /// Who sees services that do not say; empty is everybody.
    #[serde(alias = "default_service_export_to")]
    pub default_service_export_to: Vec<String>,
    /// Who sees virtual services that do not say; empty is everybody.
    #[serde(alias = "default_virtual_service_export_to")]
    pub default_virtual_service_export_to: Vec<String>,
    /// Who sees destination rules that do not say; empty is everybody.
    #[serde(alias = "default_destination_rule_export_to")]
    pub default_destination_rule_export_to: Vec<String>,
    /// How often names are looked up again that did not say how long they hold.
    #[serde(alias = "dns_refresh_rate")]
    pub dns_refresh_rate: Duration,
    /// Services beside the mesh that decide about requests, or are told of them.
    #[serde(alias = "extension_providers")]
    pub extension_providers: Vec<ExtensionProvider>,
    /// Those that hold where no Telemetry says otherwise.
    #[serde(alias = "default_providers")]
    pub default_providers: DefaultProviders,
    /// Whether calls are traced where no Telemetry says so.
    #[serde(alias = "enable_tracing")]
    pub enable_tracing: bool,
    /// How paths are written before anything is decided by them.
    #[serde(alias = "path_normalization")]
    pub path_normalization: PathNormalization,
    /// Whether HTTP/1.1 between proxies becomes HTTP/2, where no destination rule says.
    #[serde(alias = "h2_upgrade_policy")]
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// What happens to requests that fail, where no virtual service says; unset is Istio's default.
    #[serde(alias = "default_http_retry_policy")]
    pub default_http_retry_policy: Option<Retries>,
    /// What every proxy starts with (Istio's ProxyConfig), unless its pod's annotations say otherwise.
    #[serde(alias = "default_config")]
    pub default_config: Map<String, Value>,
    /// The version of Istio whose behaviour holds where versions disagree. Istio has no such field.
    pub compatibility: Compatibility,
}

impl MeshConfig {
    /// Reads the YAML of the ConfigMap's key, with the paths of what no field here knows.
    pub fn from_yaml(text: &str) -> Result<(MeshConfig, Vec<String>), DecodeError> {
        let malformed =
            |e: serde_saphyr::Error| DecodeError { path: String::new(), reason: e.without_snippet().to_string() };
        decode_spec(serde_saphyr::from_str::<Value>(text).map_err(malformed)?)
    }
}

impl Default for MeshConfig {
    /// Istio's defaults.
    fn default() -> MeshConfig {
        let seconds = |s| Duration(std::time::Duration::from_secs(s));
        MeshConfig {
            root_namespace: "istio-system".to_owned(),
            trust_domain: TrustDomain::default(),
            trust_domain_aliases: Vec::new(),
            enable_auto_mtls: true,
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: String::new(),
            outbound_traffic_policy: OutboundTrafficPolicy::default(),
            connect_timeout: seconds(10),
            protocol_detection_timeout: Duration::default(),
            tcp_keepalive: None,
            locality_lb_setting: LocalityLoadBalancer::default(),
            default_service_export_to: Vec::new(),
            default_virtual_service_export_to: Vec::new(),
            default_destination_rule_export_to: Vec::new(),
            dns_refresh_rate: seconds(60),
            extension_providers: Vec::new(),
            default_providers: DefaultProviders::default(),
            enable_tracing: false,
            path_normalization: PathNormalization::default(),
            h2_upgrade_policy: H2UpgradePolicy::default(),
            default_http_retry_policy: None,
            default_config: Map::new(),
            compatibility: Compatibility::default(),
        }
    }
}

/// What happens to calls of unknown hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OutboundTrafficPolicy {
    /// The mode.
    pub mode: OutboundTrafficMode,
}

/// What happens to calls of unknown hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficMode {
    /// They are refused.
    RegistryOnly,
    /// They pass through.
    #[default]
    AllowAny,
}

/// How paths are written before anything is decided by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    /// How far it goes.
    pub normalization: Normalization,
}

/// How far paths are made uniform; each includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// As BASE.
    #[default]
    Default,
    /// Not at all.
    None,
    /// By RFC 3986: dots and the case of percent signs.
    Base,
    /// Slashes in a row are one.
    MergeSlashes,
    /// Slashes that are escaped are slashes.
    DecodeAndMergeSlashes,
}
