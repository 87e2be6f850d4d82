//! What applies to a pod or to a service, as `istioctl experimental describe` tells it.
//!
//! Everything is as the control plane understands it: nothing here reads an object that [`crate::build`] would read in
//! another way.

mod exposure;
mod route;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use api::NamespacedName;
use api::istio::MutualTlsMode;
use serde::Serialize;

use crate::{Mesh, Node};

pub use exposure::Exposure;
pub use route::{Routes, Rule};
pub use service::{DestinationRule, Port, Roles, Service, Subset};

/// A pod, with what applies to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its name and its namespace.
    pub name: String,
    /// The same.
    pub namespace: String,
    /// What its proxy is to it, `sidecar` or `router`; none if it has no proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<&'static str>,
    /// The ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// The services that it is behind.
    pub services: Vec<Service>,
    /// What its proxy holds against others.
    pub policy: Policy,
    /// What is wrong with it, or with what applies to it.
    pub warnings: Vec<String>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerPort {
    /// The number.
    pub port: u16,
    /// The container.
    pub container: String,
}

/// What a workload accepts at a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PortMode {
    /// The workload's port.
    pub port: u16,
    /// `DISABLE`, `PERMISSIVE` or `STRICT`.
    pub mode: &'static str,
}

/// A service, with what holds at its workloads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceDescription {
    /// The service.
    #[serde(flatten)]
    pub service: Service,
    /// Its pods, those together for which the same holds.
    pub workloads: Vec<Workloads>,
}

/// Pods for which the same holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workloads {
    /// Their names.
    pub pods: Vec<String>,
    /// What holds.
    pub policy: Policy,
}

/// What a workload's proxy holds against whoever calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// What it accepts where nothing else is said: `DISABLE`, `PERMISSIVE` or `STRICT`.
    pub mutual_tls: &'static str,
    /// The same, at single ports.
    pub mutual_tls_of_ports: Vec<PortMode>,
    /// The objects that say so.
    pub peer_authentications: Vec<String>,
    /// The objects that say which tokens are accepted.
    pub request_authentications: Vec<String>,
    /// The objects that say who may call, with what they do: `ALLOW shop/AuthorizationPolicy x`.
    pub authorization_policies: Vec<String>,
    /// The objects that change what the proxy is told or reports.
    pub others: Vec<String>,
}

/// Describes a pod; `None` if there is none.
pub fn pod(mesh: &Mesh, name: &NamespacedName) -> Option<Pod> {
    let node = mesh.node(name)?;
    let object = mesh.objects().pods.iter().find(|pod| crate::analysis::pod_name(pod) == *name)?;
    let workload = mesh.workloads.pod(&name.namespace, &name.name)?;
    let proxied = workload.has_proxy() || workload.router.is_some();
    let behind = mesh.services.all().filter(|service| service.selects(&node));
    let services: Vec<Service> = behind.map(|s| service::describe(mesh, s, &node, Some(workload))).collect();
    let policy = policy(mesh, &node);
    let containers = object.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| {
        let numbers = container.ports.iter().flatten().filter_map(|p| u16::try_from(p.container_port).ok());
        numbers.map(|port| ContainerPort { port, container: container.name.clone() })
    });
    let mut warnings = Vec::new();
    if !proxied {
        warnings.push("the pod has no sidecar, so none of its policies is enforced".to_owned());
    } else if node.role == crate::Role::Sidecar && services.is_empty() {
        warnings.push("the pod is behind no service, so nobody finds it by name".to_owned());
    }
    warnings.extend(services.iter().flat_map(|service| service.warnings.iter().cloned()));
    warnings.extend(found(mesh, &node, &mentioned(&services, &policy)));
    Some(Pod {
        name: name.name.clone(),
        namespace: name.namespace.clone(),
        proxy: proxied.then(|| node.role.as_str()),
        ports: ports.collect(),
        services,
        policy,
        warnings,
    })
}

/// Describes the services of a name, as callers in its namespace see them: those of Kubernetes by `NAME`, those of entries
/// by their hosts.
pub fn services(mesh: &Mesh, name: &NamespacedName) -> Vec<ServiceDescription> {
    let caller = Node { namespace: name.namespace.clone(), ..Node::default() };
    let meant = mesh.services.all().filter(|service| {
        let kubernetes = service.object.kind == "Service" && service.object.name == name.name;
        service.namespace == name.namespace && (kubernetes || service.host.as_str() == name.name)
    });
    let described = meant.map(|known| {
        let mut service = service::describe(mesh, known, &caller, None);
        let workloads = workloads(mesh, known);
        let policies = workloads.iter().map(|of| mentioned(std::slice::from_ref(&service), &of.policy));
        let named: BTreeSet<String> = policies.flatten().chain([service.object.clone()]).collect();
        service.warnings.extend(found(mesh, &caller, &named));
        ServiceDescription { service, workloads }
    });
    described.collect()
}

/// The pods behind a service.
fn workloads(mesh: &Mesh, service: &crate::mesh::Service) -> Vec<Workloads> {
    let Some(selector) = &service.selector else { return Vec::new() };
    let mut all: Vec<Workloads> = Vec::new();
    for name in mesh.workloads.pods(Some(&service.namespace), selector) {
        let Some(policy) = mesh.node(name).map(|node| policy(mesh, &node)) else { continue };
        match all.iter_mut().find(|known| known.policy == policy) {
            Some(known) => known.pods.push(name.name.clone()),
            None => all.push(Workloads { pods: vec![name.name.clone()], policy }),
        }
    }
    all
}

fn policy(mesh: &Mesh, node: &Node) -> Policy {
    let (namespace, labels) = (node.namespace.as_str(), &node.labels);
    let modes = mesh.peers.of(namespace, labels);
    let asked = modes.ports.keys().copied().chain([0]);
    let says: BTreeSet<String> =
        asked.filter_map(|port| mesh.peers.saying(namespace, labels, port)).map(|object| object.to_string()).collect();
    let tokens = mesh.authentications.of(namespace, labels).map(|object| object.object.to_string());
    let who = mesh.authorizations.of(namespace, labels).map(|policy| {
        let action = format!("{:?}", policy.action).to_uppercase();
        format!("{action} {}{}", policy.object, if policy.dry_run { " (dry run)" } else { "" })
    });
    let class = mesh.outbound_class(node);
    let named =
        |kind: &str, name: &NamespacedName| crate::ObjectRef::new(kind, &name.namespace, &name.name).to_string();
    let others = class.sidecar.iter().map(|name| named("Sidecar", name));
    let others = others.chain(class.patches.iter().map(|name| named("EnvoyFilter", name)));
    Policy {
        mutual_tls: mode_name(modes.default),
        mutual_tls_of_ports: modes
            .ports
            .iter()
            .map(|(port, mode)| PortMode { port: *port, mode: mode_name(*mode) })
            .collect(),
        peer_authentications: says.into_iter().collect(),
        request_authentications: tokens.collect(),
        authorization_policies: who.collect(),
        others: others.chain(class.telemetries.iter().map(|name| named("Telemetry", name))).collect(),
    }
}

/// As PeerAuthentications have it.
pub(crate) fn mode_name(mode: MutualTlsMode) -> &'static str {
    match mode {
        MutualTlsMode::Unset | MutualTlsMode::Permissive => "PERMISSIVE",
        MutualTlsMode::Disable => "DISABLE",
        MutualTlsMode::Strict => "STRICT",
    }
}

/// The objects that a description names.
fn mentioned(services: &[Service], policy: &Policy) -> BTreeSet<String> {
    let of_services = services.iter().flat_map(|service| {
        let rules = service.destination_rule.iter().map(|rule| rule.object.clone());
        let routes = service.virtual_service.iter().map(|routes| routes.object.clone());
        let exposed = service.exposures.iter().flat_map(|exposure| {
            [Some(exposure.gateway.clone()), exposure.routes.as_ref().map(|routes| routes.object.clone())]
        });
        rules.chain(routes).chain(exposed.flatten())
    });
    let Policy { peer_authentications, request_authentications, authorization_policies, others, .. } = policy;
    let who =
        authorization_policies.iter().filter_map(|text| text.split_once(' ')).map(|(_, object)| object.to_owned());
    let of_policy = peer_authentications.iter().chain(request_authentications).chain(others).cloned();
    of_services.chain(of_policy).chain(who).collect()
}

/// What the control plane finds about these objects, as far as this node shows it.
fn found(mesh: &Mesh, node: &Node, mentioned: &BTreeSet<String>) -> BTreeSet<String> {
    let of_node = crate::build(mesh, node).diagnostics;
    let all = mesh.diagnostics().iter().chain(&of_node);
    let concerned = all.filter(|found| mentioned.contains(&found.object.to_string()));
    concerned.map(|found| format!("{} {}: {}", found.object, found.field, found.message)).collect()
}
