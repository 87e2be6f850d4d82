//! Where requests go.
//!
//! Requests to a port whose service speaks HTTP are routed by host: one table for each port, with a virtual host for
//! each service that has the port. Where it is only found out that HTTP is spoken, the connection's address has said
//! which service is meant, and there is a table for it alone.

mod action;
mod fault;
mod gateway;
pub(crate) mod headers;
mod matches;
pub(crate) mod retry;
mod virtual_host;

pub(crate) use gateway::of_servers;
pub(crate) use virtual_host::by_host;

use std::collections::{BTreeMap, BTreeSet};

use api::NamespacedName;
use api::istio::{ClusterName, Hostname, HttpMatch, MeshConfig, OutboundTrafficMode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use envoy::envoy::config::core::v3::Metadata;
use envoy::envoy::config::route::v3::route::Action;
use envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};

use crate::destination::Destinations;
use crate::mesh::Mesh;
use crate::policy::Http;
use crate::scope::Scope;
use crate::{OutboundClass, Resources, Table, cluster, policy, wire};
use headers::Changes;

/// The largest body that is answered at once, in bytes; Envoy's own limit is 4 KiB.
const LARGEST_BODY: u32 = 1 << 20;

/// Where requests go that are sent to one port.
pub(crate) struct Routes<'a> {
    destinations: Destinations<'a>,
    /// The gateway that takes them; none is a sidecar.
    gateway: Option<&'a NamespacedName>,
    port: u16,
}

/// The name of the table of a port.
pub(crate) fn of_port(port: u16) -> String {
    port.to_string()
}

/// The name of the table of a service's port where it is not said what is spoken.
pub(crate) fn of_service(host: &Hostname, port: u16) -> String {
    format!("{host}:{port}")
}

/// The tables of a class of callers: all of them, or only some.
pub(crate) fn outbound(
    mesh: &Mesh,
    class: &OutboundClass,
    scope: &Scope<'_>,
    wanted: Option<&BTreeSet<String>>,
) -> BTreeMap<String, Table> {
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.contains(name));
    let destinations = Destinations { mesh, class, scope };
    let services = virtual_host::services(scope);
    let unknown = scope.routed_hosts(mesh, class);
    let mut ports = BTreeMap::<u16, Vec<&virtual_host::Service<'_>>>::new();
    for service in &services {
        ports.entry(service.port).or_default().push(service);
    }
    let mut tables = BTreeMap::new();
    for (port, services) in ports {
        let routes = Routes { destinations, gateway: None, port };
        if services.iter().any(|s| s.declared) && is_wanted(&of_port(port)) {
            let of_hosts = |found: &mut Resources| routes.hosts(&services, &unknown, found);
            tables.insert(of_port(port), routes.table(of_port(port), of_hosts));
        }
        for service in services.iter().filter(|s| !s.declared) {
            let name = of_service(service.host, port);
            if is_wanted(&name) {
                let only = |found: &mut Resources| {
                    vec![VirtualHost { domains: vec!["*".to_owned()], ..routes.host(service, found) }]
                };
                tables.insert(name.clone(), routes.table(name, only));
            }
        }
    }
    tables
}

/// The names of the tables in which routes for a host are: those of the services that it covers, or else of every port.
pub(crate) fn tables_of(mesh: &Mesh, class: &OutboundClass, host: &Hostname) -> BTreeSet<String> {
    let scope = Scope::new(mesh, class, &mut BTreeSet::new());
    let all = virtual_host::services(&scope);
    let known = mesh.services.any_of(host);
    let names = all.iter().filter(|s| if known { host.covers(s.host) } else { s.declared });
    let own = |s: &&virtual_host::Service<'_>| (!s.declared && known).then(|| of_service(s.host, s.port));
    let names: Vec<_> = names.collect();
    names.iter().map(|s| of_port(s.port)).chain(names.iter().filter_map(own)).collect()
}

impl Routes<'_> {
    fn config(&self) -> &MeshConfig {
        &self.destinations.mesh.config
    }

    fn table(&self, name: String, hosts: impl FnOnce(&mut Resources) -> Vec<VirtualHost>) -> Table {
        let mut found = Resources::default();
        let virtual_hosts = hosts(&mut found);
        let large = |route: &Route| matches!(&route.action, Some(Action::DirectResponse(r)) if is_large(r));
        let any_large = virtual_hosts.iter().flat_map(|host| &host.routes).any(large);
        let routes = RouteConfiguration {
            name,
            virtual_hosts,
            validate_clusters: Some(false),
            ignore_port_in_host_matching: true,
            max_direct_response_body_size_bytes: any_large.then_some(LARGEST_BODY),
            ..RouteConfiguration::default()
        };
        Table { routes, diagnostics: found.diagnostics }
    }

    /// The virtual host of a service, but for its domains.
    fn host(&self, service: &virtual_host::Service<'_>, resources: &mut Resources) -> VirtualHost {
        let found = self.destinations.mesh.routes.of(self.destinations.class, service.host);
        let mut routes = found.map(|route| self.written(route, resources)).unwrap_or_default();
        if routes.is_empty() {
            routes.push(default(action::to_service(self, service.host)));
        }
        virtual_host(of_service(service.host, self.port), routes)
    }

    /// The routes that a virtual service has for callers of this class.
    fn written(&self, route: &policy::Route, resources: &mut Resources) -> Vec<Route> {
        let mut routes = Vec::new();
        for http in &route.http {
            let usable = |m: &&HttpMatch| {
                route.is_for(self.destinations.class, self.gateway, self.port, &policy::Caller::from(*m))
            };
            let conditions: Vec<&HttpMatch> = http.route.matches.iter().filter(usable).collect();
            if conditions.is_empty() && !http.route.matches.is_empty() {
                continue;
            }
            let Some(made) = self.action(http, resources) else { continue };
            let open = conditions.iter().position(|m| matches::is_open(m));
            if http.route.matches.is_empty() {
                routes.push(Route { r#match: Some(matches::everything()), ..made });
                return routes;
            }
            let before = open.map_or(conditions.len(), |first| first + 1);
            for condition in conditions.into_iter().take(before) {
                let Some(requests) = matches::requests(condition) else { continue };
                routes.push(of_condition(&made, condition, requests));
            }
            // Nothing comes after a route that takes everything.
            if open.is_some() {
                return routes;
            }
        }
        routes
    }

    /// A route without its conditions; `None` if it has no effect.
    fn action(&self, http: &Http, resources: &mut Resources) -> Option<Route> {
        let route = &http.route;
        let mut changes = Changes::default();
        changes.extend(route.headers.as_ref());
        let action = if let Some(response) = &route.direct_response {
            Action::DirectResponse(action::respond(response))
        } else if let Some(redirect) = &route.redirect {
            Action::Redirect(action::redirect(redirect, self.port))
        } else {
            Action::Route(action::forward(self, http, &mut changes, resources)?)
        };
        Some(Route {
            name: route.name.clone(),
            action: Some(action),
            metadata: Some(written_by(http)),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            typed_per_filter_config: fault::filters(route),
            ..Route::default()
        })
    }
}

/// The table of a workload's own port, or of those that no service declares.
pub(crate) fn inbound(port: Option<u16>, cluster: &str) -> RouteConfiguration {
    let name = format!("inbound|http|{}", port.unwrap_or_default());
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(prost_types::Duration::default()),
        ..RouteAction::default()
    };
    let host = VirtualHost { domains: vec!["*".to_owned()], ..virtual_host(name, vec![default(action)]) };
    RouteConfiguration {
        name: port.map_or_else(|| cluster.to_owned(), |port| ClusterName::inbound(port).to_string()),
        virtual_hosts: vec![host],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

/// What becomes of requests whose host the mesh does not know.
fn unknown(mode: OutboundTrafficMode) -> VirtualHost {
    let (name, action) = match mode {
        OutboundTrafficMode::AllowAny => {
            let to = ClusterSpecifier::Cluster(cluster::PASSTHROUGH.to_owned());
            let timeout = Some(prost_types::Duration::default());
            let action = RouteAction { cluster_specifier: Some(to), timeout, ..RouteAction::default() };
            ("allow_any", Action::Route(action))
        }
        OutboundTrafficMode::RegistryOnly => (
            "block_all",
            Action::DirectResponse(DirectResponseAction { status: 502, ..DirectResponseAction::default() }),
        ),
    };
    let route =
        Route { name: name.to_owned(), r#match: Some(matches::everything()), action: Some(action), ..Route::default() };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// A virtual host without domains.
fn virtual_host(name: String, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name, routes, include_request_attempt_count: true, ..VirtualHost::default() }
}

/// A route of everything, which nobody has written.
fn default(action: RouteAction) -> Route {
    Route {
        name: "default".to_owned(),
        r#match: Some(matches::everything()),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

/// A route for one of its conditions.
fn of_condition(route: &Route, condition: &HttpMatch, requests: RouteMatch) -> Route {
    let name = match (route.name.as_str(), condition.name.as_str()) {
        ("", name) | (name, "") => name.to_owned(),
        (route, condition) => format!("{route}.{condition}"),
    };
    Route { name, r#match: Some(requests), ..route.clone() }
}

/// The object that a route is from, as Istio says it, and its place there.
fn written_by(http: &Http) -> Metadata {
    let made_of = wire::made_of("virtual-service", &http.object);
    wire::metadata("istio", wire::fields([("config", made_of), ("rule", wire::text(http.field.as_str()))]))
}

fn is_large(response: &DirectResponseAction) -> bool {
    use envoy::envoy::config::core::v3::data_source::Specifier;
    response.body.as_ref().and_then(|body| body.specifier.as_ref()).is_some_and(|specifier| match specifier {
        Specifier::InlineString(text) => text.len() > 4096,
        Specifier::InlineBytes(bytes) => bytes.len() > 4096,
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => false,
    })
}

fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// The number of a status of gRPC, which is given by name or number.
pub(crate) fn grpc_status(status: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let named = NAMES.iter().position(|name| *name == status).and_then(|number| u32::try_from(number).ok());
    named.or_else(|| status.parse().ok()).filter(|number| *number <= 16)
}
