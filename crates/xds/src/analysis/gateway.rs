//! Gateways without a workload, a certificate or a route.

use api::istio::{Hostname, includes};

use super::reference::{MESH, find_gateway, not_found};
use super::world::{GATEWAY, Item, SECRET, SERVICE, VIRTUAL_SERVICE, World, field, items, labels, texts, written};
use super::{Finding, Rule};
use crate::Severity;

const HOST_NOT_IN_GATEWAY: Rule = Rule("IST0132", "VirtualServiceHostNotFoundInGateway", Severity::Warning);
const PORT_NOT_ON_SERVICE: Rule = Rule("IST0162", "GatewayPortNotDefinedOnService", Severity::Warning);
const INVALID_CREDENTIAL: Rule = Rule("IST0161", "InvalidGatewayCredential", Severity::Error);

/// Gateways that select no pod.
pub(super) fn selectors(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(GATEWAY) {
        let wanted = labels(&item.spec()["selector"]);
        if !wanted.is_empty() && !workloads.iter().any(|workload| includes(&workload.labels, &wanted)) {
            found.push(not_found(&item, "spec.selector", "selector", &written(&wanted)));
        }
    }
}

/// Secrets of servers that are not there, or hold no certificate. They are looked for where the gateway's pods are.
pub(super) fn credentials(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(GATEWAY) {
        let wanted = labels(&item.spec()["selector"]);
        let places: Vec<&str> =
            workloads.iter().filter(|w| includes(&w.labels, &wanted)).map(|workload| workload.namespace).collect();
        for (i, server) in items(&item.spec()["servers"]).iter().enumerate() {
            let Some(name) = field(&server["tls"], "credentialName", "credential_name").as_str() else { continue };
            if name.is_empty() || places.is_empty() {
                continue;
            }
            let at = format!("spec.servers[{i}].tls.credentialName");
            match world.of(SECRET).find(|secret| secret.name() == name && places.contains(&secret.namespace())) {
                None => found.push(not_found(&item, at, "credentialName", name)),
                Some(secret) if !holds_certificate(&secret) => {
                    let message = format!(
                        "The credential referenced by the Gateway {} in namespace {} is invalid, which can cause the traffic not \
                         to work as expected.",
                        item.name(),
                        item.namespace(),
                    );
                    found.push(
                        INVALID_CREDENTIAL.at(&item, at, message).with_fix("give the secret tls.crt and tls.key"),
                    );
                }
                Some(_) => {}
            }
        }
    }
}

fn holds_certificate(secret: &Item<'_>) -> bool {
    let has = |key: &str| ["data", "stringData"].iter().any(|part| secret.value[*part][key].is_string());
    (has("tls.crt") || has("cert")) && (has("tls.key") || has("key"))
}

/// Hosts of routes that none of the servers of their gateways has.
pub(super) fn hosts(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(VIRTUAL_SERVICE) {
        let hosts: Vec<&str> = texts(&item.spec()["hosts"]).collect();
        let named = texts(&item.spec()["gateways"]).enumerate();
        for (i, name) in named.filter(|(_, name)| *name != MESH) {
            let Some(gateway) = find_gateway(world, name, item.namespace()) else { continue };
            if !hosts.iter().any(|host| serves(&gateway, host, item.namespace())) {
                let message = format!(
                    "one or more host [{}] defined in VirtualService {} not found in Gateway {}.",
                    hosts.join(" "),
                    item.full_name(),
                    gateway.full_name(),
                );
                found.push(HOST_NOT_IN_GATEWAY.at(&item, format!("spec.gateways[{i}]"), message));
            }
        }
    }
}

/// Whether a gateway has a server for a host of a route in `namespace`.
fn serves(gateway: &Item<'_>, host: &str, namespace: &str) -> bool {
    let host = Hostname::new(host);
    let servers = items(&gateway.spec()["servers"]).iter().flat_map(|server| texts(&server["hosts"]));
    let mut servers = servers.map(|text| text.split_once('/').unwrap_or(("*", text)));
    servers.any(|(place, own)| {
        let own = Hostname::new(own);
        let here = match place {
            "*" => true,
            "." => gateway.namespace() == namespace,
            place => place == namespace,
        };
        here && (own == host || own.covers(&host) || host.covers(&own))
    })
}

/// Ports of servers that no service of the gateway's pods has.
pub(super) fn ports(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(GATEWAY) {
        let wanted = labels(&item.spec()["selector"]);
        let selected: Vec<_> =
            workloads.iter().filter(|w| !wanted.is_empty() && includes(&w.labels, &wanted)).collect();
        let services: Vec<Item<'_>> = world
            .of(SERVICE)
            .filter(|service| {
                let selector = labels(&service.spec()["selector"]);
                let selects = |w: &&super::world::Workload<'_>| {
                    !selector.is_empty() && w.namespace == service.namespace() && includes(&w.labels, &selector)
                };
                selected.iter().copied().any(|w| selects(&w))
            })
            .collect();
        for (i, server) in items(&item.spec()["servers"]).iter().enumerate() {
            let Some(number) = server["port"]["number"].as_u64() else { continue };
            let has = |service: &Item<'_>| items(&service.spec()["ports"]).iter().any(|port| port["port"] == number);
            if !services.is_empty() && !services.iter().any(has) {
                let message = format!(
                    "The gateway is listening on a target port (port {number}) that is not defined in the Service associated \
                     with its workload instances (Pod selector {}). If you need to access the gateway port through the \
                     gateway Service, it will not be available.",
                    written(&wanted),
                );
                found.push(PORT_NOT_ON_SERVICE.at(&item, format!("spec.servers[{i}].port.number"), message));
            }
        }
    }
}
