//! Service entries.

use std::net::IpAddr;
use std::sync::Arc;

use api::istio::{Hostname, Location, MeshConfig, Object, Resolution, ServiceEntry, ServicePort};
use ipnet::IpNet;

use super::protocol::Protocol;
use super::service::{Age, Discovery, Endpoint, Port, Service, Target, Visibility};
use super::workload::{Workload, Workloads};
use crate::{Code, Diagnostic, ObjectRef, wire};

/// A service for each host of an entry.
pub(super) fn services(
    entry: &Object<ServiceEntry>,
    mesh: &MeshConfig,
    workloads: &Workloads,
    found: &mut Vec<Diagnostic>,
) -> Vec<Service> {
    let (spec, object) = (&entry.spec, ObjectRef::of(entry));
    if spec.hosts.is_empty() {
        found.push(object.error("spec.hosts", Code::InvalidValue, "the entry has no effect: it needs a host"));
    }
    let ports: Vec<Port> = spec.ports.iter().enumerate().filter_map(|(i, p)| port(i, p, &object, found)).collect();
    let addresses = addresses(spec, &object, found);
    let workloads = members(entry, workloads, &object, found);
    let of_host = |(i, host): (usize, &String)| {
        if !Hostname::is_valid(host) {
            let message = format!("{host:?} is not a host, and has no effect");
            found.push(object.error(format!("spec.hosts[{i}]"), Code::InvalidValue, message));
            return None;
        }
        let host = Hostname::new(host);
        let endpoints = match spec.resolution {
            Resolution::Dns | Resolution::DnsRoundRobin if workloads.is_empty() => {
                if host.is_wildcard() {
                    let message = format!(
                        "{host} cannot be looked up: an entry with resolution DNS needs endpoints \
                        for a host with a wildcard"
                    );
                    found.push(object.error("spec.endpoints", Code::InvalidValue, message));
                    return None;
                }
                vec![Arc::new(Workload {
                    namespace: entry.metadata.namespace.clone(),
                    addresses: vec![host.to_string()],
                    weight: 1,
                    ..Workload::default()
                })]
            }
            _ => workloads.clone(),
        };
        Some(Service {
            object: object.clone(),
            age: Age {
                entry: true,
                created: entry.metadata.creation_timestamp.clone(),
                namespace: entry.metadata.namespace.clone(),
                name: entry.metadata.name.clone(),
            },
            host,
            namespace: entry.metadata.namespace.clone(),
            addresses: addresses.clone(),
            discovery: match spec.resolution {
                Resolution::None => Discovery::Caller,
                Resolution::Static => Discovery::Known,
                Resolution::Dns => Discovery::Dns { all: true },
                Resolution::DnsRoundRobin => Discovery::Dns { all: false },
            },
            external: spec.location == Location::MeshExternal,
            visibility: Visibility::new(&spec.export_to, &mesh.default_service_export_to, &entry.metadata.namespace),
            names: spec.subject_alt_names.clone(),
            selector: spec.workload_selector.as_ref().map(|s| s.match_labels.clone()),
            endpoints: ports.iter().flat_map(|port| endpoints.iter().filter_map(|w| endpoint(port, w))).collect(),
            ports: ports.clone(),
        })
    };
    spec.hosts.iter().enumerate().filter_map(of_host).collect()
}

fn port(index: usize, port: &ServicePort, object: &ObjectRef, found: &mut Vec<Diagnostic>) -> Option<Port> {
    let field = |name: &str| format!("spec.ports[{index}].{name}");
    if port.number == 0 {
        found.push(object.error(field("number"), Code::InvalidValue, "the port has no effect: it needs a number"));
        return None;
    }
    let protocol = match port.protocol.as_str() {
        "" => Some(Protocol::of_port(None, None, &port.name, port.number)),
        text => Protocol::parse(text),
    };
    let protocol = protocol.unwrap_or_else(|| {
        let message = format!("{:?} is not a known protocol; the port is taken for TCP", port.protocol);
        found.push(object.warning(field("protocol"), Code::InvalidValue, message));
        Protocol::Tcp
    });
    let target = Target::Number(if port.target_port == 0 { port.number } else { port.target_port });
    let port = Port { number: port.number, name: port.name.clone(), protocol, target };
    (protocol != Protocol::Udp).then_some(port)
}

fn addresses(spec: &ServiceEntry, object: &ObjectRef, found: &mut Vec<Diagnostic>) -> Vec<IpNet> {
    let mut addresses = Vec::new();
    for (i, text) in spec.addresses.iter().enumerate() {
        match wire::network(text) {
            Some(net) if !net.addr().is_unspecified() || net.prefix_len() == 0 => addresses.push(net),
            _ => {
                let message = format!("{text:?} is neither an address nor a CIDR, and has no effect");
                found.push(object.error(format!("spec.addresses[{i}]"), Code::InvalidValue, message));
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The workloads that an entry lists or selects.
fn members(
    entry: &Object<ServiceEntry>,
    workloads: &Workloads,
    object: &ObjectRef,
    found: &mut Vec<Diagnostic>,
) -> Vec<Arc<Workload>> {
    let (spec, namespace) = (&entry.spec, entry.metadata.namespace.as_str());
    if spec.resolution == Resolution::None && !(spec.endpoints.is_empty() && spec.workload_selector.is_none()) {
        let message = "endpoints have no effect with resolution NONE: connections go where the caller addresses them";
        found.push(object.warning("spec.endpoints", Code::InvalidValue, message));
    }
    let mut members = Vec::new();
    for (i, given) in spec.endpoints.iter().enumerate() {
        let wrong = match (spec.resolution, given.address.as_str()) {
            (_, "") => Some("an endpoint needs an address"),
            (_, address) if address.starts_with("unix:") => Some("Unix sockets are not supported"),
            (Resolution::Static, address) if address.parse::<IpAddr>().is_err() => {
                Some("resolution STATIC takes addresses; use DNS for names")
            }
            _ => None,
        };
        match wrong {
            None => members.push(Arc::new(Workload::of_entry(given, namespace))),
            Some(reason) => {
                let field = format!("spec.endpoints[{i}].address");
                found.push(object.error(field, Code::InvalidValue, format!("the endpoint has no effect: {reason}")));
            }
        }
    }
    if let Some(selector) = spec.workload_selector.as_ref().filter(|_| spec.endpoints.is_empty()) {
        let usable = |w: &&Arc<Workload>| {
            let literal = w.addresses.first().is_some_and(|a| a.parse::<IpAddr>().is_ok());
            selector.selects(&w.labels) && (literal || spec.resolution != Resolution::Static)
        };
        members.extend(workloads.of_namespace(namespace).filter(usable).cloned());
    } else if spec.workload_selector.is_some() {
        let message = "has no effect beside endpoints; an entry has either";
        found.push(object.error("spec.workloadSelector", Code::InvalidValue, message));
    }
    if members.is_empty() && spec.resolution == Resolution::Static {
        let message = "the entry has no endpoint; connections to it fail";
        found.push(object.warning("spec.endpoints", Code::NothingSelected, message));
    }
    members
}

/// The endpoint that a workload is for a port: at its port of the same name, or else at the target.
pub(super) fn endpoint(port: &Port, workload: &Arc<Workload>) -> Option<Endpoint> {
    let number = workload.ports.get(&port.name).copied().or_else(|| port.target.of(workload))?;
    let address = workload.addresses.first().filter(|a| !a.is_empty() && number != 0)?.clone();
    Some(Endpoint { service_port: port.number, address, port: number, workload: workload.clone() })
}
