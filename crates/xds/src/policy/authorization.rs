//! Who may call which workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::istio::{Action, AuthorizationPolicy, MeshConfig, Object};
use api::selector::Labels;
use envoy::envoy::config::rbac::v3::Policy;

use super::{by_age, check_selector};
use crate::filter::rbac;
use crate::mesh::Workloads;
use crate::{Diagnostic, ObjectRef};

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
    /// Envoy's policies by their ids, each for a rule that connections can be held against.
    pub(crate) policies: BTreeMap<String, Policy>,
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
            let namespace = object.metadata.namespace.as_str();
            let selector = object.spec.selector.clone().unwrap_or_default().match_labels;
            let scope = (namespace != mesh.root_namespace).then_some(namespace);
            let name = ObjectRef::of(object);
            found.extend(check_selector(&name, "spec.selector", scope, &selector, workloads));
            let (action, policies) = rbac::translate(object, mesh, found);
            let translated = Authorization { object: name, selector, action, policies };
            by_namespace.entry(namespace.to_owned()).or_default().push(translated);
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
