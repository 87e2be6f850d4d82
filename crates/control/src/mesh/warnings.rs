//! What is found about an object while it is applied: the answer says it as warnings.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::istio::{Hostname, WorkloadSelector};
use api::selector::Labels;
use api::{GroupResource, NamespacedName};
use apiserver::{Admission, Operation, Phase, Review};
use xds::{Diagnostic, Mesh, Node, Objects, Role, Severity};

use super::ControlPlane;
use super::declared::KINDS;

/// The domain of Kubernetes' services.
const DOMAIN: &str = "cluster.local";

/// Warns of what objects of Istio's kinds say without effect. It refuses nothing.
pub(super) fn admission(plane: &ControlPlane) -> Admission {
    let plane = plane.clone();
    Admission {
        resources: KINDS.iter().map(|kind| GroupResource::new(kind.group, kind.plural)).collect(),
        phase: Phase::Validating,
        review: Arc::new(move |review| {
            if review.operation != Operation::Delete && review.subresource.is_empty() {
                let found = found(&plane, review);
                review.warnings.extend(found);
            }
            Ok(())
        }),
    }
}

fn found(plane: &ControlPlane, review: &Review<'_>) -> Vec<String> {
    let Some(kind) = KINDS.iter().find(|k| GroupResource::new(k.group, k.plural) == *review.resource) else {
        return Vec::new();
    };
    if !*plane.0.built.borrow() || review.old.is_some_and(|old| old["spec"] == review.object["spec"]) {
        return Vec::new();
    }
    let name = NamespacedName::new(review.namespace, review.name);
    let world = plane.world();
    let mut objects = plane.declared().objects_but(*kind, &name);
    let known = world.mesh.objects();
    objects.nodes.clone_from(&known.nodes);
    objects.pods.clone_from(&known.pods);
    objects.services.clone_from(&known.services);
    objects.endpoint_slices.clone_from(&known.endpoint_slices);
    let mut own = Objects::default();
    own.insert(review.object.clone());
    objects.extend(&own);
    let mesh = world.mesh.after(&objects);
    let caller = Node { namespace: name.namespace.clone(), ..Node::default() };
    let called = xds::outbound_of(&mesh, &mesh.outbound_class(&caller), &hosts(&mesh, &own));
    let about = |d: &&Diagnostic| {
        let object = (d.object.kind.as_str(), d.object.namespace.as_str(), d.object.name.as_str());
        object == (kind.name, review.namespace, review.name) && d.severity != Severity::Info
    };
    let workloads = mesh.sample(&selections(&mesh, &own));
    let calling = workloads.iter().flat_map(|node| match node.role {
        Role::Sidecar => xds::inbound(&mesh, node).diagnostics,
        Role::Router => xds::outbound(&mesh, &mesh.outbound_class(node)).diagnostics,
    });
    let calling: BTreeSet<Diagnostic> = calling.collect();
    let declared = mesh.diagnostics().union(&called.diagnostics);
    let all: BTreeSet<&Diagnostic> = declared.chain(&calling).filter(about).collect();
    all.into_iter().map(|d| format!("{}: {}", d.field, d.message)).collect()
}

/// The workloads that an object selects, by namespace and labels; no namespace is any.
fn selections(mesh: &Mesh, own: &Objects) -> Vec<(Option<String>, Labels)> {
    let labels = |selector: &Option<WorkloadSelector>| selector.clone().unwrap_or_default().match_labels;
    let policies = own.authorization_policies.iter().map(|o| (&o.metadata, labels(&o.spec.selector)));
    let tokens = own.request_authentications.iter().map(|o| (&o.metadata, labels(&o.spec.selector)));
    let filters = own.envoy_filters.iter().map(|o| (&o.metadata, o.spec.labels().clone()));
    let telemetries = own.telemetries.iter().map(|o| (&o.metadata, labels(&o.spec.selector)));
    let all = policies.chain(tokens).chain(filters).chain(telemetries);
    let scope = |namespace: &String| (*namespace != mesh.config().root_namespace).then(|| namespace.clone());
    // Gateways select pods wherever these are.
    let gateways = own.gateways.iter().map(|o| o.spec.selector.clone());
    let routes = own.virtual_services.iter().flat_map(|o| mesh.selected_by(&o.spec, &o.metadata.namespace));
    let anywhere = gateways.chain(routes).map(|labels| (None, labels));
    all.map(|(metadata, labels)| (scope(&metadata.namespace), labels)).chain(anywhere).collect()
}

/// The hosts that an object says something about.
fn hosts(mesh: &Mesh, own: &Objects) -> BTreeSet<Hostname> {
    let resolve = |host: &String, namespace: &str| Hostname::resolve(host, namespace, DOMAIN);
    let routes = own.virtual_services.iter();
    let routes = routes.flat_map(|o| o.spec.hosts.iter().map(|host| resolve(host, &o.metadata.namespace)));
    let rules = own.destination_rules.iter().map(|o| resolve(&o.spec.host, &o.metadata.namespace));
    let entries = own.service_entries.iter();
    let entries = entries.flat_map(|o| o.spec.hosts.iter().map(|host| resolve(host, &o.metadata.namespace)));
    let named: BTreeSet<Hostname> = routes.chain(rules).chain(entries).collect();
    let (wide, mut exact): (BTreeSet<_>, BTreeSet<_>) = named.into_iter().partition(Hostname::is_wildcard);
    // Of what a wildcard covers, some show what there is to see of all.
    exact.extend(wide.iter().flat_map(|wide| mesh.hosts().filter(|host| wide.covers(host)).take(10).cloned()));
    exact
}
