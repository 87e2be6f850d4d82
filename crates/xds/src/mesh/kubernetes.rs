//! Kubernetes' services, with the endpoints that their slices have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Hostname, MeshConfig};
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::entry;
use super::objects::Objects;
use super::protocol::Protocol;
use super::service::{Age, Discovery, Endpoint, Port, Service, Target, Visibility};
use super::workload::{Workload, Workloads};
use super::{DOMAIN, timestamp};
use crate::node::Locality;
use crate::{Code, Diagnostic, ObjectRef, wire};

const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Every service of Kubernetes.
pub(super) fn services(objects: &Objects, workloads: &Workloads, found: &mut Vec<Diagnostic>) -> Vec<Service> {
    let mut slices = BTreeMap::<NamespacedName, Vec<&EndpointSlice>>::new();
    for slice in &objects.endpoint_slices {
        let service = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        if let Some(service) = service {
            slices.entry(NamespacedName::new(namespace, service.as_str())).or_default().push(slice);
        }
    }
    let of = |service: &Arc<core::Service>| {
        let mut service = declared(service, &objects.mesh_config, found)?;
        let name = NamespacedName::new(service.namespace.as_str(), service.object.name.as_str());
        let slices = slices.get(&name).map_or(&[][..], Vec::as_slice);
        service.endpoints.extend(slices.iter().flat_map(|slice| endpoints(&service.ports, slice, workloads)));
        if let Some(selector) = &service.selector {
            let entries = workloads.entries(&service.namespace, selector);
            let endpoints = |w| service.ports.iter().filter_map(move |port| entry::endpoint(port, w));
            let literal = entries.flat_map(endpoints).filter(|e| e.ip().is_some());
            service.endpoints.extend(literal.collect::<Vec<_>>());
        }
        service
            .endpoints
            .sort_by(|a, b| (a.service_port, &a.address, a.port).cmp(&(b.service_port, &b.address, b.port)));
        service.endpoints.dedup_by(|a, b| (a.service_port, &a.address, a.port) == (b.service_port, &b.address, b.port));
        Some(service)
    };
    let aliases = objects.mesh_config.compatibility.external_names_are_aliases();
    objects.services.iter().filter(|service| !aliases || external_name(service).is_none()).filter_map(of).collect()
}

/// The hosts that are only other names for others, where services with an external name are no more than that.
pub(super) fn aliases(objects: &Objects) -> BTreeMap<Hostname, Hostname> {
    if !objects.mesh_config.compatibility.external_names_are_aliases() {
        return BTreeMap::new();
    }
    let alias = |service: &Arc<core::Service>| {
        let (name, namespace) = (service.metadata.name.as_deref()?, service.metadata.namespace.as_deref()?);
        Some((Hostname::service(name, namespace, DOMAIN), Hostname::new(external_name(service)?)))
    };
    objects.services.iter().filter_map(alias).collect()
}

fn external_name(service: &core::Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    spec.external_name.as_deref().filter(|_| spec.type_.as_deref() == Some("ExternalName"))
}

fn declared(service: &core::Service, mesh: &MeshConfig, found: &mut Vec<Diagnostic>) -> Option<Service> {
    let name = service.metadata.name.clone()?;
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let spec = service.spec.as_ref()?;
    let object = ObjectRef::new("Service", &namespace, &name);
    let annotation = service.metadata.annotations.as_ref().and_then(|a| a.get(EXPORT_TO));
    let export_to: Vec<&str> = annotation.into_iter().flat_map(|a| a.split(',')).collect();
    let ports: Vec<Port> = spec.ports.iter().flatten().filter_map(port).collect();
    let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<IpNet> = addresses.filter_map(|ip| ip.parse::<IpAddr>().ok()).map(IpNet::from).collect();
    addresses.sort();
    addresses.dedup();
    let external = external_name(service);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let mut discovery = if headless { Discovery::Headless } else { Discovery::Known };
    let mut endpoints = Vec::new();
    if let Some(target) = external {
        discovery = Discovery::Dns { all: true };
        // A literal address is where clients connect to, since names do not resolve to anything else.
        addresses = wire::network(target).into_iter().collect();
        if addresses.is_empty() && ports.iter().any(|p| p.protocol != Protocol::Http) {
            let message = "connections to an external name are not told apart from others by its addresses: they pass \
                as to an unknown host, and rules for this service hold only where a route names it";
            found.push(object.info("spec.externalName", Code::NotSupported, message));
        }
        endpoints.extend(ports.iter().map(|port| external_endpoint(port, target, &namespace)));
    }
    Some(Service {
        age: Age {
            entry: false,
            created: timestamp(service.metadata.creation_timestamp.as_ref()),
            namespace: namespace.clone(),
            name: name.clone(),
        },
        host: Hostname::service(&name, &namespace, DOMAIN),
        visibility: Visibility::new(&export_to, &mesh.default_service_export_to, &namespace),
        object,
        namespace,
        addresses,
        ports,
        discovery,
        external: external.is_some(),
        names: Vec::new(),
        selector: spec.selector.clone().filter(|s| !s.is_empty()),
        endpoints,
    })
}

fn port(port: &core::ServicePort) -> Option<Port> {
    let number = u16::try_from(port.port).ok()?;
    let name = port.name.clone().unwrap_or_default();
    let target = match &port.target_port {
        None => Target::Number(number),
        Some(IntOrString::Int(0)) => Target::Number(number),
        Some(IntOrString::Int(target)) => Target::Number(u16::try_from(*target).ok()?),
        Some(IntOrString::String(target)) => match target.parse() {
            Ok(target) => Target::Number(target),
            Err(_) => Target::Name(target.clone()),
        },
    };
    let protocol = Protocol::of_port(port.protocol.as_deref(), port.app_protocol.as_deref(), &name, number);
    (protocol != Protocol::Udp).then_some(Port { number, name, protocol, target })
}

fn external_endpoint(port: &Port, target: &str, namespace: &str) -> Endpoint {
    let workload = Workload { namespace: namespace.to_owned(), weight: 1, ..Workload::default() };
    Endpoint { service_port: port.number, address: target.to_owned(), port: port.number, workload: Arc::new(workload) }
}

/// The endpoints of a slice that take connections, for each of the service's ports that it has.
fn endpoints(ports: &[Port], slice: &EndpointSlice, workloads: &Workloads) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for given in slice.ports.iter().flatten() {
        let name = given.name.as_deref().unwrap_or_default();
        let Some(service_port) = ports.iter().find(|p| p.name == name) else { continue };
        let Some(port) = given.port.and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            let literal = |a: &&String| a.parse::<IpAddr>().is_ok();
            let Some(address) = endpoint.addresses.first().filter(|_| ready).filter(literal) else { continue };
            let workload = workload(slice, endpoint, workloads);
            found.push(Endpoint { service_port: service_port.number, address: address.clone(), port, workload });
        }
    }
    found
}

fn workload(
    slice: &EndpointSlice,
    endpoint: &k8s_openapi::api::discovery::v1::Endpoint,
    workloads: &Workloads,
) -> Arc<Workload> {
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    let target = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref().is_none_or(|k| k == "Pod"));
    let pod = target.and_then(|t| workloads.pod(&namespace, t.name.as_deref()?));
    pod.cloned().unwrap_or_else(|| {
        let locality = Locality { zone: endpoint.zone.clone().unwrap_or_default(), ..Locality::default() };
        Arc::new(Workload { namespace, locality, weight: 1, ..Workload::default() })
    })
}
