//! Pods without a sidecar, and ports of which nobody knows what is spoken there.

use api::istio::includes;

use super::reference::selector;
use super::world::{
    AUTHORIZATION_POLICY, Item, NAMESPACE, PEER_AUTHENTICATION, POD, REQUEST_AUTHENTICATION, SERVICE, SIDECAR, World,
    is_of_the_system, items, labels,
};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::Protocol;

const NOT_INJECTED: Rule = Rule("IST0102", "NamespaceNotInjected", Severity::Info);
const WITHOUT_PROXY: Rule = Rule("IST0103", "PodMissingProxy", Severity::Warning);
const BOTH_LABELS: Rule = Rule("IST0123", "NamespaceMultipleInjectionLabels", Severity::Warning);
const EXTERNAL_NAME: Rule = Rule("IST0150", "ExternalNameServiceTypeInvalidPortName", Severity::Warning);
const INEFFECTIVE: Rule = Rule("IST0167", "IneffectivePolicy", Severity::Warning);
const PORT_NAME: Rule = Rule("IST0118", "PortNameIsNotUnderNamingConvention", Severity::Info);

/// The container that is a sidecar.
const CONTAINER: &str = "istio-proxy";

/// What a namespace's labels say about sidecars.
fn is_injected(namespace: &Item<'_>) -> Option<bool> {
    let labels = namespace.labels();
    match labels.get("istio-injection").map(String::as_str) {
        Some("enabled") => Some(true),
        Some(_) => Some(false),
        None => labels.contains_key("istio.io/rev").then_some(true),
    }
}

/// Namespaces that say twice whether pods get sidecars.
pub(super) fn labels_of_namespaces(world: &World<'_>, found: &mut Vec<Finding>) {
    const LABELS: [&str; 2] = ["istio-injection", "istio.io/rev"];
    for item in world.of(NAMESPACE) {
        let labels = item.labels();
        if LABELS.iter().all(|label| labels.contains_key(*label)) {
            let message = format!(
                "The namespace has more than one type of injection labels [{}], which may lead to undefined behavior. Make sure \
                 only one injection label exists.",
                LABELS.join(" "),
            );
            found.push(BOTH_LABELS.at(&item, "metadata.labels", message));
        }
    }
}

/// Policies for workloads of which none has a sidecar to enforce them.
pub(super) fn policies(world: &World<'_>, found: &mut Vec<Finding>) {
    let ambient: Vec<&str> = world
        .of(NAMESPACE)
        .filter(|item| item.labels().get("istio.io/dataplane-mode").is_some_and(|mode| mode == "ambient"))
        .map(|item| item.name())
        .collect();
    for item in [AUTHORIZATION_POLICY, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION, SIDECAR]
        .into_iter()
        .flat_map(|kind| world.of(kind))
        .filter(|item| !is_of_the_system(item.namespace()))
    {
        let (at, wanted) = selector(&item).map_or(("spec", Default::default()), |(at, value)| (at, labels(value)));
        let of_namespace = world.of(POD).filter(|pod| pod.namespace() == item.namespace());
        let selected: Vec<Item<'_>> = of_namespace.filter(|pod| includes(&pod.labels(), &wanted)).collect();
        let why = if ambient.contains(&item.namespace()) && item.kind() == "Sidecar" {
            "namespace is in ambient mode, the policy has no impact"
        } else if !selected.is_empty() && !selected.iter().any(has_sidecar) {
            "none of the selected workloads has a sidecar"
        } else {
            continue;
        };
        found.push(INEFFECTIVE.at(&item, at, format!("The policy has no impact: {why}.")));
    }
}

/// Namespaces with workloads that say nothing about sidecars.
pub(super) fn namespaces(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(NAMESPACE).filter(|item| !is_of_the_system(item.name()) && is_injected(item).is_none()) {
        let name = item.name();
        if workloads.iter().any(|workload| workload.namespace == name) {
            let message = format!(
                "The namespace is not enabled for Istio injection. Run 'kubectl label namespace {name} istio-injection=enabled' \
                 to enable it, or 'kubectl label namespace {name} istio-injection=disabled' to explicitly mark it as not \
                 needing injection."
            );
            found.push(NOT_INJECTED.at(&item, "", message));
        }
    }
}

/// Pods that should have a sidecar and have none.
pub(super) fn pods(world: &World<'_>, found: &mut Vec<Finding>) {
    let enabled: Vec<&str> =
        world.of(NAMESPACE).filter(|item| is_injected(item) == Some(true)).map(|item| item.name()).collect();
    for pod in world.of(POD).filter(|pod| enabled.contains(&pod.namespace()) && !declines(pod) && !has_sidecar(pod)) {
        let message = format!(
            "The pod {} is missing the Istio proxy. This can often be resolved by restarting or redeploying the workload.",
            pod.full_name(),
        );
        let fix = format!("kubectl delete pod {} -n {}, if something makes another one", pod.name(), pod.namespace());
        found.push(WITHOUT_PROXY.at(&pod, "", message).with_fix(fix));
    }
}

fn declines(pod: &Item<'_>) -> bool {
    let key = "sidecar.istio.io/inject";
    let labels = pod.labels();
    let chosen = labels.get(key).map(String::as_str).or_else(|| pod.annotation(key));
    chosen == Some("false") || pod.spec()["hostNetwork"] == true
}

fn has_sidecar(pod: &Item<'_>) -> bool {
    let parts = ["containers", "initContainers"];
    parts.iter().any(|part| items(&pod.spec()[*part]).iter().any(|container| container["name"] == CONTAINER))
}

/// Ports whose names do not begin with a protocol.
pub(super) fn port_names(world: &World<'_>, found: &mut Vec<Finding>) {
    for service in world.of(SERVICE).filter(|service| !is_of_the_system(service.namespace()) && !is_the_api(service)) {
        for (i, port) in items(&service.spec()["ports"]).iter().enumerate() {
            let name = port["name"].as_str().unwrap_or_default();
            let declared = port["appProtocol"].as_str().or_else(|| name.split('-').next());
            let is_datagram = port["protocol"].as_str().is_some_and(|transport| transport != "TCP");
            let protocol = declared.and_then(Protocol::parse);
            if service.spec()["type"] == "ExternalName" {
                if !is_datagram && matches!(protocol, None | Some(Protocol::Tcp)) {
                    let message = "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and unmatched \
                        traffic for ports serving TCP protocol from being forwarded correctly";
                    found.push(EXTERNAL_NAME.at(&service, format!("spec.ports[{i}]"), message));
                }
                continue;
            }
            if is_datagram || protocol.is_some() {
                continue;
            }
            let number = port["port"].as_u64().unwrap_or_default();
            let target = match &port["targetPort"] {
                serde_json::Value::String(name) => name.clone(),
                serde_json::Value::Null => number.to_string(),
                number => number.to_string(),
            };
            let message = format!(
                "Port name {name} (port: {number}, targetPort: {target}) doesn't follow the naming convention of Istio port."
            );
            let fix = "name it PROTOCOL or PROTOCOL-WHAT, for example http-web, or set appProtocol";
            found.push(PORT_NAME.at(&service, format!("spec.ports[{i}]"), message).with_fix(fix));
        }
    }
}

/// Whether it is the service of the API server, which nobody here wrote.
fn is_the_api(service: &Item<'_>) -> bool {
    (service.namespace(), service.name()) == ("default", "kubernetes")
}
