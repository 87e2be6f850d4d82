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
use api::istio::{Action, MeshConfig, MutualTlsMode, Object};
use api::selector::Labels;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use objects::Objects;
pub(crate) use protocol::Protocol;
pub(crate) use service::{Discovery, Endpoint, Port, Service, Services, Target, Visibility};
pub(crate) use workload::Workloads;

use crate::policy::{Authorizations, DestinationRules, PeerAuthentications, Routes, Sidecars};
use crate::{Code, Diagnostic, InboundClass, Node, ObjectRef, OutboundClass};

/// The domain of Kubernetes' services.
pub(crate) const DOMAIN: &str = "cluster.local";

/// The objects of one cluster, indexed.
#[derive(Debug, Clone)]
pub struct Mesh {
    pub(crate) config: MeshConfig,
    pub(crate) workloads: Workloads,
    pub(crate) services: Services,
    pub(crate) authorizations: Authorizations,
    pub(crate) destinations: DestinationRules,
    pub(crate) peers: PeerAuthentications,
    pub(crate) routes: Routes,
    pub(crate) sidecars: Sidecars,
    /// The keys of labels by which some object tells callers apart.
    label_keys: BTreeSet<String>,
    diagnostics: BTreeSet<Diagnostic>,
}

impl Mesh {
    /// Indexes objects.
    pub fn new(objects: &Objects) -> Mesh {
        let config = objects.mesh_config.clone();
        let mut found = objects.diagnostics.clone();
        let workloads = Workloads::new(objects);
        let mut services = kubernetes::services(objects, &workloads, &mut found);
        for entry in &objects.service_entries {
            services.extend(entry::services(entry, &config, &workloads, &mut found));
        }
        let services = Services::new(services);
        let authorizations = Authorizations::new(&objects.authorization_policies, &config, &workloads, &mut found);
        let peers = PeerAuthentications::new(&objects.peer_authentications, &config, &workloads, &mut found);
        let destinations = DestinationRules::new(&objects.destination_rules, &config, &services, &mut found);
        let routes = Routes::new(&objects.virtual_services, &config, &services, &mut found);
        let sidecars = Sidecars::new(&objects.sidecars, &config, &workloads, &mut found);
        unknown_fields(objects, &mut found);
        let keys = destinations.label_keys().chain(routes.label_keys());
        let failover = config.locality_lb_setting.failover_priority.iter().map(|l| label_key(l));
        Mesh {
            label_keys: keys.chain(failover).map(str::to_owned).collect(),
            config,
            workloads,
            services,
            authorizations,
            destinations,
            peers,
            routes,
            sidecars,
            diagnostics: found.into_iter().collect(),
        }
    }

    /// What objects say without effect, whichever node is looked at.
    pub fn diagnostics(&self) -> &BTreeSet<Diagnostic> {
        &self.diagnostics
    }

    /// The sidecar of a pod.
    pub fn node(&self, pod: &NamespacedName) -> Option<Node> {
        let workload = self.workloads.pod(&pod.namespace, &pod.name)?;
        Some(Node {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: workload.labels.clone(),
            locality: workload.locality.clone(),
        })
    }

    /// The configuration that holds for all.
    pub fn config(&self) -> &MeshConfig {
        &self.config
    }

    /// What decides about the calls that reach a node; nodes of one class share the result of [`crate::inbound`].
    pub fn inbound_class(&self, node: &Node) -> InboundClass {
        let pod = self.workloads.pod(&node.namespace, &node.name);
        InboundClass {
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

    /// What a node's workload accepts at a port, and the PeerAuthentication that says so, if one does.
    pub fn accepted(&self, node: &Node, port: u16) -> (MutualTlsMode, Option<ObjectRef>) {
        let mode = self.peers.of(&node.namespace, &node.labels).at(port);
        (mode, self.peers.saying(&node.namespace, &node.labels, port))
    }

    /// What decides about the calls of a node; nodes of one class share the result of [`crate::outbound`].
    pub fn outbound_class(&self, node: &Node) -> OutboundClass {
        let asked = |(key, _): &(&String, &String)| self.label_keys.contains(*key);
        OutboundClass {
            namespace: node.namespace.clone(),
            sidecar: self.sidecars.of(&node.namespace, &node.labels).map(|s| s.name()),
            labels: node.labels.iter().filter(asked).map(|(k, v)| (k.clone(), v.clone())).collect::<Labels>(),
            locality: node.locality.clone(),
        }
    }
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
    of(&objects.destination_rules, found);
    of(&objects.peer_authentications, found);
    of(&objects.service_entries, found);
    of(&objects.sidecars, found);
    of(&objects.virtual_services, found);
    of(&objects.workload_entries, found);
}
