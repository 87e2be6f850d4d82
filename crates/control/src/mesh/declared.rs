//! Istio's objects as they were last seen.

use std::collections::BTreeMap;

use api::NamespacedName;
use serde_json::Value;
use xds::Objects;

/// A kind of object that says something about the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    /// The version in which it is read.
    pub(super) version: &'static str,
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    /// Whether its objects are in no namespace.
    pub(super) of_cluster: bool,
}

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const RBAC: &str = "rbac.istio.io";
const AUTHENTICATION: &str = "authentication.istio.io";

const fn kind(group: &'static str, name: &'static str, plural: &'static str) -> Kind {
    Kind { group, version: "v1", name, plural, of_cluster: false }
}

/// A kind of up to Istio 1.5.
const fn old(group: &'static str, name: &'static str, plural: &'static str) -> Kind {
    Kind { version: "v1alpha1", ..kind(group, name, plural) }
}

pub(super) const KINDS: [Kind; 17] = [
    kind(SECURITY, "AuthorizationPolicy", "authorizationpolicies"),
    kind(SECURITY, "PeerAuthentication", "peerauthentications"),
    kind(SECURITY, "RequestAuthentication", "requestauthentications"),
    kind("telemetry.istio.io", "Telemetry", "telemetries"),
    kind(NETWORKING, "DestinationRule", "destinationrules"),
    Kind { version: "v1alpha3", ..kind(NETWORKING, "EnvoyFilter", "envoyfilters") },
    kind(NETWORKING, "Gateway", "gateways"),
    kind(NETWORKING, "ServiceEntry", "serviceentries"),
    kind(NETWORKING, "Sidecar", "sidecars"),
    kind(NETWORKING, "VirtualService", "virtualservices"),
    kind(NETWORKING, "WorkloadEntry", "workloadentries"),
    old(RBAC, "ServiceRole", "serviceroles"),
    old(RBAC, "ServiceRoleBinding", "servicerolebindings"),
    old(RBAC, "RbacConfig", "rbacconfigs"),
    Kind { of_cluster: true, ..old(RBAC, "ClusterRbacConfig", "clusterrbacconfigs") },
    old(AUTHENTICATION, "Policy", "policies"),
    Kind { of_cluster: true, ..old(AUTHENTICATION, "MeshPolicy", "meshpolicies") },
];

/// Every object of Istio's, and the mesh's configuration.
#[derive(Default)]
pub(super) struct Declared {
    kinds: BTreeMap<Kind, BTreeMap<NamespacedName, Declaration>>,
    mesh_config: Objects,
    configured: bool,
}

/// An object, decoded.
pub(super) struct Declaration {
    /// It alone.
    objects: Objects,
    /// As stored, without what only servers need.
    pub(super) value: Value,
}

impl Declared {
    /// These are all objects of the kind. Whether any differs from before is returned.
    pub(super) fn replace(&mut self, kind: Kind, values: Vec<Value>) -> bool {
        let before = self.kinds.remove(&kind).unwrap_or_default();
        let mut kept = before.len() == values.len();
        let mut objects = BTreeMap::new();
        for value in values {
            let (name, new) = Declaration::new(value);
            let old = before.get(&name);
            let same = old.is_some_and(|old| old.objects == new.objects);
            kept &= same;
            objects.insert(name, new.sharing(old.filter(|_| same)));
        }
        // The first list of a kind completes the picture, be it empty.
        let first = self.kinds.insert(kind, objects).is_none() && before.is_empty();
        !kept || first
    }

    /// The object is new or has changed; whether the mesh may be another is returned.
    pub(super) fn apply(&mut self, kind: Kind, value: Value) -> bool {
        let (name, new) = Declaration::new(value);
        let objects = self.kinds.entry(kind).or_default();
        let old = objects.remove(&name);
        let same = old.as_ref().is_some_and(|old| old.objects == new.objects);
        objects.insert(name, new.sharing(old.as_ref().filter(|_| same)));
        !same
    }

    /// The object is gone; whether it was known is returned.
    pub(super) fn remove(&mut self, kind: Kind, name: &NamespacedName) -> bool {
        self.kinds.entry(kind).or_default().remove(name).is_some()
    }

    /// What holds for all, from its ConfigMap; none means the defaults. A configuration that cannot be read leaves the one
    /// before in force.
    pub(super) fn configure(&mut self, value: Option<Value>) -> bool {
        let mut new = Objects::default();
        if let Some(value) = value {
            new.insert(value);
        }
        if new.diagnostics.iter().any(|d| d.code == xds::Code::Malformed) {
            new.mesh_config = self.mesh_config.mesh_config.clone();
        }
        let changed = new != self.mesh_config || !self.configured;
        self.mesh_config = new;
        self.configured = true;
        changed
    }

    /// Whether every kind has been listed. Half a picture would let through what a policy forbids.
    pub(super) fn is_complete(&self) -> bool {
        self.configured && self.kinds.len() == KINDS.len()
    }

    /// Everything, in a form that can be added to.
    pub(super) fn objects(&self) -> Objects {
        let mut all = self.mesh_config.clone();
        self.kinds.values().flat_map(BTreeMap::values).for_each(|d| all.extend(&d.objects));
        all
    }

    /// The same without one of Istio's objects.
    pub(super) fn objects_but(&self, kind: Kind, name: &NamespacedName) -> Objects {
        let mut all = self.mesh_config.clone();
        self.iter().filter(|(k, n, _)| (*k, *n) != (kind, name)).for_each(|(_, _, d)| all.extend(&d.objects));
        all
    }

    /// Every object of Istio's with its kind and name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, &NamespacedName, &Declaration)> {
        self.kinds.iter().flat_map(|(kind, objects)| objects.iter().map(|(name, object)| (*kind, name, object)))
    }
}

impl Declaration {
    fn new(mut value: Value) -> (NamespacedName, Declaration) {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let at = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let name = NamespacedName::new(at("/metadata/namespace"), at("/metadata/name"));
        let mut objects = Objects::default();
        objects.insert(value.clone());
        (name, Declaration { objects, value })
    }

    /// The same, sharing what is equal with `old`, so that it is seen to be.
    fn sharing(self, old: Option<&Declaration>) -> Declaration {
        match old {
            Some(old) => Declaration { objects: old.objects.clone(), ..self },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(action: &str, status: &str) -> Value {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "ns"}, "spec": {"action": action}, "status": {"x": status},
        })
    }

    fn configuration(mesh: &str) -> Option<Value> {
        Some(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}}))
    }

    #[test]
    fn a_change_of_status_changes_nothing() {
        let mut declared = Declared::default();
        assert!(declared.apply(KINDS[0], policy("DENY", "")));
        assert!(!declared.apply(KINDS[0], policy("DENY", "seen")));
        assert!(!declared.replace(KINDS[0], vec![policy("DENY", "")]));
        assert!(declared.apply(KINDS[0], policy("ALLOW", "")));
        assert!(declared.replace(KINDS[0], vec![]));
    }

    #[test]
    fn a_mesh_configuration_that_cannot_be_read_leaves_the_last_one() {
        let mut declared = Declared::default();
        assert!(declared.configure(configuration("trustDomain: td.example")));
        assert!(declared.configure(configuration("trustDomain: [")));
        let objects = declared.objects();
        assert_eq!(objects.mesh_config.trust_domain.0, "td.example");
        assert!(!objects.diagnostics.is_empty());
    }
}
