//! The proxy for which resources are built.

use std::collections::BTreeMap;

use api::NamespacedName;
use api::istio::GatewayTopology;
use api::selector::Labels;

/// A proxy, by the properties of its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's labels.
    pub labels: Labels,
    /// Where the pod runs.
    pub locality: Locality,
    /// What the proxy is to the pod.
    pub role: Role,
}

/// What a proxy is to its pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It carries the calls of the pod's other containers.
    #[default]
    Sidecar,
    /// It is what the pod is for: a gateway, which listens where Gateway objects say.
    Router,
}

impl Role {
    /// The role of the type in a node's id, `sidecar` or `router`.
    pub fn of_type(text: &str) -> Option<Role> {
        match text {
            "sidecar" => Some(Role::Sidecar),
            "router" => Some(Role::Router),
            _ => None,
        }
    }

    /// As a node's id has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Sidecar => "sidecar",
            Role::Router => "router",
        }
    }
}

/// A place: parts that are not known are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone in the region.
    pub zone: String,
    /// The part of the zone.
    pub subzone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`, of which the end may be missing.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next() }
    }

    /// Whether a pattern such as `region/*` or `region/zone` stands for this place.
    pub(crate) fn matches(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.subzone];
        for (part, own) in pattern.split('/').zip(own) {
            match part {
                "*" => return true,
                part if part != own => return false,
                _ => {}
            }
        }
        true
    }
}

/// Everything about a node that decides what it may call and how. Made by [`crate::Mesh::outbound_class`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutboundClass {
    pub(crate) namespace: String,
    /// The Sidecar object that holds for it.
    pub(crate) sidecar: Option<NamespacedName>,
    /// Of a gateway all labels, of a sidecar only those that some object asks for.
    pub(crate) labels: Labels,
    pub(crate) locality: Locality,
    /// The EnvoyFilters that hold for it, in order.
    pub(crate) patches: Vec<NamespacedName>,
    /// The Telemetry objects that hold for it, the widest first.
    pub(crate) telemetries: Vec<NamespacedName>,
    /// What its traces call it, where calls are traced.
    pub(crate) service: String,
    /// What else decides, if it is a gateway's.
    pub(crate) router: Option<Router>,
}

/// What of a gateway's pod decides where it listens, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Router {
    /// The numbers of the pod's ports with a name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// Whether it may not listen on ports below 1024.
    pub(crate) unprivileged: bool,
    /// What stands before it.
    pub(crate) topology: GatewayTopology,
}

impl OutboundClass {
    /// A node of the class, as far as it decides.
    pub(crate) fn node(&self) -> Node {
        Node {
            name: String::new(),
            namespace: self.namespace.clone(),
            labels: self.labels.clone(),
            locality: self.locality.clone(),
            role: if self.router.is_some() { Role::Router } else { Role::Sidecar },
        }
    }
}

/// Everything about a node that decides who may call it and how. Made by [`crate::Mesh::inbound_class`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboundClass {
    pub(crate) role: Role,
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    /// The numbers of the pod's ports with a name.
    pub(crate) ports: BTreeMap<String, u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_match_patterns() {
        let place = Locality::parse("eu/a/1");
        assert!(["*", "eu", "eu/*", "eu/a", "eu/a/1", "eu/a/*"].iter().all(|p| place.matches(p)));
        assert!(["us", "eu/b", "eu/a/2", "eu/b/*"].iter().all(|p| !place.matches(p)));
        assert_eq!(Locality::parse("eu"), Locality { region: "eu".to_owned(), ..Locality::default() });
    }
}
