//! Services: defaults, validation, and the ClusterIPs and node ports they are given.

use std::net::Ipv4Addr;

use api::{ApiError, Cause, name};
use apiserver::{Key, Operation, Review};
use serde_json::{Value, json};

use super::address::{Allocator, Grant, Refused};
use super::field::{Field, items_mut, object_at, set};
use super::service_spec as rules;
use super::{check_name, verdict};
use crate::Config;

/// Reviews services; remembers which addresses it promised.
pub(super) struct Reviewer {
    allocator: Allocator,
}

impl Reviewer {
    pub(super) fn new(config: &Config) -> Reviewer {
        Reviewer { allocator: Allocator::new(config.plan.services(config.index)) }
    }

    /// Defaults, validation and allocation.
    pub(super) fn review(&self, review: &mut Review<'_>) -> Result<(), ApiError> {
        if !review.subresource.is_empty() {
            return Ok(());
        }
        if review.operation == Operation::Delete {
            self.allocator.release(&key_of(review));
            return Ok(());
        }
        if review.operation == Operation::Create {
            set(review.object, "status", json!({ "loadBalancer": {} }));
        }
        if let Some(spec) = object_at(review.object, &["spec"]) {
            if let Some(old) = review.old {
                rules::carry_over(&old["spec"], spec);
            }
            rules::defaults(spec);
            join_addresses(spec);
        }
        let mut causes: Vec<Cause> = check_name(review.name, name::check_label_1035).into_iter().collect();
        let spec = Field::of(review.object, "spec");
        rules::check(&spec, &mut causes);
        rules::warn(&spec, review.warnings);
        if let Some(old) = review.old {
            rules::check_update(&old["spec"], &spec, &mut causes);
        }
        if causes.is_empty() {
            self.allocate(review, &mut causes);
        }
        verdict(review, "", "Service", causes)
    }

    fn allocate(&self, review: &mut Review<'_>, causes: &mut Vec<Cause>) {
        let mut grant = self.allocator.grant(review.store, key_of(review));
        let Some(spec) = review.object.get_mut("spec") else { return };
        if rules::has_cluster_ip(spec) && !rules::is_headless(spec) {
            causes.extend(give_address(&mut grant, spec));
        }
        if rules::type_of(spec) == "NodePort" || rules::type_of(spec) == "LoadBalancer" {
            give_ports(&mut grant, spec, causes);
        }
        if causes.is_empty() && !review.dry_run {
            grant.promise();
        }
    }
}

fn key_of(review: &Review<'_>) -> Key {
    Key { resource: review.resource.clone(), namespace: review.namespace.to_owned(), name: review.name.to_owned() }
}

/// `clusterIP` and `clusterIPs` say the same; either may be given.
fn join_addresses(spec: &mut Value) {
    let one = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()).map(str::to_owned);
    let first = spec["clusterIPs"][0].as_str().map(str::to_owned);
    match (one, first) {
        (Some(one), None) => set(spec, "clusterIPs", json!([one])),
        (None, Some(first)) => set(spec, "clusterIP", first),
        _ => {}
    }
}

fn give_address(grant: &mut Grant<'_>, spec: &mut Value) -> Option<Cause> {
    let wanted = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty());
    let given = match wanted.map(str::parse::<Ipv4Addr>) {
        Some(Err(_)) => {
            return Some(in_spec(Field::of(spec, "clusterIPs").invalid("this cluster has IPv4 addresses only")));
        }
        Some(Ok(ip)) => grant.address(Some(ip)),
        None => grant.address(None),
    };
    match given {
        Ok(ip) => {
            set(spec, "clusterIP", ip.to_string());
            set(spec, "clusterIPs", json!([ip.to_string()]));
            None
        }
        Err(why) => Some(in_spec(Field::of(spec, "clusterIPs").invalid(why))),
    }
}

fn in_spec(cause: Cause) -> Cause {
    Cause { field: format!("spec.{}", cause.field), ..cause }
}

fn give_ports(grant: &mut Grant<'_>, spec: &mut Value, causes: &mut Vec<Cause>) {
    let allocate = rules::has_node_ports(spec);
    // Ports asked for come first, so that none of them is given to another port of the same service.
    for asked in [true, false] {
        for (i, port) in items_mut(spec, "ports").enumerate() {
            let wanted = port["nodePort"].as_u64();
            let given = match wanted {
                Some(number) if asked => {
                    u16::try_from(number).map_or(Err(Refused::PortOutsideRange), |n| grant.port(Some(n)))
                }
                None if !asked && allocate => grant.port(None),
                _ => continue,
            };
            match given {
                Ok(number) => set(port, "nodePort", number),
                Err(why) => {
                    let number = wanted.map_or(json!(0), Value::from);
                    causes.push(Cause::invalid(format!("spec.ports[{i}].nodePort"), &number, why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
