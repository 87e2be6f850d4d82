//! The services that a class of nodes may call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::istio::{EgressListener, Hostname, OutboundTrafficMode};

use crate::mesh::{DOMAIN, Discovery, Endpoint, Mesh, Port, Service};
use crate::policy::Route;
use crate::{Code, Diagnostic, OutboundClass};

/// The services that a class of nodes may call, and what happens to other calls.
pub(crate) struct Scope<'m> {
    /// By host.
    pub(crate) groups: BTreeMap<&'m Hostname, Group<'m>>,
    /// What happens to calls of hosts that are not here.
    pub(crate) unknown: OutboundTrafficMode,
}

/// The services of one host that one namespace declares, oldest first. They are one service to callers: the oldest that
/// declares a port decides about it, and endpoints add up.
pub(crate) struct Group<'m> {
    pub(crate) members: Vec<&'m Arc<Service>>,
    /// If set, only these ports.
    ports: Option<BTreeSet<u16>>,
}

/// A port of a group.
pub(crate) struct GroupPort<'g> {
    pub(crate) service: &'g Service,
    pub(crate) port: &'g Port,
    pub(crate) endpoints: Vec<&'g Endpoint>,
}

impl<'m> Scope<'m> {
    pub(crate) fn new(mesh: &'m Mesh, class: &OutboundClass, found: &mut BTreeSet<Diagnostic>) -> Scope<'m> {
        let imports = Imports::of_class(mesh, class);
        let mut groups = BTreeMap::new();
        for (host, services) in mesh.services.hosts() {
            if let Some(group) = group(class, services, |service| imports.of(service)) {
                report_hidden(&group, services, class, found);
                groups.insert(host, group);
            }
        }
        let routed: Vec<Hostname> = groups.keys().flat_map(|host| destinations(mesh, class, host)).collect();
        for host in &routed {
            let services = mesh.services.of_host(host);
            if let Some(first) = services.first().filter(|_| !groups.contains_key(host))
                && let Some(group) = group(class, services, |_| Some(None))
            {
                groups.insert(&first.host, group);
            }
        }
        Scope { groups, unknown: unknown(mesh, class) }
    }

    /// Hosts that no service has and for which there are routes nevertheless, each with the routes.
    pub(crate) fn routed_hosts(&self, mesh: &'m Mesh, class: &OutboundClass) -> BTreeMap<&'m Hostname, &'m Arc<Route>> {
        let imports = Imports::of_class(mesh, class);
        let mut hosts = BTreeMap::new();
        for (host, route) in mesh.routes.seen_by(class) {
            let imported = || imports.host(&route.object.namespace, host).is_some();
            if !route.http.is_empty() && !mesh.services.any_of(host) && imported() {
                hosts.entry(host).or_insert(route);
            }
        }
        hosts
    }

    /// The services of some hosts, as far as a gateway sees them: Sidecars say nothing to gateways.
    pub(crate) fn of_router(mesh: &'m Mesh, class: &OutboundClass, hosts: &BTreeSet<Hostname>) -> Scope<'m> {
        let group = |host: &Hostname| {
            let services = mesh.services.of_host(host);
            Some((&services.first()?.host, group(class, services, |_| Some(None))?))
        };
        let groups = hosts.iter().filter_map(group).collect();
        Scope { groups, unknown: mesh.config.outbound_traffic_policy.mode }
    }

    /// The same of only some hosts, and those to which their routes lead.
    pub(crate) fn of_hosts(mesh: &'m Mesh, class: &OutboundClass, hosts: &BTreeSet<Hostname>) -> Scope<'m> {
        let imports = Imports::of_class(mesh, class);
        let routed = hosts.iter().flat_map(|host| destinations(mesh, class, host));
        let hosts: BTreeSet<Hostname> = hosts.iter().cloned().chain(routed).collect();
        let group = |host: &Hostname| {
            let services = mesh.services.of_host(host);
            Some((&services.first()?.host, seen_with(mesh, class, &imports, host)?))
        };
        Scope { groups: hosts.iter().filter_map(group).collect(), unknown: unknown(mesh, class) }
    }
}

/// The services of one host, if a class of nodes may call them.
pub(crate) fn seen<'m>(mesh: &'m Mesh, class: &OutboundClass, host: &Hostname) -> Option<Group<'m>> {
    seen_with(mesh, class, &Imports::of_class(mesh, class), host)
}

fn seen_with<'m>(mesh: &'m Mesh, class: &OutboundClass, imports: &Imports, host: &Hostname) -> Option<Group<'m>> {
    let services = mesh.services.of_host(host);
    let imported = group(class, services, |service| imports.of(service));
    let leads = |route: &Route| routed(mesh, route).any(|to| to == *host);
    let routed = || mesh.routes.seen_by(class).any(|(_, route)| leads(route));
    imported.or_else(|| if routed() { group(class, services, |_| Some(None)) } else { None })
}

/// What happens to calls of hosts that the mesh does not know.
fn unknown(mesh: &Mesh, class: &OutboundClass) -> OutboundTrafficMode {
    let sidecar = class.sidecar.as_ref().and_then(|name| mesh.sidecars.get(name));
    let own = sidecar.and_then(|s| s.spec.outbound_traffic_policy);
    own.unwrap_or(mesh.config.outbound_traffic_policy).mode
}

impl Group<'_> {
    pub(crate) fn namespace(&self) -> &str {
        self.members.first().map_or("", |s| s.namespace.as_str())
    }

    /// The ports, each by the oldest service that declares it.
    pub(crate) fn declared_ports(&self) -> impl Iterator<Item = (u16, &Service, &Port)> {
        let mut ports = BTreeMap::new();
        for service in &self.members {
            for port in service.ports.iter().filter(|p| self.ports.as_ref().is_none_or(|o| o.contains(&p.number))) {
                ports.entry(port.number).or_insert((&***service, port));
            }
        }
        ports.into_iter().map(|(number, (service, port))| (number, service, port))
    }

    /// The single addresses at which it is called.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = std::net::IpAddr> {
        let all = self.members.iter().flat_map(|s| &s.addresses);
        all.filter(|net| net.prefix_len() == net.max_prefix_len()).map(ipnet::IpNet::addr)
    }

    /// The numbers of its ports.
    pub(crate) fn port_numbers(&self) -> BTreeSet<u16> {
        let all = self.members.iter().flat_map(|s| &s.ports).map(|p| p.number);
        all.filter(|number| self.ports.as_ref().is_none_or(|o| o.contains(number))).collect()
    }

    pub(crate) fn has_port(&self, number: u16) -> bool {
        let declared = self.members.iter().any(|s| s.ports.iter().any(|p| p.number == number));
        declared && self.ports.as_ref().is_none_or(|o| o.contains(&number))
    }

    /// Whether nothing but the endpoints of services with known ones differs.
    pub(crate) fn declares_the_same(&self, other: &Group<'_>) -> bool {
        let same = |a: &Arc<Service>, b: &Arc<Service>| {
            a.declares_the_same(b) && (a.discovery == Discovery::Known || a.endpoints == b.endpoints)
        };
        self.ports == other.ports
            && self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(|(a, b)| same(a, b))
    }

    /// The ports, each once.
    pub(crate) fn ports(&self) -> BTreeMap<u16, GroupPort<'_>> {
        let mut ports = BTreeMap::<u16, GroupPort<'_>>::new();
        for service in &self.members {
            for port in service.ports.iter().filter(|p| self.ports.as_ref().is_none_or(|o| o.contains(&p.number))) {
                let known = ports.entry(port.number);
                let known = known.or_insert_with(|| GroupPort { service, port, endpoints: Vec::new() });
                if known.service.discovery == service.discovery {
                    known.endpoints.extend(service.endpoints_of(port.number));
                }
            }
        }
        ports
    }
}

/// The services of a host as a caller sees them: those of its own namespace, or else of the oldest's.
fn group<'m>(
    class: &OutboundClass,
    services: &'m [Arc<Service>],
    imported: impl Fn(&Service) -> Option<Option<BTreeSet<u16>>>,
) -> Option<Group<'m>> {
    let visible = services.iter().filter(|s| s.visibility.includes(&class.namespace));
    let usable: Vec<_> = visible.filter_map(|s| Some((s, imported(s)?))).collect();
    let own = usable.iter().find(|(s, _)| s.namespace == class.namespace);
    let (first, ports) = own.or_else(|| usable.first())?;
    let members = usable.iter().filter(|(s, _)| s.namespace == first.namespace).map(|(s, _)| *s).collect();
    Some(Group { members, ports: ports.clone() })
}

fn report_hidden(
    group: &Group<'_>,
    services: &[Arc<Service>],
    class: &OutboundClass,
    found: &mut BTreeSet<Diagnostic>,
) {
    let Some(first) = group.members.first() else { return };
    let hidden = services.iter().filter(|s| s.namespace != first.namespace && s.visibility.includes(&class.namespace));
    found.extend(hidden.map(|service| {
        let message = format!(
            "{} is {} to callers in namespace {}, which has no effect on calls of this object's",
            service.host, first.object, class.namespace
        );
        service.object.info("spec.hosts", Code::Conflict, message)
    }));
}

/// The hosts to which routes for `host` lead; they belong to the scope, though nobody imports them.
fn destinations(mesh: &Mesh, class: &OutboundClass, host: &Hostname) -> Vec<Hostname> {
    mesh.routes.of(class, host).map(|route| routed(mesh, route).collect()).unwrap_or_default()
}

/// Where a route leads.
pub(crate) fn routed<'a>(mesh: &'a Mesh, route: &'a Route) -> impl Iterator<Item = Hostname> + use<'a> {
    let tcp = route.spec.tcp.iter().flat_map(|r| &r.route);
    let tls = route.spec.tls.iter().flat_map(|r| &r.route);
    let connections = tcp.chain(tls).map(|d| (&d.destination, &route.object));
    let requests = route.http.iter().flat_map(|http| http.destinations().map(|d| (d, &http.object)));
    let resolve = |host: &str, namespace: &str| Hostname::resolve(host, namespace, DOMAIN);
    connections.chain(requests).map(move |(d, object)| mesh.services.meaning(resolve(&d.host, &object.namespace)))
}

/// What a Sidecar lets in; without one, everything.
struct Imports {
    listeners: Option<Vec<Import>>,
}

struct Import {
    port: Option<u16>,
    /// Namespace, or none for any, and host.
    hosts: Vec<(Option<String>, Hostname)>,
}

impl Imports {
    fn of_class(mesh: &Mesh, class: &OutboundClass) -> Imports {
        let sidecar = class.sidecar.as_ref().and_then(|name| mesh.sidecars.get(name));
        let egress = sidecar.map_or(&[][..], |s| s.spec.egress.as_slice());
        Imports::new(egress, sidecar.map_or("", |s| s.metadata.namespace.as_str()))
    }

    fn new(egress: &[EgressListener], namespace: &str) -> Imports {
        let host = |text: &String| {
            let (from, host) = text.split_once('/')?;
            let from = match from {
                "~" => return None,
                "*" => None,
                "." => Some(namespace.to_owned()),
                name => Some(name.to_owned()),
            };
            Some((from, Hostname::new(host)))
        };
        let import = |listener: &EgressListener| Import {
            port: listener.port.map(|p| p.number).filter(|p| *p != 0),
            hosts: listener.hosts.iter().filter_map(host).collect(),
        };
        Imports { listeners: (!egress.is_empty()).then(|| egress.iter().map(import).collect()) }
    }

    /// Whether a service is let in; if only some of its ports are, which.
    fn of(&self, service: &Service) -> Option<Option<BTreeSet<u16>>> {
        self.host(&service.namespace, &service.host)
    }

    /// The same of a host that an object of a namespace says something about.
    fn host(&self, namespace: &str, known: &Hostname) -> Option<Option<BTreeSet<u16>>> {
        let Some(listeners) = &self.listeners else { return Some(None) };
        let named = |(from, host): &(Option<String>, Hostname)| {
            from.as_ref().is_none_or(|n| n == namespace) && host.covers(known)
        };
        let mut ports = BTreeSet::new();
        for listener in listeners.iter().filter(|l| l.hosts.iter().any(named)) {
            match listener.port {
                None => return Some(None),
                Some(port) => drop(ports.insert(port)),
            }
        }
        (!ports.is_empty()).then_some(Some(ports))
    }
}
