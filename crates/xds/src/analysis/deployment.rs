//! Workloads that several services understand differently, or whose users are the sidecar's.

use std::collections::BTreeMap;

use api::istio::includes;
use serde_json::Value;

use super::world::{Item, POD, SERVICE, World, is_of_the_system, items, labels};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::Protocol;

const PROTOCOLS: Rule = Rule("IST0116", "DeploymentAssociatedToMultipleServices", Severity::Warning);
const PORTS: Rule = Rule("IST0137", "DeploymentConflictingPorts", Severity::Warning);
const USER: Rule = Rule("IST0144", "InvalidApplicationUID", Severity::Warning);

/// The user that is the sidecar's.
const SIDECAR_USER: u64 = 1337;

/// A port of a service: the service, its number there, and what is spoken.
struct Port<'a> {
    service: Item<'a>,
    number: u64,
    protocol: Protocol,
}

/// Services that lead to one port of a workload, and disagree about it.
pub(super) fn services(world: &World<'_>, found: &mut Vec<Finding>) {
    for (item, template) in world.templates().filter(|(item, _)| item.kind() == "Deployment") {
        let own = labels(&template["metadata"]["labels"]);
        for (target, ports) in targets(world, item.namespace(), &own, template) {
            let Some(first) = ports.first() else { continue };
            let mut names: Vec<String> = ports.iter().map(|port| port.service.full_name()).collect();
            names.dedup();
            if names.len() == 1 {
                continue;
            }
            let services = format!("[{}]", names.join(" "));
            if ports.iter().any(|port| port.protocol != first.protocol) {
                let message = format!(
                    "This deployment {} is associated with multiple services using port {target} but different protocols: {}",
                    item.full_name(),
                    services,
                );
                found.push(PROTOCOLS.at(&item, "spec.template.metadata.labels", message));
            }
            if ports.iter().any(|port| port.number != first.number) {
                let mut numbers: Vec<u64> = ports.iter().map(|port| port.number).collect();
                numbers.sort_unstable();
                numbers.dedup();
                let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
                let message = format!(
                    "This deployment {} is associated with multiple services {} using targetPort {target:?} but different \
                     ports: [{}].",
                    item.full_name(),
                    services,
                    numbers.join(" "),
                );
                found.push(PORTS.at(&item, "spec.template.metadata.labels", message));
            }
        }
    }
}

/// The ports of services that select such pods, by the number of the pods' port.
fn targets<'a>(
    world: &World<'a>,
    namespace: &str,
    own: &api::selector::Labels,
    template: &Value,
) -> BTreeMap<String, Vec<Port<'a>>> {
    let mut by_target = BTreeMap::<String, Vec<Port<'a>>>::new();
    for service in world.of(SERVICE).filter(|service| service.namespace() == namespace) {
        let selector = labels(&service.spec()["selector"]);
        if selector.is_empty() || !includes(own, &selector) {
            continue;
        }
        for port in items(&service.spec()["ports"]) {
            let number = port["port"].as_u64().unwrap_or_default();
            let target = match &port["targetPort"] {
                Value::String(name) => named(template, name).unwrap_or_else(|| name.clone()),
                Value::Null => number.to_string(),
                number => number.to_string(),
            };
            let protocol = Protocol::of_port(
                port["protocol"].as_str(),
                port["appProtocol"].as_str(),
                port["name"].as_str().unwrap_or_default(),
                u16::try_from(number).unwrap_or_default(),
            );
            by_target.entry(target).or_default().push(Port { service, number, protocol });
        }
    }
    by_target
}

/// The number of the port with a name.
fn named(template: &Value, name: &str) -> Option<String> {
    let mut ports = items(&template["spec"]["containers"]).iter().flat_map(|container| items(&container["ports"]));
    ports.find(|port| port["name"] == name).map(|port| port["containerPort"].to_string())
}

/// Containers that run as the sidecar's user, whose connections nobody looks at.
pub(super) fn users(world: &World<'_>, found: &mut Vec<Finding>) {
    let pods = world.of(POD).map(|pod| (pod, pod.spec(), "spec".to_owned()));
    let planned = world.templates().map(|(item, template)| (item, &template["spec"], "spec.template.spec".to_owned()));
    for (item, spec, at) in pods.chain(planned).filter(|(item, ..)| !is_of_the_system(item.namespace())) {
        let runs = |context: &Value| context["runAsUser"] == SIDECAR_USER;
        let containers = ["containers", "initContainers"].into_iter().flat_map(|list| {
            let at = &at;
            let own = items(&spec[list]).iter().enumerate().filter(|(_, container)| !is_istios(container));
            own.map(move |(i, container)| (format!("{at}.{list}[{i}].securityContext"), &container["securityContext"]))
        });
        let whole = (format!("{at}.securityContext"), &spec["securityContext"]);
        for (field, _) in std::iter::once(whole).chain(containers).filter(|(_, context)| runs(context)) {
            let message = "User ID (UID) 1337 is reserved for the sidecar proxy.";
            found.push(USER.at(&item, format!("{field}.runAsUser"), message));
        }
    }
}

fn is_istios(container: &Value) -> bool {
    ["istio-proxy", "istio-init", "istio-validation"].iter().any(|name| container["name"] == *name)
}
