//! What proxies are told of.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{MeshConfig, Object, Sidecar};
use api::selector::Labels;

use super::{by_age, check_selector};
use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// Every Sidecar, by namespace, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sidecars {
    root: String,
    by_namespace: BTreeMap<String, Vec<Arc<Object<Sidecar>>>>,
}

impl Sidecars {
    pub(crate) fn new(
        objects: &[Arc<Object<Sidecar>>],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> Sidecars {
        let mut by_namespace = BTreeMap::<String, Vec<Arc<Object<Sidecar>>>>::new();
        for object in by_age(objects) {
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            let others = by_namespace.entry(namespace.to_owned()).or_default();
            let own = labels(object);
            if let Some(older) = others.iter().find(|o| labels(o) == own) {
                let message = format!("has no effect: the older {} is for the same workloads", ObjectRef::of(older));
                found.push(name.warning("spec.workloadSelector", Code::Conflict, message));
            }
            if namespace == mesh.root_namespace && own.is_some() {
                let message = "a Sidecar of the root namespace with a selector is only for workloads there";
                found.push(name.info("spec.workloadSelector", Code::NothingSelected, message));
            }
            if let Some(own) = own {
                let field = "spec.workloadSelector";
                found.extend(check_selector(&name, field, Some(namespace), own, workloads));
            }
            check(&name, &object.spec, found);
            others.push(object.clone());
        }
        Sidecars { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// The object for a workload: one that selects it, its namespace's, or the mesh's; each the oldest.
    pub(crate) fn of(&self, namespace: &str, workload: &Labels) -> Option<&Arc<Object<Sidecar>>> {
        let of_namespace = |namespace: &str| self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let selects = |o: &&Arc<Object<Sidecar>>| labels(o).is_some_and(|l| api::istio::includes(workload, l));
        let whole = |o: &&Arc<Object<Sidecar>>| labels(o).is_none();
        let own = of_namespace(namespace);
        let own = own.iter().find(selects).or_else(|| own.iter().find(whole));
        own.or_else(|| of_namespace(&self.root).iter().find(whole))
    }

    pub(crate) fn get(&self, name: &NamespacedName) -> Option<&Arc<Object<Sidecar>>> {
        self.by_namespace.get(&name.namespace)?.iter().find(|o| o.metadata.name == name.name)
    }
}

fn labels(object: &Object<Sidecar>) -> Option<&Labels> {
    object.spec.workload_selector.as_ref().map(|s| &s.match_labels).filter(|l| !l.is_empty())
}

fn check(name: &ObjectRef, spec: &Sidecar, found: &mut Vec<Diagnostic>) {
    if !spec.ingress.is_empty() {
        let message = "has no effect: the workload's listeners are those of its services";
        found.push(name.warning("spec.ingress", Code::NotSupported, message));
    }
    for (i, egress) in spec.egress.iter().enumerate() {
        let field = |name: &str| format!("spec.egress[{i}].{name}");
        if !egress.bind.is_empty() {
            let message = "has no effect: listeners are at the services' own addresses";
            found.push(name.warning(field("bind"), Code::NotSupported, message));
        }
        if !matches!(egress.capture_mode.as_str(), "" | "DEFAULT" | "IPTABLES") {
            let message = "has no effect: connections are always captured";
            found.push(name.warning(field("captureMode"), Code::NotSupported, message));
        }
        for (j, host) in egress.hosts.iter().enumerate().filter(|(_, host)| !host.contains('/')) {
            let message = format!("{host:?} has no effect: a host is written NAMESPACE/HOST");
            found.push(name.error(format!("spec.egress[{i}].hosts[{j}]"), Code::InvalidValue, message));
        }
    }
}
