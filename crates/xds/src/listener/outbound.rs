//! `virtualOutbound`, and a listener for each address and port of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use api::istio::{Hostname, MeshConfig, OutboundTrafficMode};
use envoy::envoy::config::core::v3::TrafficDirection;
use envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use ipnet::IpNet;

use super::branch::Branch;
use super::claims::Claims;
use super::tcp_route::Called;
use super::{INBOUND_PORT, OUTBOUND_PORT};
use crate::filter::http_connections;
use crate::filter::tcp_proxy::Target;
use crate::mesh::{Discovery, Mesh, Protocol};
use crate::scope::{Group, GroupPort, Scope};
use crate::{Code, ObjectRef, OutboundClass, Resources, cluster, route, tls, wire};

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(crate) fn build(mesh: &Mesh, class: &OutboundClass, scope: &Scope<'_>, resources: &mut Resources) {
    let (other, other_name) = match scope.unknown {
        OutboundTrafficMode::AllowAny => (Target::cluster(cluster::PASSTHROUGH), "PassthroughFilterChain"),
        OutboundTrafficMode::RegistryOnly => (Target::cluster(cluster::BLACK_HOLE), "BlackHoleFilterChain"),
    };
    let mut binds = BTreeMap::<(IpAddr, u16), Bind>::new();
    let ports: Vec<_> = scope.groups.iter().map(|(host, group)| (*host, group, group.ports())).collect();
    let mut called: Vec<_> =
        ports.iter().flat_map(|(host, group, ports)| ports.values().map(move |port| (*host, *group, port))).collect();
    called.sort_by_key(|(host, _, port)| (&port.service.age, *host, port.port.number));
    for (host, group, port) in called {
        let called = Called { mesh, class, scope, host, port };
        if route::by_host(group, port.service, port.port) && is_free(host, port, resources) {
            let bind = binds.entry((ANY, port.port.number)).or_default();
            bind.requests_by_host = true;
        }
        if port.port.protocol.is_http() {
            continue;
        }
        for place in places(host, group, port, resources) {
            let branches = called.branches(place.shared, resources);
            let bind = binds.entry((place.address, place.port)).or_default();
            if port.port.protocol == Protocol::Unknown && (!place.shared || !place.within.is_empty()) {
                bind.add_requests(mesh, &place, host, port, resources);
            }
            bind.add(mesh, &place, &port.service.object, branches, resources);
        }
    }
    let mut virtual_outbound = super::listener(
        &mesh.config,
        "virtualOutbound".to_owned(),
        "0.0.0.0",
        OUTBOUND_PORT,
        TrafficDirection::Outbound,
    );
    virtual_outbound.use_original_dst = Some(true);
    virtual_outbound.filter_chains =
        vec![super::loop_guard(&mesh.config, "virtualOutbound-trap-blackhole", OUTBOUND_PORT)];
    let catch_all = super::chain(&mesh.config, "virtualOutbound-catchall-tcp", FilterChainMatch::default(), &other);
    virtual_outbound.default_filter_chain = Some(catch_all);
    resources.listeners.insert(virtual_outbound.name.clone(), virtual_outbound);
    for ((address, port), mut bind) in binds {
        let name = format!("{address}_{port}");
        if bind.requests_by_host {
            bind.chains.push(requests(
                &mesh.config,
                &name,
                &route::of_port(port),
                super::spoken(&super::SNIFFED),
                None,
            ));
        }
        let mut listener = super::listener(&mesh.config, name, &address.to_string(), port, TrafficDirection::Outbound);
        listener.bind_to_port = Some(false);
        if bind.chains.iter().any(|c| c.filter_chain_match.as_ref().is_some_and(|m| !m.transport_protocol.is_empty())) {
            listener.listener_filters.push(super::tls_inspector(None));
        }
        if bind.chains.iter().flat_map(|c| &c.filter_chain_match).any(|m| !m.application_protocols.is_empty()) {
            listener.listener_filters.push(super::http_inspector(None));
        }
        if bind.chains.iter().all(|c| c.filter_chain_match.is_some()) {
            let rest = super::chain(&mesh.config, other_name, FilterChainMatch::default(), &other);
            listener.default_filter_chain = Some(rest);
        }
        listener.filter_chains = bind.chains;
        resources.listeners.insert(listener.name.clone(), listener);
    }
}

/// A chain that routes requests by a table.
fn requests(
    mesh: &MeshConfig,
    listener: &str,
    table: &str,
    condition: FilterChainMatch,
    offered: Option<&str>,
) -> FilterChain {
    let stat_prefix = format!("outbound_{listener}");
    let name = match condition.application_protocols.as_slice() {
        [only] => format!("{table}-{only}"),
        _ => table.to_owned(),
    };
    FilterChain {
        name,
        filter_chain_match: Some(condition),
        filters: vec![http_connections::outbound(mesh, &stat_prefix, table, offered)],
        ..FilterChain::default()
    }
}

/// Where a port of a service is found.
struct Place {
    address: IpAddr,
    port: u16,
    /// If the listener is for any address, those that are meant; empty is all.
    within: Vec<IpNet>,
    /// Whether other services may be there too.
    shared: bool,
}

fn places(host: &Hostname, group: &Group<'_>, port: &GroupPort<'_>, resources: &mut Resources) -> Vec<Place> {
    let number = port.port.number;
    let at = |address: IpAddr, port: u16| Place { address, port, within: Vec::new(), shared: false };
    if port.service.discovery == Discovery::Headless {
        let places: BTreeSet<_> = port.endpoints.iter().filter_map(|e| Some((e.ip()?, e.port))).collect();
        return places.into_iter().map(|(address, port)| at(address, port)).collect();
    }
    let members = group.members.iter().filter(|s| s.ports.iter().any(|p| p.number == number));
    let addresses: BTreeSet<IpNet> = members.flat_map(|s| s.addresses.iter().copied()).collect();
    let (single, wide): (Vec<IpNet>, Vec<IpNet>) =
        addresses.into_iter().partition(|net| net.prefix_len() == net.max_prefix_len());
    let mut places: Vec<Place> = single.iter().map(|net| at(net.addr(), number)).collect();
    if !wide.is_empty() && is_free(host, port, resources) {
        places.push(Place { address: ANY, port: number, within: wide, shared: true });
    }
    if places.is_empty() && port.service.age.entry {
        places.extend(anywhere(host, port, resources));
    }
    places
}

/// A service without an address is at every address, if its connections can be told from others.
fn anywhere(host: &Hostname, port: &GroupPort<'_>, resources: &mut Resources) -> Option<Place> {
    let (object, number) = (&port.service.object, port.port.number);
    let field = "spec.addresses";
    let place = Place { address: ANY, port: number, within: Vec::new(), shared: true };
    if !is_free(host, port, resources) {
        return None;
    }
    match port.port.protocol {
        Protocol::Tls => Some(place),
        // Requests name it.
        Protocol::Http | Protocol::Http2 => None,
        Protocol::Tcp | Protocol::Unknown | Protocol::Udp => {
            let message = format!(
                "{host} has no address, so every connection to port {number} of an unknown address is \
                taken for its"
            );
            resources.diagnostics.insert(object.warning(field, Code::Unsafe, message));
            Some(place)
        }
    }
}

/// Whether the proxy can listen at any address for a port: not where it does so for itself.
fn is_free(host: &Hostname, port: &GroupPort<'_>, resources: &mut Resources) -> bool {
    let number = port.port.number;
    let free = !matches!(number, OUTBOUND_PORT | INBOUND_PORT);
    if !free {
        let message = format!("{host} needs single addresses: the port {number} of every address is the proxy's own");
        resources.diagnostics.insert(port.service.object.error("spec.addresses", Code::InvalidValue, message));
    }
    free
}

/// The chains at one address and port.
#[derive(Default)]
struct Bind {
    chains: Vec<FilterChain>,
    /// Whether some service here is told from others by the host that requests name.
    requests_by_host: bool,
    claims: Claims,
}

impl Bind {
    fn add(&mut self, mesh: &Mesh, place: &Place, owner: &ObjectRef, branches: Vec<Branch>, resources: &mut Resources) {
        for Branch { mut condition, target } in branches {
            if condition.prefix_ranges.is_empty() {
                condition.prefix_ranges = place.within.iter().copied().map(wire::cidr).collect();
            }
            let (free, first) = self.claims.claim(condition, owner);
            if let Some(first) = first.filter(|first| first != owner) {
                let message =
                    format!("{first} is older and has {}_{}: connections go there", place.address, place.port);
                resources.diagnostics.insert(owner.warning("spec.ports", Code::Conflict, message));
            }
            let Some(condition) = free else { continue };
            let name = target.stat_prefix.clone();
            self.chains.push(super::chain(&mesh.config, &name, condition, &target));
        }
    }

    /// The chains for requests at a port where it is not said what is spoken. They are apart by version, for so they
    /// tell the proxy at the other end, to which it is not said either.
    fn add_requests(
        &mut self,
        mesh: &Mesh,
        place: &Place,
        host: &Hostname,
        port: &GroupPort<'_>,
        resources: &mut Resources,
    ) {
        let table = route::of_service(host, port.port.number);
        let listener = format!("{}_{}", place.address, place.port);
        for (protocols, offered) in
            [(&super::SNIFFED[..2], tls::REQUEST_ALPN), (&super::SNIFFED[2..], tls::STREAM_ALPN)]
        {
            let condition = FilterChainMatch {
                prefix_ranges: place.within.iter().copied().map(wire::cidr).collect(),
                ..super::spoken(protocols)
            };
            let owner = &port.service.object;
            let (free, first) = self.claims.claim(condition, owner);
            if let Some(first) = first.filter(|first| first != owner) {
                let message = format!("{first} is older and has {listener}: requests go there");
                resources.diagnostics.insert(owner.warning("spec.ports", Code::Conflict, message));
            }
            if let Some(condition) = free {
                self.chains.push(requests(&mesh.config, &listener, &table, condition, Some(&offered.join(","))));
            }
        }
    }
}
