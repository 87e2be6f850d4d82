//! What must be built again when the mesh has changed.

use std::collections::{BTreeMap, BTreeSet};

use api::NamespacedName;
use api::istio::{Hostname, MutualTlsMode};
use api::selector::Labels;

use crate::mesh::{Mesh, Service};
use crate::policy::Route;
use crate::{Node, OutboundClass, Role, filter, gateway, route, scope};

/// What differs between two meshes.
pub struct Changes<'m> {
    old: &'m Mesh,
    new: &'m Mesh,
    /// The hosts whose services differ.
    hosts: BTreeSet<&'m Hostname>,
    /// The hosts of which some endpoint has begun or ceased to take mutual TLS.
    encrypted: BTreeSet<&'m Hostname>,
}

/// What of a class's resources must be built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outdated {
    /// Nothing.
    Nothing,
    /// Only parts.
    Parts {
        /// The clusters of these hosts and their endpoints: [`crate::clusters_of`] makes them.
        clusters: BTreeSet<Hostname>,
        /// These tables of routes: [`crate::tables`] makes them.
        tables: BTreeSet<String>,
    },
    /// Everything.
    Everything,
}

impl<'m> Changes<'m> {
    /// What differs; `new` was made by [`Mesh::after`] of `old`.
    pub fn between(old: &'m Mesh, new: &'m Mesh) -> Changes<'m> {
        let hosts =
            if old.services.is(&new.services) { BTreeSet::new() } else { new.services.differing(&old.services) };
        Changes { old, new, hosts, encrypted: encrypted(old, new) }
    }

    /// What of [`crate::outbound`] must be built again.
    pub fn outbound(&self, class: &OutboundClass) -> Outdated {
        let (old, new) = (self.old, self.new);
        let sidecar = |mesh: &'m Mesh| class.sidecar.as_ref().and_then(|name| mesh.sidecars.get(name));
        let rules = old.destinations.is(&new.destinations)
            || old.destinations.seen_by(class).eq(new.destinations.seen_by(class));
        let patched = || old.patches.is(&new.patches) || self.patches_alike(&class.patches);
        if self.is_configured_anew()
            || sidecar(old) != sidecar(new)
            || !old.services.named_alike(&new.services)
            || !rules
            || !patched()
            || !self.told_alike(&class.telemetries)
        {
            return Outdated::Everything;
        }
        if class.router.is_some() {
            return self.gateway(class);
        }
        let Some(tables) = self.tables(class) else { return Outdated::Everything };
        let mut hosts = BTreeSet::new();
        for host in &self.hosts {
            match (scope::seen(old, class, host), scope::seen(new, class, host)) {
                (None, None) => {}
                (Some(old), Some(new)) if old.declares_the_same(&new) => drop(hosts.insert((*host).clone())),
                _ => return Outdated::Everything,
            }
        }
        let seen = self.encrypted.iter().filter(|host| scope::seen(new, class, host).is_some());
        hosts.extend(seen.map(|host| (*host).clone()));
        if hosts.is_empty() && tables.is_empty() {
            return Outdated::Nothing;
        }
        // What is patched is patched as a whole.
        if !class.patches.is_empty() {
            return Outdated::Everything;
        }
        Outdated::Parts { clusters: hosts, tables }
    }

    /// What of a gateway's resources must be built again, of which nothing but clusters is built by parts.
    fn gateway(&self, class: &OutboundClass) -> Outdated {
        let (old, new, node) = (self.old, self.new, class.node());
        let doors = old.gateways.is(&new.gateways) || old.gateways.of(&class.labels).eq(new.gateways.of(&class.labels));
        let bound = |mesh: &'m Mesh| -> Vec<_> {
            new.gateways.of(&class.labels).map(|gateway| mesh.routes.bound(&gateway.name())).collect()
        };
        let bound = || old.routes.is(&new.routes) || bound(old) == bound(new);
        let translated = || !self.hosts.iter().any(|host| self.declares(host, &node));
        if !doors || !bound() || !translated() || !self.guarded_alike(&class.namespace, &class.labels) {
            return Outdated::Everything;
        }
        if self.hosts.is_empty() && self.encrypted.is_empty() {
            return Outdated::Nothing;
        }
        // Services come and go that may be called by server name.
        let mut reached = gateway::reached(new, class);
        reached.extend(gateway::reached(old, class));
        let mut clusters = BTreeSet::new();
        for host in self.hosts.iter().filter(|host| reached.contains(**host)) {
            match (scope::seen(old, class, host), scope::seen(new, class, host)) {
                (None, None) => {}
                (Some(old), Some(new)) if old.declares_the_same(&new) => drop(clusters.insert((*host).clone())),
                _ => return Outdated::Everything,
            }
        }
        clusters.extend(self.encrypted.iter().filter(|host| reached.contains(**host)).map(|host| (*host).clone()));
        if clusters.is_empty() {
            return Outdated::Nothing;
        }
        // What is patched is patched as a whole.
        if !class.patches.is_empty() {
            return Outdated::Everything;
        }
        Outdated::Parts { clusters, tables: BTreeSet::new() }
    }

    /// Whether the same is demanded of those who call a workload.
    fn guarded_alike(&self, namespace: &str, labels: &Labels) -> bool {
        let (old, new) = (self.old, self.new);
        let allowed = old.authorizations.is(&new.authorizations)
            || old.authorizations.of(namespace, labels).eq(new.authorizations.of(namespace, labels));
        let believed = || {
            old.authentications.is(&new.authentications)
                || old.authentications.of(namespace, labels).eq(new.authentications.of(namespace, labels))
        };
        allowed && believed()
    }

    /// The tables of routes that differ; `None` if more does.
    fn tables(&self, class: &OutboundClass) -> Option<BTreeSet<String>> {
        let (old, new) = (self.old, self.new);
        let hosts = if old.routes.is(&new.routes) { BTreeSet::new() } else { old.routes.differing(&new.routes, class) };
        let mut tables = BTreeSet::new();
        for host in hosts {
            let [before, after] = [old, new].map(|mesh| mesh.routes.first_for(class, host));
            // Connections have listeners of their own, and only with a Sidecar object do destinations not belong to what
            // may be called in any case.
            let of_requests = |route: &Route| route.spec.tcp.is_empty() && route.spec.tls.is_empty();
            if class.sidecar.is_some() || ![before, after].into_iter().flatten().all(|route| of_requests(route)) {
                return None;
            }
            tables.extend(route::tables_of(new, class, host));
        }
        Some(tables)
    }

    /// Whether [`crate::inbound`] of a node must be built again.
    pub fn inbound(&self, node: &Node) -> bool {
        if node.role == Role::Router {
            return false;
        }
        let (old, new) = (self.old, self.new);
        let (namespace, labels) = (node.namespace.as_str(), &node.labels);
        let accepted =
            || old.peers.is(&new.peers) || old.peers.of(namespace, labels) == new.peers.of(namespace, labels);
        let (were, are) = (old.patches.of(namespace, labels), new.patches.of(namespace, labels));
        let patched = old.patches.is(&new.patches) || (were == are && self.patches_alike(&are));
        let (told, tell) = (old.telemetries.of(namespace, labels), new.telemetries.of(namespace, labels));
        let patched = patched && told == tell && self.told_alike(&tell);
        let same = self.guarded_alike(namespace, labels) && accepted() && old.roles.is(&new.roles) && patched;
        self.is_configured_anew()
            || !same
            || self.asks_another(node)
            || self.hosts.iter().any(|host| self.declares(host, node))
    }

    /// Whether the services that a node's proxy asks about requests are seen in another way.
    fn asks_another(&self, node: &Node) -> bool {
        let sidecar = |mesh: &'m Mesh| mesh.sidecars.of(&node.namespace, &node.labels);
        let asked = filter::asked(self.new, &node.namespace, &node.labels);
        !asked.is_empty() && (sidecar(self.old) != sidecar(self.new) || asked.iter().any(|h| self.hosts.contains(h)))
    }

    /// Whether some EnvoyFilters say the same as before.
    fn patches_alike(&self, names: &[NamespacedName]) -> bool {
        self.old.patches.named(names).eq(self.new.patches.named(names))
    }

    /// Whether some Telemetry objects say the same as before.
    fn told_alike(&self, names: &[NamespacedName]) -> bool {
        let (old, new) = (&self.old.telemetries, &self.new.telemetries);
        old.is(new) || old.named(names).eq(new.named(names))
    }

    fn is_configured_anew(&self) -> bool {
        !std::sync::Arc::ptr_eq(&self.old.config, &self.new.config)
    }

    /// Whether something else is declared of a node's own ports.
    fn declares(&self, host: &Hostname, node: &Node) -> bool {
        let selecting = |mesh: &'m Mesh| -> Vec<&'m Service> {
            let services = mesh.services.of_host(host).iter().map(AsRef::as_ref);
            services.filter(|service| service.selects(node)).collect()
        };
        let (old, new) = (selecting(self.old), selecting(self.new));
        old.len() != new.len() || old.iter().zip(&new).any(|(a, b)| !a.declares_the_same(b))
    }
}

fn encrypted<'m>(old: &'m Mesh, new: &'m Mesh) -> BTreeSet<&'m Hostname> {
    if old.peers.is(&new.peers) {
        return BTreeSet::new();
    }
    let mut agree = BTreeMap::new();
    let mut agree =
        |namespace: &'m str| *agree.entry(namespace).or_insert_with(|| old.peers.agree(&new.peers, namespace));
    let accepts = |mode| mode != MutualTlsMode::Disable;
    let mut differs = |service: &'m Service| {
        let namespace = service.namespace.as_str();
        let of = |mesh: &Mesh| accepts(mesh.peers.of_namespace(namespace));
        (!agree(namespace) && of(old) != of(new))
            || service.endpoints.iter().any(|endpoint| {
                let workload = &endpoint.workload;
                let of = |mesh: &Mesh| accepts(mesh.peers.of(&workload.namespace, &workload.labels).at(endpoint.port));
                !agree(&workload.namespace) && of(old) != of(new)
            })
    };
    let hosts = new.services.hosts().filter(|(_, services)| services.iter().any(|service| differs(service)));
    hosts.map(|(host, _)| host).collect()
}
