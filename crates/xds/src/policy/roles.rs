//! Roles of rbac.istio.io/v1alpha1, with who has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::istio::legacy_rbac::{AccessRule, EnforcementMode, RbacConfig, RbacMode, RbacTarget, Subject};
use api::istio::{ClusterRbacConfig, Object, ServiceRole, ServiceRoleBinding, Spec};

use super::by_age;
use crate::{Code, Diagnostic, ObjectRef};

/// The only name that a configuration may have.
const DEFAULT: &str = "default";

/// The roles of every namespace, and where they decide.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServiceRoles {
    config: Option<(ObjectRef, RbacConfig)>,
    by_namespace: BTreeMap<String, Vec<Role>>,
}

/// A role, with who has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Role {
    pub(crate) object: ObjectRef,
    pub(crate) rules: Vec<AccessRule>,
    bindings: Vec<(ObjectRef, EnforcementMode, Vec<Subject>)>,
}

impl Role {
    /// Those who have the role, by a binding that decides, or by any; each with its binding and its place there.
    pub(crate) fn subjects(&self, enforced_only: bool) -> impl Iterator<Item = (&ObjectRef, usize, &Subject)> {
        let wanted = move |mode: &EnforcementMode| !enforced_only || *mode == EnforcementMode::Enforced;
        let bindings = self.bindings.iter().filter(move |(_, mode, _)| wanted(mode));
        bindings.flat_map(|(object, _, all)| all.iter().enumerate().map(move |(i, subject)| (object, i, subject)))
    }
}

/// What a service's namespace grants.
pub(crate) struct Granted<'a> {
    pub(crate) config: &'a ObjectRef,
    enforcement: EnforcementMode,
    roles: &'a [Role],
}

impl<'a> Granted<'a> {
    pub(crate) fn roles(&self) -> impl Iterator<Item = &'a Role> + use<'a> {
        self.roles.iter()
    }

    /// Whether roles decide, or are only counted.
    pub(crate) fn is_enforced(&self) -> bool {
        self.enforcement == EnforcementMode::Enforced
    }
}

impl ServiceRoles {
    pub(crate) fn new(
        cluster: &[Arc<Object<ClusterRbacConfig>>],
        configs: &[Arc<Object<RbacConfig>>],
        roles: &[Arc<Object<ServiceRole>>],
        bindings: &[Arc<Object<ServiceRoleBinding>>],
        found: &mut Vec<Diagnostic>,
    ) -> ServiceRoles {
        let named = by_age(cluster).into_iter().map(|o| (ObjectRef::of(o), o.spec.0.clone()));
        let older = by_age(configs).into_iter().map(|o| (ObjectRef::of(o), o.spec.clone()));
        let config = choose(named.chain(older), found);
        let mut by_namespace = BTreeMap::<String, Vec<Role>>::new();
        for object in by_age(roles) {
            let name = ObjectRef::of(object);
            if !is_known(object, "grants nothing until it is known", found) {
                continue;
            }
            let role = Role { object: name, rules: object.spec.rules.clone(), bindings: Vec::new() };
            by_namespace.entry(object.metadata.namespace.clone()).or_default().push(role);
        }
        for object in by_age(bindings) {
            bind(object, &mut by_namespace, found);
        }
        for role in by_namespace.values().flatten().filter(|role| role.bindings.is_empty()) {
            let message = "nobody is bound to the role, so it grants nothing";
            found.push(role.object.info("spec", Code::NothingSelected, message));
        }
        ServiceRoles { config, by_namespace }
    }

    /// What is granted at a service; `None` where roles decide nothing.
    pub(crate) fn of(&self, host: &str, namespace: &str) -> Option<Granted<'_>> {
        let (object, config) = self.config.as_ref()?;
        let named = |target: &Option<RbacTarget>| {
            let target = target.as_ref();
            target.is_some_and(|t| t.namespaces.iter().any(|n| n == namespace) || t.services.iter().any(|s| s == host))
        };
        let applies = match config.mode {
            RbacMode::Off => false,
            RbacMode::On => true,
            RbacMode::OnWithInclusion => named(&config.inclusion),
            RbacMode::OnWithExclusion => !named(&config.exclusion),
        };
        let roles = self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        applies.then_some(Granted { config: object, enforcement: config.enforcement_mode, roles })
    }
}

/// The cluster's configuration goes before one of a namespace, whatever their ages.
fn choose(
    configs: impl Iterator<Item = (ObjectRef, RbacConfig)>,
    found: &mut Vec<Diagnostic>,
) -> Option<(ObjectRef, RbacConfig)> {
    let mut chosen = None::<(ObjectRef, RbacConfig)>;
    for (object, config) in configs {
        if object.name != DEFAULT {
            let message = "has no effect: the configuration of roles is named default";
            found.push(object.error("metadata.name", Code::InvalidValue, message));
        } else if let Some((first, _)) = &chosen {
            let message = format!("has no effect: {first} holds for the whole mesh");
            found.push(object.warning("spec", Code::Conflict, message));
        } else {
            chosen = Some((object, config));
        }
    }
    chosen
}

/// Whether everything in an object is understood. What is not might have narrowed it.
fn is_known<S: Spec>(object: &Object<S>, effect: &str, found: &mut Vec<Diagnostic>) -> bool {
    let message = |path: &String| ObjectRef::of(object).error(path, Code::UnknownField, format!("the object {effect}"));
    found.extend(object.unknown.iter().map(message));
    object.unknown.is_empty()
}

fn bind(object: &Object<ServiceRoleBinding>, roles: &mut BTreeMap<String, Vec<Role>>, found: &mut Vec<Diagnostic>) {
    let (name, spec) = (ObjectRef::of(object), &object.spec);
    if !is_known(object, "binds nobody until it is known", found) {
        return;
    }
    let wanted = if spec.role.is_empty() { &spec.role_ref.name } else { &spec.role };
    let own = roles.get_mut(&object.metadata.namespace);
    match own.and_then(|own| own.iter_mut().find(|role| role.object.name == *wanted)) {
        Some(role) => role.bindings.push((name, spec.mode, spec.subjects.clone())),
        None => {
            let message = format!("there is no ServiceRole {wanted:?} in the namespace, so nobody is let in");
            found.push(name.error("spec.roleRef.name", Code::ReferenceNotFound, message));
        }
    }
}
