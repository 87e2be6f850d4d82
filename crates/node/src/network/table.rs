//! What a cluster's Services ask of its network: a pure function of the Services and their EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use api::{AddressPlan, ClusterIndex, NamespacedName};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde::{Deserialize, Serialize};

use super::objects::Objects;

/// The transport protocols that services are forwarded for. SCTP is not: the API server warns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Protocol {
    Tcp = 6,
    Udp = 17,
}

impl Protocol {
    /// Of a Service's or an EndpointSlice's port, where TCP goes without saying.
    pub(super) fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some(_) => None,
        }
    }

    pub(super) fn lowercase(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// An address at which a service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frontend {
    pub(super) address: Ipv4Addr,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// One port of one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendName {
    pub(super) service: NamespacedName,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.protocol.lowercase(), self.port)
    }
}

/// Where connections to a service's port go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    /// In order and never empty: a service without endpoints has no backend.
    pub(super) endpoints: Vec<SocketAddrV4>,
    /// For how many seconds after its last connection a client stays with its endpoint (`sessionAffinity: ClientIP`).
    pub(super) affinity: Option<u64>,
    /// Who may come in by a guarded way (`loadBalancerSourceRanges`), if there is one.
    pub(super) sources: Option<Vec<Ipv4Net>>,
}

/// What is behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) backend: BackendName,
    /// Whether only the backend's `sources` may take it.
    pub(super) guarded: bool,
}

/// A TCP port of the outer network that is offered on the host's loopback when the host takes no part in that network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Offer {
    /// `namespace/name`
    pub(super) service: String,
    /// A load balancer's or the node's address.
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// What is to be so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) frontends: BTreeMap<Frontend, Way>,
    pub(super) backends: BTreeMap<BackendName, Backend>,
    /// The load balancers' addresses, which the node has as its own.
    pub(super) load_balancers: BTreeSet<Ipv4Addr>,
    pub(super) offers: BTreeSet<Offer>,
}

/// Which addresses are the cluster's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) plan: AddressPlan,
    pub(super) index: ClusterIndex,
}

/// What the objects ask for. Of two services that ask for the same address and port, the first by name gets it.
pub(super) fn table(objects: &Objects, place: Place) -> Table {
    let mut table = Table::default();
    for (name, service) in objects.services() {
        if let Some(spec) = &service.spec
            && has_address(spec)
        {
            add_service(&mut table, place, name, service, spec, objects);
        }
    }
    table
}

/// Neither headless nor only a name.
fn has_address(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.as_deref().is_some_and(|ip| ip != "None")
}

fn add_service(
    table: &mut Table,
    place: Place,
    name: &NamespacedName,
    service: &Service,
    spec: &ServiceSpec,
    objects: &Objects,
) {
    let load_balancers = load_balancers(service, place);
    table.load_balancers.extend(&load_balancers);
    let inner: Vec<Ipv4Addr> = [&spec.cluster_ips, &spec.external_ips]
        .into_iter()
        .flatten()
        .flatten()
        .chain(&spec.cluster_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let ranges = spec.load_balancer_source_ranges.as_ref().filter(|ranges| !ranges.is_empty());
    // A range that cannot be read lets nobody in; the API server has refused it.
    let sources: Option<Vec<Ipv4Net>> =
        ranges.map(|ranges| ranges.iter().filter_map(|range| range.trim().parse().ok()).collect());
    for port in spec.ports.iter().flatten() {
        let Some((protocol, number)) = Protocol::parse(port.protocol.as_deref()).zip(port_number(port.port)) else {
            continue;
        };
        let node_port = port.node_port.and_then(port_number).map(|n| (place.plan.node(place.index), n));
        let balanced = || load_balancers.iter().map(|address| (*address, number));
        if protocol == Protocol::Tcp {
            let offer = |(address, port)| Offer { service: name.to_string(), address, port };
            table.offers.extend(balanced().chain(node_port).map(offer));
        }
        let endpoints = endpoints(objects, name, spec, port, protocol);
        if endpoints.is_empty() {
            continue;
        }
        let backend = BackendName { service: name.clone(), protocol, port: number };
        let affinity = affinity(spec);
        table.backends.insert(backend.clone(), Backend { endpoints, affinity, sources: sources.clone() });
        let open = inner.iter().map(|address| (*address, number)).chain(node_port).map(|at| (at, false));
        for ((address, port), guarded) in open.chain(balanced().map(|at| (at, sources.is_some()))) {
            let way = || Way { backend: backend.clone(), guarded };
            table.frontends.entry(Frontend { address, protocol, port }).or_insert_with(way);
        }
    }
}

fn affinity(spec: &ServiceSpec) -> Option<u64> {
    const DEFAULT: u64 = 10_800;
    let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|client_ip| client_ip.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(DEFAULT);
    (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(seconds)
}

/// The service's load-balancer addresses, as far as they are this cluster's to give.
fn load_balancers(service: &Service, place: Place) -> Vec<Ipv4Addr> {
    if service.spec.as_ref().is_none_or(|spec| spec.type_.as_deref() != Some("LoadBalancer")) {
        return Vec::new();
    }
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let addresses = ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok());
    addresses.filter(|ip| place.plan.load_balancers(place.index).any(|own| own == *ip)).collect()
}

pub(super) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// The endpoints that are to get a port's connections, as kube-proxy 1.33 chooses: those that are ready or,
/// when none is, those that still serve while they terminate.
fn endpoints(
    objects: &Objects,
    name: &NamespacedName,
    spec: &ServiceSpec,
    port: &ServicePort,
    protocol: Protocol,
) -> Vec<SocketAddrV4> {
    let unready_too = spec.publish_not_ready_addresses == Some(true);
    let choose = |chosen: fn(&Endpoint) -> bool| {
        let mut found: Vec<SocketAddrV4> = Vec::new();
        for slice in objects.slices(name) {
            let numbers = target_ports(slice, port.name.as_deref(), protocol);
            for endpoint in slice.endpoints.iter().filter(|e| unready_too || chosen(e)) {
                let address = endpoint.addresses.iter().find_map(|ip| ip.parse::<Ipv4Addr>().ok());
                found.extend(address.into_iter().flat_map(|ip| numbers.iter().map(move |n| SocketAddrV4::new(ip, *n))));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    };
    let ready = choose(is_ready);
    if ready.is_empty() { choose(is_serving) } else { ready }
}

/// Whether an endpoint is ready; one that does not say is.
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

fn is_serving(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}

fn target_ports(slice: &EndpointSlice, name: Option<&str>, protocol: Protocol) -> Vec<u16> {
    let named = |other: Option<&str>| other.unwrap_or_default() == name.unwrap_or_default();
    let same = slice
        .ports
        .iter()
        .flatten()
        .filter(|port| named(port.name.as_deref()) && Protocol::parse(port.protocol.as_deref()) == Some(protocol));
    same.filter_map(|port| port.port.and_then(port_number)).collect()
}

#[cfg(test)]
mod tests;
