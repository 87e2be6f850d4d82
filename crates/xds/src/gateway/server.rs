//! The servers of the Gateways that select a pod, brought together by where they listen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Gateway, Hostname, Object, Server, ServerTls, ServerTlsMode};

use crate::mesh::{Mesh, Protocol, Service};
use crate::policy::{Route, ServerHost};
use crate::{Code, ObjectRef, OutboundClass, Resources};

/// Ports from here on need no privilege.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// A server that listens, with the routes that are bound to it.
pub(crate) struct Opened<'m> {
    /// Its Gateway.
    pub(crate) gateway: NamespacedName,
    pub(crate) object: ObjectRef,
    /// For example `spec.servers[0]`.
    pub(crate) field: String,
    pub(crate) server: &'m Server,
    pub(crate) speaks: Speaks<'m>,
    pub(crate) hosts: Vec<ServerHost>,
    /// By the hosts that both have, each with the routes by age.
    pub(crate) bound: BTreeMap<(Hostname, usize), &'m Arc<Route>>,
}

/// What a server speaks with clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks<'m> {
    Http,
    /// HTTP in TLS, which ends here.
    Https(&'m ServerTls),
    /// Bytes in TLS, which ends here.
    Tls(&'m ServerTls),
    /// TLS, which ends elsewhere.
    Passing,
    /// The same, where the server name says where.
    Named,
    Bytes,
}

impl<'m> Speaks<'m> {
    /// What a server speaks, or why that cannot be.
    fn of(server: &'m Server) -> Result<Speaks<'m>, (&'static str, String)> {
        let protocol = server.port.protocol.as_str();
        match (Protocol::parse(protocol), &server.tls) {
            (Some(Protocol::Http | Protocol::Http2), _) => Ok(Speaks::Http),
            (Some(Protocol::Tcp), _) => Ok(Speaks::Bytes),
            (Some(Protocol::Tls), None) => {
                Err(("tls", format!("is needed where {protocol} is spoken: the port is closed")))
            }
            (Some(Protocol::Tls), Some(tls)) => Ok(match tls.mode {
                ServerTlsMode::Passthrough => Speaks::Passing,
                ServerTlsMode::AutoPassthrough => Speaks::Named,
                _ if protocol.eq_ignore_ascii_case("HTTPS") => Speaks::Https(tls),
                _ => Speaks::Tls(tls),
            }),
            (Some(Protocol::Unknown | Protocol::Udp) | None, _) => {
                Err(("port.protocol", format!("{protocol:?} is not spoken at gateways: the port is closed")))
            }
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Speaks::Https(_) | Speaks::Tls(_) | Speaks::Passing | Speaks::Named)
    }
}

impl<'m> Opened<'m> {
    /// The number by which virtual services and patches know the server.
    pub(crate) fn number(&self) -> u16 {
        self.server.port.number
    }

    /// The routes that are bound to it, oldest first.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'m Arc<Route>> + use<'m> {
        let by_rank: BTreeMap<usize, &'m Arc<Route>> =
            self.bound.iter().map(|((_, rank), route)| (*rank, *route)).collect();
        by_rank.into_values()
    }

    /// Whether requests in plaintext are sent to HTTPS.
    pub(crate) fn redirects(&self) -> bool {
        self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect) && self.speaks == Speaks::Http
    }
}

/// An address and port with the servers there, all of HTTP, all of TLS, or one of bytes.
pub(super) struct Bind<'m> {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) servers: Vec<Opened<'m>>,
    /// The hosts of servers at which TLS ends or requests are told apart, with whose they are.
    taken: BTreeMap<Hostname, ObjectRef>,
}

impl Bind<'_> {
    pub(super) fn listener(&self) -> String {
        format!("{}_{}", self.address, self.port)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.servers.iter().any(|opened| opened.speaks.is_tls())
    }

    /// The name of the table that a server's requests are routed by, and the port that its hosts are called at.
    pub(super) fn table(&self, opened: &Opened<'_>) -> Option<(String, u16)> {
        let suffix = if self.address == ANY { String::new() } else { format!(".{}", self.address) };
        match opened.speaks {
            Speaks::Http => Some((format!("http.{}{suffix}", self.port), self.port)),
            Speaks::Https(_) => {
                let NamespacedName { namespace, name } = &opened.gateway;
                let (number, port) = (opened.number(), &opened.server.port.name);
                Some((format!("https.{number}.{port}.{name}.{namespace}{suffix}"), number))
            }
            _ => None,
        }
    }
}

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Everything that listens at a gateway, by port.
pub(super) fn binds<'m>(mesh: &'m Mesh, class: &'m OutboundClass, resources: &mut Resources) -> Vec<Bind<'m>> {
    let services = services(mesh, class);
    let mut merging = Merging { mesh, class, services, binds: BTreeMap::new(), tables: BTreeSet::new() };
    for gateway in mesh.gateways.of(&class.labels) {
        for (i, server) in gateway.spec.servers.iter().enumerate() {
            merging.add(gateway, i, server, resources);
        }
    }
    merging.binds.into_values().collect()
}

/// The services that a gateway belongs to.
pub(super) fn services<'m>(mesh: &'m Mesh, class: &OutboundClass) -> Vec<&'m Service> {
    let node = class.node();
    mesh.services.all().map(AsRef::as_ref).filter(|service| service.selects(&node)).collect()
}

/// Servers, the oldest Gateway's first.
struct Merging<'m> {
    mesh: &'m Mesh,
    class: &'m OutboundClass,
    /// Those that the pod belongs to.
    services: Vec<&'m Service>,
    binds: BTreeMap<(u16, IpAddr), Bind<'m>>,
    /// What tables of HTTPS are told apart by.
    tables: BTreeSet<(NamespacedName, u16, &'m str)>,
}

impl<'m> Merging<'m> {
    fn add(&mut self, gateway: &'m Arc<Object<Gateway>>, index: usize, server: &'m Server, resources: &mut Resources) {
        let (object, name) = (ObjectRef::of(gateway), gateway.name());
        let field = format!("spec.servers[{index}]");
        let mut found = |path: &str, message: String| {
            resources.diagnostics.insert(object.error(format!("{field}.{path}"), Code::InvalidValue, message));
        };
        let speaks = match Speaks::of(server) {
            Ok(speaks) => speaks,
            Err((path, message)) => return found(path, message),
        };
        let address = match server.bind.as_str() {
            "" => ANY,
            text => match text.parse() {
                Ok(address) => address,
                Err(_) => return found("bind", format!("{text:?} is no address to bind: the port is closed")),
            },
        };
        if matches!(speaks, Speaks::Https(_))
            && !self.tables.insert((name.clone(), server.port.number, server.port.name.as_str()))
        {
            let message = format!("port names in servers must be unique: duplicate name {}", server.port.name);
            return found("port.name", message);
        }
        let hosts: Vec<ServerHost> =
            server.hosts.iter().filter_map(|text| ServerHost::parse(text, &name.namespace)).collect();
        for port in self.ports(server.port.number) {
            if port < FIRST_UNPRIVILEGED && self.class.router.as_ref().is_some_and(|router| router.unprivileged) {
                let message = format!(
                    "the pods may not listen on ports below 1024, so {port} is closed; let the Service's targetPort be another"
                );
                resources.diagnostics.insert(object.error(format!("{field}.port.number"), Code::NotSupported, message));
                continue;
            }
            let opened = Opened {
                gateway: name.clone(),
                object: object.clone(),
                field: field.clone(),
                server,
                speaks,
                hosts: hosts.clone(),
                bound: self.bound(&name, &hosts),
            };
            let bind = self.binds.entry((port, address)).or_insert(Bind {
                address,
                port,
                servers: Vec::new(),
                taken: BTreeMap::new(),
            });
            bind.add(opened, resources);
        }
        self.binds.retain(|_, bind| !bind.servers.is_empty());
    }

    /// Where the pod listens for calls of a service's port: where the services that it belongs to say, or at the very
    /// port if none has it.
    fn ports(&self, number: u16) -> BTreeSet<u16> {
        let named = self.class.router.as_ref().map(|router| &router.ports);
        let own = self.services.iter().flat_map(|service| &service.ports).filter(|port| port.number == number);
        let mut targets: BTreeSet<u16> = own.filter_map(|port| port.target.at(named?)).collect();
        if targets.is_empty() {
            targets.insert(number);
        }
        targets
    }

    fn bound(&self, gateway: &NamespacedName, hosts: &[ServerHost]) -> BTreeMap<(Hostname, usize), &'m Arc<Route>> {
        let Some(routes) = self.mesh.routes.bound(gateway) else { return BTreeMap::new() };
        let mut bound = BTreeMap::new();
        for server in hosts {
            for (host, rank, route) in routes.meeting(&server.host) {
                if route.is_seen_from(&self.class.namespace) && server.is_for(&route.object.namespace) {
                    bound.insert((host, rank), route);
                }
            }
        }
        bound
    }
}

impl<'m> Bind<'m> {
    /// Adds a server, unless an older one keeps it from its place.
    fn add(&mut self, opened: Opened<'m>, resources: &mut Resources) {
        let at = format!("{}_{}", self.address, self.port);
        let mut report = |field: &str, effect: &str, first: &ObjectRef| {
            let field = format!("{}.{field}", opened.field);
            let message = format!("{first} is older and has {effect}");
            resources.diagnostics.insert(opened.object.error(field, Code::Conflict, message));
        };
        if let Some(first) = self.servers.first() {
            let alike = match (first.speaks, opened.speaks) {
                (Speaks::Http, Speaks::Http) => true,
                (first, own) => first.is_tls() && own.is_tls(),
            };
            if !alike {
                return report("port", &format!("{at} for another protocol: the server has no effect"), &first.object);
            }
        }
        if opened.speaks == Speaks::Http || opened.speaks == Speaks::Passing || opened.speaks == Speaks::Named {
            self.servers.push(opened);
            return;
        }
        let own: BTreeSet<&Hostname> = opened.hosts.iter().map(|server| &server.host).collect();
        if let Some((host, first)) = own.iter().find_map(|host| self.taken.get_key_value(*host)) {
            return report("hosts", &format!("the host {host} at {at}: the server has no effect"), first);
        }
        self.taken.extend(own.into_iter().map(|host| (host.clone(), opened.object.clone())));
        self.servers.push(opened);
    }
}
