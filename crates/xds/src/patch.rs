//! EnvoyFilters: patches to what a proxy is told, the last step of a build.
//!
//! A patch whose place is not there does nothing in Istio, and says nothing. One that authorizes would leave a door open
//! that its author believes closed, so here it never does nothing: a filter of RBAC whose neighbour is missing is put
//! first; one for a port that a gateway does not know is put at every port that its object does not guard otherwise; one for
//! a workload's port that no Service declares gets chains of that port; one of requests where only bytes are spoken, and
//! one that cannot be read, refuses everything.

mod cluster;
mod listener;
mod message;
mod name;
mod prepare;
mod route;
mod sequence;
mod stray;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::NamespacedName;
use api::istio::envoy_filter::{ApplyTo, Operation, PatchContext, PatchMatch};
use api::istio::{EnvoyFilter, MeshConfig, Object};
use api::selector::Labels;
use prost_reflect::DynamicMessage;

pub(crate) use listener::{HCM, with_manager};
#[cfg(test)]
pub(crate) use message::as_json;

use crate::mesh::Workloads;
use crate::policy::check_selector;
use crate::{Code, Diagnostic, ObjectRef, Resources, Severity};

/// Every EnvoyFilter, by namespace, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EnvoyFilters {
    root: String,
    by_namespace: BTreeMap<String, Vec<Arc<Prepared>>>,
}

/// One object, read.
#[derive(Debug, PartialEq)]
pub(crate) struct Prepared {
    object: ObjectRef,
    selector: Labels,
    patches: Vec<Patch>,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
struct Patch {
    /// Where it stands in the object.
    field: String,
    what: ApplyTo,
    place: PatchMatch,
    /// What the old form says of the place besides.
    speaks: Speaks,
    addresses: Vec<String>,
    operation: Operation,
    value: Option<DynamicMessage>,
    /// Whether it authorizes, so that it must not do nothing.
    guards: bool,
}

/// What is spoken on the chains that a patch is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Speaks {
    #[default]
    Anything,
    Http,
    Bytes,
}

/// Which calls are patched: those to a workload, those from it, or those through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
    Gateway,
}

/// The servers of a gateway that are behind a listener, or a table of routes.
#[derive(Debug, Default)]
pub(crate) struct Served {
    ports: BTreeSet<u16>,
    names: BTreeSet<String>,
    gateways: BTreeSet<NamespacedName>,
}

impl Served {
    /// Adds a server with the number and the name of its port.
    pub(crate) fn add(&mut self, port: u16, name: &str, gateway: &NamespacedName) {
        self.ports.insert(port);
        self.names.insert(name.to_owned());
        self.gateways.insert(gateway.clone());
    }
}

/// The doors of a gateway, by which patches choose what they change. A sidecar has none.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// The servers behind each listener and each table of routes, by its name.
    pub(crate) served: BTreeMap<String, Served>,
    /// The ports of the services that the gateway belongs to.
    pub(crate) known: BTreeSet<u16>,
}

impl Doors {
    /// Whether a server has a port.
    fn has_server(&self, port: u16) -> bool {
        self.served.values().any(|served| served.ports.contains(&port))
    }
}

/// What is patched.
struct Target<'a> {
    direction: Direction,
    doors: &'a Doors,
    resources: &'a mut Resources,
}

impl Patch {
    fn is_for(&self, direction: Direction) -> bool {
        matches!(
            (self.place.context, direction),
            (PatchContext::Any, _)
                | (PatchContext::SidecarInbound, Direction::Inbound)
                | (PatchContext::SidecarOutbound, Direction::Outbound)
                | (PatchContext::Gateway, Direction::Gateway)
        )
    }

    /// Whether it adds something of its own, which must be done once though it be for both directions.
    fn adds(&self, direction: Direction) -> bool {
        let once = self.place.context != PatchContext::Any || direction != Direction::Inbound;
        self.operation == Operation::Add && once
    }
}

impl EnvoyFilters {
    pub(crate) fn new(
        objects: &[Arc<Object<EnvoyFilter>>],
        mesh: &MeshConfig,
        workloads: &Workloads,
        found: &mut Vec<Diagnostic>,
    ) -> EnvoyFilters {
        let mut sorted: Vec<_> = objects.iter().collect();
        sorted.sort_by_key(|o| (o.spec.priority, &o.metadata.creation_timestamp, &o.metadata.name));
        let mut by_namespace = BTreeMap::<String, Vec<Arc<Prepared>>>::new();
        for object in sorted {
            let (name, namespace) = (ObjectRef::of(object), object.metadata.namespace.as_str());
            let scope = (namespace != mesh.root_namespace).then_some(namespace);
            let selector = object.spec.labels().clone();
            found.extend(check_selector(&name, "spec.workloadSelector", scope, &selector, workloads));
            let patches = prepare::patches(&name, &object.spec, found);
            let prepared = Prepared { object: name, selector, patches };
            by_namespace.entry(namespace.to_owned()).or_default().push(Arc::new(prepared));
        }
        EnvoyFilters { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// The names of those for a workload: the mesh's, then its namespace's.
    pub(crate) fn of(&self, namespace: &str, labels: &Labels) -> Vec<NamespacedName> {
        let own = Some(namespace).filter(|n| *n != self.root);
        let namespaces = [Some(self.root.as_str()), own].into_iter().flatten();
        let all = namespaces.filter_map(|n| self.by_namespace.get(n)).flatten();
        let selecting = all.filter(|filter| api::istio::includes(labels, &filter.selector));
        selecting
            .map(|filter| NamespacedName::new(filter.object.namespace.as_str(), filter.object.name.as_str()))
            .collect()
    }

    /// Those with some names.
    pub(crate) fn named<'a>(&'a self, names: &'a [NamespacedName]) -> impl Iterator<Item = &'a Arc<Prepared>> {
        names.iter().filter_map(|name| {
            let mut own = self.by_namespace.get(&name.namespace)?.iter();
            own.find(|filter| filter.object.name == name.name)
        })
    }

    /// Applies those with some names to what was built for one direction.
    pub(crate) fn apply(
        &self,
        names: &[NamespacedName],
        direction: Direction,
        doors: &Doors,
        resources: &mut Resources,
    ) {
        for filter in self.named(names) {
            let patches: Vec<&Patch> = filter.patches.iter().filter(|patch| patch.is_for(direction)).collect();
            let mut target = Target { direction, doors, resources: &mut *resources };
            let mut outcomes = match direction {
                Direction::Inbound => stray::open(&patches, &mut target),
                Direction::Outbound | Direction::Gateway => Vec::new(),
            };
            outcomes.extend(patches.iter().map(|patch| (*patch, one(patch, &mut target))));
            if direction == Direction::Gateway {
                outcomes.extend(stray::guard(&patches, &mut target));
            }
            for (patch, outcome) in outcomes {
                let found = |(severity, code, message): Finding| Diagnostic {
                    object: filter.object.clone(),
                    field: patch.field.clone(),
                    severity,
                    code,
                    message,
                };
                resources.diagnostics.extend(outcome.into_iter().map(found));
            }
        }
    }
}

/// What is wrong with a patch where it was applied.
type Finding = (Severity, Code, String);

fn one(patch: &Patch, target: &mut Target<'_>) -> Vec<Finding> {
    let result = match patch.what {
        ApplyTo::Listener
        | ApplyTo::FilterChain
        | ApplyTo::NetworkFilter
        | ApplyTo::HttpFilter
        | ApplyTo::ListenerFilter => listener::apply(patch, target),
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => route::apply(patch, target),
        ApplyTo::Cluster => cluster::apply(patch, target),
        // Reported when it was read.
        ApplyTo::Invalid | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap => Ok(Vec::new()),
    };
    result.unwrap_or_else(|reason| vec![(Severity::Error, Code::InvalidValue, reason)])
}
