//! `virtualInbound`: connections to the workload, by their original port.

use std::collections::BTreeMap;

use api::istio::{ClusterName, MutualTlsMode};
use envoy::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, ListenerFilterChainMatchPredicate};
use envoy::envoy::r#type::v3::Int32Range;

use super::INBOUND_PORT;
use crate::filter::{WorkloadPolicies, tcp_proxy::Target};
use crate::mesh::{Mesh, Protocol, Service, Target as PortTarget};
use crate::policy::PeerModes;
use crate::{Code, Node, Resources, cluster, tls};

pub(crate) fn build(mesh: &Mesh, node: &Node, resources: &mut Resources) {
    let ports = declared_ports(mesh, node, resources);
    let modes = mesh.peers.of(&node.namespace, &node.labels);
    let services = ports.iter().map(|(port, declared)| (*port, declared.service)).collect();
    let policies = WorkloadPolicies::of(mesh, node, services);
    let ports: BTreeMap<u16, Protocol> = ports.iter().map(|(port, declared)| (*port, declared.protocol)).collect();
    let server = tls::downstream(&mesh.config, resources);
    let mut chains = Chains { mesh, policies, authorization: Vec::new(), server };
    let mut all = vec![super::loop_guard(&mesh.config, "virtualInbound-blackhole", INBOUND_PORT)];
    for (port, protocol) in &ports {
        let target = Target::cluster(ClusterName::inbound(*port).to_string());
        chains.authorization = chains.policies.connections(Some(*port), true, resources);
        all.extend(chains.of(&format!("0.0.0.0_{port}"), Some(*port), modes.at(*port), *protocol, &target));
        cluster::workload_port(mesh, *port, resources);
    }
    let unknown = Target::cluster(cluster::INBOUND_PASSTHROUGH);
    chains.authorization = chains.policies.connections(None, false, resources);
    for (port, mode) in modes.ports.iter().filter(|(port, _)| !ports.contains_key(port)) {
        let name = format!("virtualInbound-{port}");
        all.extend(chains.of(&name, Some(*port), *mode, Protocol::Unknown, &unknown));
    }
    all.extend(chains.of("virtualInbound", None, modes.default, Protocol::Unknown, &unknown));
    cluster::inbound_fixed(mesh, resources);
    let name = "virtualInbound".to_owned();
    let mut listener = super::listener(&mesh.config, name, "0.0.0.0", INBOUND_PORT, TrafficDirection::Inbound);
    listener.filter_chains = all;
    listener.listener_filters = vec![super::original_dst(), super::tls_inspector(plain_ports(&modes, &ports))];
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

/// The ports at which nothing is to be learnt from the first bytes, so that servers may speak first.
fn plain_ports(modes: &PeerModes, ports: &BTreeMap<u16, Protocol>) -> Option<ListenerFilterChainMatchPredicate> {
    let known = ports.keys().chain(modes.ports.keys());
    let plain = known.filter(|port| modes.at(**port) == MutualTlsMode::Disable);
    let plain: std::collections::BTreeSet<u16> = plain.copied().collect();
    let predicate = |rule| ListenerFilterChainMatchPredicate { rule: Some(rule) };
    let range = |port: &u16| {
        predicate(Rule::DestinationPortRange(Int32Range { start: i32::from(*port), end: i32::from(*port) + 1 }))
    };
    let mut rules: Vec<_> = plain.iter().map(range).collect();
    match rules.len() {
        0 => None,
        1 => rules.pop(),
        _ => Some(predicate(Rule::OrMatch(MatchSet { rules }))),
    }
}

/// What the chains of a workload share.
struct Chains<'a> {
    mesh: &'a Mesh,
    policies: WorkloadPolicies<'a>,
    /// Of the port that is at hand.
    authorization: Vec<Filter>,
    server: TransportSocket,
}

impl Chains<'_> {
    /// The chains of a port, or of all ports that have none of their own.
    fn of(
        &self,
        name: &str,
        port: Option<u16>,
        mode: MutualTlsMode,
        protocol: Protocol,
        target: &Target,
    ) -> Vec<FilterChain> {
        let any = || FilterChainMatch { destination_port: port.map(u32::from), ..FilterChainMatch::default() };
        let of_transport = |transport: &str| FilterChainMatch { transport_protocol: transport.to_owned(), ..any() };
        let from_mesh = |condition| FilterChainMatch {
            application_protocols: tls::ISTIO_ALPN.map(str::to_owned).to_vec(),
            ..condition
        };
        let mutual = |condition| FilterChain {
            transport_socket: Some(self.server.clone()),
            ..self.chain(&format!("{name}-mtls"), condition, target)
        };
        match mode {
            MutualTlsMode::Strict => vec![mutual(of_transport("tls"))],
            MutualTlsMode::Disable => vec![self.chain(name, any(), target)],
            // A server of HTTP answers TLS that is not the mesh's with an error of its own, as up to Istio 1.7. Neither
            // chain names the transport: once one that does is entered, connections without the mesh's protocols would
            // not come back to the other.
            MutualTlsMode::Permissive | MutualTlsMode::Unset if protocol == Protocol::Http => {
                vec![mutual(from_mesh(any())), self.chain(name, any(), target)]
            }
            MutualTlsMode::Permissive | MutualTlsMode::Unset => vec![
                mutual(from_mesh(of_transport("tls"))),
                self.chain(&format!("{name}-tls"), of_transport("tls"), target),
                self.chain(name, of_transport("raw_buffer"), target),
            ],
        }
    }

    fn chain(&self, name: &str, condition: FilterChainMatch, target: &Target) -> FilterChain {
        let mut chain = super::chain(&self.mesh.config, name, condition, target);
        chain.filters.splice(0..0, self.authorization.iter().cloned());
        chain
    }
}
