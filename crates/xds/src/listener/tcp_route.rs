//! Where the connections to a port of a service go, by VirtualServices.

use api::istio::{ClusterName, Hostname, RouteDestination};
use envoy::envoy::config::listener::v3::FilterChainMatch;

use crate::destination::Destinations;
use crate::filter::tcp_proxy::Target;
use crate::mesh::{Mesh, Protocol};
use crate::policy::Route;
use crate::scope::{GroupPort, Scope};
use crate::{Code, ObjectRef, OutboundClass, Resources, wire};

/// A condition on a connection to an address and port, with where it goes.
pub(super) struct Branch {
    pub(super) condition: FilterChainMatch,
    pub(super) target: Target,
}

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
            let usable = tcp.matches.iter().filter(|m| route.is_for(self.class, number, &(*m).into()));
            let subnets: Vec<&[String]> = usable.map(|m| m.destination_subnets.as_slice()).collect();
            if !tcp.matches.is_empty() && subnets.is_empty() {
                continue;
            }
            let Some(target) = self.target(&route.object, &field, &tcp.route, resources) else { continue };
            if tcp.matches.is_empty() || subnets.iter().any(|s| s.is_empty()) {
                branches.push(Branch { condition: FilterChainMatch::default(), target });
                return branches;
            }
            let subnets: Vec<String> = subnets.concat();
            let condition = self.addresses(&route.object, &field, &subnets, resources);
            branches.extend(condition.map(|condition| Branch { condition, target }));
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
                if names.is_empty() || !route.is_for(self.class, number, &condition.into()) {
                    continue;
                }
                let Some(target) = self.target(&route.object, &field, &tls.route, resources) else { continue };
                let addresses = self.addresses(&route.object, &field, &condition.destination_subnets, resources);
                let named = by_server_name(names);
                branches.extend(addresses.map(|FilterChainMatch { prefix_ranges, .. }| Branch {
                    condition: FilterChainMatch { prefix_ranges, ..named },
                    target,
                }));
            }
        }
        let named = by_name || !branches.is_empty();
        let own = if named { by_server_name(vec![self.host.to_string()]) } else { FilterChainMatch::default() };
        branches.push(self.default(own));
        branches
    }

    /// To the service itself.
    fn default(&self, condition: FilterChainMatch) -> Branch {
        let name = ClusterName::outbound(self.port.port.number, "", self.host.as_str());
        let mut target = Target::cluster(name.to_string());
        target.pool = self.destinations().policy(&name).connection_pool.and_then(|p| p.tcp);
        Branch { condition, target }
    }

    /// A condition on the destination's address; none if nothing that is given is one.
    fn addresses(
        &self,
        object: &ObjectRef,
        field: &str,
        subnets: &[String],
        resources: &mut Resources,
    ) -> Option<FilterChainMatch> {
        let (good, bad): (Vec<_>, Vec<_>) =
            subnets.iter().map(|s| (s, wire::network(s))).partition(|(_, n)| n.is_some());
        for (text, _) in bad {
            let message = format!("{text:?} is neither an address nor a CIDR, and has no effect");
            let field = format!("{field}.match.destinationSubnets");
            resources.diagnostics.insert(object.error(field, Code::InvalidValue, message));
        }
        let prefix_ranges: Vec<_> = good.into_iter().filter_map(|(_, net)| net).map(wire::cidr).collect();
        let usable = subnets.is_empty() || !prefix_ranges.is_empty();
        usable.then(|| FilterChainMatch { prefix_ranges, ..FilterChainMatch::default() })
    }

    /// The clusters of a route by weight. A route without a destination has no effect.
    fn target(
        &self,
        object: &ObjectRef,
        field: &str,
        route: &[RouteDestination],
        resources: &mut Resources,
    ) -> Option<Target> {
        let weighted = route.iter().enumerate().filter(|(_, r)| route.len() == 1 || r.weight > 0);
        let mut clusters = Vec::new();
        let mut pool = None;
        for (i, destination) in weighted {
            let field = format!("{field}.route[{i}].destination");
            let (to, called) = (self.destinations(), self.port.port.number);
            let name = to.cluster(object, &field, &destination.destination, called, resources);
            pool = to.policy(&name).connection_pool.and_then(|p| p.tcp);
            clusters.push((name.to_string(), destination.weight.max(1)));
        }
        match clusters.as_slice() {
            [] => {
                let message = "has no effect: the route needs a destination with a weight";
                resources.diagnostics.insert(object.error(format!("{field}.route"), Code::InvalidValue, message));
                None
            }
            [(name, _)] => Some(Target { stat_prefix: name.clone(), clusters, pool }),
            _ => Some(Target {
                stat_prefix: ClusterName::outbound(self.port.port.number, "", self.host.as_str()).to_string(),
                clusters,
                pool: None,
            }),
        }
    }

    fn destinations(&self) -> Destinations<'_> {
        Destinations { mesh: self.mesh, class: self.class, scope: self.scope }
    }
}

/// TLS connections with one of the names, of which `*` is any.
fn by_server_name(mut server_names: Vec<String>) -> FilterChainMatch {
    if server_names.iter().any(|name| name == "*") {
        server_names.clear();
    }
    FilterChainMatch { server_names, transport_protocol: "tls".to_owned(), ..FilterChainMatch::default() }
}
