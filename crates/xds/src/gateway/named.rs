//! Servers where the server name says which service is called: `outbound_.PORT_.SUBSET_.HOST`, as sidecars of other
//! clusters send it.

use std::collections::BTreeSet;

use api::istio::{ClusterName, Hostname};
use envoy::envoy::config::listener::v3::FilterChainMatch;

use super::Gate;
use super::server::{Bind, Opened, Speaks};
use crate::filter::tcp_proxy::Target;
use crate::listener::branch::{Branch, by_server_name};
use crate::mesh::{Mesh, Service};
use crate::{OutboundClass, tls};

/// The hosts of services that may be called so.
pub(super) fn hosts(mesh: &Mesh, class: &OutboundClass, binds: &[Bind<'_>]) -> BTreeSet<Hostname> {
    let opened: Vec<&Opened<'_>> =
        binds.iter().flat_map(|b| &b.servers).filter(|o| o.speaks == Speaks::Named).collect();
    if opened.is_empty() {
        return BTreeSet::new();
    }
    let called = |service: &Service| {
        let inside = !service.external && service.visibility.includes(&class.namespace);
        inside && opened.iter().any(|opened| serves(opened, &service.host, &service.namespace))
    };
    let all = mesh.services.hosts().filter(|(_, services)| services.iter().any(|service| called(service)));
    all.map(|(host, _)| host.clone()).collect()
}

fn serves(opened: &Opened<'_>, host: &Hostname, namespace: &str) -> bool {
    opened.hosts.iter().any(|server| server.is_for(namespace) && server.host.covers(host))
}

/// To each port and subset of the services of a server.
pub(super) fn branches(gate: &Gate<'_>, opened: &Opened<'_>) -> Vec<Branch> {
    let mut branches = Vec::new();
    for (host, group) in gate.named.groups.iter().filter(|(host, group)| serves(opened, host, group.namespace())) {
        let rule = gate.mesh.destinations.of(gate.class, host, group.namespace());
        for number in group.port_numbers() {
            let subsets = rule.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str());
            for subset in std::iter::once("").chain(subsets) {
                let name = ClusterName::outbound(number, subset, host.as_str()).server_name();
                if name.len() > tls::LONGEST_SERVER_NAME {
                    continue;
                }
                let protocols = tls::ISTIO_ALPN.map(str::to_owned).to_vec();
                let named = by_server_name(vec![name.clone()]);
                let condition = FilterChainMatch { application_protocols: protocols, ..named };
                branches.push(Branch { condition, target: Target::cluster(name) });
            }
        }
    }
    branches
}
