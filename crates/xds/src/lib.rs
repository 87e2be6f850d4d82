//! From the objects of a cluster and one proxy to that proxy's Envoy resources.
//!
//! [`Mesh::new`] indexes the objects once; [`build`] makes the resources of one node from it. Both are pure: they read no
//! clock, environment, network or lock, equal objects in any order give byte-equal resources, and nothing that a user
//! can write makes them fail. What an object says without effect comes back as a [`Diagnostic`].
//!
//! What a sidecar calls depends on few of its properties, so [`outbound`] takes an [`OutboundClass`]: nodes of one class
//! share its result. The other part, [`inbound`], is small. Everything that a gateway is told is of the first kind.
//!
//! [`Mesh::after`] indexes only what has changed, and [`Changes`] says which results are still good.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access_log;
pub mod analysis;
mod changes;
mod cluster;
pub mod description;
mod destination;
mod diagnostic;
mod endpoint;
mod filter;
mod gateway;
mod listener;
mod mesh;
mod node;
mod patch;
mod policy;
mod provider;
mod re2;
mod route;
mod scope;
mod telemetry;
mod tls;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use api::istio::Hostname;
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy::envoy::config::listener::v3::Listener;
use envoy::envoy::config::route::v3::RouteConfiguration;

use patch::{Direction, Doors};

pub use changes::{Changes, Outdated};
pub use cluster::BLACK_HOLE;
pub use diagnostic::{Code, Diagnostic, ObjectRef, Severity};
pub use mesh::{Mesh, Objects};
pub use node::{InboundClass, Locality, Node, OutboundClass, Role};

/// What a node is told, in the order of names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Where it listens.
    pub listeners: BTreeMap<String, Listener>,
    /// Where connections go.
    pub clusters: BTreeMap<String, Cluster>,
    /// Where requests go, as listeners name it.
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// The endpoints of clusters that are discovered by EDS.
    pub endpoints: BTreeMap<String, ClusterLoadAssignment>,
    /// The names of the secrets that the rest refers to. What is in them is between the node and its authority:
    /// `default` and `ROOTCA` are the workload's own, `file-cert:CERT~KEY` and `file-root:CA` are files of its
    /// pod; in `file-root:CA~CRL` the second says what the authorities of the first have revoked.
    pub secrets: BTreeSet<String>,
    /// What has less effect than written, as far as this node shows it; [`Mesh::diagnostics`] has the rest.
    pub diagnostics: BTreeSet<Diagnostic>,
}

/// A table of routes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Where requests go.
    pub routes: RouteConfiguration,
    /// What has less effect than written, as far as the table shows it.
    pub diagnostics: BTreeSet<Diagnostic>,
}

/// The resources of a proxy.
pub fn build(mesh: &Mesh, node: &Node) -> Resources {
    let mut all = outbound(mesh, &mesh.outbound_class(node));
    let inbound = inbound(mesh, node);
    all.listeners.extend(inbound.listeners);
    all.clusters.extend(inbound.clusters);
    all.secrets.extend(inbound.secrets);
    all.diagnostics.extend(inbound.diagnostics);
    all
}

/// The part for calls that leave the node: `virtualOutbound`, a listener for each address and port of a service, the
/// clusters behind them, and the routes of requests.
pub fn outbound(mesh: &Mesh, class: &OutboundClass) -> Resources {
    let (mut resources, of_tables) = outbound_apart(mesh, class);
    resources.diagnostics.extend(of_tables.into_values().flatten());
    resources
}

/// The same, with what was found about each table of routes apart, since [`tables`] may be made anew one by one.
pub fn outbound_apart(mesh: &Mesh, class: &OutboundClass) -> (Resources, BTreeMap<String, BTreeSet<Diagnostic>>) {
    if class.router.is_some() {
        return gateway::build(mesh, class);
    }
    let mut resources = Resources::default();
    let scope = scope::Scope::new(mesh, class, &mut resources.diagnostics);
    cluster::outbound(mesh, class, &scope, &mut resources);
    listener::outbound(mesh, class, &scope, &mut resources);
    let mut of_tables = BTreeMap::new();
    for (name, Table { routes, diagnostics }) in route::outbound(mesh, class, &scope, None) {
        resources.routes.insert(name.clone(), routes);
        of_tables.insert(name, diagnostics);
    }
    mesh.telemetries.apply(mesh, class, Direction::Outbound, &mut resources);
    mesh.patches.apply(&class.patches, Direction::Outbound, &Doors::default(), &mut resources);
    (resources, of_tables)
}

/// The routes of requests that leave the node, by the names of their tables: of all, or of those that are wanted.
pub fn tables(mesh: &Mesh, class: &OutboundClass, wanted: Option<&BTreeSet<String>>) -> BTreeMap<String, Table> {
    if class.router.is_some() {
        return gateway::tables(mesh, class, wanted);
    }
    let scope = scope::Scope::new(mesh, class, &mut BTreeSet::new());
    route::outbound(mesh, class, &scope, wanted)
}

/// What [`outbound`] has of clusters and endpoints for some hosts, and for those to which their routes lead.
pub fn clusters_of(mesh: &Mesh, class: &OutboundClass, hosts: &BTreeSet<Hostname>) -> Resources {
    if class.router.is_some() {
        return gateway::clusters_of(mesh, class, hosts);
    }
    let mut resources = Resources::default();
    let scope = scope::Scope::of_hosts(mesh, class, hosts);
    cluster::outbound(mesh, class, &scope, &mut resources);
    resources
}

/// What [`outbound`] has for some hosts, and for those to which their routes lead. A listener where other hosts are found,
/// too, is only theirs here. Of a gateway it is everything.
pub fn outbound_of(mesh: &Mesh, class: &OutboundClass, hosts: &BTreeSet<Hostname>) -> Resources {
    if class.router.is_some() {
        return outbound(mesh, class);
    }
    let mut resources = Resources::default();
    let scope = scope::Scope::of_hosts(mesh, class, hosts);
    cluster::outbound(mesh, class, &scope, &mut resources);
    listener::outbound(mesh, class, &scope, &mut resources);
    for (name, Table { routes, diagnostics }) in route::outbound(mesh, class, &scope, None) {
        resources.routes.insert(name, routes);
        resources.diagnostics.extend(diagnostics);
    }
    mesh.telemetries.apply(mesh, class, Direction::Outbound, &mut resources);
    mesh.patches.apply(&class.patches, Direction::Outbound, &Doors::default(), &mut resources);
    resources
}

/// The part for calls that reach the node: `virtualInbound` and the clusters of the workload's own ports. A gateway has
/// no such part: all calls are on their way to somewhere else.
pub fn inbound(mesh: &Mesh, node: &Node) -> Resources {
    let mut resources = Resources::default();
    if node.role == Role::Router {
        return resources;
    }
    listener::inbound(mesh, node, &mut resources);
    let class = mesh.outbound_class(node);
    mesh.telemetries.apply(mesh, &class, Direction::Inbound, &mut resources);
    mesh.patches.apply(&class.patches, Direction::Inbound, &Doors::default(), &mut resources);
    resources
}
