//! Services, whoever declares them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::istio::Hostname;
use api::selector::Labels;
use ipnet::IpNet;

use super::protocol::Protocol;
use super::workload::Workload;
use crate::{Node, ObjectRef};

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) object: ObjectRef,
    pub(crate) age: Age,
    pub(crate) host: Hostname,
    pub(crate) namespace: String,
    /// Where clients find it: single addresses, and CIDRs of a service entry.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) ports: Vec<Port>,
    pub(crate) discovery: Discovery,
    /// Whether it is outside of the mesh, so that nothing there takes mutual TLS by itself.
    pub(crate) external: bool,
    pub(crate) visibility: Visibility,
    /// The names of which a server's certificate must have one, if the service says so.
    pub(crate) names: Vec<String>,
    /// The labels of its workloads in its namespace.
    pub(crate) selector: Option<Labels>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Who was first: Kubernetes' services, then service entries, each by time and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age {
    pub(crate) entry: bool,
    pub(crate) created: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) target: Target,
}

/// The port of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    Name(String),
}

impl Target {
    pub(crate) fn of(&self, workload: &Workload) -> Option<u16> {
        self.at(&workload.ports)
    }

    /// The same, by the names of a workload's ports.
    pub(crate) fn at(&self, named: &BTreeMap<String, u16>) -> Option<u16> {
        match self {
            Target::Number(number) => Some(*number),
            Target::Name(name) => named.get(name).copied(),
        }
    }
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// They are known.
    Known,
    /// By name; of a name's addresses all are used, or only the first.
    Dns { all: bool },
    /// The caller chooses one by its address, of those that are known.
    Headless,
    /// The caller chooses any.
    Caller,
}

/// An endpoint for one port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The service's port.
    pub(crate) service_port: u16,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) workload: Arc<Workload>,
}

impl Endpoint {
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

impl Service {
    pub(crate) fn endpoints_of(&self, port: u16) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |e| e.service_port == port)
    }

    /// Whether the node's workload is one of the service's, by the service's selector.
    pub(crate) fn selects(&self, node: &Node) -> bool {
        let selector = self.selector.as_ref();
        self.namespace == node.namespace && selector.is_some_and(|s| api::istio::includes(&node.labels, s))
    }

    /// Whether nothing but the endpoints differs.
    pub(crate) fn declares_the_same(&self, other: &Service) -> bool {
        let Service { object, age, host, namespace, addresses, ports, discovery, .. } = self;
        let named = (object, age, host, namespace) == (&other.object, &other.age, &other.host, &other.namespace);
        let called = (addresses, ports, discovery) == (&other.addresses, &other.ports, &other.discovery);
        let Service { external, visibility, names, selector, .. } = self;
        let rest = (external, visibility, names, selector);
        named && called && rest == (&other.external, &other.visibility, &other.names, &other.selector)
    }
}

/// Which namespaces see an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Visibility {
    everybody: bool,
    namespaces: BTreeSet<String>,
}

impl Visibility {
    /// What `exportTo` says, or else the mesh's default, or else everybody.
    pub(crate) fn new<S: AsRef<str>>(own: &[S], default: &[String], namespace: &str) -> Visibility {
        let mut visibility = Visibility::default();
        let own: Vec<&str> = own.iter().map(AsRef::as_ref).map(str::trim).filter(|n| !n.is_empty()).collect();
        let default = || default.iter().map(String::as_str).collect();
        let mut said: Vec<&str> = if own.is_empty() { default() } else { own };
        if said.is_empty() {
            said.push("*");
        }
        for name in said {
            match name {
                "*" => visibility.everybody = true,
                "." => drop(visibility.namespaces.insert(namespace.to_owned())),
                "~" => {}
                name => drop(visibility.namespaces.insert(name.to_owned())),
            }
        }
        visibility
    }

    pub(crate) fn includes(&self, namespace: &str) -> bool {
        self.everybody || self.namespaces.contains(namespace)
    }

    /// Whether somebody may see both.
    pub(crate) fn overlaps(&self, other: &Visibility) -> bool {
        let sees = |a: &Visibility, b: &Visibility| a.everybody && (b.everybody || !b.namespaces.is_empty());
        sees(self, other) || sees(other, self) || !self.namespaces.is_disjoint(&other.namespaces)
    }
}

/// Services by host, each oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Services {
    by_host: BTreeMap<Hostname, Vec<Arc<Service>>>,
    /// Hosts that only stand for others, and the other way round.
    meanings: BTreeMap<Hostname, Hostname>,
    aliases: BTreeMap<Hostname, Vec<Hostname>>,
}

impl Services {
    /// These services; those that are equal are taken from `old`.
    pub(crate) fn new(
        mut services: Vec<Service>,
        aliases: &BTreeMap<Hostname, Hostname>,
        old: Option<&Services>,
    ) -> Services {
        services.sort_by(|a, b| a.age.cmp(&b.age).then_with(|| a.host.cmp(&b.host)));
        let mut by_host = BTreeMap::<Hostname, Vec<Arc<Service>>>::new();
        for service in services {
            let known = old.map_or(&[][..], |o| o.of_host(&service.host)).iter().find(|known| ***known == service);
            let host = service.host.clone();
            by_host.entry(host).or_default().push(known.cloned().unwrap_or_else(|| Arc::new(service)));
        }
        let mut meanings = BTreeMap::new();
        let mut by_meaning = BTreeMap::<Hostname, Vec<Hostname>>::new();
        for alias in aliases.keys() {
            // An alias of an alias is followed as often as there are any, so that a circle ends.
            let mut meant = alias;
            for _ in 0..aliases.len() {
                let Some(next) = aliases.get(meant) else { break };
                meant = next;
            }
            meanings.insert(alias.clone(), meant.clone());
            by_meaning.entry(meant.clone()).or_default().push(alias.clone());
        }
        Services { by_host, meanings, aliases: by_meaning }
    }

    /// The host for which another stands, mostly itself.
    pub(crate) fn meaning(&self, host: Hostname) -> Hostname {
        self.meanings.get(&host).cloned().unwrap_or(host)
    }

    /// The hosts that only stand for this one.
    pub(crate) fn aliases_of(&self, host: &Hostname) -> &[Hostname] {
        self.aliases.get(host).map_or(&[], Vec::as_slice)
    }

    /// Whether hosts stand for the same others in both.
    pub(crate) fn named_alike(&self, other: &Services) -> bool {
        self.meanings == other.meanings
    }

    /// The hosts whose services are not the same in both.
    pub(crate) fn differing<'a>(&'a self, other: &'a Services) -> BTreeSet<&'a Hostname> {
        let same = |a: &[Arc<Service>], b: &[Arc<Service>]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        let hosts = self.by_host.keys().chain(other.by_host.keys());
        hosts.filter(|host| !same(self.of_host(host), other.of_host(host))).collect()
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&Hostname, &[Arc<Service>])> {
        self.by_host.iter().map(|(host, services)| (host, services.as_slice()))
    }

    pub(crate) fn of_host(&self, host: &Hostname) -> &[Arc<Service>] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Whether there is a service that `host` covers.
    pub(crate) fn any_of(&self, host: &Hostname) -> bool {
        if host.is_wildcard() {
            self.by_host.keys().any(|known| host.covers(known))
        } else {
            self.by_host.contains_key(host)
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_host.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visibility_is_own_or_default_or_everybody() {
        let none: [&str; 0] = [];
        assert!(Visibility::new(&none, &[], "a").includes("b"));
        assert!(!Visibility::new(&none, &[".".to_owned()], "a").includes("b"));
        assert!(Visibility::new(&["b"], &[".".to_owned()], "a").includes("b"));
        let hidden = Visibility::new(&["~"], &[], "a");
        assert!(!hidden.includes("a") && !hidden.overlaps(&Visibility::new(&["*"], &[], "a")));
    }
}
