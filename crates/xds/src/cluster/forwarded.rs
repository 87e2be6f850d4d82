//! Clusters of connections that a gateway forwards by their server name: their TLS ends at the endpoint, which therefore
//! must take mutual TLS.

use api::istio::{ClientTls, ClientTlsMode, ClusterName, Subset};

use super::{Called, insert, traffic};
use crate::mesh::{Endpoint, Mesh};
use crate::scope::Scope;
use crate::{OutboundClass, Resources, endpoint};

/// Those of every service of a scope, and of their subsets; each is named by its server name.
pub(crate) fn forwarded(mesh: &Mesh, class: &OutboundClass, scope: &Scope<'_>, resources: &mut Resources) {
    for (host, group) in &scope.groups {
        let rule = mesh.destinations.of(class, host, group.namespace());
        for port in group.ports().values() {
            let called = Called { mesh, class, host, group, port, rule };
            called.forwarded(None, resources);
            for subset in rule.iter().flat_map(|r| &r.subsets) {
                called.forwarded(Some(subset), resources);
            }
        }
    }
}

impl Called<'_> {
    fn forwarded(&self, subset: Option<&Subset>, resources: &mut Resources) {
        let number = self.port.port.number;
        let name = ClusterName::outbound(number, subset.map_or("", |s| &s.name), self.host.as_str());
        let policy = self.rule.map(|r| r.policy(subset, number)).unwrap_or_default();
        let mut cluster = self.bare(name.server_name(), subset);
        traffic::apply(&policy, &self.mesh.config, false, &mut cluster);
        let endpoints = self.endpoints(subset);
        let mutual = |e: &&Endpoint| takes_mutual(self.mesh, policy.tls.as_ref(), e);
        let endpoints: Vec<&Endpoint> = endpoints.into_iter().filter(mutual).collect();
        self.discover(&policy, &endpoints, &mut cluster, resources);
        insert(cluster, resources);
    }
}

/// Whether an endpoint takes mutual TLS: as the destination rule says, or as it says itself.
fn takes_mutual(mesh: &Mesh, tls: Option<&ClientTls>, endpoint: &Endpoint) -> bool {
    match tls {
        Some(tls) => tls.mode == Some(ClientTlsMode::IstioMutual),
        None => endpoint::is_mutual(mesh, endpoint),
    }
}
