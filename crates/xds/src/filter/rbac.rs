//! AuthorizationPolicies as Envoy's RBAC.
//!
//! A policy is held against connections, where a workload speaks bytes, and against requests, where it speaks HTTP.
//! Connections have no requests, so what a rule says of HTTP cannot be held against them. Where it would have narrowed
//! who is let in, the rule lets nobody in; where it would have narrowed who is refused, the rest of the rule refuses.
//! The same holds for whatever else in a rule is not usable: a mistake never opens a door.

mod claim;
mod http;
mod legacy;
pub(super) mod metadata;
mod term;
pub(super) mod value;

use std::collections::{BTreeMap, BTreeSet};

use api::istio::{Action, AuthorizationPolicy, MeshConfig, Object, Rule, TrustDomain};
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::config::rbac::v3::{self as proto, Permission, Policy, Principal};
use envoy::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy::envoy::extensions::filters::network::rbac::v3::Rbac;

use crate::policy::Authorization;
use crate::{Code, Diagnostic, ObjectRef, wire};
pub(crate) use legacy::{Called, Roles, legacy};
use term::Term;

/// The name of the filter of requests.
pub(crate) const HTTP_FILTER: &str = "envoy.filters.http.rbac";
/// Where the filter of requests says which policy would have refused, after a prefix.
pub(crate) const SHADOW_POLICY: &str = "shadow_effective_policy_id";
/// The prefix of what policies that decide nothing yet would have done.
const DRY_RUN: &str = "istio_dry_run_";

/// What policies are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Connections,
    Requests,
}

/// A policy's rules for one layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Translated {
    /// Envoy's policies by their ids, each for a rule that can be held against what the layer carries.
    pub(crate) policies: BTreeMap<String, Policy>,
    /// What was found to be wrong, with the ports that the rule is for, if it names some.
    pub(crate) found: Vec<(Option<BTreeSet<u16>>, Diagnostic)>,
}

/// The filters of a chain of bytes, in the order in which they decide: marks for the audit log, then refusals, then
/// admissions.
pub(crate) fn filters<'a>(policies: impl Iterator<Item = &'a Authorization>) -> Vec<Filter> {
    let rules = stages(policies, Layer::Connections).into_iter();
    rules.map(|stage| network_filter(stage.rules, stage.shadow, stage.prefix)).collect()
}

/// The same for requests. Those that another service decides about are not among them.
pub(crate) fn http_filters<'a>(policies: impl Iterator<Item = &'a Authorization>) -> Vec<HttpFilter> {
    let rules = stages(policies, Layer::Requests).into_iter();
    rules.map(|stage| http_filter(stage.rules, stage.shadow, stage.prefix)).collect()
}

/// A filter of connections.
fn network_filter(rules: Option<proto::Rbac>, shadow: Option<proto::Rbac>, prefix: String) -> Filter {
    let config = Rbac {
        rules,
        shadow_rules: shadow,
        shadow_rules_stat_prefix: prefix,
        stat_prefix: "tcp.".to_owned(),
        ..Rbac::default()
    };
    let config = wire::any("envoy.extensions.filters.network.rbac.v3.RBAC", &config);
    super::filter("envoy.filters.network.rbac", config)
}

/// A filter of requests.
pub(crate) fn http_filter(rules: Option<proto::Rbac>, shadow: Option<proto::Rbac>, prefix: String) -> HttpFilter {
    let config = HttpRbac { rules, shadow_rules: shadow, shadow_rules_stat_prefix: prefix, ..HttpRbac::default() };
    super::http_filter(HTTP_FILTER, wire::any("envoy.extensions.filters.http.rbac.v3.RBAC", &config))
}

/// One filter.
#[derive(Default)]
struct Stage {
    rules: Option<proto::Rbac>,
    shadow: Option<proto::Rbac>,
    prefix: String,
}

fn stages<'a>(policies: impl Iterator<Item = &'a Authorization>, layer: Layer) -> Vec<Stage> {
    let mut by_action = BTreeMap::<(Action, bool), BTreeMap<String, Policy>>::new();
    for policy in policies.filter(|policy| layer == Layer::Connections || policy.action != Action::Custom) {
        // Nobody can be asked about a connection.
        let action = if policy.action == Action::Custom { Action::Deny } else { policy.action };
        by_action.entry((action, policy.dry_run)).or_default().extend(policy.of(layer).policies.clone());
    }
    let order = [
        (Action::Audit, proto::rbac::Action::Log),
        (Action::Deny, proto::rbac::Action::Deny),
        (Action::Allow, proto::rbac::Action::Allow),
    ];
    let mut stages = Vec::new();
    for (action, envoy) in order {
        // Without policies, ALLOW lets nobody in, and the others do nothing.
        let mut rules = |dry_run| {
            let policies = by_action.remove(&(action, dry_run));
            let policies = policies.filter(|p| action == Action::Allow || !p.is_empty())?;
            Some(proto::Rbac { action: envoy.into(), policies, ..proto::Rbac::default() })
        };
        let (rules, shadow) = (rules(false), rules(true));
        if rules.is_none() && shadow.is_none() {
            continue;
        }
        let prefix = match (&shadow, action) {
            (None, _) => String::new(),
            (_, Action::Allow) => format!("{DRY_RUN}allow_"),
            _ => format!("{DRY_RUN}deny_"),
        };
        stages.push(Stage { rules, shadow, prefix });
    }
    stages
}

/// The id of a policy's rule.
fn id(policy: &ObjectRef, index: usize) -> String {
    format!("ns[{}]-policy[{}]-rule[{index}]", policy.namespace, policy.name)
}

/// A policy's rules for a layer.
pub(crate) fn translate(object: &Object<AuthorizationPolicy>, mesh: &MeshConfig, layer: Layer) -> Translated {
    let (name, spec) = (ObjectRef::of(object), &object.spec);
    let mut translated = Translated::default();
    if spec.rules.is_empty() && spec.action == Action::Allow {
        translated.policies.insert(id(&name, 0), never());
        return translated;
    }
    if spec.rules.is_empty() {
        let message = "without rules the policy has no effect";
        translated.found.push((None, name.warning("spec.rules", Code::InvalidValue, message)));
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let mistaken = object.unknown.iter().find(|path| path.starts_with(&field));
        let mut translation = Translation::new(&name, spec.action, layer, mesh, field);
        if let Some(path) = mistaken {
            translation.unusable(path, Code::UnknownField, "is unknown");
        }
        let policy = translation.rule(rule);
        let Translation { usable, found, ports, .. } = translation;
        translated.found.extend(found.into_iter().map(|found| (ports.clone(), found)));
        if usable || spec.action != Action::Allow {
            translated.policies.insert(id(&name, index), policy);
        }
    }
    translated
}

/// One rule on its way.
struct Translation<'a> {
    object: &'a ObjectRef,
    action: Action,
    layer: Layer,
    mesh: &'a MeshConfig,
    /// The rule's path.
    field: String,
    /// Whether everything in the rule can be held against what the layer carries.
    usable: bool,
    /// The ports that the rule is for, if it names some.
    ports: Option<BTreeSet<u16>>,
    found: Vec<Diagnostic>,
}

impl<'a> Translation<'a> {
    fn new(
        object: &'a ObjectRef,
        action: Action,
        layer: Layer,
        mesh: &'a MeshConfig,
        field: String,
    ) -> Translation<'a> {
        Translation { object, action, layer, mesh, field, usable: true, ports: None, found: Vec::new() }
    }

    fn rule(&mut self, rule: &Rule) -> Policy {
        let (mut callers, mut destinations) = (Vec::new(), Vec::new());
        for (i, condition) in rule.when.iter().enumerate() {
            let field = format!("{}.when[{i}]", self.field);
            match Term::of_condition(&field, condition) {
                Ok(terms) => {
                    for term in terms {
                        if term.attribute.is_of_caller() {
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
        self.ports = ports(rule);
        if principals.is_empty() {
            principals.push(term::all_principals(callers));
        }
        if permissions.is_empty() {
            permissions.push(term::all_permissions(destinations));
        }
        Policy { permissions, principals, ..Policy::default() }
    }

    fn caller(&mut self, term: &Term) -> Option<Principal> {
        let domains = trust_domains(self.mesh);
        let principals = term.principal(self.layer, &self.object.namespace, &domains);
        principals.map_err(|(code, reason)| self.unusable(&term.field, code, &reason)).ok()
    }

    fn operation(&mut self, term: &Term) -> Option<Permission> {
        term.permission(self.layer).map_err(|(code, reason)| self.unusable(&term.field, code, &reason)).ok()
    }

    fn unusable(&mut self, field: &str, code: Code, reason: &str) {
        let (rule, what) = match self.layer {
            Layer::Connections => (&self.field, "connections"),
            Layer::Requests => (&self.field, "requests"),
        };
        let effect = match self.action {
            Action::Allow => format!("{rule} lets nobody in on {what}"),
            Action::Audit => format!("without it {rule} marks more {what}"),
            Action::Deny | Action::Custom => format!("without it {rule} refuses more {what}"),
        };
        self.usable = false;
        self.found.push(self.object.warning(field, code, format!("{reason}: {effect}")));
    }
}

/// The trust domains that stand for one another.
fn trust_domains(mesh: &MeshConfig) -> BTreeSet<&TrustDomain> {
    mesh.trust_domain_aliases.iter().chain([&mesh.trust_domain]).collect()
}

/// The ports that a rule is for, if every of its operations names some.
fn ports(rule: &Rule) -> Option<BTreeSet<u16>> {
    let of = |to: &api::istio::To| Term::of_operation("", &to.operation).iter().find_map(Term::ports);
    let each: Option<Vec<BTreeSet<u16>>> = rule.to.iter().map(of).collect();
    each.filter(|each| !each.is_empty()).map(|each| each.into_iter().flatten().collect())
}

/// A policy that matches nothing; it shows in the configuration who refuses.
fn never() -> Policy {
    Policy {
        permissions: vec![term::not_permission(term::all_permissions(Vec::new()))],
        principals: vec![term::not_principal(term::all_principals(Vec::new()))],
        ..Policy::default()
    }
}
