//! Who may call which workload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::istio::{Action, AuthorizationPolicy, MeshConfig, Object};
use api::selector::Labels;

use super::{by_age, check_selector, is_for_others};
use crate::filter::rbac::{self, Layer, Translated};
use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// Only says what a policy would do.
const DRY_RUN: &str = "istio.io/dry-run";

/// Every AuthorizationPolicy, translated, by namespace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authorizations {
    root: String,
    by_namespace: BTreeMap<String, Vec<Authorization>>,
}

/// One policy, translated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authorization {
    pub(crate) object: ObjectRef,
    selector: Labels,
    pub(crate) action: Action,
    /// Who decides if the action is CUSTOM: one of the mesh's extension providers.
    pub(crate) provider: String,
    /// Whether it decides nothing, and only says what it would.
    pub(crate) dry_run: bool,
    connections: Translated,
    requests: Translated,
}

impl Authorization {
    /// The rules for what a layer carries.
    pub(crate) fn of(&self, layer: Layer) -> &Translated {
        match layer {
            Layer::Connections => &self.connections,
            Layer::Requests => &self.requests,
        }
    }

    /// What cannot be held against connections to a port at which only bytes are spoken.
    pub(crate) fn found_at(&self, port: u16) -> impl Iterator<Item = Diagnostic> + '_ {
        let of_port = move |ports: &Option<BTreeSet<u16>>| ports.as_ref().is_none_or(|p| p.contains(&port));
        let found = self.connections.found.iter().filter(move |(ports, _)| of_port(ports));
        let rules = found.filter(|(_, d)| d.code == Code::OnlyHttp).map(|(_, d)| d.clone());
        let custom = (self.action == Action::Custom).then(|| {
            let message = "CUSTOM is not supported on connections: what the rules match is refused";
            self.object.error("spec.action", Code::NotSupported, message)
        });
        rules.chain(custom)
    }
}

impl Authorizations {
    pub(crate) fn new(
        objects: &[Arc<Object<AuthorizationPolicy>>],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> Authorizations {
        let mut by_namespace = BTreeMap::<String, Vec<Authorization>>::new();
        for object in by_age(objects) {
            if is_for_others(object, found) {
                continue;
            }
            let namespace = object.metadata.namespace.as_str();
            let selector = object.spec.selector.clone().unwrap_or_default().match_labels;
            let scope = (namespace != mesh.root_namespace).then_some(namespace);
            let name = ObjectRef::of(object);
            found.extend(check_selector(&name, "spec.selector", scope, &selector, workloads));
            let requests = rbac::translate(object, mesh, Layer::Requests);
            found.extend(requests.found.iter().map(|(_, found)| found.clone()));
            let dry_run = object.metadata.annotations.get(DRY_RUN).is_some_and(|value| value == "true");
            if dry_run {
                let message = "the policy decides nothing, and only says what it would: it is a dry run";
                found.push(name.info("metadata.annotations", Code::Unsafe, message));
            }
            by_namespace.entry(namespace.to_owned()).or_default().push(Authorization {
                object: name,
                selector,
                action: object.spec.action,
                provider: object.spec.provider.name.clone(),
                dry_run,
                connections: rbac::translate(object, mesh, Layer::Connections),
                requests,
            });
        }
        Authorizations { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// The policies that hold for a workload: the mesh's and its namespace's.
    pub(crate) fn of<'a>(&'a self, namespace: &'a str, labels: &'a Labels) -> impl Iterator<Item = &'a Authorization> {
        let own = Some(namespace).filter(|n| *n != self.root);
        let namespaces = [Some(self.root.as_str()), own].into_iter().flatten();
        let all = namespaces.filter_map(|n| self.by_namespace.get(n)).flatten();
        all.filter(move |policy| api::istio::includes(labels, &policy.selector))
    }
}
