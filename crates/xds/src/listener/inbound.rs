//! `virtualInbound`: connections to the workload, by their original port.

use std::collections::{BTreeMap, BTreeSet};

use api::istio::{ClusterName, MutualTlsMode};
use envoy::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, ListenerFilterChainMatchPredicate};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy::envoy::r#type::v3::Int32Range;

use super::INBOUND_PORT;
use crate::filter::{WorkloadPolicies, http_connections, tcp_proxy::Target};
use crate::mesh::{Mesh, Protocol, Service, Target as PortTarget};
use crate::{Code, Node, Resources, cluster, route, tls};

pub(crate) fn build(mesh: &Mesh, node: &Node, resources: &mut Resources) {
    let ports = declared_ports(mesh, node, resources);
    let modes = mesh.peers.of(&node.namespace, &node.labels);
    let services: BTreeMap<u16, &Service> = ports.iter().map(|(port, declared)| (*port, declared.service)).collect();
    let policies = WorkloadPolicies::of(mesh, node, services);
    for (port, Declared { service, protocol }) in &ports {
        cluster::workload_port(mesh, *port, (service, *protocol), resources);
    }
    let ports: BTreeMap<u16, Protocol> = ports.iter().map(|(port, declared)| (*port, declared.protocol)).collect();
    let servers = [false, true].map(|requests| tls::downstream(&mesh.config, requests, resources));
    let chains = Chains { mesh, servers };
    let mut all = vec![super::loop_guard(&mesh.config, "virtualInbound-blackhole", INBOUND_PORT)];
    for (port, protocol) in &ports {
        let bytes = !protocol.is_http() && *protocol != Protocol::Unknown;
        let place = Place {
            name: &format!("0.0.0.0_{port}"),
            port: Some(*port),
            declared: Some(*port),
            target: Target::cluster(ClusterName::inbound(*port).to_string()),
            connections: policies.connections(Some(*port), bytes, resources),
            requests: policies.http(Some(*port), resources),
        };
        all.extend(chains.of(&place, modes.at(*port), *protocol));
    }
    let undeclared = Place {
        name: "virtualInbound",
        port: None,
        declared: None,
        target: Target::cluster(cluster::INBOUND_PASSTHROUGH),
        connections: policies.connections(None, false, resources),
        requests: policies.http(None, resources),
    };
    for (port, mode) in modes.ports.iter().filter(|(port, _)| !ports.contains_key(port)) {
        let name = format!("virtualInbound-{port}");
        let place = Place { name: &name, port: Some(*port), ..undeclared.clone() };
        all.extend(chains.of(&place, *mode, Protocol::Unknown));
    }
    all.extend(chains.of(&undeclared, modes.default, Protocol::Unknown));
    cluster::inbound_fixed(mesh, resources);
    let name = "virtualInbound".to_owned();
    let mut listener = super::listener(&mesh.config, name, "0.0.0.0", INBOUND_PORT, TrafficDirection::Inbound);
    listener.filter_chains = all;
    let known = ports.keys().chain(modes.ports.keys()).copied();
    let plain = known.filter(|port| modes.at(*port) == MutualTlsMode::Disable).collect();
    let said = ports.iter().filter(|(_, protocol)| **protocol != Protocol::Unknown).map(|(port, _)| *port).collect();
    listener.listener_filters =
        vec![super::original_dst(), super::tls_inspector(at_ports(&plain)), super::http_inspector(at_ports(&said))];
    resources.listeners.insert(listener.name.clone(), listener);
}

/// What is declared of a port of the workload.
struct Declared<'m> {
    service: &'m Service,
    protocol: Protocol,
}

/// The workload's ports that some service of it declares; the oldest service decides what is spoken there.
fn declared_ports<'m>(mesh: &'m Mesh, node: &Node, resources: &mut Resources) -> BTreeMap<u16, Declared<'m>> {
    let mut services: Vec<&Service> = mesh.services.all().map(AsRef::as_ref).filter(|s| s.selects(node)).collect();
    services.sort_by(|a, b| a.age.cmp(&b.age));
    let pod = mesh.workloads.pod(&node.namespace, &node.name);
    let mut ports = BTreeMap::new();
    for service in services {
        for (i, port) in service.ports.iter().enumerate() {
            let target = match &port.target {
                PortTarget::Number(number) => Some(*number),
                PortTarget::Name(_) => pod.and_then(|pod| port.target.of(pod)),
            };
            match target {
                Some(target) => drop(ports.entry(target).or_insert(Declared { service, protocol: port.protocol })),
                None => {
                    let message = format!("the pod {} has no port of this name", node.name);
                    let field = format!("spec.ports[{i}].targetPort");
                    let found = service.object.warning(field, Code::ReferenceNotFound, message);
                    resources.diagnostics.insert(found);
                }
            }
        }
    }
    ports
}

/// Ports at which nothing is to be learnt from the first bytes, so that servers may speak first.
fn at_ports(ports: &BTreeSet<u16>) -> Option<ListenerFilterChainMatchPredicate> {
    let predicate = |rule| ListenerFilterChainMatchPredicate { rule: Some(rule) };
    let range = |port: &u16| {
        predicate(Rule::DestinationPortRange(Int32Range { start: i32::from(*port), end: i32::from(*port) + 1 }))
    };
    let mut rules: Vec<_> = ports.iter().map(range).collect();
    match rules.len() {
        0 => None,
        1 => rules.pop(),
        _ => Some(predicate(Rule::OrMatch(MatchSet { rules }))),
    }
}

/// What the chains of a workload share.
struct Chains<'a> {
    mesh: &'a Mesh,
    /// The server's side of mutual TLS for connections, and for requests.
    servers: [TransportSocket; 2],
}

/// A port of the workload, or all that have no chains of their own.
#[derive(Clone)]
struct Place<'a> {
    name: &'a str,
    port: Option<u16>,
    /// The port, if a service declares it.
    declared: Option<u16>,
    target: Target,
    /// What decides about connections, where requests are not told apart.
    connections: Vec<Filter>,
    /// What decides about requests.
    requests: Vec<HttpFilter>,
}

impl Chains<'_> {
    fn of(&self, place: &Place<'_>, mode: MutualTlsMode, protocol: Protocol) -> Vec<FilterChain> {
        let any = || FilterChainMatch { destination_port: place.port.map(u32::from), ..FilterChainMatch::default() };
        let of_transport = |transport: &str| FilterChainMatch { transport_protocol: transport.to_owned(), ..any() };
        let speaking = |protocols: &[&str], condition| FilterChainMatch {
            application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
            ..condition
        };
        let (plain, tls, mtls) = (place.name, format!("{}-tls", place.name), format!("{}-mtls", place.name));
        let [plain_http, mtls_http] = [format!("{plain}-http"), format!("{plain}-http-mtls")];
        match (mode, protocol) {
            (MutualTlsMode::Strict, Protocol::Http | Protocol::Http2) => {
                vec![self.mutual(true, self.requests(place, &mtls, of_transport("tls")))]
            }
            (MutualTlsMode::Strict, Protocol::Unknown) => vec![
                self.mutual(
                    true,
                    self.requests(place, &mtls_http, speaking(&tls::ISTIO_HTTP_ALPN, of_transport("tls"))),
                ),
                self.mutual(false, self.connections(place, &mtls, of_transport("tls"))),
            ],
            (MutualTlsMode::Strict, _) => {
                vec![self.mutual(false, self.connections(place, &mtls, of_transport("tls")))]
            }
            (MutualTlsMode::Disable, Protocol::Http | Protocol::Http2) => vec![self.requests(place, plain, any())],
            // What TLS is for is not asked: a server's own TLS may be offered as HTTP, and is not to be read as such.
            (MutualTlsMode::Disable, Protocol::Unknown) => vec![
                self.connections(place, &tls, of_transport("tls")),
                self.requests(place, &plain_http, speaking(&super::SNIFFED, of_transport("raw_buffer"))),
                self.connections(place, plain, of_transport("raw_buffer")),
            ],
            (MutualTlsMode::Disable, _) => vec![self.connections(place, plain, any())],
            // A server of HTTP answers TLS that is not the mesh's with an error of its own, as up to Istio 1.7. Neither
            // chain names the transport: once one that does is entered, connections without the mesh's protocols would
            // not come back to the other.
            (MutualTlsMode::Permissive | MutualTlsMode::Unset, Protocol::Http | Protocol::Http2) => vec![
                self.mutual(true, self.requests(place, &mtls, speaking(&tls::ISTIO_ALPN, any()))),
                self.requests(place, plain, any()),
            ],
            (MutualTlsMode::Permissive | MutualTlsMode::Unset, Protocol::Unknown) => vec![
                self.mutual(
                    true,
                    self.requests(place, &mtls_http, speaking(&tls::ISTIO_HTTP_ALPN, of_transport("tls"))),
                ),
                self.mutual(false, self.connections(place, &mtls, speaking(&tls::ISTIO_TCP_ALPN, of_transport("tls")))),
                self.connections(place, &tls, of_transport("tls")),
                self.requests(place, &plain_http, speaking(&super::SNIFFED, of_transport("raw_buffer"))),
                self.connections(place, plain, of_transport("raw_buffer")),
            ],
            (MutualTlsMode::Permissive | MutualTlsMode::Unset, _) => vec![
                self.mutual(false, self.connections(place, &mtls, speaking(&tls::ISTIO_ALPN, of_transport("tls")))),
                self.connections(place, &tls, of_transport("tls")),
                self.connections(place, plain, of_transport("raw_buffer")),
            ],
        }
    }

    fn mutual(&self, requests: bool, chain: FilterChain) -> FilterChain {
        let [connections, of_requests] = &self.servers;
        let server = if requests { of_requests } else { connections };
        FilterChain { transport_socket: Some(server.clone()), ..chain }
    }

    fn connections(&self, place: &Place<'_>, name: &str, condition: FilterChainMatch) -> FilterChain {
        let mut chain = super::chain(&self.mesh.config, name, condition, &place.target);
        chain.filters.splice(0..0, place.connections.iter().cloned());
        chain
    }

    fn requests(&self, place: &Place<'_>, name: &str, condition: FilterChainMatch) -> FilterChain {
        let mesh = &self.mesh.config;
        let cluster = &place.target.stat_prefix;
        let stat_prefix = format!("inbound_0.0.0.0_{}", place.declared.unwrap_or_default());
        let routes = route::inbound(place.declared, cluster);
        FilterChain {
            name: name.to_owned(),
            filter_chain_match: (condition != FilterChainMatch::default()).then_some(condition),
            filters: vec![http_connections::inbound(mesh, &stat_prefix, routes, place.requests.clone())],
            ..FilterChain::default()
        }
    }
}
