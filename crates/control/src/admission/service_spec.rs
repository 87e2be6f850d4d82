//! A Service's specification: its defaults, what it keeps and loses on an update, and what it must be.

use std::collections::BTreeSet;

use api::{Cause, name};
use serde_json::{Value, json};

use super::container::check_target;
use super::field::{Field, default, default_text, items_mut, object_at, remove, set};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// The type; the default applies where there is none.
pub(super) fn type_of(spec: &Value) -> &str {
    spec["type"].as_str().filter(|t| !t.is_empty()).unwrap_or("ClusterIP")
}

/// Whether a service of this kind has ClusterIPs (or the explicit absence of one, `None`).
pub(super) fn has_cluster_ip(spec: &Value) -> bool {
    type_of(spec) != "ExternalName"
}

pub(super) fn is_headless(spec: &Value) -> bool {
    spec["clusterIP"] == "None" || spec["clusterIPs"][0] == "None"
}

/// Whether ports of this service get node ports.
pub(super) fn has_node_ports(spec: &Value) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != json!(false),
        _ => false,
    }
}

fn may_have_node_ports(spec: &Value) -> bool {
    matches!(type_of(spec), "NodePort" | "LoadBalancer")
}

/// Fills in defaults (`SetDefaults_Service`).
pub(super) fn defaults(spec: &mut Value) {
    default_text(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        if let Some(client) = object_at(spec, &["sessionAffinityConfig", "clientIP"]) {
            default(client, "timeoutSeconds", 10_800);
        }
    } else {
        remove(spec, "sessionAffinityConfig");
    }
    default_text(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        default_text(port, "protocol", "TCP");
        if port["targetPort"] == json!(0) || port["targetPort"] == json!("") {
            remove(port, "targetPort");
        }
        let number = port["port"].clone();
        default(port, "targetPort", number);
        if port["nodePort"] == json!(0) {
            remove(port, "nodePort");
        }
    }
    if may_have_node_ports(spec) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if type_of(spec) == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    if has_cluster_ip(spec) {
        default_text(spec, "internalTrafficPolicy", "Cluster");
        default_text(spec, "ipFamilyPolicy", "SingleStack");
        default(spec, "ipFamilies", json!(["IPv4"]));
    }
}

/// Applies what an update leaves unsaid: a client that changes the type need not clear what only the old type
/// has, and one that does not mention allocated values keeps them.
pub(super) fn carry_over(old: &Value, new: &mut Value) {
    if has_cluster_ip(old) && !has_cluster_ip(new) {
        drop_unchanged(old, new, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if may_have_node_ports(old) && !may_have_node_ports(new) {
        if node_ports(old) == node_ports(new) {
            items_mut(new, "ports").for_each(|port| remove(port, "nodePort"));
        }
        drop_unchanged(old, new, &["externalTrafficPolicy"]);
    }
    if type_of(old) == "LoadBalancer" && type_of(new) != "LoadBalancer" {
        drop_unchanged(old, new, &["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]);
    }
    if type_of(old) == "ExternalName" && type_of(new) != "ExternalName" {
        drop_unchanged(old, new, &["externalName"]);
    }
    if has_cluster_ip(old) && has_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs"] {
            if is_unset(&new[field]) && !is_unset(&old[field]) {
                set(new, field, old[field].clone());
            }
        }
        if new["clusterIP"] != old["clusterIP"] && new["clusterIPs"] == old["clusterIPs"] {
            set(new, "clusterIPs", json!([new["clusterIP"]]));
        }
    }
    if may_have_node_ports(old) && may_have_node_ports(new) {
        keep_node_ports(old, new);
    }
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty)
}

fn drop_unchanged(old: &Value, new: &mut Value, fields: &[&str]) {
    for field in fields.iter().filter(|field| old[**field] == new[**field]).collect::<Vec<_>>() {
        remove(new, field);
    }
}

fn node_ports(spec: &Value) -> Vec<i64> {
    let ports = spec["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["nodePort"].as_i64()).collect()
}

/// Gives a port without a node port that of the port of the same name, unless another port asks for it.
fn keep_node_ports(old: &Value, new: &mut Value) {
    let mut used: BTreeSet<i64> = node_ports(new).into_iter().collect();
    let known: Vec<(Value, i64)> = old["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| Some((port["name"].clone(), port["nodePort"].as_i64()?)))
        .collect();
    for port in items_mut(new, "ports").filter(|port| port["nodePort"].is_null()) {
        if let Some((_, number)) = known.iter().find(|(name, number)| *name == port["name"] && !used.contains(number)) {
            used.insert(*number);
            set(port, "nodePort", *number);
        }
    }
}

/// Everything that is wrong with the specification at `spec`.
pub(super) fn check(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    causes.extend(spec.get("type").one_of(&TYPES));
    let kind = type_of(spec.value);
    let ports = spec.get("ports");
    if ports.items().next().is_none() && kind != "ExternalName" && !is_headless(spec.value) {
        causes.push(ports.required(""));
    }
    check_ports(spec, causes);
    causes.extend(spec.get("sessionAffinity").one_of(&["ClientIP", "None"]));
    let timeout = spec.get("sessionAffinityConfig").get("clientIP").get("timeoutSeconds");
    if timeout.int().is_some_and(|n| !(1..=86_400).contains(&n)) {
        causes.push(timeout.invalid("must be greater than 0 and less than 86400"));
    }
    for (key, value) in spec.get("selector").entries() {
        if let Err(why) = name::check_qualified(key).and_then(|()| name::check_label_value(value.str())) {
            causes.push(spec.get("selector").invalid(why));
        }
    }
    check_addresses(spec, causes);
    for policy in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        let policy = spec.get(policy);
        if !policy.is_empty() {
            causes.extend(policy.one_of(&["Cluster", "Local"]));
        }
    }
    let external = spec.get("externalTrafficPolicy");
    if !external.is_empty() && !may_have_node_ports(spec.value) {
        causes.push(external.invalid("may only be set for externally-accessible services"));
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        let field = spec.get(field);
        if !field.value.is_null() && kind != "LoadBalancer" {
            causes.push(field.forbidden("may only be used when `type` is 'LoadBalancer'"));
        }
    }
    spec.get("externalIPs").items().for_each(|ip| causes.extend(super::check_ip(&ip)));
}

fn check_ports(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let several = spec.get("ports").items().count() > 1;
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in spec.get("ports").items() {
        let own = port.get("name");
        if own.is_empty() {
            if several {
                causes.push(own.required(""));
            }
        } else {
            causes.extend(own.named(name::check_label));
            if !names.insert(own.str()) {
                causes.push(own.duplicate());
            }
        }
        causes.extend(port.get("port").port());
        causes.extend(port.get("protocol").one_of(&["SCTP", "TCP", "UDP"]));
        check_target(&port.get("targetPort"), causes);
        if !numbers.insert((port.get("protocol").str(), port.get("port").int())) {
            let pair = json!({ "port": port.value["port"], "protocol": port.value["protocol"] });
            causes.push(Cause::duplicate(port.path.clone(), &pair));
        }
        let node = port.get("nodePort");
        if !node.value.is_null() && !may_have_node_ports(spec.value) {
            causes.push(node.forbidden(format!("may not be used when `type` is '{}'", type_of(spec.value))));
        }
        let protocol = port.get("appProtocol");
        if !protocol.is_empty() {
            causes.extend(protocol.named(name::check_qualified));
        }
    }
}

/// Warnings about what is accepted and has no effect.
pub(super) fn warn(spec: &Field<'_>, warnings: &mut Vec<String>) {
    for port in spec.get("ports").items().filter(|port| port.get("protocol").str() == "SCTP") {
        let path = port.get("protocol").path;
        warnings.push(format!("{path}: this cluster forwards TCP and UDP: the port is stored and has no effect"));
    }
}

fn check_addresses(spec: &Field<'_>, causes: &mut Vec<Cause>) {
    let (one, list) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    if type_of(spec.value) == "ExternalName" {
        for field in [&one, &list] {
            if !is_unset(field.value) {
                causes.push(field.forbidden("may not be set for ExternalName services"));
            }
        }
        let external = spec.get("externalName");
        let target = external.str().trim_end_matches('.');
        if target.is_empty() {
            causes.push(external.required(""));
        } else if target.parse::<std::net::IpAddr>().is_err()
            && let Err(why) = name::check_subdomain(target)
        {
            causes.push(external.invalid(why));
        }
        return;
    }
    if !one.is_empty() && list.value[0] != *one.value {
        causes.push(list.invalid("first value must match `clusterIP`"));
    }
    for ip in list.items() {
        if ip.str() != "None" {
            causes.extend(super::check_ip(&ip));
        } else if type_of(spec.value) != "ClusterIP" {
            causes.push(ip.invalid(format!("may not be set to 'None' for {} services", type_of(spec.value))));
        }
    }
    if list.items().count() > 1 {
        causes.push(list.invalid("may only hold one address: this cluster is not configured for dual-stack services"));
    }
    if spec.get("ipFamilyPolicy").str() == "RequireDualStack" {
        causes.push(spec.get("ipFamilyPolicy").invalid("this cluster is not configured for dual-stack services"));
    }
    for family in spec.get("ipFamilies").items().filter(|family| family.str() != "IPv4") {
        causes.push(family.invalid("not configured on this cluster"));
    }
}

/// A ClusterIP may only be given up by becoming an ExternalName.
pub(super) fn check_update(old: &Value, spec: &Field<'_>, causes: &mut Vec<Cause>) {
    if !has_cluster_ip(old) || !has_cluster_ip(spec.value) {
        return;
    }
    let list = spec.get("clusterIPs");
    if !is_unset(&old["clusterIPs"]) && *list.value != old["clusterIPs"] {
        let first = Field { path: format!("{}[0]", list.path), value: list.value };
        causes.push(first.invalid("may not change once set"));
    }
}
