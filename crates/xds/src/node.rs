//! The proxy for which resources are built.

use std::collections::BTreeMap;

use api::NamespacedName;
use api::selector::Labels;

/// A sidecar, by the properties of its pod.
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
    /// Only the labels that some object asks for.
    pub(crate) labels: Labels,
    pub(crate) locality: Locality,
    /// The EnvoyFilters that hold for it, in order.
    pub(crate) patches: Vec<NamespacedName>,
    /// The Telemetry objects that hold for it, the widest first.
    pub(crate) telemetries: Vec<NamespacedName>,
    /// What its traces call it, where calls are traced.
    pub(crate) service: String,
}

/// Everything about a node that decides who may call it and how. Made by [`crate::Mesh::inbound_class`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboundClass {
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
