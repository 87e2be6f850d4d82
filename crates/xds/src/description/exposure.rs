//! The gateways through which a service is reached.

use api::istio::{Destination, Gateway, Hostname, Object, Server, ServerTlsMode};
use serde::Serialize;

use super::route::{self, Routes};
use crate::mesh::{DOMAIN, Service};
use crate::policy::{Route, ServerHost};
use crate::{Mesh, ObjectRef};

/// A way to a service from outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// The Gateway.
    pub gateway: String,
    /// Its servers that lead there, as `PORT/PROTOCOL HOST`.
    pub servers: Vec<String>,
    /// The addresses of the gateway's pods' services, and whether a pod is there to answer.
    pub addresses: Vec<String>,
    /// The VirtualService that leads there; none where connections name the service themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,
}

/// Every way to a service.
pub(super) fn of(mesh: &Mesh, service: &Service) -> Vec<Exposure> {
    let mut exposures = Vec::new();
    for gateway in &mesh.objects().gateways {
        for route in mesh.routes.bound(&gateway.name()).into_iter().flat_map(|bound| bound.all()) {
            let namespace = route.object.namespace.as_str();
            let leads = |to: &Destination| Hostname::resolve(&to.host, namespace, DOMAIN) == service.host;
            let routes = route::describe(route, Some(&leads));
            let servers = servers(gateway, &|_, own| serves(own, route));
            if !routes.rules.is_empty() && !servers.is_empty() {
                exposures.push(exposure(mesh, gateway, servers, Some(routes)));
            }
        }
        let by_name = servers(gateway, &|server, own| {
            let passes = server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough);
            let alike = own.host == service.host || own.host.covers(&service.host);
            passes && alike && own.is_for(&service.namespace)
        });
        if !by_name.is_empty() {
            exposures.push(exposure(mesh, gateway, by_name, None));
        }
    }
    exposures
}

fn exposure(mesh: &Mesh, gateway: &Object<Gateway>, servers: Vec<String>, routes: Option<Routes>) -> Exposure {
    let gateway_ref = ObjectRef::of(gateway).to_string();
    Exposure { gateway: gateway_ref, servers, addresses: addresses(mesh, gateway), routes }
}

/// Whether a server may have the routes of a virtual service.
fn serves(own: &ServerHost, route: &Route) -> bool {
    let mut hosts = route.hosts();
    own.is_for(&route.object.namespace)
        && hosts.any(|host| own.host == host || own.host.covers(&host) || host.covers(&own.host))
}

fn servers(gateway: &Object<Gateway>, wanted: &dyn Fn(&Server, &ServerHost) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    for server in &gateway.spec.servers {
        let hosts = server.hosts.iter().filter_map(|text| ServerHost::parse(text, &gateway.metadata.namespace));
        for own in hosts.filter(|own| wanted(server, own)) {
            all.push(format!("{}/{} {}", server.port.number, server.port.protocol, own.host.as_str()));
        }
    }
    all
}

/// The external addresses of the services that lead to a gateway's pods.
fn addresses(mesh: &Mesh, gateway: &Object<Gateway>) -> Vec<String> {
    let mut addresses = Vec::new();
    for pod in mesh.workloads.pods(None, &gateway.spec.selector) {
        let Some(node) = mesh.node(pod) else { continue };
        for service in mesh.services.all().filter(|service| service.selects(&node)) {
            let object = mesh.objects().services.iter().find(|object| {
                let metadata = &object.metadata;
                metadata.namespace.as_ref() == Some(&service.namespace)
                    && metadata.name.as_ref() == Some(&service.object.name)
            });
            let status = object.and_then(|object| object.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref());
            let own =
                status.into_iter().flatten().filter_map(|ingress| ingress.ip.clone().or(ingress.hostname.clone()));
            addresses.extend(own);
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}
