//! What objects name and nobody defines.

use api::istio::{Hostname, includes};
use serde_json::Value;

use super::world::{
    AUTHORIZATION_POLICY, DESTINATION_RULE, ENVOY_FILTER, GATEWAY, Item, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION,
    SIDECAR, TELEMETRY, VIRTUAL_SERVICE, World, field, items, labels, texts, written,
};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::DOMAIN;

const NOT_FOUND: Rule = Rule("IST0101", "ReferencedResourceNotFound", Severity::Error);
const NO_WORKLOADS: Rule = Rule("IST0127", "NoMatchingWorkloadsFound", Severity::Warning);
const NO_PODS: Rule = Rule("IST0173", "DestinationRuleSubsetNotSelectPods", Severity::Warning);
const UNKNOWN_HOST: Rule = Rule("IST0174", "UnknownDestinationRuleHost", Severity::Warning);

/// The gateway that stands for all sidecars.
pub(super) const MESH: &str = "mesh";

/// The root namespace, whose objects hold everywhere.
const ROOT: &str = "istio-system";

pub(super) fn not_found(item: &Item<'_>, at: impl Into<String>, what: &str, name: &str) -> Finding {
    NOT_FOUND.at(item, at, format!("Referenced {what} not found: {name:?}"))
}

/// A destination of a route, with where it is written.
pub(super) struct Destination<'a> {
    pub(super) field: String,
    pub(super) value: &'a Value,
}

impl<'a> Destination<'a> {
    pub(super) fn host(&self) -> &'a str {
        self.value["host"].as_str().unwrap_or_default()
    }

    pub(super) fn subset(&self) -> &'a str {
        self.value["subset"].as_str().unwrap_or_default()
    }
}

/// Every destination of a VirtualService.
pub(super) fn destinations_of<'a>(item: &Item<'a>) -> Vec<Destination<'a>> {
    let mut all = Vec::new();
    for protocol in ["http", "tcp", "tls"] {
        for (i, rule) in items(&item.spec()[protocol]).iter().enumerate() {
            let at = format!("spec.{protocol}[{i}]");
            let mut listed = |name: &str| {
                for (j, target) in items(&rule[name]).iter().enumerate() {
                    let field = format!("{at}.{name}[{j}].destination");
                    all.push(Destination { field, value: &target["destination"] });
                }
            };
            listed("route");
            listed("mirrors");
            if rule["mirror"].is_object() {
                all.push(Destination { field: format!("{at}.mirror"), value: &rule["mirror"] });
            }
        }
    }
    all
}

/// Destinations of routes that are no host, or no subset of it.
pub(super) fn destinations(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(VIRTUAL_SERVICE) {
        for destination in destinations_of(&item).iter().filter(|d| !d.host().is_empty()) {
            let host = Hostname::resolve(destination.host(), item.namespace(), DOMAIN);
            if world.behind(&host).is_empty() {
                let finding = not_found(&item, format!("{}.host", destination.field), "host", destination.host());
                found.push(with_advice(finding, nearest(world, &host, item.namespace())));
            } else if !destination.subset().is_empty() {
                found.extend(missing_subset(world, &item, destination, &host));
            }
        }
    }
}

fn missing_subset(
    world: &World<'_>,
    item: &Item<'_>,
    destination: &Destination<'_>,
    host: &Hostname,
) -> Option<Finding> {
    let rules = world.of(DESTINATION_RULE).filter(|rule| {
        let own = Hostname::resolve(rule.text("/spec/host"), rule.namespace(), DOMAIN);
        own == *host || own.covers(host)
    });
    let subsets: Vec<&str> =
        rules.flat_map(|rule| items(&rule.spec()["subsets"]).iter().filter_map(|s| s["name"].as_str())).collect();
    if subsets.contains(&destination.subset()) {
        return None;
    }
    let name = format!("{}+{}", destination.host(), destination.subset());
    let finding = not_found(item, format!("{}.subset", destination.field), "host+subset in destinationrule", &name);
    let advice = match subsets.as_slice() {
        [] => format!(
            "define the subset {:?} in a DestinationRule for {host}; there is none for it",
            destination.subset()
        ),
        known => format!("define the subset {:?}, or use one of {}", destination.subset(), known.join(", ")),
    };
    Some(finding.with_fix(advice))
}

/// The host that may have been meant: with the same name in another namespace, or with one letter more, less or other.
fn nearest(world: &World<'_>, host: &Hostname, namespace: &str) -> Option<String> {
    let first = |host: &Hostname| host.as_str().split('.').next().unwrap_or_default().to_owned();
    let wanted = first(host);
    let same = world.hosts().find(|known| first(known) == wanted);
    let similar = || world.hosts().find(|known| differ_by_one(&first(known), &wanted));
    let known = same.or_else(similar)?;
    let suffix = format!(".{namespace}.svc.{DOMAIN}");
    Some(format!("use {:?}", known.as_str().strip_suffix(&suffix).unwrap_or(known.as_str())))
}

fn differ_by_one(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let (short, long) =
        (short.as_bytes().get(same..).unwrap_or_default(), long.as_bytes().get(same..).unwrap_or_default());
    match (short.len(), long.len()) {
        (s, l) if s == l => short.get(1..) == long.get(1..) && l > 0,
        (s, l) if s + 1 == l => long.get(1..) == Some(short),
        _ => false,
    }
}

fn with_advice(finding: Finding, advice: Option<String>) -> Finding {
    match advice {
        Some(advice) => finding.with_fix(advice),
        None => finding,
    }
}

/// The gateway that a VirtualService names: `NAME`, `NAMESPACE/NAME`, `./NAME`, or as older ones have it, `NAME.NAMESPACE`
/// with more of a domain behind it.
pub(super) fn find_gateway<'a>(world: &World<'a>, named: &str, namespace: &str) -> Option<Item<'a>> {
    let at = |name: &str, namespace: &str| {
        world.of(GATEWAY).find(|gateway| gateway.name() == name && gateway.namespace() == namespace)
    };
    match named.split_once('/') {
        Some((".", name)) => at(name, namespace),
        Some((other, name)) => at(name, other),
        None => at(named, namespace).or_else(|| {
            let (name, rest) = named.split_once('.')?;
            at(name, rest.split('.').next()?)
        }),
    }
}

/// Gateways of routes that are not there.
pub(super) fn gateways(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(VIRTUAL_SERVICE) {
        let named = texts(&item.spec()["gateways"]).enumerate();
        for (i, name) in named.filter(|(_, name)| *name != MESH) {
            if find_gateway(world, name, item.namespace()).is_none() {
                found.push(not_found(&item, format!("spec.gateways[{i}]"), "gateway", name));
            }
        }
    }
}

/// DestinationRules for hosts that nothing answers to, and subsets without a pod.
pub(super) fn destination_rules(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    for item in world.of(DESTINATION_RULE) {
        let named = item.text("/spec/host");
        let host = Hostname::resolve(named, item.namespace(), DOMAIN);
        let behind = world.behind(&host);
        if behind.is_empty() {
            let finding = UNKNOWN_HOST.at(
                &item,
                "spec.host",
                format!("The host {named} defined in the DestinationRule does not match any services in the mesh."),
            );
            found.push(with_advice(finding, nearest(world, &host, item.namespace())));
            continue;
        }
        // What a ServiceEntry has for endpoints need not be pods.
        let [service] = behind.as_slice() else { continue };
        let selector = labels(&service.spec()["selector"]);
        if service.kind() != "Service" || selector.is_empty() {
            continue;
        }
        for (i, subset) in items(&item.spec()["subsets"]).iter().enumerate() {
            let mut wanted = labels(&subset["labels"]);
            wanted.extend(selector.clone());
            let matches = workloads.iter().any(|w| w.namespace == service.namespace() && includes(&w.labels, &wanted));
            if !matches {
                let name = subset["name"].as_str().unwrap_or_default();
                let message = format!("The Subset {name} defined in the DestinationRule does not select any pods.");
                found.push(NO_PODS.at(&item, format!("spec.subsets[{i}]"), message));
            }
        }
    }
}

/// Selectors that select nothing.
pub(super) fn selectors(world: &World<'_>, found: &mut Vec<Finding>) {
    let workloads = world.workloads();
    let kinds = [AUTHORIZATION_POLICY, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION, TELEMETRY, SIDECAR, ENVOY_FILTER];
    for item in kinds.into_iter().flat_map(|kind| world.of(kind)) {
        let Some((at, selector)) = selector(&item) else { continue };
        let wanted = labels(selector);
        let here = |namespace: &str| item.namespace() == ROOT || item.namespace() == namespace;
        if !wanted.is_empty() && !workloads.iter().any(|w| here(w.namespace) && includes(&w.labels, &wanted)) {
            let message =
                format!("No matching workloads for this resource with the following labels: {}", written(&wanted));
            found.push(NO_WORKLOADS.at(&item, at, message));
        }
    }
}

/// The labels by which an object chooses workloads, and the field that holds them.
pub(super) fn selector<'a>(item: &Item<'a>) -> Option<(&'static str, &'a Value)> {
    let spec = item.spec();
    let security = field(&spec["selector"], "matchLabels", "match_labels");
    let networking = &field(spec, "workloadSelector", "workload_selector")["labels"];
    let older = field(spec, "workloadLabels", "workload_labels");
    let found = [("spec.selector", security), ("spec.workloadSelector", networking), ("spec.workloadLabels", older)];
    found.into_iter().find(|(_, labels)| labels.is_object())
}
