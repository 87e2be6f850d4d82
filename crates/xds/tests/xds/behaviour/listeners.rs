//! The listeners of a pod at addresses of this machine, with what takes part in them.
//!
//! No connection is captured here. The one that would have been led to a port of the pod therefore comes to a listener at
//! this very port, which is a copy of what captures; and what would go on to where a connection was going has the server
//! of the pod as its endpoint.

use std::collections::{BTreeMap, BTreeSet};

use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy::envoy::config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier};
use envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use prost::Message;
use prost_types::Any;
use xds::Resources;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// The last numbers of addresses: where `guarded` is called, and the gateway.
const GUARDED: u8 = 20;
const GATEWAY: u8 = 30;
/// Those of the workload itself, at ports that are declared, and at others.
pub(super) const WORKLOAD: u8 = 10;
pub(super) const UNDECLARED: u8 = 11;

/// Where the requests of a file's cases are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// At the proxy of the client `foo/sleep`, by tables of routes.
    Client,
    /// At the proxy of the server `foo/guarded`, by ports.
    Server,
    /// At the gateway `foo/ingress`, by ports.
    Gateway,
}

impl Side {
    /// The pod whose proxy it is.
    pub(super) fn pod(self) -> &'static str {
        match self {
            Side::Client => "sleep",
            Side::Server => "guarded",
            Side::Gateway => "ingress",
        }
    }

    /// The listeners, each by the name of a table or a port among those that are `called`. The network is that of the
    /// servers.
    pub(super) fn listeners(self, resources: &Resources, network: &str, called: &BTreeSet<&str>) -> Vec<Listener> {
        match self {
            Side::Client => of_tables(resources),
            Side::Server => {
                let copy = |port: &&str| moved(&resources.listeners["virtualInbound"], network, GUARDED, port);
                called.iter().map(copy).collect()
            }
            Side::Gateway => {
                let own = |port: &str| resources.listeners.values().find(|listener| port_of(listener) == port);
                called.iter().filter_map(|port| Some(moved(own(port)?, network, GATEWAY, port))).collect()
            }
        }
    }

    /// The clusters, none of which needs to know where a connection was going.
    pub(super) fn clusters(self, resources: &Resources, network: &str) -> BTreeMap<String, Cluster> {
        let cluster = |cluster: &Cluster| match (self, cluster.name.as_str()) {
            (Side::Server, name) if name.starts_with("inbound|") => fixed(cluster, network, WORKLOAD),
            (Side::Server, "InboundPassthroughCluster") => fixed(cluster, network, UNDECLARED),
            _ => cluster.clone(),
        };
        resources.clusters.iter().map(|(name, c)| (name.clone(), cluster(c))).collect()
    }
}

fn fixed(cluster: &Cluster, network: &str, number: u8) -> Cluster {
    let endpoint = Endpoint { address: Some(at(&format!("{network}.{number}"), 8080)), ..Endpoint::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        lb_policy: LbPolicy::RoundRobin.into(),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: cluster.name.clone(),
            endpoints: vec![locality],
            ..ClusterLoadAssignment::default()
        }),
        ..cluster.clone()
    }
}

fn at(host: &str, port: u32) -> Address {
    let address = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    Address { address: Some(address::Address::SocketAddress(address)) }
}

/// An address of the machine itself, at which the kernel chooses a port.
pub(super) fn anywhere(number: usize) -> Address {
    at(&format!("127.0.3.{number}"), 0)
}

fn port_of(listener: &Listener) -> String {
    match listener.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(address::Address::SocketAddress(SocketAddress {
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..
        })) => port.to_string(),
        other => panic!("{other:?}"),
    }
}

fn moved(listener: &Listener, network: &str, number: u8, port: &str) -> Listener {
    let address = Some(at(&format!("{network}.{number}"), port.parse().unwrap()));
    Listener { name: port.to_owned(), address, ..listener.clone() }
}

/// For each table of routes a listener, with the connection manager that the node has for it.
fn of_tables(resources: &Resources) -> Vec<Listener> {
    let mut found = BTreeMap::new();
    for filter in resources.listeners.values().flat_map(|l| &l.filter_chains).flat_map(|chain| &chain.filters) {
        if let Some(manager) = manager(filter)
            && let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier
        {
            found.insert(rds.route_config_name.clone(), filter.clone());
        }
    }
    let listener = |(number, (name, filter)): (usize, (String, Filter))| Listener {
        name,
        address: Some(anywhere(number + 2)),
        filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
        ..Listener::default()
    };
    found.into_iter().enumerate().map(listener).collect()
}

fn manager(filter: &Filter) -> Option<HttpConnectionManager> {
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) if any.type_url == MANAGER => {
            Some(HttpConnectionManager::decode(any.value.as_slice()).unwrap())
        }
        _ => None,
    }
}

/// Puts the tables that connection managers would ask for into them.
pub(super) fn with_tables(listener: &mut Listener, resources: &Resources) {
    for filter in listener.filter_chains.iter_mut().flat_map(|chain| &mut chain.filters) {
        let Some(mut manager) = manager(filter) else { continue };
        if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
            let table = resources.routes[&rds.route_config_name].clone();
            manager.route_specifier = Some(RouteSpecifier::RouteConfig(table));
            let any = Any { type_url: MANAGER.to_owned(), value: manager.encode_to_vec() };
            filter.config_type = Some(filter::ConfigType::TypedConfig(any));
        }
    }
}
