//! Where connections go that reach a server of a gateway.

use std::collections::BTreeSet;

use api::istio::{ClusterName, Hostname, L4Match};
use envoy::envoy::config::listener::v3::FilterChainMatch;

use super::Gate;
use super::server::Opened;
use crate::listener::branch::{Branch, Written, by_server_name};
use crate::policy::{Caller, Route};
use crate::{Code, Resources};

/// By the routes for bytes of what is bound to a server, on the condition of the server. What comes after a route that
/// takes everything is never reached.
pub(super) fn of_bytes(
    gate: &Gate<'_>,
    opened: &Opened<'_>,
    condition: &FilterChainMatch,
    resources: &mut Resources,
) -> Vec<Branch> {
    let mut branches = Vec::new();
    for route in opened.routes() {
        for (i, tcp) in route.spec.tcp.iter().enumerate() {
            let usable = |m: &&L4Match| is_for(gate, opened, route, &Caller::from(*m));
            let matches: Vec<&L4Match> = tcp.matches.iter().filter(usable).collect();
            if matches.is_empty() && !tcp.matches.is_empty() {
                continue;
            }
            let written = Written { object: &route.object, field: &format!("spec.tcp[{i}]") };
            let target = written.target(gate.destinations, opened.number(), &several(opened), &tcp.route, resources);
            let Some(target) = target else { continue };
            let open = |m: &&&L4Match| m.destination_subnets.is_empty() && m.source_subnet.is_empty();
            if matches.is_empty() || matches.iter().any(|m| open(&m)) {
                branches.push(Branch { condition: condition.clone(), target });
                return branches;
            }
            for m in matches {
                let sources = if m.source_subnet.is_empty() { Vec::new() } else { vec![m.source_subnet.clone()] };
                let to = written.networks("destinationSubnets", &m.destination_subnets, resources);
                let from = written.networks("sourceSubnet", &sources, resources);
                let (Some(prefix_ranges), Some(source_prefix_ranges)) = (to, from) else { continue };
                let condition = FilterChainMatch { prefix_ranges, source_prefix_ranges, ..condition.clone() };
                branches.push(Branch { condition, target: target.clone() });
            }
        }
    }
    if branches.is_empty() {
        let message = "no route for bytes (`tcp`) of a virtual service is bound to the server: it is closed";
        resources.diagnostics.insert(opened.object.info(&opened.field, Code::NothingSelected, message));
    }
    branches
}

/// By the routes for server names of what is bound to a server where TLS passes.
pub(super) fn by_name(gate: &Gate<'_>, opened: &Opened<'_>, resources: &mut Resources) -> Vec<Branch> {
    let mut branches = Vec::new();
    for route in opened.routes() {
        for (i, tls) in route.spec.tls.iter().enumerate() {
            let field = format!("spec.tls[{i}]");
            let written = Written { object: &route.object, field: &field };
            for (j, m) in tls.matches.iter().enumerate() {
                if m.sni_hosts.is_empty() || !is_for(gate, opened, route, &Caller::from(m)) {
                    continue;
                }
                let names = names(opened, route, &m.sni_hosts);
                if names.is_empty() {
                    let message =
                        format!("{} has none of these names: the condition has no effect there", opened.object);
                    let field = format!("{field}.match[{j}].sniHosts");
                    resources.diagnostics.insert(route.object.warning(field, Code::ReferenceNotFound, message));
                    continue;
                }
                let target =
                    written.target(gate.destinations, opened.number(), &several(opened), &tls.route, resources);
                let ranges = written.networks("destinationSubnets", &m.destination_subnets, resources);
                let (Some(target), Some(prefix_ranges)) = (target, ranges) else { continue };
                let condition = FilterChainMatch { prefix_ranges, ..by_server_name(names) };
                branches.push(Branch { condition, target });
            }
        }
    }
    if branches.is_empty() {
        let message = "no route by server name (`tls`) of a virtual service is bound to the server: it is closed";
        resources.diagnostics.insert(opened.object.info(&opened.field, Code::NothingSelected, message));
    }
    branches
}

fn is_for(gate: &Gate<'_>, opened: &Opened<'_>, route: &Route, condition: &Caller<'_>) -> bool {
    route.is_for(gate.class, Some(&opened.gateway), opened.number(), condition)
}

/// What several destinations are counted as.
fn several(opened: &Opened<'_>) -> String {
    let host = opened.hosts.first().map_or("*", |server| server.host.as_str());
    ClusterName::outbound(opened.number(), "", host).to_string()
}

/// The names that a server, a route and its condition have in common.
fn names(opened: &Opened<'_>, route: &Route, wanted: &[String]) -> Vec<String> {
    let both = opened.bound.iter().filter(|(_, bound)| bound.object == route.object);
    let both: Vec<&Hostname> = both.map(|((host, _), _)| host).collect();
    let mut names = BTreeSet::new();
    for wanted in wanted.iter().filter(|name| Hostname::is_valid(name)).map(|name| Hostname::new(name)) {
        for host in &both {
            if host.covers(&wanted) {
                names.insert(wanted.clone());
            } else if wanted.covers(host) {
                names.insert((*host).clone());
            }
        }
    }
    names.into_iter().map(|name| name.to_string()).collect()
}
