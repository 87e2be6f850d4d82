//! Objects that say different things about the same.

use std::collections::BTreeMap;

use api::istio::{Hostname, includes};
use serde_json::Value;

use super::reference::{MESH, selector};
use super::world::{
    GATEWAY, Item, SERVICE_ENTRY, SIDECAR, VIRTUAL_SERVICE, World, field, items, labels, texts, written,
};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::DOMAIN;

const SAME_HOST: Rule = Rule("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Severity::Error);
const SAME_WORKLOAD: Rule = Rule("IST0110", "ConflictingSidecarWorkloadSelectors", Severity::Error);
const NO_SELECTOR: Rule = Rule("IST0111", "MultipleSidecarsWithoutWorkloadSelectors", Severity::Error);
const PROTOCOLS: Rule = Rule("IST0177", "ConflictingServiceEntryProtocol", Severity::Warning);
const SAME_PORT: Rule = Rule("IST0145", "ConflictingGateways", Severity::Error);

/// VirtualServices for sidecars that have a host in common and are seen in a common namespace.
pub(super) fn virtual_services(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut by_host: BTreeMap<Hostname, Vec<(Item<'_>, usize)>> = BTreeMap::new();
    for item in world.of(VIRTUAL_SERVICE).filter(is_for_sidecars) {
        for (i, host) in texts(&item.spec()["hosts"]).enumerate() {
            let host = Hostname::resolve(host, item.namespace(), DOMAIN);
            by_host.entry(host).or_default().push((item, i));
        }
    }
    for (host, all) in &by_host {
        for (item, i) in all {
            let others = all.iter().filter(|(other, _)| meet(item, other));
            let mut names: Vec<String> = others.map(|(other, _)| other.full_name()).collect();
            names.sort();
            names.dedup();
            if names.len() > 1 {
                let message = format!(
                    "The VirtualServices {} associated with mesh gateway define the same host {host} which can lead to \
                     undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
                    names.join(","),
                );
                found.push(SAME_HOST.at(item, format!("spec.hosts[{i}]"), message));
            }
        }
    }
}

fn is_for_sidecars(item: &Item<'_>) -> bool {
    let mut gateways = texts(&item.spec()["gateways"]).peekable();
    gateways.peek().is_none() || gateways.any(|gateway| gateway == MESH)
}

/// Whether a namespace sees both.
fn meet(a: &Item<'_>, b: &Item<'_>) -> bool {
    let seen_in = |item: &Item<'_>| -> Option<Vec<String>> {
        let listed: Vec<&str> = texts(field(item.spec(), "exportTo", "export_to")).collect();
        let own =
            |namespace: &&str| if *namespace == "." { item.namespace().to_owned() } else { (*namespace).to_owned() };
        (!listed.is_empty() && !listed.contains(&"*")).then(|| listed.iter().map(own).collect())
    };
    match (seen_in(a), seen_in(b)) {
        (None, None) => true,
        (None, Some(some)) | (Some(some), None) => !some.is_empty(),
        (Some(a), Some(b)) => a.iter().any(|namespace| b.contains(namespace)),
    }
}

/// Sidecars of which a namespace, or a workload, has more than one.
pub(super) fn sidecars(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut by_namespace: BTreeMap<&str, Vec<Item<'_>>> = BTreeMap::new();
    for item in world.of(SIDECAR) {
        by_namespace.entry(item.namespace()).or_default().push(item);
    }
    let workloads = world.workloads();
    for (namespace, all) in by_namespace {
        let (narrow, wide): (Vec<_>, Vec<_>) = all.into_iter().partition(|item| selector(item).is_some());
        if wide.len() > 1 {
            let names = listed(&wide);
            let message = format!(
                "The Sidecars {names} in namespace {namespace:?} have no workload selector, which can lead to undefined behavior."
            );
            found.extend(wide.iter().map(|item| NO_SELECTOR.at(item, "spec", message.clone())));
        }
        let selects = |item: &Item<'_>, workload: &super::world::Workload<'_>| {
            selector(item).is_some_and(|(_, wanted)| includes(&workload.labels, &labels(wanted)))
        };
        for workload in workloads.iter().filter(|workload| workload.namespace == namespace) {
            let both: Vec<Item<'_>> = narrow.iter().copied().filter(|item| selects(item, workload)).collect();
            if both.len() > 1 {
                let message = format!(
                    "The Sidecars {} in namespace {namespace:?} select the same workload pod {:?}, which can lead to undefined \
                     behavior.",
                    listed(&both),
                    written(&workload.labels),
                );
                found.extend(both.iter().map(|item| SAME_WORKLOAD.at(item, "spec.workloadSelector", message.clone())));
            }
        }
    }
}

fn listed(items: &[Item<'_>]) -> String {
    format!("[{}]", items.iter().map(|item| item.name()).collect::<Vec<_>>().join(" "))
}

/// An entry, the index of its port, and the protocol there.
type Entry<'a> = (Item<'a>, usize, &'a str);

/// Entries with the same host and port, and different protocols.
pub(super) fn service_entries(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut by_port: BTreeMap<(&str, u64), Vec<Entry<'_>>> = BTreeMap::new();
    for item in world.of(SERVICE_ENTRY) {
        for host in texts(&item.spec()["hosts"]) {
            for (i, port) in items(&item.spec()["ports"]).iter().enumerate() {
                let number = port["number"].as_u64().unwrap_or_default();
                let protocol = port["protocol"].as_str().unwrap_or_default();
                by_port.entry((host, number)).or_default().push((item, i, protocol));
            }
        }
    }
    for ((host, number), entries) in &by_port {
        for (item, i, protocol) in entries {
            let met: Vec<&Entry<'_>> = entries.iter().filter(|(other, ..)| meet(item, other)).collect();
            if met.iter().all(|(_, _, other)| other.eq_ignore_ascii_case(protocol)) {
                continue;
            }
            let mut names: Vec<String> = met.iter().map(|(other, ..)| other.full_name()).collect();
            let mut protocols: Vec<String> = met.iter().map(|(_, _, protocol)| protocol.to_uppercase()).collect();
            names.sort();
            names.dedup();
            protocols.sort();
            protocols.dedup();
            let message = format!(
                "Multiple ServiceEntries ({}) define the same host {host:?} and port {number} with conflicting protocols ({}).",
                names.join(", "),
                protocols.join(", "),
            );
            found.push(PROTOCOLS.at(item, format!("spec.ports[{i}].protocol"), message));
        }
    }
}

/// The workloads and the port of a server.
type Place = (String, u64);

/// A server: its Gateway, its number, and its hosts.
type Server<'a> = (Item<'a>, usize, Vec<&'a str>);

/// Servers of different Gateways with the same workload, port and host.
pub(super) fn gateways(world: &World<'_>, found: &mut Vec<Finding>) {
    let mut by_place: BTreeMap<Place, Vec<Server<'_>>> = BTreeMap::new();
    for item in world.of(GATEWAY) {
        let selector = written(&labels(&item.spec()["selector"]));
        for (i, server) in items(&item.spec()["servers"]).iter().enumerate() {
            let port = server["port"]["number"].as_u64().unwrap_or_default();
            let hosts = texts(&server["hosts"]).collect();
            by_place.entry((selector.clone(), port)).or_default().push((item, i, hosts));
        }
    }
    for ((selector, port), servers) in &by_place {
        for (item, i, hosts) in servers {
            let other = |other: &Item<'_>| other.full_name() != item.full_name();
            let others =
                servers.iter().filter(|(o, _, theirs)| other(o) && theirs.iter().any(|host| hosts.contains(host)));
            let mut names: Vec<String> = others.map(|(other, _, _)| other.full_name()).collect();
            names.dedup();
            if !names.is_empty() {
                let message = format!(
                    "Conflict with gateways {} (workload selector {selector}, port {port}, hosts {}).",
                    names.join(","),
                    hosts.join(","),
                );
                found.push(SAME_PORT.at(item, format!("spec.servers[{i}]"), message));
            }
        }
    }
}

/// Whether a value says nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
