//! Istio's objects, as far as this mesh reads them, and the names that appear in its configuration.
//!
//! The versions v1alpha3, v1beta1 and v1 of a kind are one type. Fields are accepted in camelCase and in snake_case, as
//! the JSON form of protobuf has it, and null means unset. A field that no type knows is not an error: decoding reports
//! its path, so that whoever reads the object can say that it has no effect.

mod authorization_policy;
mod cluster_name;
mod compatibility;
mod definition;
mod destination_rule;
mod duration;
pub mod envoy_filter;
mod extension_provider;
mod gateway;
mod gateway_topology;
mod hostname;
mod identity;
pub mod legacy_authentication;
pub mod legacy_rbac;
mod mesh_config;
mod object;
mod peer_authentication;
mod request_authentication;
mod service_entry;
mod sidecar;
mod strict;
mod string_match;
pub mod telemetry;
mod virtual_service;

pub use authorization_policy::{Action, AuthorizationPolicy, Condition, From, Operation, Provider, Rule, Source, To};
pub use cluster_name::{ClusterName, ClusterNameError, Direction};
pub use compatibility::Compatibility;
pub use definition::definitions;
pub use destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, ConsistentHash, CookieAttribute, DestinationRule, H2UpgradePolicy,
    HashCookie, Http2KeepAlive, HttpPool, KeepAlive, LoadBalancer, LocalityDistribute, LocalityFailover,
    LocalityLoadBalancer, Maglev, OutlierDetection, PortTrafficPolicy, RetryBudget, RingHash, SimpleLoadBalancer,
    Subset, TcpPool, TrafficPolicy, Warmup,
};
pub use duration::Duration;
pub use envoy_filter::EnvoyFilter;
pub use extension_provider::{
    CheckedBody, DefaultProviders, ExtensionProvider, FileAccessLog, GrpcAuthorizer, HttpAuthorizer, LogFormat,
    TraceCollector, TraceUpload,
};
pub use gateway::{CertificateFiles, Gateway, Server, ServerTls, ServerTlsMode, TlsVersion};
pub use gateway_topology::{ForwardClientCert, GatewayTopology};
pub use hostname::Hostname;
pub use identity::{IdentityError, SpiffeId, TrustDomain};
pub use legacy_authentication::{MeshPolicy, Policy};
pub use legacy_rbac::{ClusterRbacConfig, RbacConfig, ServiceRole, ServiceRoleBinding};
pub use mesh_config::{MeshConfig, Normalization, OutboundTrafficMode, OutboundTrafficPolicy, PathNormalization};
pub use object::{DecodeError, Metadata, Object, Spec, decode_spec};
pub use peer_authentication::{MutualTls, MutualTlsMode, PeerAuthentication};
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
pub use service_entry::{Location, Resolution, ServiceEntry, ServicePort, WorkloadEntry};
pub use sidecar::{EgressListener, Sidecar};
pub use string_match::StringMatch;
pub use telemetry::Telemetry;
pub use virtual_service::{
    Abort, Body, CorsPolicy, Delay, Delegate, DerivePort, Destination, DirectResponse, Fault, HeaderOperations,
    Headers, HttpDestination, HttpMatch, HttpRoute, L4Match, Mirror, Percent, Redirect, RegexRewrite, Retries, Rewrite,
    RouteDestination, TcpRoute, TlsMatch, TlsRoute, UnmatchedPreflights, VirtualService,
};

use serde::Deserialize;

use crate::selector::Labels;

/// Selects workloads by labels; no labels select every workload of the object's scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// The labels that a workload must have (`matchLabels` in security policies, `labels` in networking objects).
    #[serde(alias = "match_labels", alias = "labels")]
    pub match_labels: Labels,
}

impl WorkloadSelector {
    /// Whether a workload with `labels` is selected.
    pub fn selects(&self, labels: &Labels) -> bool {
        includes(labels, &self.match_labels)
    }
}

/// Whether `labels` has every pair of `wanted`.
pub fn includes(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The port of a selector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PortNumber {
    /// The number; 0 is unset.
    pub number: u16,
}
