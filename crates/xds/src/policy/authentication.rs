//! Which tokens workloads accept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::istio::{JwtRule, MeshConfig, Object, RequestAuthentication};
use api::selector::Labels;

use super::legacy::LegacyPolicy;
use super::{by_age, check_selector, is_for_others};
use crate::mesh::Workloads;
use crate::{Code, Diagnostic, ObjectRef};

/// What says which tokens are accepted, by namespace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authentications {
    root: String,
    by_namespace: BTreeMap<String, Vec<Authentication>>,
}

/// What one object says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Authentication {
    pub(crate) object: ObjectRef,
    selector: Labels,
    /// The workload's ports; none is all.
    ports: BTreeSet<u16>,
    pub(crate) rules: Vec<JwtRule>,
    /// Whether a request needs a token.
    pub(crate) required: bool,
}

impl Authentication {
    /// The path of a rule.
    pub(crate) fn field(&self, index: usize) -> String {
        match self.object.kind.as_str() {
            "RequestAuthentication" => format!("spec.jwtRules[{index}]"),
            _ => format!("spec.origins[{index}].jwt"),
        }
    }

    /// Whether it holds at a port of the workload.
    pub(crate) fn is_for(&self, port: Option<u16>) -> bool {
        self.ports.is_empty() || port.is_some_and(|port| self.ports.contains(&port))
    }
}

impl Authentications {
    pub(crate) fn new(
        objects: &[Arc<Object<RequestAuthentication>>],
        legacy: &[LegacyPolicy],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> Authentications {
        let mut by_namespace = BTreeMap::<String, Vec<Authentication>>::new();
        for object in by_age(objects) {
            if is_for_others(object, found) {
                continue;
            }
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            let selector = object.spec.selector.clone().unwrap_or_default().match_labels;
            let scope = (namespace != mesh.root_namespace).then_some(namespace);
            found.extend(check_selector(&name, "spec.selector", scope, &selector, workloads));
            check(&name, &object.spec.jwt_rules, found);
            by_namespace.entry(namespace.to_owned()).or_default().push(Authentication {
                object: name,
                selector,
                ports: BTreeSet::new(),
                rules: object.spec.jwt_rules.clone(),
                required: false,
            });
        }
        let tokens = legacy.iter().filter(|policy| !policy.tokens.is_empty());
        for policy in tokens {
            let namespace = policy.namespace.clone().unwrap_or_else(|| mesh.root_namespace.clone());
            by_namespace.entry(namespace).or_default().push(Authentication {
                object: policy.object.clone(),
                selector: policy.selector.clone(),
                ports: policy.ports.clone(),
                rules: policy.tokens.clone(),
                required: policy.token_required,
            });
        }
        Authentications { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// What holds for a workload: of the mesh, and of its namespace. All of it adds up.
    pub(crate) fn of<'a>(&'a self, namespace: &'a str, labels: &'a Labels) -> impl Iterator<Item = &'a Authentication> {
        let own = Some(namespace).filter(|n| *n != self.root);
        let namespaces = [Some(self.root.as_str()), own].into_iter().flatten();
        let all = namespaces.filter_map(|n| self.by_namespace.get(n)).flatten();
        all.filter(move |object| api::istio::includes(labels, &object.selector))
    }
}

fn check(object: &ObjectRef, rules: &[JwtRule], found: &mut Vec<Diagnostic>) {
    for (i, rule) in rules.iter().enumerate() {
        if rules[..i].iter().any(|other| other.issuer == rule.issuer) {
            let message = format!("{:?} has a rule already; a token that either accepts is valid", rule.issuer);
            found.push(object.info(format!("spec.jwtRules[{i}].issuer"), Code::Conflict, message));
        }
    }
}
