//! What a ServiceEntry and WorkloadEntry may say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::finding::{Findings, Subject, is_set, items, text, texts};
use super::host::{
    Protocol, check_domain, check_export, check_name, check_port, check_port_name, check_protocol, check_subnet,
};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    let selector = &spec["workloadSelector"];
    let both = !selector.is_null() && !spec["endpoints"].is_null();
    findings.refuse_if(both, "only one of WorkloadSelector or Endpoints is allowed in Service Entry");
    let all = selector.is_object() && selector["labels"].as_object().is_none_or(|labels| labels.is_empty());
    findings.warn_if(
        all,
        "service entry: workload selector specified without labels, will be applied to all services in namespace",
    );
    check_hosts(&spec["hosts"], findings);
    let resolution = spec["resolution"].as_str().unwrap_or("NONE");
    check_addresses(spec, resolution, findings);
    let names = check_ports(spec, findings);
    check_endpoints(spec, resolution, &names, findings);
    check_hosts_apart(spec, resolution, findings);
    check_export(&spec["exportTo"], subject.namespace, true, findings);
}

fn check_hosts(hosts: &Value, findings: &mut Findings) {
    findings.refuse_if(items(hosts).is_empty(), "service entry must have at least one host");
    for host in texts(hosts) {
        if host == "*" {
            findings.refuse(format_args!("invalid host {host}"));
        } else {
            findings.check(check_domain(host));
        }
    }
}

fn check_addresses(spec: &Value, resolution: &str, findings: &mut Findings) {
    let addresses = &spec["addresses"];
    texts(addresses).for_each(|address| findings.check(check_subnet(address)));
    let networks = texts(addresses).any(|address| address.contains('/')) && !matches!(resolution, "NONE" | "STATIC");
    findings.refuse_if(networks, "CIDR addresses are allowed only for NONE/STATIC resolution types");
}

/// Checks the ports, and gives their names.
fn check_ports<'a>(spec: &'a Value, findings: &mut Findings) -> BTreeSet<&'a str> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in items(&spec["ports"]) {
        let name = text(&port["name"]);
        let known = !names.insert(name);
        findings.refuse_if(known, format_args!("service entry port name {name:?} already defined"));
        let number = port["number"].as_u64();
        let known = !numbers.insert(number);
        let shown = number.unwrap_or_default();
        findings.refuse_if(known, format_args!("service entry port {shown} already defined"));
        if is_set(&port["targetPort"]) && port["targetPort"] != 0 {
            findings.check(check_port(&port["targetPort"]));
        }
        findings.check(check_port_name(name));
        findings.check(check_protocol(text(&port["protocol"])));
        findings.check(check_port(&port["number"]));
        let plain = matches!(text(&port["protocol"]), "" | "TCP") && !is_set(&spec["addresses"]);
        findings.warn_if(
            plain,
            "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled",
        );
    }
    names
}

fn check_endpoints(spec: &Value, resolution: &str, names: &BTreeSet<&str>, findings: &mut Findings) {
    let endpoints = items(&spec["endpoints"]);
    let unwanted = resolution == "NONE" && !endpoints.is_empty();
    findings.refuse_if(unwanted, "no endpoints should be provided for resolution type none");
    if matches!(resolution, "DNS" | "DNS_ROUND_ROBIN") && endpoints.is_empty() {
        let wrong = texts(&spec["hosts"]).find_map(|host| check_name(host).err());
        findings.errors.extend(wrong.map(|why| {
            format!(
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode \
                 {resolution}, {why}"
            )
        }));
    }
    let several = resolution == "DNS_ROUND_ROBIN" && endpoints.len() > 1;
    findings.refuse_if(several, format_args!("there must only be 0 or 1 endpoint for resolution mode {resolution}"));
    if resolution == "NONE" {
        return;
    }
    for endpoint in endpoints {
        check_workload_entry(endpoint, resolution != "STATIC", findings);
        for (name, port) in endpoint["ports"].as_object().into_iter().flatten() {
            let unknown = !names.contains(name.as_str());
            findings.refuse_if(unknown, format_args!("endpoint port {port} is not defined by the service entry"));
        }
        let unix = text(&endpoint["address"]).starts_with(UNIX) && names.len() != 1;
        findings.refuse_if(unix, "exactly 1 service port required for unix endpoints");
    }
}

/// Without HTTP or TLS, connections to one of several hosts cannot be told apart.
fn check_hosts_apart(spec: &Value, resolution: &str, findings: &mut Findings) {
    let several = resolution != "NONE" && items(&spec["hosts"]).len() > 1;
    let plain =
        |port: &Value| !matches!(Protocol::parse(text(&port["protocol"])), Some(Protocol::Http | Protocol::Tls));
    let plain = items(&spec["ports"]).iter().any(plain);
    findings.refuse_if(several && plain, "multiple hosts provided with non-HTTP, non-TLS ports");
}

const UNIX: &str = "unix://";

pub(super) fn check_workload(subject: &Subject<'_>, findings: &mut Findings) {
    check_workload_entry(subject.spec, true, findings);
}

fn check_workload_entry(entry: &Value, named: bool, findings: &mut Findings) {
    let address = text(&entry["address"]);
    if address.is_empty() {
        let network = text(&entry["network"]);
        if network.is_empty() {
            return findings.refuse("address is required");
        }
        findings.warn_if(true, format_args!("address is unset with network {network:?}"));
    } else if let Some(path) = address.strip_prefix(UNIX) {
        let absolute = path.starts_with(['/', '@']) && !path.ends_with('/');
        findings.refuse_if(!absolute, format_args!("{path} is not an absolute path"));
        let ports = is_set(&entry["ports"]);
        findings.refuse_if(ports, format_args!("unix endpoint {address} must not include ports"));
    } else if address.parse::<IpAddr>().is_err() {
        if !named {
            findings.refuse(format_args!("endpoint address {address:?} is not a valid IP address"));
        } else if check_name(address).is_err() {
            findings.refuse(format_args!("endpoint address {address:?} is not a valid FQDN or an IP address"));
        }
    }
    for (name, port) in entry["ports"].as_object().into_iter().flatten() {
        findings.check(check_port_name(name));
        findings.check(check_port(port));
    }
}
