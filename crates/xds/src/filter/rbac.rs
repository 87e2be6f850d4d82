//! AuthorizationPolicies as Envoy's RBAC.
//!
//! Connections have no requests, so what a rule says of HTTP cannot be held against them. Where it would have narrowed
//! who is let in, the rule lets nobody in; where it would have narrowed who is refused, the rest of the rule refuses.
//! The same holds for whatever else in a rule is not usable: a mistake never opens a door.

mod term;

use std::collections::{BTreeMap, BTreeSet};

use api::istio::{Action, AuthorizationPolicy, MeshConfig, Object, Rule, TrustDomain};
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::config::rbac::v3::{self as proto, Permission, Policy, Principal};
use envoy::envoy::extensions::filters::network::rbac::v3::Rbac;

use crate::policy::Authorization;
use crate::{Code, Diagnostic, ObjectRef, wire};
use term::Term;

/// The filters of a chain, in the order in which they decide: marks for the audit log, then refusals, then admissions.
pub(crate) fn filters<'a>(policies: impl Iterator<Item = &'a Authorization>) -> Vec<Filter> {
    let mut by_action = BTreeMap::<Action, BTreeMap<String, Policy>>::new();
    for Authorization { action, policies, .. } in policies {
        by_action.entry(*action).or_default().extend(policies.clone());
    }
    let order = [
        (Action::Audit, proto::rbac::Action::Log),
        (Action::Deny, proto::rbac::Action::Deny),
        (Action::Allow, proto::rbac::Action::Allow),
    ];
    let mut filters = Vec::new();
    for (action, envoy) in order {
        // Without policies, ALLOW lets nobody in, and the others do nothing.
        let Some(policies) = by_action.remove(&action).filter(|p| action == Action::Allow || !p.is_empty()) else {
            continue;
        };
        let rules = proto::Rbac { action: envoy.into(), policies, ..proto::Rbac::default() };
        let config = Rbac { rules: Some(rules), stat_prefix: "tcp.".to_owned(), ..Rbac::default() };
        let config = wire::any("envoy.extensions.filters.network.rbac.v3.RBAC", &config);
        filters.push(super::filter("envoy.filters.network.rbac", config));
    }
    filters
}

/// A policy's action on connections, and its rules by their ids.
pub(crate) fn translate(
    object: &Object<AuthorizationPolicy>,
    mesh: &MeshConfig,
    found: &mut Vec<Diagnostic>,
) -> (Action, BTreeMap<String, Policy>) {
    let (name, spec) = (ObjectRef::of(object), &object.spec);
    let action = match spec.action {
        Action::Custom => {
            let message = "CUSTOM is not supported: what the rules match is refused";
            found.push(name.error("spec.action", Code::NotSupported, message));
            Action::Deny
        }
        action => action,
    };
    let id = |index: usize| format!("ns[{}]-policy[{}]-rule[{index}]", name.namespace, name.name);
    if spec.rules.is_empty() && action == Action::Allow {
        return (action, [(id(0), never())].into());
    }
    if spec.rules.is_empty() {
        found.push(name.warning("spec.rules", Code::InvalidValue, "without rules the policy has no effect"));
    }
    let mut policies = BTreeMap::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let mistaken = object.unknown.iter().find(|path| path.starts_with(&field));
        let mut translation = Translation { object: &name, action, mesh, field, usable: true, found };
        if let Some(path) = mistaken {
            translation.unusable(path, Code::UnknownField, "is unknown");
        }
        let policy = translation.rule(rule);
        if translation.usable || action != Action::Allow {
            policies.insert(id(index), policy);
        }
    }
    (action, policies)
}

/// One rule on its way.
struct Translation<'a> {
    object: &'a ObjectRef,
    action: Action,
    mesh: &'a MeshConfig,
    /// The rule's path.
    field: String,
    /// Whether everything in the rule can be held against connections.
    usable: bool,
    found: &'a mut Vec<Diagnostic>,
}

impl Translation<'_> {
    fn rule(&mut self, rule: &Rule) -> Policy {
        let (mut callers, mut destinations) = (Vec::new(), Vec::new());
        for (i, condition) in rule.when.iter().enumerate() {
            let field = format!("{}.when[{i}]", self.field);
            match Term::of_condition(&field, condition) {
                Ok(terms) => {
                    for term in terms {
                        let of_caller = term.attribute.is_of_caller();
                        if of_caller {
                            callers.extend(self.caller(&term))
                        } else {
                            destinations.extend(self.operation(&term))
                        }
                    }
                }
                Err((code, reason)) => self.unusable(&field, code, &reason),
            }
        }
        let from = rule.from.iter().enumerate().map(|(i, from)| {
            let terms = Term::of_source(&format!("{}.from[{i}].source", self.field), &from.source);
            if terms.is_empty() {
                self.unusable(&format!("{}.from[{i}].source", self.field), Code::InvalidValue, "is empty");
            }
            let own: Vec<Principal> = terms.iter().filter_map(|term| self.caller(term)).collect();
            term::all_principals(own.into_iter().chain(callers.clone()).collect())
        });
        let mut principals: Vec<Principal> = from.collect();
        let to = rule.to.iter().enumerate().map(|(i, to)| {
            let terms = Term::of_operation(&format!("{}.to[{i}].operation", self.field), &to.operation);
            if terms.is_empty() {
                self.unusable(&format!("{}.to[{i}].operation", self.field), Code::InvalidValue, "is empty");
            }
            let own: Vec<Permission> = terms.iter().filter_map(|term| self.operation(term)).collect();
            term::all_permissions(own.into_iter().chain(destinations.clone()).collect())
        });
        let mut permissions: Vec<Permission> = to.collect();
        if principals.is_empty() {
            principals.push(term::all_principals(callers));
        }
        if permissions.is_empty() {
            permissions.push(term::all_permissions(destinations));
        }
        Policy { permissions, principals, ..Policy::default() }
    }

    fn caller(&mut self, term: &Term) -> Option<Principal> {
        let domains = self.trust_domains();
        let principals = term.principal(&self.object.namespace, &domains);
        principals.map_err(|(code, reason)| self.unusable(&term.field, code, &reason)).ok()
    }

    fn operation(&mut self, term: &Term) -> Option<Permission> {
        term.permission().map_err(|(code, reason)| self.unusable(&term.field, code, &reason)).ok()
    }

    /// The trust domains that stand for one another.
    fn trust_domains(&self) -> BTreeSet<&TrustDomain> {
        self.mesh.trust_domain_aliases.iter().chain([&self.mesh.trust_domain]).collect()
    }

    fn unusable(&mut self, field: &str, code: Code, reason: &str) {
        let effect = match self.action {
            Action::Allow => format!("{} lets nobody in on connections", self.field),
            Action::Audit => format!("without it {} marks more connections", self.field),
            Action::Deny | Action::Custom => format!("without it {} refuses more connections", self.field),
        };
        self.usable = false;
        self.found.push(self.object.warning(field, code, format!("{reason}: {effect}")));
    }
}

/// A policy that matches nothing; it shows in the configuration who refuses.
fn never() -> Policy {
    Policy {
        permissions: vec![term::not_permission(term::all_permissions(Vec::new()))],
        principals: vec![term::not_principal(term::all_principals(Vec::new()))],
        ..Policy::default()
    }
}
