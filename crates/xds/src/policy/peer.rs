//! What workloads accept: mutual TLS, plaintext, or both.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::istio::{MeshConfig, MutualTlsMode, Object, PeerAuthentication, WorkloadSelector};
use api::selector::Labels;

use super::{by_age, check_selector};
use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// Every PeerAuthentication, by scope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PeerAuthentications {
    /// The root namespace's, without a selector.
    mesh: Option<Arc<Object<PeerAuthentication>>>,
    /// Those of other namespaces without a selector.
    namespaces: BTreeMap<String, Arc<Object<PeerAuthentication>>>,
    /// Those with a selector, by namespace, oldest first.
    workloads: BTreeMap<String, Vec<Arc<Object<PeerAuthentication>>>>,
}

/// What one workload accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerModes {
    /// At ports that nothing else is said about. Never unset.
    pub(crate) default: MutualTlsMode,
    /// At single ports. Never unset.
    pub(crate) ports: BTreeMap<u16, MutualTlsMode>,
}

impl PeerModes {
    pub(crate) fn at(&self, port: u16) -> MutualTlsMode {
        self.ports.get(&port).copied().unwrap_or(self.default)
    }
}

impl PeerAuthentications {
    pub(crate) fn new(
        objects: &[Arc<Object<PeerAuthentication>>],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> PeerAuthentications {
        let mut whole = BTreeMap::<String, Arc<Object<PeerAuthentication>>>::new();
        let mut selected = BTreeMap::<String, Vec<Arc<Object<PeerAuthentication>>>>::new();
        for object in by_age(objects) {
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            if let Some(labels) = labels(object) {
                found.extend(check_selector(&name, "spec.selector", Some(namespace), labels, workloads));
                let others = selected.entry(namespace.to_owned()).or_default();
                if let Some(older) = others.iter().find(|o| self::labels(o) == Some(labels)) {
                    found.push(ignored(&name, older));
                }
                others.push(object.clone());
                continue;
            }
            if !object.spec.port_level_mtls.is_empty() {
                let message = "has no effect without a selector: ports belong to workloads";
                found.push(name.error("spec.portLevelMtls", Code::InvalidValue, message));
            }
            match whole.get(namespace) {
                Some(older) => found.push(ignored(&name, older)),
                None => drop(whole.insert(namespace.to_owned(), object.clone())),
            }
        }
        PeerAuthentications { mesh: whole.remove(&mesh.root_namespace), namespaces: whole, workloads: selected }
    }

    /// What workloads of a namespace accept that nothing more specific is said about.
    pub(crate) fn of_namespace(&self, namespace: &str) -> MutualTlsMode {
        let mode = |o: Option<&Arc<Object<PeerAuthentication>>>| o.map(|o| o.spec.mtls.mode).unwrap_or_default();
        or(mode(self.namespaces.get(namespace)), or(mode(self.mesh.as_ref()), MutualTlsMode::Permissive))
    }

    /// Whether both say the same of every workload of a namespace.
    pub(crate) fn agree(&self, other: &PeerAuthentications, namespace: &str) -> bool {
        self.of_namespace(namespace) == other.of_namespace(namespace)
            && self.workloads.get(namespace) == other.workloads.get(namespace)
    }

    /// What a workload accepts.
    pub(crate) fn of(&self, namespace: &str, workload: &Labels) -> PeerModes {
        let outer = self.of_namespace(namespace);
        let own = self.selecting(namespace, workload);
        let default = own.map_or(outer, |o| or(o.spec.mtls.mode, outer));
        let ports = own.into_iter().flat_map(|o| &o.spec.port_level_mtls);
        PeerModes { default, ports: ports.map(|(port, m)| (*port, or(m.mode, default))).collect() }
    }

    /// The object that says what a workload accepts at a port.
    pub(crate) fn saying(&self, namespace: &str, workload: &Labels, port: u16) -> Option<ObjectRef> {
        let says = |mode: MutualTlsMode| mode != MutualTlsMode::Unset;
        let own = self.selecting(namespace, workload);
        let of_port = own.filter(|o| o.spec.port_level_mtls.get(&port).is_some_and(|m| says(m.mode)));
        let mut levels = [own, self.namespaces.get(namespace), self.mesh.as_ref()].into_iter().flatten();
        of_port.or_else(|| levels.find(|o| says(o.spec.mtls.mode))).map(|o| ObjectRef::of(o))
    }

    fn selecting(&self, namespace: &str, workload: &Labels) -> Option<&Arc<Object<PeerAuthentication>>> {
        let selected = self.workloads.get(namespace).into_iter().flatten();
        selected.into_iter().find(|o| labels(o).is_some_and(|l| api::istio::includes(workload, l)))
    }
}

fn labels(object: &Object<PeerAuthentication>) -> Option<&Labels> {
    object.spec.selector.as_ref().map(|WorkloadSelector { match_labels }| match_labels).filter(|l| !l.is_empty())
}

fn or(mode: MutualTlsMode, outer: MutualTlsMode) -> MutualTlsMode {
    if mode == MutualTlsMode::Unset { outer } else { mode }
}

fn ignored(object: &ObjectRef, older: &Object<PeerAuthentication>) -> Diagnostic {
    let message = format!("has no effect: the older {} is for the same workloads", ObjectRef::of(older));
    object.warning("spec.selector", Code::Conflict, message)
}
