//! What is wrong with a set of objects, as `istioctl analyze` tells it: with Istio's codes and words where Istio has them.
//!
//! Everything here reads objects in their JSON form, of any of a kind's versions, and nothing else: they may come from a
//! cluster, from files, or from both. An analyzer is a function from [`World`] to findings; [`ANALYZERS`] lists them.

mod annotation;
mod conflict;
mod deployment;
mod envoy_filter;
mod gateway;
mod ingress;
mod injection;
mod reference;
mod route;
mod suppression;
mod tls;
mod world;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Code, Diagnostic, Mesh, ObjectRef, Objects, Severity};
pub use suppression::Suppression;
use world::{Item, World};

/// Something that an object says, and that is probably not what was meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is: `IST0101` and its like are Istio's, those that begin with `ISTHMUS` are ours.
    pub code: &'static str,
    /// The code's name, such as `ReferencedResourceNotFound`.
    pub name: &'static str,
    /// The object.
    pub object: ObjectRef,
    /// The field, for example `spec.http[0].route[0].destination.host`; empty if it is about the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, if that is known.
    pub fix: Option<String>,
}

impl Finding {
    /// Where the code is explained, if it is Istio's.
    pub fn documentation_url(&self) -> Option<String> {
        documentation_url(self.code)
    }
}

impl From<&Diagnostic> for Finding {
    fn from(found: &Diagnostic) -> Finding {
        let Diagnostic { object, field, severity, code, message } = found;
        Finding {
            severity: *severity,
            code: code.number(),
            name: code.name(),
            object: object.clone(),
            field: field.clone(),
            message: if field.is_empty() { message.clone() } else { format!("{field}: {message}") },
            fix: None,
        }
    }
}

/// Where a code is explained, if it is Istio's.
pub fn documentation_url(code: &str) -> Option<String> {
    let istio = code.starts_with("IST0");
    istio.then(|| format!("https://istio.io/latest/docs/reference/config/analysis/{}/", code.to_lowercase()))
}

/// A code of Istio's: its number, its name, and how bad that is.
#[derive(Clone, Copy)]
struct Rule(&'static str, &'static str, Severity);

impl Rule {
    fn at(self, item: &Item<'_>, field: impl Into<String>, message: impl Into<String>) -> Finding {
        let Rule(code, name, severity) = self;
        let (field, message) = (field.into(), message.into());
        Finding { severity, code, name, object: item.reference(), field, message, fix: None }
    }
}

impl Finding {
    fn with_fix(self, fix: impl Into<String>) -> Finding {
        Finding { fix: Some(fix.into()), ..self }
    }
}

/// Every analyzer.
const ANALYZERS: &[fn(&World<'_>, &mut Vec<Finding>)] = &[
    annotation::annotations,
    conflict::gateways,
    conflict::service_entries,
    conflict::sidecars,
    conflict::virtual_services,
    deployment::services,
    deployment::users,
    envoy_filter::operations,
    gateway::credentials,
    gateway::hosts,
    gateway::ports,
    gateway::selectors,
    ingress::certificates,
    ingress::claims,
    ingress::subsets,
    injection::labels_of_namespaces,
    injection::namespaces,
    injection::pods,
    injection::policies,
    injection::port_names,
    reference::destination_rules,
    reference::destinations,
    reference::gateways,
    reference::selectors,
    route::ports,
    route::unreachable,
    tls::service_entries,
    tls::verification,
];

/// What is wrong with these objects, the worst first.
pub fn analyze(objects: &[Value]) -> Vec<Finding> {
    let world = World::new(objects);
    let mut found = Vec::new();
    for analyzer in ANALYZERS {
        analyzer(&world, &mut found);
    }
    let more = diagnostics(&world).iter().map(Finding::from).collect();
    merge(&mut found, more);
    found
}

/// Adds what says something new, and puts the worst first.
pub fn merge(found: &mut Vec<Finding>, more: Vec<Finding>) {
    let new: Vec<Finding> =
        more.into_iter().filter(|finding| !found.iter().any(|known| says_the_same(known, finding))).collect();
    found.extend(new);
    found.sort_by(|a, b| (Reverse(a.severity), a).cmp(&(Reverse(b.severity), b)));
    found.dedup();
}

/// What the control plane itself finds when it makes the configuration of every workload.
fn diagnostics(world: &World<'_>) -> BTreeSet<Diagnostic> {
    let mut objects = Objects::default();
    world.objects().cloned().for_each(|object| objects.insert(object));
    world.planned_pods().for_each(|pod| objects.insert(pod));
    let mesh = Mesh::new(&objects);
    let mut found = mesh.diagnostics().clone();
    let (mut callers, mut called) = (BTreeSet::new(), BTreeSet::new());
    for node in objects.pods.iter().filter_map(|pod| mesh.node(&pod_name(pod))) {
        if callers.insert(mesh.outbound_class(&node)) {
            found.extend(crate::outbound(&mesh, &mesh.outbound_class(&node)).diagnostics);
        }
        if called.insert(mesh.inbound_class(&node)) {
            found.extend(crate::inbound(&mesh, &node).diagnostics);
        }
    }
    found
}

pub(crate) fn pod_name(pod: &k8s_openapi::api::core::v1::Pod) -> api::NamespacedName {
    let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
    api::NamespacedName::new(namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// Whether something known is about the same. The conflicts for which Istio has a code of their own are found a second time
/// as [`Code::Conflict`], and what a field's value is wrong with is found by whoever reads it.
fn says_the_same(known: &Finding, found: &Finding) -> bool {
    let (a, b) = (known.field.as_str(), found.field.as_str());
    let related = a.starts_with(b) || b.starts_with(a);
    let code = known.code == found.code || (found.code == Code::Conflict.number() && CONFLICTS.contains(&known.code));
    let exactly = a == b && !["", "spec"].contains(&a) && found.severity <= known.severity;
    known.object == found.object && (code && related || exactly)
}

/// Istio's codes for conflicts.
const CONFLICTS: [&str; 4] = ["IST0109", "IST0110", "IST0111", "IST0145"];

impl Code {
    /// The code by which the status of an object and analysis tell it: Istio's, if Istio has one.
    pub fn number(self) -> &'static str {
        self.rule().0
    }

    /// The code's name.
    pub fn name(self) -> &'static str {
        self.rule().1
    }

    fn rule(self) -> (&'static str, &'static str) {
        match self {
            Code::Conflict => ("IST0163", "ConflictingObjects"),
            Code::InvalidValue | Code::Malformed => ("IST0106", "SchemaValidationError"),
            Code::NotSupported => ("ISTHMUS0001", "NotSupported"),
            Code::NothingSelected => ("IST0127", "NoMatchingWorkloadsFound"),
            Code::OnlyHttp => ("ISTHMUS0002", "OnlyHttp"),
            Code::ReferenceNotFound => ("IST0101", "ReferencedResourceNotFound"),
            Code::UnknownField => ("ISTHMUS0003", "UnknownField"),
            Code::Unreachable => ("IST0130", "VirtualServiceUnreachableRule"),
            Code::Unsafe => ("ISTHMUS0004", "Unsafe"),
        }
    }
}

#[cfg(test)]
mod tests;
