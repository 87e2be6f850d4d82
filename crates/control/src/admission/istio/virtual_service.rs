//! What a VirtualService may say.

use api::istio::Hostname;
use api::name;
use serde_json::Value;
use std::net::IpAddr;

use super::finding::{Findings, Subject, is_set, items, none_set, text, texts};
use super::host::{check_domain, check_export, check_name, check_port, check_subnet, check_subset};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    let hosts = items(&spec["hosts"]);
    if hosts.is_empty() {
        for (field, what) in [("gateways", "gateways"), ("tls", "tls route"), ("tcp", "tcp route")] {
            let why = format!("delegate virtual service must have no {what} specified");
            findings.refuse_if(is_set(&spec[field]), why);
        }
    }
    check_gateways(&spec["gateways"], findings);
    check_hosts(spec, findings);
    let empty = none_set(spec, &["http", "tcp", "tls"]);
    findings.refuse_if(empty, "http, tcp or tls must be provided in virtual service");
    items(&spec["http"]).iter().for_each(|route| check_http(route, hosts.is_empty(), findings));
    for route in items(&spec["tls"]) {
        check_tls(route, spec, findings);
    }
    for route in items(&spec["tcp"]) {
        items(&route["match"]).iter().for_each(|condition| check_condition(condition, findings));
        findings.refuse_if(items(&route["route"]).is_empty(), "TCP route is required");
        check_routes(&route["route"], findings);
    }
    check_export(&spec["exportTo"], subject.namespace, false, findings);
}

/// Whether it is for a gateway at all.
fn has_gateway(spec: &Value) -> bool {
    texts(&spec["gateways"]).any(|gateway| gateway != "mesh")
}

fn check_hosts(spec: &Value, findings: &mut Findings) {
    let hosts: Vec<&str> = texts(&spec["hosts"]).collect();
    let mut valid = true;
    for host in &hosts {
        let result = if host.parse::<IpAddr>().is_ok() { Ok(()) } else { check_domain(host) };
        let everything = *host == "*" && !has_gateway(spec);
        valid &= result.is_ok() && !everything;
        findings.check(result);
        let why = "wildcard host * is not allowed for virtual services bound to the mesh gateway";
        findings.refuse_if(everything, why);
    }
    if !valid {
        return;
    }
    for (index, one) in hosts.iter().enumerate() {
        for other in hosts.iter().skip(index + 1) {
            let (a, b) = (Hostname::new(one), Hostname::new(other));
            let why = format!("duplicate hosts in virtual service: {one} & {other}");
            findings.refuse_if(a.covers(&b) || b.covers(&a), why);
        }
    }
}

fn check_gateways(gateways: &Value, findings: &mut Findings) {
    for gateway in texts(gateways) {
        let Some((namespace, name)) = gateway.split_once('/') else {
            if let Some((name, rest)) = gateway.split_once('.') {
                let namespace = rest.split('.').next().unwrap_or_default();
                findings.warn_if(
                    true,
                    format_args!(
                        "using legacy gatewayName format {gateway:?}; prefer the <namespace>/<name> format: \
                         \"{namespace}/{name}\""
                    ),
                );
            }
            findings.check(check_name(gateway));
            continue;
        };
        let empty = namespace.is_empty() || name.is_empty();
        findings.refuse_if(empty, "config namespace and gateway name cannot be empty");
        let wrong = namespace != "." && name::check_label(namespace).is_err();
        findings.refuse_if(wrong, format_args!("invalid value for namespace: {namespace:?}"));
        findings.refuse_if(name::check_label(name).is_err(), format_args!("invalid value for gateway name: {name:?}"));
    }
}

/// Conditions that TCP and TLS have in common.
fn check_condition(condition: &Value, findings: &mut Findings) {
    texts(&condition["destinationSubnets"]).for_each(|subnet| findings.check(check_subnet(subnet)));
    check_match_port(condition, findings);
    check_gateways(&condition["gateways"], findings);
}

fn check_match_port(condition: &Value, findings: &mut Findings) {
    if condition["port"].as_u64().is_some_and(|port| port != 0) {
        findings.check(check_port(&condition["port"]));
    }
}

fn check_tls(route: &Value, spec: &Value, findings: &mut Findings) {
    let conditions = items(&route["match"]);
    findings.refuse_if(conditions.is_empty(), "TLS route must have at least one match condition");
    for condition in conditions {
        let names = &condition["sniHosts"];
        findings.refuse_if(items(names).is_empty(), "TLS match must have at least one SNI host");
        texts(names).for_each(|name| check_server_name(name, spec, findings));
        check_condition(condition, findings);
    }
    findings.refuse_if(items(&route["route"]).is_empty(), "TLS route is required");
    check_routes(&route["route"], findings);
}

fn check_server_name(name: &str, spec: &Value, findings: &mut Findings) {
    if name.parse::<IpAddr>().is_ok() {
        let why = format!("using an IP address ({name:?}) goes against SNI spec and most clients do not support this");
        return findings.warn_if(true, why);
    }
    if let Err(why) = check_domain(name) {
        return findings.refuse(why);
    }
    let hosts: Vec<&str> = texts(&spec["hosts"]).collect();
    let covered = hosts.iter().any(|host| Hostname::new(host).covers(&Hostname::new(name)));
    findings.refuse_if(
        !covered,
        format_args!(
            "SNI host {name:?} is not a compatible subset of any of the virtual service hosts: [{}]",
            hosts.join(", ")
        ),
    );
}

/// Destinations with their weights.
fn check_routes(routes: &Value, findings: &mut Findings) {
    let routes = items(routes);
    let mut total = 0;
    for route in routes {
        findings.refuse_if(route["destination"].is_null(), "destination is required");
        check_destination(&route["destination"], findings);
        let weight = route["weight"].as_i64().unwrap_or_default();
        findings.refuse_if(weight < 0, format_args!("weight {weight} < 0"));
        total += weight;
    }
    findings.refuse_if(routes.len() > 1 && total == 0, "total destination weight = 0");
}

/// A service, or a subset of it.
pub(super) fn check_destination(destination: &Value, findings: &mut Findings) {
    if destination.is_null() {
        return;
    }
    match text(&destination["host"]) {
        "*" => findings.refuse("invalid destination host *"),
        host => findings.check(check_domain(host)),
    }
    if is_set(&destination["subset"]) {
        findings.check(check_subset(text(&destination["subset"])));
    }
    if destination["port"].is_object() {
        findings.check(check_port(&destination["port"]["number"]));
    }
}

fn check_http(route: &Value, delegate: bool, findings: &mut Findings) {
    let set = |field: &str| is_set(&route[field]);
    if set("delegate") && delegate {
        findings.refuse("delegate HTTP route cannot contain delegate");
    }
    let answers = ["redirect", "directResponse", "delegate"].into_iter().filter(|field| set(field));
    if set("redirect") {
        for field in ["route", "fault", "rewrite"] {
            findings.refuse_if(set(field), format_args!("HTTP route cannot contain both {field} and redirect"));
        }
    } else if set("directResponse") {
        for (field, title) in [("route", "route"), ("fault", "fault"), ("rewrite", "rewrite")] {
            findings.refuse_if(set(field), format_args!("HTTP route cannot contain both {title} and direct_response"));
        }
    }
    let nowhere = !set("route") && answers.count() == 0;
    findings.refuse_if(nowhere, "HTTP route, redirect or direct_response is required");
    findings.refuse_if(set("mirror") && set("mirrors"), "HTTP route cannot contain both mirror and mirrors");
    for condition in items(&route["match"]) {
        check_match_port(condition, findings);
        check_gateways(&condition["gateways"], findings);
        check_patterns(condition, findings);
    }
    check_routes(&route["route"], findings);
    check_destination(&route["mirror"], findings);
    check_rewrite(&route["rewrite"], findings);
    let status = route["redirect"]["redirectCode"].as_u64().unwrap_or_default();
    let wrong = status != 0 && !(300..400).contains(&status);
    findings.refuse_if(wrong, format_args!("{status} is not a valid redirect code, must be 3xx"));
    check_fault(&route["fault"], findings);
}

fn check_patterns(condition: &Value, findings: &mut Findings) {
    let plain = ["uri", "scheme", "method", "authority"].map(|field| (field, &condition[field]));
    let named = ["headers", "queryParams", "withoutHeaders"].into_iter();
    let named =
        named.flat_map(|field| condition[field].as_object().into_iter().flatten().map(move |(_, p)| (field, p)));
    for (field, pattern) in plain.into_iter().chain(named) {
        let empty = pattern["prefix"] == "" && field != "uri" || pattern["regex"] == "";
        findings.refuse_if(empty, format_args!("{field:?} match can not be empty: it has an empty prefix or regex"));
        let regex = text(&pattern["regex"]);
        let long = regex.len() > 1024;
        findings.refuse_if(long, format_args!("{field:?}: regex is too large, max length allowed is 1024"));
    }
}

fn check_rewrite(rewrite: &Value, findings: &mut Findings) {
    if rewrite.is_null() {
        return;
    }
    let set = |field: &str| is_set(&rewrite[field]);
    let both = set("uri") && set("uriRegexRewrite");
    findings.refuse_if(both, "rewrite may only contain one of URI or UriRegexRewrite");
    let neither = !set("uri") && !set("uriRegexRewrite") && !set("authority");
    findings.refuse_if(neither, "rewrite must specify at least one of URI, authority, or UriRegexRewrite");
}

fn check_fault(fault: &Value, findings: &mut Findings) {
    if fault.is_null() {
        return;
    }
    let empty = none_set(fault, &["abort", "delay"]);
    findings.refuse_if(empty, "HTTP fault injection must have an abort and/or a delay");
    let abort = &fault["abort"];
    if let Some(status) = abort["httpStatus"].as_i64() {
        findings.refuse_if(!(200..600).contains(&status), format_args!("HTTP status {status} is not in range 200-599"));
    }
    for action in ["abort", "delay"] {
        let share = fault[action]["percentage"]["value"].as_f64().unwrap_or_default();
        let wrong = !(0.0..=100.0).contains(&share);
        findings.refuse_if(wrong, format_args!("percentage {share} is not in range [0.0, 100.0]"));
    }
}
