//! The resource types of xDS v3.

use std::fmt;

/// A type of resource that ADS carries. The order is the one in which a push sends them, make before break: a
/// listener never refers to a cluster that the proxy has not got (xDS protocol, "Eventual consistency considerations").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeUrl {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoint,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
}

impl TypeUrl {
    /// Every type, in push order.
    pub const ALL: [TypeUrl; 5] =
        [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Secret, TypeUrl::Listener, TypeUrl::Route];

    /// The URL on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            TypeUrl::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            TypeUrl::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            TypeUrl::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            TypeUrl::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            TypeUrl::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of a URL; `None` for types that this control plane does not serve.
    pub fn parse(url: &str) -> Option<TypeUrl> {
        TypeUrl::ALL.into_iter().find(|t| t.as_str() == url)
    }

    /// Whether its resources are referred to by name, so that they come first and go last.
    pub fn is_referred_to(self) -> bool {
        matches!(self, TypeUrl::Cluster | TypeUrl::Endpoint)
    }

    /// Whether its resources refer to clusters.
    pub fn refers(self) -> bool {
        matches!(self, TypeUrl::Listener | TypeUrl::Route)
    }

    /// Whether a first subscription without names asks for everything (only CDS and LDS, by the protocol).
    pub fn has_wildcard(self) -> bool {
        matches!(self, TypeUrl::Cluster | TypeUrl::Listener)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
