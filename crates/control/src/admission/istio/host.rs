//! Hosts, ports, addresses, and who sees an object.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::istio::Hostname;
use api::name;
use ipnet::IpNet;
use serde_json::Value;

use super::finding::{Findings, items, texts};

/// A name, whose first label may be a wildcard.
pub(super) fn check_domain(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("empty domain name not allowed".to_owned());
    }
    if host.len() > 255 {
        return Err(format!("domain name {host:?} too long (max 255)"));
    }
    if Hostname::is_valid(host) {
        return Ok(());
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.').enumerate();
    let wrong = |(index, label): &(usize, &str)| !(Hostname::is_valid(label) && (*label != "*" || *index == 0));
    let label = labels.into_iter().find(wrong).map_or("", |(_, label)| label);
    Err(format!("domain name {host:?} invalid (label {label:?} invalid)"))
}

/// A name without a wildcard.
pub(super) fn check_name(host: &str) -> Result<(), String> {
    match host.split('.').next() {
        Some(label @ "*") => Err(format!("domain name {host:?} invalid (label {label:?} invalid)")),
        _ => check_domain(host),
    }
}

/// `HOST`, or `NAMESPACE/HOST`, of which a sidecar needs the latter.
pub(super) fn check_scoped(host: &str, gateway: bool) -> Result<(), String> {
    let Some((namespace, name)) = host.split_once('/') else {
        return if gateway { check_domain(host) } else { Err("host must be of form namespace/dnsName".to_owned()) };
    };
    if name.is_empty() || namespace.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".to_owned());
    }
    if name.contains('/') {
        return Err(format!("domain name {name:?} invalid (label {name:?} invalid)"));
    }
    if !gateway && namespace == "~" && name != "*" {
        return Err("config scope ~ without a host of * is not allowed".to_owned());
    }
    let special = namespace == "*" || namespace == "." || (!gateway && namespace == "~");
    if !special && name::check_label(namespace).is_err() {
        return Err(format!("invalid namespace value {namespace:?}"));
    }
    check_domain(name)
}

/// A port by number.
pub(super) fn check_port(number: &Value) -> Result<(), String> {
    match number.as_u64().unwrap_or_default() {
        1..=65535 => Ok(()),
        other => Err(format!("port number {other} must be in the range 1..65535")),
    }
}

/// The name of a port.
pub(super) fn check_port_name(name: &str) -> Result<(), String> {
    name::check_label(name).map_err(|_| format!("invalid port name: {name}"))
}

/// What is spoken at a port, as far as it can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Tls,
    Tcp,
}

impl Protocol {
    /// Reads Istio's names in any case; nothing for others.
    pub(super) fn parse(text: &str) -> Option<Protocol> {
        match text.to_ascii_lowercase().as_str() {
            "http" | "http2" | "grpc" | "grpc-web" | "http_proxy" | "hbone" => Some(Protocol::Http),
            "https" | "tls" => Some(Protocol::Tls),
            "tcp" | "udp" | "mongo" | "redis" | "mysql" => Some(Protocol::Tcp),
            _ => None,
        }
    }
}

/// A protocol that may be left out.
pub(super) fn check_protocol(text: &str) -> Result<(), String> {
    let known = text.is_empty() || Protocol::parse(text).is_some();
    if known { Ok(()) } else { Err(format!("unsupported protocol: {text}")) }
}

/// An address or a CIDR.
pub(super) fn check_subnet(text: &str) -> Result<(), String> {
    let valid = text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if valid { Ok(()) } else { Err(format!("{text} is not a valid IP address or CIDR")) }
}

/// The same for each of a list, as rules for callers word it.
pub(super) fn check_blocks(list: &Value, findings: &mut Findings) {
    for block in texts(list).filter(|block| !block.is_empty()) {
        if block.contains('/') {
            let why = format!("bad CIDR range ({block}): invalid CIDR address: {block}");
            findings.refuse_if(block.parse::<IpNet>().is_err(), why);
        } else {
            findings.refuse_if(block.parse::<IpAddr>().is_err(), format_args!("bad IP address ({block})"));
        }
    }
}

/// The name of a subset.
pub(super) fn check_subset(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("subset name cannot be empty".to_owned());
    }
    name::check_label(name).map_err(|_| format!("subset name is invalid: {name}"))
}

/// Who sees an object. Only service entries may be seen by nobody.
pub(super) fn check_export(export: &Value, namespace: &str, service_entry: bool, findings: &mut Findings) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for entry in texts(export) {
        let key = if entry == "." { namespace } else { entry };
        if !seen.insert(key) {
            findings.refuse(match key == entry {
                true => format!("duplicate entries in exportTo for entry {entry}"),
                false => format!("duplicate entries in exportTo: . and current namespace {namespace}"),
            });
        }
        let special = key == "*" || (service_entry && key == "~");
        let why = format!("only .,*, or a valid DNS 1123 label is allowed as exportTo entry: {entry}");
        findings.refuse_if(!special && name::check_label(key).is_err(), why);
    }
    let several = items(export).len() > 1;
    let public = "cannot have both public (*) and non-public exportTo values for a resource";
    findings.refuse_if(several && seen.contains("*"), public);
    findings.refuse_if(several && seen.contains("~"), "cannot export service entry to no one (~) and someone");
}
