//! Routes that are never taken, or that do not say where to.

use std::collections::BTreeMap;

use api::istio::Hostname;
use serde_json::Value;

use super::reference::destinations_of;
use super::world::{Item, VIRTUAL_SERVICE, World, items};
use super::{Finding, Rule};
use crate::Severity;
use crate::mesh::DOMAIN;

const PORT_REQUIRED: Rule = Rule("IST0112", "VirtualServiceDestinationPortSelectorRequired", Severity::Error);
const UNREACHABLE: Rule = Rule("IST0130", "VirtualServiceUnreachableRule", Severity::Warning);
const INEFFECTIVE: Rule = Rule("IST0131", "VirtualServiceIneffectiveMatch", Severity::Info);

/// Destinations with several ports of which none is named.
pub(super) fn ports(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(VIRTUAL_SERVICE) {
        let unspecified = destinations_of(&item);
        for destination in unspecified.iter().filter(|d| d.value["port"].is_null() && !d.host().is_empty()) {
            let host = Hostname::resolve(destination.host(), item.namespace(), DOMAIN);
            let behind = world.behind(&host);
            let [service] = behind.as_slice() else { continue };
            let ports: Vec<String> = items(&service.spec()["ports"]).iter().map(number).collect();
            if ports.len() > 1
                && destination.field.starts_with("spec.http")
                && !is_bound_by_match(&item, &destination.field)
            {
                let message = format!(
                    "This VirtualService routes to a service {:?} that exposes multiple ports [{}]. Specifying a port in the \
                     destination is required to disambiguate.",
                    destination.host(),
                    ports.join(" "),
                );
                found.push(PORT_REQUIRED.at(&item, format!("{}.port", destination.field), message));
            }
        }
    }
}

fn number(port: &Value) -> String {
    let number = if port["port"].is_null() { &port["number"] } else { &port["port"] };
    number.as_u64().unwrap_or_default().to_string()
}

/// Whether every condition of the destination's rule says at which port it was called.
fn is_bound_by_match(item: &Item<'_>, field: &str) -> bool {
    let index = field.split(['[', ']']).nth(1).and_then(|index| index.parse::<usize>().ok());
    let rule = index.and_then(|index| items(&item.spec()["http"]).get(index));
    let conditions = rule.map(|rule| items(&rule["match"])).unwrap_or_default();
    !conditions.is_empty() && conditions.iter().all(|condition| condition["port"].is_u64())
}

/// Rules that an earlier one leaves nothing to.
pub(super) fn unreachable(world: &World<'_>, found: &mut Vec<Finding>) {
    for item in world.of(VIRTUAL_SERVICE) {
        for protocol in ["http", "tls", "tcp"] {
            of_rules(&item, protocol, items(&item.spec()[protocol]), found);
        }
    }
}

fn of_rules(item: &Item<'_>, protocol: &str, rules: &[Value], found: &mut Vec<Finding>) {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut everything: Option<usize> = None;
    for (i, rule) in rules.iter().enumerate() {
        let field = format!("spec.{protocol}[{i}]");
        let conditions = items(&rule["match"]);
        if let Some(earlier) = everything {
            let why = match conditions.is_empty() {
                true => "only the last rule can have no matches".to_owned(),
                false => format!("{} before it matches everything", name(&rules[earlier], earlier)),
            };
            let message = format!("VirtualService rule {} not used ({why}).", name(rule, i));
            found.push(UNREACHABLE.at(item, field.as_str(), message).with_fix("move it up, or remove it"));
        }
        if conditions.is_empty() {
            everything = everything.or(Some(i));
            continue;
        }
        let mut repeated = 0;
        for (j, condition) in conditions.iter().enumerate() {
            match known.get(&condition.to_string()) {
                Some(earlier) => {
                    repeated += 1;
                    let message = format!(
                        "VirtualService rule {} match {} is not used (duplicate/overlapping match in rule {}).",
                        name(rule, i),
                        name(condition, j),
                        name(&rules[*earlier], *earlier),
                    );
                    found.push(INEFFECTIVE.at(item, format!("{field}.match[{j}]"), message));
                }
                None => drop(known.insert(condition.to_string(), i)),
            }
        }
        if repeated == conditions.len() && everything.is_none() {
            let message = format!("VirtualService rule {} not used (all matches used by prior rules).", name(rule, i));
            found.push(UNREACHABLE.at(item, field, message));
        }
    }
}

/// A rule's or condition's name, or its number.
fn name(value: &Value, index: usize) -> String {
    value["name"].as_str().map_or_else(|| format!("#{index}"), |name| format!("{name:?}"))
}
