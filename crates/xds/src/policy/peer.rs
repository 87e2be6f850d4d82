//! What workloads accept: mutual TLS, plaintext, or both.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::istio::{MeshConfig, MutualTlsMode, Object, PeerAuthentication, WorkloadSelector};
use api::selector::Labels;

use super::legacy::LegacyPolicy;
use super::{by_age, check_selector};
use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// What says which callers are accepted, by scope.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PeerAuthentications {
    /// The root namespace's, without a selector.
    mesh: Option<Arc<Accepted>>,
    /// Those of other namespaces without a selector.
    namespaces: BTreeMap<String, Arc<Accepted>>,
    /// Those with a selector, by namespace, in the order in which they win.
    workloads: BTreeMap<String, Vec<Arc<Accepted>>>,
}

/// What one object says.
#[derive(Debug, PartialEq)]
struct Accepted {
    object: ObjectRef,
    selector: Labels,
    mode: MutualTlsMode,
    ports: BTreeMap<u16, MutualTlsMode>,
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
    /// Today's objects go before those of old, whatever their ages.
    pub(crate) fn new(
        objects: &[Arc<Object<PeerAuthentication>>],
        legacy: &[LegacyPolicy],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> PeerAuthentications {
        let mut all = PeerAuthentications { mesh: None, namespaces: BTreeMap::new(), workloads: BTreeMap::new() };
        for object in by_age(objects) {
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            let PeerAuthentication { selector, mtls, port_level_mtls } = &object.spec;
            let selector = selector.as_ref().map(|WorkloadSelector { match_labels }| match_labels.clone());
            let selector = selector.unwrap_or_default();
            found.extend(check_selector(&name, "spec.selector", Some(namespace), &selector, workloads));
            if selector.is_empty() && !port_level_mtls.is_empty() {
                let message = "has no effect without a selector: ports belong to workloads";
                found.push(name.error("spec.portLevelMtls", Code::InvalidValue, message));
            }
            let ports = port_level_mtls.iter().map(|(port, mtls)| (*port, mtls.mode)).collect();
            all.add(namespace, Accepted { object: name, selector, mode: mtls.mode, ports }, found);
        }
        for policy in legacy {
            let namespace = policy.namespace.as_deref().unwrap_or(&mesh.root_namespace);
            let (object, selector) = (policy.object.clone(), policy.selector.clone());
            let ports: BTreeMap<u16, MutualTlsMode> = policy.ports.iter().map(|port| (*port, policy.mode)).collect();
            let mode = if ports.is_empty() { policy.mode } else { MutualTlsMode::Unset };
            all.add(namespace, Accepted { object, selector, mode, ports }, found);
        }
        all.mesh = all.namespaces.remove(&mesh.root_namespace);
        all
    }

    fn add(&mut self, namespace: &str, accepted: Accepted, found: &mut Vec<Diagnostic>) {
        if accepted.selector.is_empty() {
            match self.namespaces.get(namespace) {
                Some(first) => found.push(ignored(&accepted, first)),
                None => drop(self.namespaces.insert(namespace.to_owned(), Arc::new(accepted))),
            }
            return;
        }
        let others = self.workloads.entry(namespace.to_owned()).or_default();
        let same = |other: &&Arc<Accepted>| other.selector == accepted.selector && other.ports == accepted.ports;
        if let Some(first) = others.iter().find(same) {
            found.push(ignored(&accepted, first));
        }
        others.push(Arc::new(accepted));
    }

    /// What workloads of a namespace accept that nothing more specific is said about.
    pub(crate) fn of_namespace(&self, namespace: &str) -> MutualTlsMode {
        let mode = |accepted: Option<&Arc<Accepted>>| accepted.map(|a| a.mode).unwrap_or_default();
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
        let default = own.map_or(outer, |own| or(own.mode, outer));
        let ports = own.into_iter().flat_map(|own| &own.ports);
        PeerModes { default, ports: ports.map(|(port, mode)| (*port, or(*mode, default))).collect() }
    }

    /// The object that says what a workload accepts at a port.
    pub(crate) fn saying(&self, namespace: &str, workload: &Labels, port: u16) -> Option<ObjectRef> {
        let says = |mode: MutualTlsMode| mode != MutualTlsMode::Unset;
        let own = self.selecting(namespace, workload);
        let of_port = own.filter(|own| own.ports.get(&port).is_some_and(|mode| says(*mode)));
        let mut levels = [own, self.namespaces.get(namespace), self.mesh.as_ref()].into_iter().flatten();
        of_port.or_else(|| levels.find(|accepted| says(accepted.mode))).map(|accepted| accepted.object.clone())
    }

    fn selecting(&self, namespace: &str, workload: &Labels) -> Option<&Arc<Accepted>> {
        let selected = self.workloads.get(namespace).into_iter().flatten();
        selected.into_iter().find(|accepted| api::istio::includes(workload, &accepted.selector))
    }
}

fn or(mode: MutualTlsMode, outer: MutualTlsMode) -> MutualTlsMode {
    if mode == MutualTlsMode::Unset { outer } else { mode }
}

fn ignored(accepted: &Accepted, first: &Accepted) -> Diagnostic {
    let message = if first.object.kind == accepted.object.kind {
        format!("has no effect: the older {} is for the same workloads", first.object)
    } else {
        format!("has no effect: {} is for the same workloads, and replaces it", first.object)
    };
    accepted.object.warning("spec.selector", Code::Conflict, message)
}
