//! The services that a class of nodes may call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::istio::{EgressListener, Hostname, OutboundTrafficMode};

use crate::mesh::{DOMAIN, Endpoint, Mesh, Port, Service};
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
        let sidecar = class.sidecar.as_ref().and_then(|name| mesh.sidecars.get(name));
        let egress = sidecar.map_or(&[][..], |s| s.spec.egress.as_slice());
        let imports = Imports::new(egress, sidecar.map_or("", |s| s.metadata.namespace.as_str()));
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
        let own = sidecar.and_then(|s| s.spec.outbound_traffic_policy);
        Scope { groups, unknown: own.unwrap_or(mesh.config.outbound_traffic_policy).mode }
    }
}

impl Group<'_> {
    pub(crate) fn namespace(&self) -> &str {
        self.members.first().map_or("", |s| s.namespace.as_str())
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
    let Some(route) = mesh.routes.of(class, host) else { return Vec::new() };
    let tcp = route.spec.tcp.iter().flat_map(|r| &r.route);
    let tls = route.spec.tls.iter().flat_map(|r| &r.route);
    tcp.chain(tls).map(|d| Hostname::resolve(&d.destination.host, &route.object.namespace, DOMAIN)).collect()
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
        let Some(listeners) = &self.listeners else { return Some(None) };
        let named = |(namespace, host): &(Option<String>, Hostname)| {
            namespace.as_ref().is_none_or(|n| *n == service.namespace) && host.covers(&service.host)
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
