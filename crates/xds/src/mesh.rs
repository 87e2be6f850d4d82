//! The objects of one cluster, indexed.

mod entry;
mod kubernetes;
mod objects;
mod protocol;
mod service;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Action, Hostname, MeshConfig, MutualTlsMode, Object, VirtualService};
use api::selector::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use objects::Objects;
pub(crate) use protocol::Protocol;
pub(crate) use service::{Discovery, Endpoint, Port, Service, Services, Target, Visibility};
pub(crate) use workload::{Workload, Workloads};

use crate::node::{Role, Router};
use crate::patch::EnvoyFilters;
use crate::policy::{
    Authentications, Authorizations, DestinationRules, Gateways, LegacyPolicy, PeerAuthentications, Routes,
    ServiceRoles, Sidecars, gateway_name, legacy_policies,
};
use crate::telemetry::Telemetries;
use crate::{Code, Diagnostic, InboundClass, Node, ObjectRef, OutboundClass};

/// The domain of Kubernetes' services.
pub(crate) const DOMAIN: &str = "cluster.local";

/// How many workloads show what an object does.
const SAMPLE: usize = 10;

/// The objects of one cluster, indexed.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) config: Arc<MeshConfig>,
    pub(crate) workloads: Part<Workloads>,
    pub(crate) services: Part<Services>,
    pub(crate) authentications: Part<Authentications>,
    pub(crate) authorizations: Part<Authorizations>,
    pub(crate) destinations: Part<DestinationRules>,
    pub(crate) gateways: Part<Gateways>,
    legacy_policies: Part<Vec<LegacyPolicy>>,
    pub(crate) patches: Part<EnvoyFilters>,
    pub(crate) peers: Part<PeerAuthentications>,
    pub(crate) roles: Part<ServiceRoles>,
    pub(crate) routes: Part<Routes>,
    pub(crate) sidecars: Part<Sidecars>,
    pub(crate) telemetries: Part<Telemetries>,
    /// The keys of labels by which some object tells callers apart.
    label_keys: BTreeSet<String>,
    diagnostics: BTreeSet<Diagnostic>,
    objects: Objects,
}

impl Mesh {
    /// Indexes objects.
    pub fn new(objects: &Objects) -> Mesh {
        Mesh::index(None, objects)
    }

    /// The mesh of other objects, which shares with this one what is the same. Objects count as the same if they are at
    /// the same place in memory.
    pub fn after(&self, objects: &Objects) -> Mesh {
        Mesh::index(Some(self), objects)
    }

    fn index(old: Option<&Mesh>, objects: &Objects) -> Mesh {
        let was = old.map(|o| &o.objects);
        let config = match old {
            Some(old) if *old.config == objects.mesh_config => old.config.clone(),
            _ => Arc::new(objects.mesh_config.clone()),
        };
        let alike = old.is_some_and(|o| Arc::ptr_eq(&o.config, &config));
        let here = same(was, objects, |o| &o.nodes) && same(was, objects, |o| &o.pods);
        let here = here && same(was, objects, |o| &o.workload_entries);
        let workloads = Part::new(old.map(|o| &o.workloads), here, |old, _| Workloads::new(objects, old));
        let alike_workloads = alike && old.is_some_and(|o| o.workloads.is(&workloads));
        let declared = same(was, objects, |o| &o.services) && same(was, objects, |o| &o.endpoint_slices);
        let declared = declared && same(was, objects, |o| &o.service_entries) && alike_workloads;
        let services = Part::new(old.map(|o| &o.services), declared, |old, found| {
            let mut services = kubernetes::services(objects, &workloads, found);
            for entry in &objects.service_entries {
                services.extend(entry::services(entry, &config, &workloads, found));
            }
            Services::new(services, &kubernetes::aliases(objects), old)
        });
        let alike_services = alike && old.is_some_and(|o| o.services.is(&services));
        let kept = alike_workloads && same(was, objects, |o| &o.authorization_policies);
        let authorizations = Part::new(old.map(|o| &o.authorizations), kept, |_, found| {
            Authorizations::new(&objects.authorization_policies, &config, &workloads, found)
        });
        let kept = alike_services && alike_workloads && same(was, objects, |o| &o.mesh_policies);
        let kept = kept && same(was, objects, |o| &o.policies);
        let legacy = Part::new(old.map(|o| &o.legacy_policies), kept, |_, found| {
            legacy_policies(&objects.mesh_policies, &objects.policies, &services, &workloads, found)
        });
        let alike_legacy = old.is_some_and(|o| o.legacy_policies.is(&legacy)) && alike_workloads;
        let kept = alike_legacy && same(was, objects, |o| &o.peer_authentications);
        let peers = Part::new(old.map(|o| &o.peers), kept, |_, found| {
            PeerAuthentications::new(&objects.peer_authentications, &legacy, &config, &workloads, found)
        });
        let kept = alike_legacy && same(was, objects, |o| &o.request_authentications);
        let authentications = Part::new(old.map(|o| &o.authentications), kept, |_, found| {
            Authentications::new(&objects.request_authentications, &legacy, &config, &workloads, found)
        });
        let kept = same(was, objects, |o| &o.cluster_rbac_configs) && same(was, objects, |o| &o.rbac_configs);
        let kept = kept && same(was, objects, |o| &o.service_roles) && same(was, objects, |o| &o.service_role_bindings);
        let roles = Part::new(old.map(|o| &o.roles), kept, |_, found| {
            let (cluster, configs) = (&objects.cluster_rbac_configs, &objects.rbac_configs);
            ServiceRoles::new(cluster, configs, &objects.service_roles, &objects.service_role_bindings, found)
        });
        let kept = alike_workloads && same(was, objects, |o| &o.envoy_filters);
        let patches = Part::new(old.map(|o| &o.patches), kept, |_, found| {
            EnvoyFilters::new(&objects.envoy_filters, &config, &workloads, found)
        });
        let kept = alike_services && same(was, objects, |o| &o.destination_rules);
        let destinations = Part::new(old.map(|o| &o.destinations), kept, |_, found| {
            DestinationRules::new(&objects.destination_rules, &config, &services, found)
        });
        let kept = alike_workloads && same(was, objects, |o| &o.gateways);
        let gateways =
            Part::new(old.map(|o| &o.gateways), kept, |_, found| Gateways::new(&objects.gateways, &workloads, found));
        let kept = alike_services && same(was, objects, |o| &o.virtual_services);
        let kept = kept && old.is_some_and(|o| o.gateways.is(&gateways));
        let routes = Part::new(old.map(|o| &o.routes), kept, |_, found| {
            Routes::new(&objects.virtual_services, &config, &services, &gateways, found)
        });
        let kept = alike_workloads && same(was, objects, |o| &o.sidecars);
        let sidecars = Part::new(old.map(|o| &o.sidecars), kept, |_, found| {
            Sidecars::new(&objects.sidecars, &config, &workloads, found)
        });
        let kept = alike_workloads && same(was, objects, |o| &o.telemetries);
        let telemetries = Part::new(old.map(|o| &o.telemetries), kept, |_, found| {
            Telemetries::new(&objects.telemetries, &config, &workloads, found)
        });
        let mut mesh = Mesh {
            label_keys: BTreeSet::new(),
            config,
            workloads,
            services,
            authentications,
            authorizations,
            destinations,
            gateways,
            legacy_policies: legacy,
            patches,
            peers,
            roles,
            routes,
            sidecars,
            telemetries,
            diagnostics: BTreeSet::new(),
            objects: objects.clone(),
        };
        mesh.conclude();
        mesh
    }

    /// Sums up what the parts say.
    fn conclude(&mut self) {
        let keys = self.destinations.label_keys().chain(self.routes.label_keys());
        let failover = self.config.locality_lb_setting.failover_priority.iter().map(|l| label_key(l));
        self.label_keys = keys.chain(failover).map(str::to_owned).collect();
        let mut found = self.objects.diagnostics.clone();
        unknown_fields(&self.objects, &mut found);
        let parts = [
            &self.services.found,
            &self.authentications.found,
            &self.authorizations.found,
            &self.destinations.found,
            &self.gateways.found,
            &self.legacy_policies.found,
            &self.patches.found,
            &self.peers.found,
            &self.roles.found,
            &self.routes.found,
            &self.sidecars.found,
            &self.telemetries.found,
        ];
        self.diagnostics = parts.into_iter().flat_map(|f| f.iter().cloned()).chain(found).collect();
    }

    /// What it was made of.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What objects say without effect, whichever node is looked at.
    pub fn diagnostics(&self) -> &BTreeSet<Diagnostic> {
        &self.diagnostics
    }

    /// The proxy of a pod.
    pub fn node(&self, pod: &NamespacedName) -> Option<Node> {
        let workload = self.workloads.pod(&pod.namespace, &pod.name)?;
        Some(Node {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: workload.labels.clone(),
            locality: workload.locality.clone(),
            role: if workload.router.is_some() { Role::Router } else { Role::Sidecar },
        })
    }

    /// A few of the workloads in a namespace (in any, if there is none) that have some labels, to see by them what an
    /// object does.
    pub fn sample(&self, selections: &[(Option<String>, Labels)]) -> Vec<Node> {
        let selected =
            selections.iter().flat_map(|(namespace, labels)| self.workloads.pods(namespace.as_deref(), labels));
        selected.filter_map(|name| self.node(name)).take(SAMPLE).collect()
    }

    /// The pods for which routes are through gateways, by their labels.
    pub fn selected_by(&self, routes: &VirtualService, namespace: &str) -> Vec<Labels> {
        let names = routes.gateways.iter().filter_map(|text| gateway_name(text, namespace));
        let gateways = names.filter_map(|name| self.gateways.get(&name));
        gateways.map(|gateway| gateway.spec.selector.clone()).collect()
    }

    /// The hosts of every service.
    pub fn hosts(&self) -> impl Iterator<Item = &Hostname> {
        self.services.hosts().map(|(host, _)| host)
    }

    /// The configuration that holds for all.
    pub fn config(&self) -> &MeshConfig {
        &self.config
    }

    /// What decides about the calls that reach a node; nodes of one class share the result of [`crate::inbound`].
    pub fn inbound_class(&self, node: &Node) -> InboundClass {
        let pod = self.workloads.pod(&node.namespace, &node.name);
        InboundClass {
            role: node.role,
            namespace: node.namespace.clone(),
            labels: node.labels.clone(),
            ports: pod.map(|pod| pod.ports.clone()).unwrap_or_default(),
        }
    }

    /// The AuthorizationPolicies that hold for a node's workload, with what they do.
    pub fn authorization_policies(&self, node: &Node) -> Vec<(ObjectRef, Action)> {
        let policies = self.authorizations.of(&node.namespace, &node.labels);
        policies.map(|policy| (policy.object.clone(), policy.action)).collect()
    }

    /// The RequestAuthentications, and Policies with origins, that hold for a node's workload.
    pub fn request_authentications(&self, node: &Node) -> Vec<ObjectRef> {
        self.authentications.of(&node.namespace, &node.labels).map(|found| found.object.clone()).collect()
    }

    /// What a node's workload accepts at a port, and the PeerAuthentication that says so, if one does.
    pub fn accepted(&self, node: &Node, port: u16) -> (MutualTlsMode, Option<ObjectRef>) {
        let mode = self.peers.of(&node.namespace, &node.labels).at(port);
        (mode, self.peers.saying(&node.namespace, &node.labels, port))
    }

    /// What decides about the calls of a node; nodes of one class share the result of [`crate::outbound`].
    pub fn outbound_class(&self, node: &Node) -> OutboundClass {
        let telemetries = self.telemetries.of(&node.namespace, &node.labels);
        let router = (node.role == Role::Router).then(|| self.router(node));
        let asked = |(key, _): &(&String, &String)| router.is_some() || self.label_keys.contains(*key);
        let sidecar = self.sidecars.of(&node.namespace, &node.labels).filter(|_| router.is_none());
        OutboundClass {
            namespace: node.namespace.clone(),
            sidecar: sidecar.map(|s| s.name()),
            labels: node.labels.iter().filter(asked).map(|(k, v)| (k.clone(), v.clone())).collect::<Labels>(),
            locality: node.locality.clone(),
            patches: self.patches.of(&node.namespace, &node.labels),
            service: self.telemetries.service(&self.config, &telemetries, node),
            telemetries,
            router,
        }
    }

    fn router(&self, node: &Node) -> Router {
        let pod = self.workloads.pod(&node.namespace, &node.name);
        let said = pod.and_then(|pod| pod.router.as_ref());
        let usual = || self.config.gateway_topology();
        Router {
            ports: pod.map(|pod| pod.ports.clone()).unwrap_or_default(),
            unprivileged: said.is_some_and(|said| said.unprivileged),
            topology: said.and_then(|said| said.topology.clone()).unwrap_or_else(usual),
        }
    }
}

/// A part of the mesh, with what was found to be wrong when it was made.
#[derive(Debug)]
pub(crate) struct Part<T> {
    value: Arc<T>,
    found: Arc<Vec<Diagnostic>>,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Part<T> {
        Part { value: self.value.clone(), found: self.found.clone() }
    }
}

impl<T: PartialEq> Part<T> {
    /// What is `kept` is not made again, and what is made again and comes out equal is the old one.
    fn new(old: Option<&Part<T>>, kept: bool, make: impl FnOnce(Option<&T>, &mut Vec<Diagnostic>) -> T) -> Part<T> {
        if let Some(old) = old.filter(|_| kept) {
            return old.clone();
        }
        let mut found = Vec::new();
        let value = make(old.map(|o| &*o.value), &mut found);
        let same = old.filter(|old| *old.value == value);
        Part { value: same.map_or_else(|| Arc::new(value), |old| old.value.clone()), found: Arc::new(found) }
    }

    /// Whether both are one.
    pub(crate) fn is(&self, other: &Part<T>) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<T> std::ops::Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Whether the very same objects of a kind are in both.
fn same<T>(old: Option<&Objects>, new: &Objects, kind: impl Fn(&Objects) -> &[Arc<T>]) -> bool {
    old.is_some_and(|old| {
        let (old, new) = (kind(old), kind(new));
        old.len() == new.len() && old.iter().zip(new).all(|(a, b)| Arc::ptr_eq(a, b))
    })
}

/// The key of a failover priority, which is `KEY` or `KEY=VALUE`.
pub(crate) fn label_key(priority: &str) -> &str {
    priority.split_once('=').map_or(priority, |(key, _)| key)
}

/// A time as text that compares as time does.
fn timestamp(time: Option<&Time>) -> String {
    time.map(|time| time.0.to_string()).unwrap_or_default()
}

fn unknown_fields(objects: &Objects, found: &mut Vec<Diagnostic>) {
    fn of<S: api::istio::Spec>(objects: &[Arc<Object<S>>], found: &mut Vec<Diagnostic>) {
        for object in objects {
            let unknown = |field: &String| {
                ObjectRef::of(object).warning(field, Code::UnknownField, "is unknown, and has no effect")
            };
            found.extend(object.unknown.iter().map(unknown));
        }
    }
    of(&objects.authorization_policies, found);
    of(&objects.cluster_rbac_configs, found);
    of(&objects.destination_rules, found);
    of(&objects.envoy_filters, found);
    of(&objects.gateways, found);
    of(&objects.mesh_policies, found);
    of(&objects.peer_authentications, found);
    of(&objects.policies, found);
    of(&objects.rbac_configs, found);
    of(&objects.request_authentications, found);
    of(&objects.service_entries, found);
    of(&objects.sidecars, found);
    of(&objects.telemetries, found);
    of(&objects.virtual_services, found);
    of(&objects.workload_entries, found);
}
