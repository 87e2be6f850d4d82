//! Roles of rbac.istio.io/v1alpha1 as Envoy's RBAC.

use std::collections::BTreeMap;

use api::istio::legacy_rbac::{AccessRule, Constraint, Subject};
use api::istio::{Condition, MeshConfig, Operation};
use api::selector::Labels;
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::config::rbac::v3::{self as proto, Permission, Policy, Principal};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use super::term::{self, Term, Unusable};
use super::{Layer, http_filter, network_filter, trust_domains};
use crate::policy::{Granted, Role};
use crate::{Code, Diagnostic, ObjectRef};

/// The prefix of what roles that decide nothing would have done.
const PERMISSIVE: &str = "istio_permissive_";

/// A port of a service of the workload, about which roles decide.
pub(crate) struct Called<'a> {
    pub(crate) host: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
    pub(crate) account: &'a str,
}

/// The roles that are for a port, as Envoy's policies.
pub(crate) struct Roles {
    /// Those that decide; `None` if everybody may do everything.
    rules: Option<proto::Rbac>,
    /// Those that would, if they were enforced.
    shadow: Option<proto::Rbac>,
    pub(crate) found: Vec<Diagnostic>,
}

impl Roles {
    /// As a filter of connections.
    pub(crate) fn filter(self) -> Filter {
        let prefix = prefix(self.shadow.as_ref());
        network_filter(self.rules, self.shadow, prefix)
    }

    /// As a filter of requests.
    pub(crate) fn http_filter(self) -> HttpFilter {
        let prefix = prefix(self.shadow.as_ref());
        http_filter(self.rules, self.shadow, prefix)
    }
}

fn prefix(shadow: Option<&proto::Rbac>) -> String {
    shadow.map(|_| PERMISSIVE.to_owned()).unwrap_or_default()
}

/// What roles say of a port. A role of which something cannot be held against the layer grants nothing.
pub(crate) fn legacy(granted: &Granted<'_>, called: &Called<'_>, mesh: &MeshConfig, layer: Layer) -> Roles {
    let (mut enforced, mut all, mut found) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for role in granted.roles() {
        let mut translation = Translation { called, mesh, layer, found: &mut found };
        let permissions = translation.permissions(role);
        if permissions.is_empty() {
            continue;
        }
        let subjects = |enforced_only: bool| role.subjects(enforced_only);
        for (only, policies) in [(true, &mut enforced), (false, &mut all)] {
            let principals = translation.principals(subjects(only));
            if !principals.is_empty() {
                let policy = Policy { permissions: permissions.clone(), principals, ..Policy::default() };
                policies.insert(role.object.name.clone(), policy);
            }
        }
    }
    let differs = enforced != all;
    let rbac = |policies| proto::Rbac { action: proto::rbac::Action::Allow.into(), policies, ..proto::Rbac::default() };
    match granted.is_enforced() {
        true => Roles { rules: Some(rbac(enforced)), shadow: differs.then(|| rbac(all)), found },
        false => Roles { rules: None, shadow: Some(rbac(all)), found },
    }
}

/// Roles on their way.
struct Translation<'a> {
    called: &'a Called<'a>,
    mesh: &'a MeshConfig,
    layer: Layer,
    found: &'a mut Vec<Diagnostic>,
}

impl Translation<'_> {
    fn permissions(&mut self, role: &Role) -> Vec<Permission> {
        let mut permissions = Vec::new();
        for (i, rule) in role.rules.iter().enumerate() {
            if !rule.services.iter().any(|pattern| matches(pattern, self.called.host)) {
                continue;
            }
            match self.permission(rule) {
                Ok(permission) => permissions.extend(permission),
                Err((code, reason)) => self.skip(&role.object, format!("spec.rules[{i}]"), code, &reason),
            }
        }
        permissions
    }

    /// A rule as a condition on the operation; `None` if the workload is not one that it is for.
    fn permission(&self, rule: &AccessRule) -> Result<Option<Permission>, Unusable> {
        let text = |ports: &[u16]| ports.iter().map(u16::to_string).collect();
        let operation = Operation {
            hosts: rule.hosts.clone(),
            not_hosts: rule.not_hosts.clone(),
            ports: text(&rule.ports),
            not_ports: text(&rule.not_ports),
            methods: rule.methods.clone(),
            not_methods: rule.not_methods.clone(),
            paths: rule.paths.clone(),
            not_paths: rule.not_paths.clone(),
        };
        let mut terms = Term::of_operation("", &operation);
        for constraint in &rule.constraints {
            match self.holds(constraint) {
                Some(true) => {}
                Some(false) => return Ok(None),
                None => terms.extend(Term::of_condition("", &condition(&constraint.key, &constraint.values))?),
            }
        }
        let all: Result<Vec<Permission>, Unusable> = terms.iter().map(|term| term.permission(self.layer)).collect();
        Ok(Some(term::all_permissions(all?)))
    }

    /// Whether a constraint on the workload itself holds; `None` if it is on the call.
    fn holds(&self, constraint: &Constraint) -> Option<bool> {
        let Called { name, namespace, labels, account, .. } = self.called;
        let own = match constraint.key.as_str() {
            "destination.name" => Some(*name),
            "destination.namespace" => Some(*namespace),
            "destination.user" => Some(*account),
            key => {
                let label = key.strip_prefix("destination.labels[")?.strip_suffix(']')?;
                labels.get(label).map(String::as_str)
            }
        };
        Some(own.is_some_and(|own| constraint.values.iter().any(|pattern| matches(pattern, own))))
    }

    fn principals<'r>(
        &mut self,
        subjects: impl Iterator<Item = (&'r ObjectRef, usize, &'r Subject)>,
    ) -> Vec<Principal> {
        let mut principals = Vec::new();
        for (binding, index, subject) in subjects {
            match self.principal(binding, subject) {
                Ok(principal) => principals.push(principal),
                Err((code, reason)) => self.skip(binding, format!("spec.subjects[{index}]"), code, &reason),
            }
        }
        principals
    }

    fn principal(&self, binding: &ObjectRef, subject: &Subject) -> Result<Principal, Unusable> {
        let domains = trust_domains(self.mesh);
        let mut terms = Vec::new();
        for condition in conditions(subject) {
            terms.extend(Term::of_condition("", &condition)?);
        }
        let all: Result<Vec<Principal>, Unusable> =
            terms.iter().map(|term| term.principal(self.layer, &binding.namespace, &domains)).collect();
        Ok(term::all_principals(all?))
    }

    fn skip(&mut self, object: &ObjectRef, field: String, code: Code, reason: &str) {
        let what = if self.layer == Layer::Connections { "connections" } else { "requests" };
        let found = object.warning(field, code, format!("{reason}: it grants nothing on {what}"));
        if !self.found.contains(&found) {
            self.found.push(found);
        }
    }
}

fn condition(key: &str, values: &[String]) -> Condition {
    Condition { key: key.to_owned(), values: values.to_vec(), not_values: Vec::new() }
}

/// What a subject asks of a caller. One that asks for nothing is anybody.
fn conditions(subject: &Subject) -> Vec<Condition> {
    let Subject { user, group, properties, names, not_names, groups, not_groups, .. } = subject;
    let Subject { namespaces, not_namespaces, ips, not_ips, .. } = subject;
    const GROUPS: &str = "request.auth.claims[groups]";
    const PRINCIPAL: &str = "source.principal";
    let anybody = |name: &&String| !matches!(name.as_str(), "" | "*" | "allUsers");
    let users: Vec<String> = Some(user).filter(anybody).into_iter().cloned().collect();
    let own_group: Vec<String> = Some(group).filter(|g| !g.is_empty()).into_iter().cloned().collect();
    let names = if names.iter().all(|name| anybody(&name)) { names.as_slice() } else { &[] };
    let lists = [
        (PRINCIPAL, users.as_slice(), &[][..]),
        (GROUPS, own_group.as_slice(), &[][..]),
        (PRINCIPAL, names, not_names.as_slice()),
        (GROUPS, groups.as_slice(), not_groups.as_slice()),
        ("source.namespace", namespaces.as_slice(), not_namespaces.as_slice()),
        ("source.ip", ips.as_slice(), not_ips.as_slice()),
    ];
    let given = lists.into_iter().filter(|(_, values, not)| !values.is_empty() || !not.is_empty());
    let given = given.map(|(key, values, not)| Condition { not_values: not.to_vec(), ..condition(key, values) });
    given.chain(properties.iter().map(|(key, value)| condition(key, std::slice::from_ref(value)))).collect()
}

/// Whether a text is as a pattern says, in which a `*` may stand at either end.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => pattern == text,
    }
}
