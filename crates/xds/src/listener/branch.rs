//! Connections that are told apart by an object's routes: their conditions, and where they go.

use api::istio::RouteDestination;
use envoy::envoy::config::core::v3::CidrRange;
use envoy::envoy::config::listener::v3::FilterChainMatch;

use crate::destination::Destinations;
use crate::filter::tcp_proxy::Target;
use crate::{Code, ObjectRef, Resources, wire};

/// A condition on a connection, with where it goes.
pub(crate) struct Branch {
    pub(crate) condition: FilterChainMatch,
    pub(crate) target: Target,
}

/// A field of an object's with routes of connections.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) object: &'a ObjectRef,
    /// For example `spec.tcp[0]`.
    pub(crate) field: &'a str,
}

impl Written<'_> {
    /// Addresses and CIDRs; none if nothing that is given is one.
    pub(crate) fn networks(self, field: &str, given: &[String], resources: &mut Resources) -> Option<Vec<CidrRange>> {
        let (good, bad): (Vec<_>, Vec<_>) = given.iter().map(|s| (s, wire::network(s))).partition(|(_, n)| n.is_some());
        for (text, _) in bad {
            let message = format!("{text:?} is neither an address nor a CIDR, and has no effect");
            let field = format!("{}.match.{field}", self.field);
            resources.diagnostics.insert(self.object.error(field, Code::InvalidValue, message));
        }
        let ranges: Vec<_> = good.into_iter().filter_map(|(_, net)| net).map(wire::cidr).collect();
        (given.is_empty() || !ranges.is_empty()).then_some(ranges)
    }

    /// The clusters of a route by weight, for what was called at a port. A route without a destination has no effect.
    /// Several destinations are counted together as `several`.
    pub(crate) fn target(
        self,
        to: Destinations<'_>,
        called: u16,
        several: &str,
        route: &[RouteDestination],
        resources: &mut Resources,
    ) -> Option<Target> {
        let weighted = route.iter().enumerate().filter(|(_, r)| route.len() == 1 || r.weight > 0);
        let mut clusters = Vec::new();
        let mut pool = None;
        for (i, destination) in weighted {
            let field = format!("{}.route[{i}].destination", self.field);
            let name = to.cluster(self.object, &field, &destination.destination, called, resources);
            pool = to.policy(&name).connection_pool.and_then(|p| p.tcp);
            clusters.push((name.to_string(), destination.weight.max(1)));
        }
        let by = Some(self.object.clone());
        match clusters.as_slice() {
            [] => {
                let message = "has no effect: the route needs a destination with a weight";
                let found = self.object.error(format!("{}.route", self.field), Code::InvalidValue, message);
                resources.diagnostics.insert(found);
                None
            }
            [(name, _)] => Some(Target { stat_prefix: name.clone(), clusters, pool, by }),
            _ => Some(Target { stat_prefix: several.to_owned(), clusters, pool: None, by }),
        }
    }
}

/// TLS connections with one of the names, of which `*` is any.
pub(crate) fn by_server_name(mut server_names: Vec<String>) -> FilterChainMatch {
    if server_names.iter().any(|name| name == "*") {
        server_names.clear();
    }
    FilterChainMatch { server_names, transport_protocol: "tls".to_owned(), ..FilterChainMatch::default() }
}
