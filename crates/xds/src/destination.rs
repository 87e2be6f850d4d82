//! Where routes lead.

use api::istio::{ClusterName, Destination, Hostname};

use crate::mesh::{DOMAIN, Mesh};
use crate::policy::{Effective, Merged};
use crate::scope::{Group, Scope};
use crate::{Code, ObjectRef, OutboundClass, Resources};

/// Finds the clusters of destinations, as a class of callers sees them.
#[derive(Clone, Copy)]
pub(crate) struct Destinations<'a> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) class: &'a OutboundClass,
    pub(crate) scope: &'a Scope<'a>,
}

impl Destinations<'_> {
    /// The cluster that an object's route names, from a service that was called at `called`.
    pub(crate) fn cluster(
        &self,
        object: &ObjectRef,
        field: &str,
        destination: &Destination,
        called: u16,
        resources: &mut Resources,
    ) -> ClusterName {
        let host = self.mesh.services.meaning(Hostname::resolve(&destination.host, &object.namespace, DOMAIN));
        let port = self.port(&host, destination, called);
        let name = ClusterName::outbound(port, destination.subset.as_str(), host.as_str());
        if !self.exists(&host, &name) {
            let message = format!("there is no {name} for this caller: calls that go there fail");
            resources.diagnostics.insert(object.error(field, Code::ReferenceNotFound, message));
        }
        name
    }

    /// What holds for the calls of a cluster.
    pub(crate) fn policy(&self, name: &ClusterName) -> Effective {
        let host = Hostname::new(&name.host);
        let Some(rule) = self.rule(&host) else { return Effective::default() };
        let subset = rule.subsets.iter().find(|s| s.name == name.subset);
        rule.policy(subset, name.port)
    }

    /// The port that a destination names, or the service's only one, or the one that was called.
    fn port(&self, host: &Hostname, destination: &Destination, called: u16) -> u16 {
        let named = destination.port.map(|p| p.number).filter(|p| *p != 0);
        let only = || {
            let mut ports = self.scope.groups.get(host)?.port_numbers().into_iter();
            ports.next().filter(|_| ports.next().is_none())
        };
        named.or_else(only).unwrap_or(called)
    }

    fn exists(&self, host: &Hostname, name: &ClusterName) -> bool {
        let port = self.scope.groups.get(host).is_some_and(|group| group.has_port(name.port));
        let subset = || self.rule(host).is_some_and(|rule| rule.subsets.iter().any(|s| s.name == name.subset));
        port && (name.subset.is_empty() || subset())
    }

    fn rule(&self, host: &Hostname) -> Option<&Merged> {
        let namespace = self.scope.groups.get(host).map_or("", Group::namespace);
        self.mesh.destinations.of(self.class, host, namespace)
    }
}
