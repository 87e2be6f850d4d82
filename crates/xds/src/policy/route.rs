//! Routes, by the hosts and the gateways that they are for.

mod bound;
mod http;
mod http_check;

use bound::Bound;
pub(crate) use http::Http;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Hostname, HttpMatch, L4Match, MeshConfig, Object, TlsMatch, VirtualService};
use api::selector::Labels;

use super::{Gateways, by_age, gateway_name};
use crate::mesh::{DOMAIN, Services, Visibility};
use crate::{Code, Diagnostic, ObjectRef, OutboundClass};

/// Every VirtualService.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Routes {
    /// Those for sidecars, oldest first.
    by_host: BTreeMap<Hostname, Vec<Arc<Route>>>,
    /// The others.
    by_gateway: BTreeMap<NamespacedName, Bound>,
}

/// A VirtualService.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) object: ObjectRef,
    pub(crate) spec: VirtualService,
    /// The routes for requests, with those of delegates.
    pub(crate) http: Vec<Http>,
    visibility: Visibility,
}

impl Routes {
    pub(crate) fn new(
        objects: &[Arc<Object<VirtualService>>],
        mesh: &MeshConfig,
        services: &Services,
        gateways: &Gateways,
        found: &mut Vec<Diagnostic>,
    ) -> Routes {
        let mut routes = Routes::default();
        let default = &mesh.default_virtual_service_export_to;
        let delegates = http::Delegates::new(objects, default);
        for object in by_age(objects) {
            let namespace = object.metadata.namespace.as_str();
            let visibility = Visibility::new(&object.spec.export_to, default, namespace);
            let http = delegates.routes(object, found);
            let route = Route { object: ObjectRef::of(object), spec: object.spec.clone(), http, visibility };
            let route = Arc::new(route);
            check(&route, found);
            routes.bind(&route, gateways, found);
            check_ports(&route, services, gateways, found);
            if !is_through(&object.spec.gateways, namespace, None) {
                continue;
            }
            for (i, host) in object.spec.hosts.iter().enumerate() {
                let field = format!("spec.hosts[{i}]");
                let host = Hostname::resolve(host, namespace, DOMAIN);
                if host.as_str() == "*" {
                    let message = "the host * is for gateways alone; name the gateways, or the hosts";
                    found.push(route.object.error(field, Code::InvalidValue, message));
                    continue;
                }
                if !services.any_of(&host) {
                    let message = format!("no service has the host {host}; the routes have no effect for it yet");
                    found.push(route.object.warning(&field, Code::ReferenceNotFound, message));
                }
                let others = routes.by_host.entry(host).or_default();
                if let Some(older) = others.iter().find(|o| o.visibility.overlaps(&route.visibility)) {
                    let message = format!("has no effect where the older {} for the same host is seen", older.object);
                    found.push(route.object.warning(&field, Code::Conflict, message));
                }
                others.push(route.clone());
            }
        }
        routes
    }

    /// Binds a route to the gateways that it names.
    fn bind(&mut self, route: &Arc<Route>, gateways: &Gateways, found: &mut Vec<Diagnostic>) {
        let (object, namespace) = (&route.object, route.object.namespace.as_str());
        let mut bound = BTreeSet::new();
        for (i, text) in route.spec.gateways.iter().enumerate() {
            let Some(gateway) = gateway_name(text, namespace).filter(|gateway| bound.insert(gateway.clone())) else {
                continue;
            };
            let field = format!("spec.gateways[{i}]");
            let served = route.hosts().map(|host| gateways.serves(&gateway, &host, namespace));
            match served.collect::<Option<Vec<bool>>>() {
                None => {
                    let message = format!("there is no Gateway {gateway}; the routes have no effect for it yet");
                    found.push(object.error(field, Code::ReferenceNotFound, message));
                }
                Some(served) if !served.contains(&true) => {
                    let message = format!(
                        "no server of the Gateway {gateway} has a host of [{}] for routes of this namespace; the \
                         routes have no effect there",
                        route.spec.hosts.join(" ")
                    );
                    found.push(object.warning(field, Code::ReferenceNotFound, message));
                }
                Some(_) => {}
            }
            self.by_gateway.entry(gateway).or_default().insert(route);
        }
    }

    /// The routes that are bound to a gateway.
    pub(crate) fn bound(&self, gateway: &NamespacedName) -> Option<&Bound> {
        self.by_gateway.get(gateway)
    }

    /// The routes for a client's calls of a host: of the most specific host that covers it, the oldest.
    pub(crate) fn of(&self, class: &OutboundClass, host: &Hostname) -> Option<&Arc<Route>> {
        let visible = |pattern| self.first_for(class, pattern);
        if let Some(route) = visible(host) {
            return Some(route);
        }
        let wider = self.by_host.range(Hostname::wildcards()).filter(|(pattern, _)| pattern.covers(host));
        let usable = wider.filter_map(|(pattern, _)| Some((pattern, visible(pattern)?)));
        usable.max_by_key(|(pattern, _)| pattern.specificity()).map(|(_, route)| route)
    }

    /// The hosts for which a client's calls may have other routes in `other`.
    pub(crate) fn differing<'a>(&'a self, other: &'a Routes, class: &OutboundClass) -> BTreeSet<&'a Hostname> {
        let hosts = self.by_host.keys().chain(other.by_host.keys());
        hosts.filter(|host| self.first_for(class, host) != other.first_for(class, host)).collect()
    }

    /// The routes that are written for exactly this host, as a client sees them.
    pub(crate) fn first_for(&self, class: &OutboundClass, host: &Hostname) -> Option<&Arc<Route>> {
        self.by_host.get(host)?.iter().find(|route| route.visibility.includes(&class.namespace))
    }

    /// The routes that may hold for a client's calls, with the hosts that they are for.
    pub(crate) fn seen_by(&self, class: &OutboundClass) -> impl Iterator<Item = (&Hostname, &Arc<Route>)> {
        let all = self.by_host.iter().flat_map(|(host, routes)| routes.iter().map(move |route| (host, route)));
        all.filter(|(_, route)| route.visibility.includes(&class.namespace))
    }

    /// The keys of labels by which routes tell callers apart.
    pub(crate) fn label_keys(&self) -> impl Iterator<Item = &str> {
        self.by_host.values().flatten().flat_map(|route| {
            let spec = &route.spec;
            let tcp = spec.tcp.iter().flat_map(|r| &r.matches).map(|m| &m.source_labels);
            let tls = spec.tls.iter().flat_map(|r| &r.matches).map(|m| &m.source_labels);
            let http = route.http.iter().flat_map(|r| &r.route.matches).map(|m| &m.source_labels);
            tcp.chain(tls).chain(http).flat_map(|labels| labels.keys().map(String::as_str))
        })
    }
}

impl Route {
    /// The hosts that it is for.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = Hostname> {
        self.spec.hosts.iter().map(|host| Hostname::resolve(host, &self.object.namespace, DOMAIN))
    }

    /// Whether callers of a namespace see it.
    pub(crate) fn is_seen_from(&self, namespace: &str) -> bool {
        self.visibility.includes(namespace)
    }

    /// Whether a route's condition can hold for this caller at this port of the service, or of the gateway; addresses are
    /// left open.
    pub(crate) fn is_for(
        &self,
        class: &OutboundClass,
        gateway: Option<&NamespacedName>,
        port: u16,
        condition: &Caller<'_>,
    ) -> bool {
        let gateways = is_through(condition.gateways, &self.object.namespace, gateway);
        let namespace = condition.namespace.is_empty() || condition.namespace == class.namespace;
        let labels = api::istio::includes(&class.labels, condition.labels);
        gateways && namespace && labels && condition.port.is_none_or(|p| p == port)
    }
}

/// What a route asks of the caller, whatever the protocol.
pub(crate) struct Caller<'a> {
    port: Option<u16>,
    labels: &'a Labels,
    gateways: &'a [String],
    namespace: &'a str,
}

impl<'a> From<&'a L4Match> for Caller<'a> {
    fn from(m: &'a L4Match) -> Caller<'a> {
        Caller { port: m.port, labels: &m.source_labels, gateways: &m.gateways, namespace: &m.source_namespace }
    }
}

impl<'a> From<&'a TlsMatch> for Caller<'a> {
    fn from(m: &'a TlsMatch) -> Caller<'a> {
        Caller { port: m.port, labels: &m.source_labels, gateways: &m.gateways, namespace: &m.source_namespace }
    }
}

impl<'a> From<&'a HttpMatch> for Caller<'a> {
    fn from(m: &'a HttpMatch) -> Caller<'a> {
        Caller { port: m.port, labels: &m.source_labels, gateways: &m.gateways, namespace: &m.source_namespace }
    }
}

/// Whether one of the gateways that an object of a namespace names is this one; none is that of all sidecars. Where an
/// object names none, it means all of the context.
fn is_through(gateways: &[String], namespace: &str, gateway: Option<&NamespacedName>) -> bool {
    gateways.is_empty() || gateways.iter().any(|text| gateway_name(text, namespace).as_ref() == gateway)
}

/// Conditions on ports that neither any of the hosts has nor any of the gateways.
fn check_ports(route: &Route, services: &Services, gateways: &Gateways, found: &mut Vec<Diagnostic>) {
    let (object, spec) = (&route.object, &route.spec);
    let of_sidecars = is_through(&spec.gateways, &object.namespace, None);
    let bound: Vec<_> = spec.gateways.iter().filter_map(|text| gateway_name(text, &object.namespace)).collect();
    let known = || route.hosts().flat_map(|host| services.of_host(&host).iter().cloned());
    if of_sidecars && (route.hosts().any(|host| host.is_wildcard()) || known().next().is_none()) {
        return;
    }
    let whose = match (of_sidecars, bound.is_empty()) {
        (true, true) => "no service of these hosts has",
        (true, false) => "no service of these hosts and no server of these gateways has",
        (false, _) => "no server of these gateways has",
    };
    for (field, port) in ports(route) {
        let of_service = || of_sidecars && known().any(|service| service.ports.iter().any(|p| p.number == port));
        if !of_service() && !bound.iter().any(|gateway| gateways.has_port(gateway, port)) {
            let message = format!("{whose} the port {port}; the condition never holds");
            found.push(object.warning(field, Code::ReferenceNotFound, message));
        }
    }
}

/// The ports in the conditions of a route's own, with their fields.
fn ports(route: &Route) -> Vec<(String, u16)> {
    let Route { object, spec, http, .. } = route;
    let tcp = spec.tcp.iter().enumerate().flat_map(|(i, route)| {
        let ports = route.matches.iter().enumerate();
        ports.filter_map(move |(j, m)| Some((format!("spec.tcp[{i}].match[{j}].port"), m.port?)))
    });
    let tls = spec.tls.iter().enumerate().flat_map(|(i, route)| {
        let ports = route.matches.iter().enumerate();
        ports.filter_map(move |(j, m)| Some((format!("spec.tls[{i}].match[{j}].port"), m.port?)))
    });
    let http = http.iter().filter(|http| http.object == *object).flat_map(|http| {
        let ports = http.route.matches.iter().enumerate();
        ports.filter_map(move |(j, m)| Some((format!("{}.match[{j}].port", http.field), m.port?)))
    });
    tcp.chain(tls).chain(http).collect()
}

fn check(route: &Route, found: &mut Vec<Diagnostic>) {
    let (object, spec) = (&route.object, &route.spec);
    for http in &route.http {
        http_check::check(http, found);
    }
    let takes_all = |http: &&Http| http.route.matches.is_empty() && http.object == *object;
    if let Some(first) = route.http.iter().find(takes_all) {
        let later = route.http.iter().skip_while(|http| *http != first).skip(1).filter(|http| http.object == *object);
        found.extend(later.map(|http| {
            let message = format!("is never reached: {} takes every request", first.field);
            object.warning(&http.field, Code::Unreachable, message)
        }));
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        found.push(object.error("spec", Code::InvalidValue, "http, tcp or tls must be provided in virtual service"));
    }
    for (i, tcp) in spec.tcp.iter().enumerate() {
        let of_sidecars = is_through(&spec.gateways, &object.namespace, None);
        let subnets = tcp.matches.iter().enumerate().filter(|(_, m)| of_sidecars && !m.source_subnet.is_empty());
        for (j, _) in subnets {
            let message = "has no effect: a sidecar's connections are all from its own workload";
            found.push(object.warning(format!("spec.tcp[{i}].match[{j}].sourceSubnet"), Code::NotSupported, message));
        }
    }
    for (i, tls) in spec.tls.iter().enumerate() {
        for (j, condition) in tls.matches.iter().enumerate().filter(|(_, m)| m.sni_hosts.is_empty()) {
            let field = format!("spec.tls[{i}].match[{j}].sniHosts");
            let Caller { port, .. } = Caller::from(condition);
            let at = port.map(|p| format!(" at port {p}")).unwrap_or_default();
            let message = format!("the condition{at} has no effect: TLS match must have at least one SNI host");
            found.push(object.error(field, Code::InvalidValue, message));
        }
        for (j, condition) in tls.matches.iter().enumerate() {
            for (k, name) in condition.sni_hosts.iter().enumerate().filter(|(_, name)| !Hostname::is_valid(name)) {
                let message = format!("{name:?} is not a host, and has no effect");
                let field = format!("spec.tls[{i}].match[{j}].sniHosts[{k}]");
                found.push(object.error(field, Code::InvalidValue, message));
            }
        }
    }
}
