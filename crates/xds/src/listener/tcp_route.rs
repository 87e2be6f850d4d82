//! Where the connections to a port of a service go, by VirtualServices.

use api::istio::{ClusterName, Hostname};
use envoy::envoy::config::listener::v3::FilterChainMatch;

use super::branch::{Branch, Written, by_server_name};
use crate::destination::Destinations;
use crate::filter::tcp_proxy::Target;
use crate::mesh::{Mesh, Protocol};
use crate::policy::Route;
use crate::scope::{GroupPort, Scope};
use crate::{OutboundClass, Resources};

/// One port of a service, seen by a class of callers.
pub(super) struct Called<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) class: &'a OutboundClass,
    pub(super) scope: &'a Scope<'a>,
    pub(super) host: &'a Hostname,
    pub(super) port: &'a GroupPort<'a>,
}

impl Called<'_> {
    /// The branches of a port, the most specific first. `by_name` says whether other services may be at the same
    /// address, so that connections of TLS must name this one.
    pub(super) fn branches(&self, by_name: bool, resources: &mut Resources) -> Vec<Branch> {
        let route = self.mesh.routes.of(self.class, self.host);
        match self.port.port.protocol {
            Protocol::Tls => self.tls(route.map(AsRef::as_ref), by_name, resources),
            // Requests are routed by table.
            Protocol::Http | Protocol::Http2 => Vec::new(),
            Protocol::Tcp | Protocol::Unknown | Protocol::Udp => self.tcp(route.map(AsRef::as_ref), resources),
        }
    }

    fn tcp(&self, route: Option<&Route>, resources: &mut Resources) -> Vec<Branch> {
        let mut branches = Vec::new();
        let number = self.port.port.number;
        for (i, tcp) in route.into_iter().flat_map(|r| r.spec.tcp.iter().enumerate()) {
            let Some(route) = route else { break };
            let field = format!("spec.tcp[{i}]");
            let usable = tcp.matches.iter().filter(|m| route.is_for(self.class, None, number, &(*m).into()));
            let subnets: Vec<&[String]> = usable.map(|m| m.destination_subnets.as_slice()).collect();
            if !tcp.matches.is_empty() && subnets.is_empty() {
                continue;
            }
            let written = Written { object: &route.object, field: &field };
            let several = self.name().to_string();
            let target = written.target(self.destinations(), number, &several, &tcp.route, resources);
            let Some(target) = target else { continue };
            if tcp.matches.is_empty() || subnets.iter().any(|s| s.is_empty()) {
                branches.push(Branch { condition: FilterChainMatch::default(), target });
                return branches;
            }
            let subnets: Vec<String> = subnets.concat();
            let ranges = written.networks("destinationSubnets", &subnets, resources);
            branches.extend(ranges.map(|prefix_ranges| Branch {
                condition: FilterChainMatch { prefix_ranges, ..FilterChainMatch::default() },
                target,
            }));
        }
        branches.push(self.default(FilterChainMatch::default()));
        branches
    }

    fn tls(&self, route: Option<&Route>, by_name: bool, resources: &mut Resources) -> Vec<Branch> {
        let mut branches = Vec::new();
        let number = self.port.port.number;
        for (i, tls) in route.into_iter().flat_map(|r| r.spec.tls.iter().enumerate()) {
            let Some(route) = route else { break };
            let field = format!("spec.tls[{i}]");
            for condition in &tls.matches {
                let names = condition.sni_hosts.iter().filter(|name| Hostname::is_valid(name));
                let names: Vec<String> = names.map(|name| Hostname::new(name).to_string()).collect();
                if names.is_empty() || !route.is_for(self.class, None, number, &condition.into()) {
                    continue;
                }
                let written = Written { object: &route.object, field: &field };
                let several = self.name().to_string();
                let target = written.target(self.destinations(), number, &several, &tls.route, resources);
                let Some(target) = target else { continue };
                let ranges = written.networks("destinationSubnets", &condition.destination_subnets, resources);
                let named = by_server_name(names);
                branches.extend(
                    ranges
                        .map(|prefix_ranges| Branch { condition: FilterChainMatch { prefix_ranges, ..named }, target }),
                );
            }
        }
        let named = by_name || !branches.is_empty();
        let own = if named { by_server_name(vec![self.host.to_string()]) } else { FilterChainMatch::default() };
        branches.push(self.default(own));
        branches
    }

    /// To the service itself.
    fn default(&self, condition: FilterChainMatch) -> Branch {
        let name = self.name();
        let mut target = Target::cluster(name.to_string());
        target.pool = self.destinations().policy(&name).connection_pool.and_then(|p| p.tcp);
        Branch { condition, target }
    }

    /// Its cluster.
    fn name(&self) -> ClusterName {
        ClusterName::outbound(self.port.port.number, "", self.host.as_str())
    }

    fn destinations(&self) -> Destinations<'_> {
        Destinations { mesh: self.mesh, class: self.class, scope: self.scope }
    }
}
