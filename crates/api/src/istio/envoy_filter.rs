//! Changes to what proxies are told, in Envoy's own words.

use serde::Deserialize;
use serde_json::Value;

use super::{Spec, WorkloadSelector};
use crate::selector::Labels;

/// Patches to the configuration of workloads' proxies.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvoyFilter {
    /// The workloads; absent is the namespace, or in the root namespace the mesh.
    #[serde(alias = "workload_selector")]
    pub workload_selector: Option<WorkloadSelector>,
    /// The patches, in order.
    #[serde(alias = "config_patches")]
    pub config_patches: Vec<ConfigPatch>,
    /// When it is applied: lower ones first.
    pub priority: i32,
    /// The same as the selector, up to Istio 1.4.
    #[serde(alias = "workload_labels")]
    pub workload_labels: Labels,
    /// Filters to insert, as up to Istio 1.4.
    pub filters: Vec<InsertedFilter>,
}

impl EnvoyFilter {
    /// The labels that a workload must have.
    pub fn labels(&self) -> &Labels {
        self.workload_selector.as_ref().map_or(&self.workload_labels, |selector| &selector.match_labels)
    }
}

impl Spec for EnvoyFilter {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "EnvoyFilter";
}

/// One change.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigPatch {
    /// What is changed.
    #[serde(alias = "apply_to")]
    pub apply_to: ApplyTo,
    /// Where.
    pub r#match: PatchMatch,
    /// How.
    pub patch: Patch,
}

/// What is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApplyTo {
    /// Nothing that is known.
    #[default]
    Invalid,
    /// Listeners.
    Listener,
    /// Their chains.
    FilterChain,
    /// The filters of chains.
    NetworkFilter,
    /// The filters of HTTP connection managers.
    HttpFilter,
    /// Route tables.
    RouteConfiguration,
    /// Their virtual hosts.
    VirtualHost,
    /// Routes.
    HttpRoute,
    /// Clusters.
    Cluster,
    /// Configurations that others refer to by name.
    ExtensionConfig,
    /// What a proxy starts with.
    Bootstrap,
    /// Filters that look at connections before a chain is chosen.
    ListenerFilter,
}

/// Where; every part that is set must match.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PatchMatch {
    /// The direction.
    pub context: PatchContext,
    /// The proxy.
    pub proxy: Option<ProxyMatch>,
    /// The listener.
    pub listener: Option<ListenerMatch>,
    /// The route table.
    #[serde(alias = "route_configuration")]
    pub route_configuration: Option<RouteConfigurationMatch>,
    /// The cluster.
    pub cluster: Option<ClusterMatch>,
}

/// The direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchContext {
    /// All.
    #[default]
    Any,
    /// What reaches a sidecar's workload.
    SidecarInbound,
    /// What it calls.
    SidecarOutbound,
    /// Gateways.
    Gateway,
    /// Waypoints.
    Waypoint,
}

/// The proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyMatch {
    /// A regular expression for its version.
    #[serde(alias = "proxy_version")]
    pub proxy_version: String,
    /// What its metadata must have.
    pub metadata: Labels,
}

/// The listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerMatch {
    /// The port; 0 is any.
    #[serde(alias = "port_number")]
    pub port_number: u16,
    /// How the port's name begins (Istio never reads it).
    #[serde(alias = "port_name")]
    pub port_name: String,
    /// The chain.
    #[serde(alias = "filter_chain")]
    pub filter_chain: Option<FilterChainMatch>,
    /// A filter that looks at connections before a chain is chosen.
    #[serde(alias = "listener_filter")]
    pub listener_filter: String,
    /// The name.
    pub name: String,
}

/// The chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterChainMatch {
    /// The name.
    pub name: String,
    /// One of the server names that it matches.
    pub sni: String,
    /// The transport protocol that it matches.
    #[serde(alias = "transport_protocol")]
    pub transport_protocol: String,
    /// The application protocols that it matches, separated by commas.
    #[serde(alias = "application_protocols")]
    pub application_protocols: String,
    /// A filter in it.
    pub filter: Option<FilterMatch>,
    /// The port that it matches; 0 is any.
    #[serde(alias = "destination_port")]
    pub destination_port: u16,
}

/// A filter in a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterMatch {
    /// The name.
    pub name: String,
    /// A filter in it, if it is an HTTP connection manager.
    #[serde(alias = "sub_filter")]
    pub sub_filter: Option<SubFilterMatch>,
}

/// A filter by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubFilterMatch {
    /// The name.
    pub name: String,
}

/// The route table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouteConfigurationMatch {
    /// The port; 0 is any.
    #[serde(alias = "port_number")]
    pub port_number: u16,
    /// The name of a gateway's port.
    #[serde(alias = "port_name")]
    pub port_name: String,
    /// The gateway, as NAMESPACE/NAME.
    pub gateway: String,
    /// The virtual host.
    pub vhost: Option<VirtualHostMatch>,
    /// The name.
    pub name: String,
}

/// The virtual host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VirtualHostMatch {
    /// The name.
    pub name: String,
    /// A domain of it.
    #[serde(alias = "domain_name")]
    pub domain_name: String,
    /// The route.
    pub route: Option<RouteMatch>,
}

/// The route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteMatch {
    /// The name.
    pub name: String,
    /// What it does: `ANY`, `ROUTE`, `REDIRECT` or `DIRECT_RESPONSE`.
    pub action: RouteActionMatch,
}

/// What a route does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RouteActionMatch {
    /// Anything.
    #[default]
    Any,
    /// It leads to a cluster.
    Route,
    /// It sends the client elsewhere.
    Redirect,
    /// It answers.
    DirectResponse,
}

/// The cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterMatch {
    /// The service's port; 0 is any.
    #[serde(alias = "port_number")]
    pub port_number: u16,
    /// The service.
    pub service: String,
    /// The subset.
    pub subset: String,
    /// The name, instead of the others.
    pub name: String,
}

/// How.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Patch {
    /// The operation.
    pub operation: Operation,
    /// What is put in, in the JSON form of Envoy's messages.
    pub value: Value,
    /// Among which filters one is inserted: `UNSPECIFIED`, `AUTHN`, `AUTHZ` or `STATS`.
    #[serde(alias = "filter_class")]
    pub filter_class: FilterClass,
}

/// The operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    /// None that is known.
    #[default]
    Invalid,
    /// The value is merged in, as protobuf merges messages.
    Merge,
    /// The value is put at the end.
    Add,
    /// What matches goes.
    Remove,
    /// The value is put before what matches.
    InsertBefore,
    /// The value is put after what matches.
    InsertAfter,
    /// The value is put first.
    InsertFirst,
    /// The value takes the place of what matches.
    Replace,
}

/// Among which filters one is inserted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FilterClass {
    /// Where the operation says.
    #[default]
    Unspecified,
    /// After those that authenticate.
    Authn,
    /// After those that authorize.
    Authz,
    /// Before those that count.
    Stats,
}

/// A filter to insert, as up to Istio 1.4.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InsertedFilter {
    /// Where.
    #[serde(alias = "listener_match")]
    pub listener_match: OldListenerMatch,
    /// Among the others.
    #[serde(alias = "insert_position")]
    pub insert_position: InsertPosition,
    /// Which kind of filter it is.
    #[serde(alias = "filter_type")]
    pub filter_type: OldFilterType,
    /// Its name.
    #[serde(alias = "filter_name")]
    pub filter_name: String,
    /// Its configuration.
    #[serde(alias = "filter_config")]
    pub filter_config: Value,
}

/// The listener of a filter to insert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OldListenerMatch {
    /// The port; 0 is any.
    #[serde(alias = "port_number")]
    pub port_number: u16,
    /// How the port's name begins.
    #[serde(alias = "port_name_prefix")]
    pub port_name_prefix: String,
    /// The direction.
    #[serde(alias = "listener_type")]
    pub listener_type: OldListenerType,
    /// What the listener speaks.
    #[serde(alias = "listener_protocol")]
    pub listener_protocol: OldListenerProtocol,
    /// The addresses of which it has one.
    pub address: Vec<String>,
}

/// The direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OldListenerType {
    /// All.
    #[default]
    Any,
    /// What reaches a sidecar's workload.
    SidecarInbound,
    /// What it calls.
    SidecarOutbound,
    /// Gateways.
    Gateway,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OldListenerProtocol {
    /// Anything.
    #[default]
    All,
    /// HTTP.
    Http,
    /// Bytes.
    Tcp,
}

/// Which kind of filter one is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OldFilterType {
    /// None that is known.
    #[default]
    Invalid,
    /// Of requests.
    Http,
    /// Of connections.
    Network,
}

/// Where among the others a filter is inserted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InsertPosition {
    /// First, last, or beside another.
    pub index: PositionIndex,
    /// The other.
    #[serde(alias = "relative_to")]
    pub relative_to: String,
}

/// First, last, or beside another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PositionIndex {
    /// First.
    #[default]
    First,
    /// Last.
    Last,
    /// Before the other.
    Before,
    /// After the other.
    After,
}
