//! Which endpoints a call goes to.

mod http;

pub use http::{
    Abort, Body, CorsPolicy, Delay, Delegate, DerivePort, DirectResponse, Fault, HeaderOperations, Headers,
    HttpDestination, HttpMatch, HttpRoute, Mirror, Percent, Redirect, RegexRewrite, Retries, Rewrite,
    UnmatchedPreflights,
};

use serde::Deserialize;

use super::{PortNumber, Spec};
use crate::selector::Labels;

/// Routes for calls of hosts.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VirtualService {
    /// The hosts.
    pub hosts: Vec<String>,
    /// The gateways that it is for; `mesh`, which is the default, is all sidecars.
    pub gateways: Vec<String>,
    /// Routes for HTTP.
    pub http: Vec<HttpRoute>,
    /// Routes for TLS that is passed through.
    pub tls: Vec<TlsRoute>,
    /// Routes for everything else.
    pub tcp: Vec<TcpRoute>,
    /// The namespaces that see it.
    #[serde(alias = "export_to")]
    pub export_to: Vec<String>,
}

impl Spec for VirtualService {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "VirtualService";
}

/// A route for connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TcpRoute {
    /// One of them must match; none match everything.
    #[serde(rename = "match")]
    pub matches: Vec<L4Match>,
    /// Where they go, by weight.
    pub route: Vec<RouteDestination>,
}

/// A route for TLS connections by server name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TlsRoute {
    /// One of them must match.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Where they go, by weight.
    pub route: Vec<RouteDestination>,
}

/// Matches a connection if everything that is set does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct L4Match {
    /// Addresses or CIDRs of the destination.
    #[serde(alias = "destination_subnets")]
    pub destination_subnets: Vec<String>,
    /// The service's port, or the server's of a gateway.
    pub port: Option<u16>,
    /// Address or CIDR of the caller.
    #[serde(alias = "source_subnet")]
    pub source_subnet: String,
    /// Labels of the caller.
    #[serde(alias = "source_labels")]
    pub source_labels: Labels,
    /// The gateways, if not those of the object.
    pub gateways: Vec<String>,
    /// The caller's namespace.
    #[serde(alias = "source_namespace")]
    pub source_namespace: String,
}

/// Matches a TLS connection if everything that is set does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names, possibly with a wildcard.
    #[serde(alias = "sni_hosts")]
    pub sni_hosts: Vec<String>,
    /// Addresses or CIDRs of the destination.
    #[serde(alias = "destination_subnets")]
    pub destination_subnets: Vec<String>,
    /// The service's port, or the server's of a gateway.
    pub port: Option<u16>,
    /// Labels of the caller.
    #[serde(alias = "source_labels")]
    pub source_labels: Labels,
    /// The gateways, if not those of the object.
    pub gateways: Vec<String>,
    /// The caller's namespace.
    #[serde(alias = "source_namespace")]
    pub source_namespace: String,
}

/// A destination with its share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteDestination {
    /// The destination.
    pub destination: Destination,
    /// Its share relative to the others; of a single one it has no meaning.
    pub weight: u32,
}

/// A service, or a subset of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// The service.
    pub host: String,
    /// The subset, which a destination rule defines.
    pub subset: String,
    /// The port; unset is the service's only one, or the one that was called.
    pub port: Option<PortNumber>,
}
