//! The listener at an address and port of a gateway, with its chains.

use std::collections::BTreeSet;

use api::istio::ServerTls;
use envoy::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::server::{Bind, Opened, Speaks};
use super::{Gate, connections, named};
use crate::filter::http_connections;
use crate::filter::tcp_proxy::Target;
use crate::listener::branch::{Branch, by_server_name};
use crate::listener::claims::Claims;
use crate::{Code, Resources, listener, tls, wire};

/// Adds the listener, unless there is nothing that it could do.
pub(super) fn listen(gate: &Gate<'_>, bind: &Bind<'_>, resources: &mut Resources) {
    let config = &gate.mesh.config;
    let (name, address) = (bind.listener(), bind.address.to_string());
    let mut chains = Chains { gate, bind, claims: Claims::default(), made: Vec::new() };
    match bind.servers.first() {
        Some(first) if first.speaks == Speaks::Http => {
            chains.requests(first, FilterChainMatch::default(), None, resources)
        }
        _ => bind.servers.iter().for_each(|opened| chains.server(opened, resources)),
    }
    if chains.made.is_empty() {
        return;
    }
    let mut listener = listener::listener(config, name.clone(), &address, bind.port, TrafficDirection::Outbound);
    listener.filter_chains = chains.made;
    if bind.is_tls() {
        listener.listener_filters.push(listener::tls_inspector(None));
    }
    resources.listeners.insert(name, listener);
}

struct Chains<'a> {
    gate: &'a Gate<'a>,
    bind: &'a Bind<'a>,
    claims: Claims,
    made: Vec<FilterChain>,
}

impl Chains<'_> {
    fn server(&mut self, opened: &Opened<'_>, resources: &mut Resources) {
        match opened.speaks {
            Speaks::Http => {}
            Speaks::Https(tls) => {
                if let Some(socket) = self.socket(opened, tls, true, resources) {
                    self.requests(opened, by_server_name(names(opened)), Some(socket), resources);
                }
            }
            Speaks::Tls(tls) => {
                if let Some(socket) = self.socket(opened, tls, false, resources) {
                    let condition = by_server_name(names(opened));
                    let branches = connections::of_bytes(self.gate, opened, &condition, resources);
                    self.streams(opened, branches, Some(&socket), resources);
                }
            }
            Speaks::Bytes => {
                let condition = FilterChainMatch::default();
                let branches = connections::of_bytes(self.gate, opened, &condition, resources);
                self.streams(opened, branches, None, resources);
            }
            Speaks::Passing => {
                let branches = connections::by_name(self.gate, opened, resources);
                self.streams(opened, branches, None, resources);
            }
            Speaks::Named => {
                let branches = named::branches(self.gate, opened);
                self.streams(opened, branches, None, resources);
            }
        }
    }

    /// How TLS ends. A server without certificates is closed.
    fn socket(
        &self,
        opened: &Opened<'_>,
        tls: &ServerTls,
        requests: bool,
        resources: &mut Resources,
    ) -> Option<TransportSocket> {
        match tls::terminate(&self.gate.mesh.config, tls, requests, resources) {
            Ok(socket) => Some(socket),
            Err(reason) => {
                let field = format!("{}.tls", opened.field);
                let message = format!("{reason}: the server is closed");
                resources.diagnostics.insert(opened.object.error(field, Code::InvalidValue, message));
                None
            }
        }
    }

    /// A chain that routes requests by a table.
    fn requests(
        &mut self,
        opened: &Opened<'_>,
        condition: FilterChainMatch,
        socket: Option<TransportSocket>,
        resources: &mut Resources,
    ) {
        let Some((table, _)) = self.bind.table(opened) else { return };
        let (Some(condition), _) = self.claims.claim(condition, &opened.object) else { return };
        let topology = self.gate.class.router.as_ref().map(|router| router.topology.clone()).unwrap_or_default();
        let stat_prefix = format!("outbound_{}", self.bind.listener());
        let filters = self.gate.policies.http(None, resources);
        let gateways: BTreeSet<String> = match opened.speaks {
            Speaks::Http => self.bind.servers.iter().map(|server| server.gateway.to_string()).collect(),
            _ => [opened.gateway.to_string()].into(),
        };
        let config = &self.gate.mesh.config;
        self.made.push(FilterChain {
            name: table.clone(),
            filter_chain_match: (condition != FilterChainMatch::default()).then_some(condition),
            filters: vec![http_connections::at_gateway(config, &stat_prefix, &table, &topology, filters)],
            transport_socket: socket,
            metadata: Some(wire::metadata("istio", opened_by(gateways))),
            ..FilterChain::default()
        });
    }

    /// Chains that carry bytes.
    fn streams(
        &mut self,
        opened: &Opened<'_>,
        branches: Vec<Branch>,
        socket: Option<&TransportSocket>,
        resources: &mut Resources,
    ) {
        for Branch { condition, target } in branches {
            let (free, first) = self.claims.claim(condition, &opened.object);
            if let Some(first) = first.filter(|first| *first != opened.object) {
                let message = format!("{first} is older and has the same names at {}", self.bind.listener());
                let field = format!("{}.hosts", opened.field);
                resources.diagnostics.insert(opened.object.warning(field, Code::Conflict, message));
            }
            let Some(condition) = free else { continue };
            let mut chain = self.stream(opened, condition, &target);
            chain.transport_socket = socket.cloned();
            let before = self.gate.policies.connections(Some(self.bind.port), true, resources);
            chain.filters.splice(0..0, before);
            self.made.push(chain);
        }
    }

    fn stream(&self, opened: &Opened<'_>, condition: FilterChainMatch, target: &Target) -> FilterChain {
        let name = format!("{}.{}.{}", opened.server.port.name, opened.gateway.name, opened.gateway.namespace);
        let mut chain = listener::chain(&self.gate.mesh.config, &name, condition, target);
        let facts = chain.metadata.get_or_insert_default().filter_metadata.entry("istio".to_owned()).or_default();
        facts.fields.extend(opened_by([opened.gateway.to_string()].into()).fields);
        chain
    }
}

/// The Gateways that open a chain, each as `NAMESPACE/NAME`.
fn opened_by(gateways: BTreeSet<String>) -> Struct {
    let values = gateways.into_iter().map(wire::text).collect();
    wire::fields([("gateways", Value { kind: Some(Kind::ListValue(ListValue { values })) })])
}

fn names(opened: &Opened<'_>) -> Vec<String> {
    opened.hosts.iter().map(|server| server.host.to_string()).collect()
}
