//! What becomes of a connection, and why.
//!
//! Pure functions of a [`Snapshot`] and of what is known of a connection. The data path calls the single steps, which
//! allocate nothing; [`select`] takes them all in turn and keeps the reasons, for tests and for people who ask.

mod explain;
mod filters;
mod hosts;
mod outcome;
mod request;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::Snapshot;
use crate::config::{
    Cluster, ConnectionFacts, Direction, Discovery, DownstreamTls, Endpoint, EndpointAddress, FilterChain, Listener,
    SanKind, Terminal, TransportProtocol, Trust,
};
use crate::inspect::{Hello, Spoken};
use crate::rbac::{Peer, Verdict};

pub use hosts::{Candidates, HostSets};
pub use outcome::{Outcome, Target, TlsRefusal};
pub use request::{
    Call, DENIED, Fate, LocalReply, NO_ENDPOINT, RequestSelection, arrived, change, in_force, prepared, request,
};

/// A connection, as far as its fate depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// Where it arrived.
    pub arrival: Arrival,
    /// Where it was going before it was captured.
    pub destination: SocketAddr,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Its ClientHello, if it speaks TLS.
    pub hello: Option<&'a Hello>,
    /// The version of HTTP that it speaks in plaintext, if it does.
    pub spoken: Option<Spoken>,
    /// The URI SANs of its certificate, if it has one, which an authority that is trusted here issued.
    pub identities: &'a [Arc<str>],
    /// What the dice say where chance decides.
    pub random: u64,
}

/// Where a connection arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was captured on its way to the workload or from it.
    Captured(Direction),
    /// It was made to this address of the proxy itself.
    At(SocketAddr),
}

/// What becomes of a connection. Displays as a sentence.
#[derive(Debug, Clone)]
pub struct Selection<'s> {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// The listener that takes it.
    pub listener: Option<&'s Arc<Listener>>,
    /// The filter chain that takes it.
    pub chain: Option<&'s Arc<FilterChain>>,
    /// What each RBAC filter that enforces something says, up to the first denial.
    pub verdicts: Vec<Verdict<'s>>,
    /// What comes of it.
    pub outcome: Outcome<'s>,
}

/// Follows a connection to its end.
pub fn select<'s>(snapshot: &'s Snapshot, connection: &Connection<'_>) -> Selection<'s> {
    let Connection { destination, source, .. } = *connection;
    let mut selection = Selection {
        source,
        destination,
        listener: None,
        chain: None,
        verdicts: Vec::new(),
        outcome: Outcome::NoListener,
    };
    selection.listener = arrival(snapshot, connection.arrival).map(|l| hand_over(snapshot, l, destination));
    selection.outcome = match selection.listener {
        Some(listener) => in_listener(snapshot, listener, connection, &mut selection),
        None => Outcome::NoListener,
    };
    selection
}

fn in_listener<'s>(
    snapshot: &'s Snapshot,
    listener: &'s Arc<Listener>,
    connection: &Connection<'_>,
    selection: &mut Selection<'s>,
) -> Outcome<'s> {
    let Connection { destination, source, hello, spoken, identities, .. } = *connection;
    let facts = facts(listener, (destination, source), hello, spoken);
    let Some(chain) = chain(listener, &facts) else { return Outcome::NoChain };
    selection.chain = Some(chain);
    if let Some(refusal) = chain.tls.as_ref().and_then(|tls| tls_refusal(snapshot, tls, hello, identities)) {
        return Outcome::TlsRefused(refusal);
    }
    let tls = chain.tls.is_some();
    let identities = if tls { identities } else { &[] };
    let server_name = hello.and_then(|h| h.server_name.as_deref()).unwrap_or_default();
    let peer = Peer { destination, source: source.ip(), server_name, tls, identities };
    for verdict in chain.rbac.iter().filter_map(|filter| filter.verdict(&peer)) {
        selection.verdicts.push(verdict);
        if !verdict.allowed {
            return Outcome::Denied(verdict);
        }
    }
    let proxy = match &chain.terminal {
        Terminal::Tcp(proxy) => proxy,
        Terminal::Http(connections) => return Outcome::Http(connections),
    };
    let name = proxy.cluster.pick(connection.random);
    match snapshot.cluster(name) {
        Some(cluster) => in_cluster(snapshot, cluster, connection),
        None => Outcome::NoCluster(name),
    }
}

fn in_cluster<'s>(snapshot: &'s Snapshot, cluster: &'s Arc<Cluster>, connection: &Connection<'_>) -> Outcome<'s> {
    let targets: Vec<Target<'s>> = match (&cluster.discovery, snapshot.endpoints_of(cluster)) {
        (Discovery::OriginalDst { .. }, _) => original_destination(cluster, connection.destination)
            .map(|address| Target { address: EndpointAddress::Ip(address), socket: &cluster.socket, chosen_by: None })
            .into_iter()
            .collect(),
        (_, Some(assignment)) => {
            let sets = HostSets::new(cluster, assignment, |_, _, endpoint| (endpoint.clone(), endpoint.health));
            let target = |endpoint: &Arc<Endpoint>| {
                let (socket, chosen_by) = cluster.socket_for(endpoint);
                Target { address: endpoint.address.clone(), socket, chosen_by }
            };
            sets.candidates(connection.random).endpoints.iter().map(target).collect()
        }
        (_, None) => Vec::new(),
    };
    if targets.is_empty() { Outcome::NoEndpoint(cluster) } else { Outcome::Proxied { cluster, targets } }
}

/// The listener whose socket takes a connection.
fn arrival(snapshot: &Snapshot, arrival: Arrival) -> Option<&Arc<Listener>> {
    match arrival {
        Arrival::At(address) => snapshot.listener_at(address).filter(|l| l.bind_to_port),
        Arrival::Captured(direction) => {
            let captures = |l: &&Arc<Listener>| l.bind_to_port && l.original_dst && l.direction == direction;
            snapshot.listeners().into_values().map(|l| &l.config).find(captures)
        }
    }
}

/// The listener that a connection is handed over to: the one at its original destination, if there is one.
pub fn hand_over<'s>(
    snapshot: &'s Snapshot,
    accepted: &'s Arc<Listener>,
    destination: SocketAddr,
) -> &'s Arc<Listener> {
    let other = if accepted.use_original_dst { snapshot.listener_at(destination) } else { None };
    other.unwrap_or(accepted)
}

/// Whether a listener looks for a ClientHello on connections to this port.
pub fn inspects(listener: &Listener, destination: SocketAddr) -> bool {
    let inspector = listener.tls_inspector.as_ref();
    inspector.is_some_and(|i| !i.disabled.as_ref().is_some_and(|d| d.holds(destination.port())))
}

/// Whether a listener looks for HTTP in plaintext on connections to this port.
pub fn listens_for_http(listener: &Listener, destination: SocketAddr) -> bool {
    let inspector = listener.http_inspector.as_ref();
    inspector.is_some_and(|i| !i.disabled.as_ref().is_some_and(|d| d.holds(destination.port())))
}

/// What is known of a connection between a destination and a source when its chain is chosen: of what is spoken nothing,
/// unless the listener inspects.
pub fn facts<'a>(
    listener: &Listener,
    (destination, source): (SocketAddr, SocketAddr),
    hello: Option<&'a Hello>,
    spoken: Option<Spoken>,
) -> ConnectionFacts<'a> {
    let hello = hello.filter(|_| inspects(listener, destination));
    let spoken = spoken.filter(|_| hello.is_none() && listens_for_http(listener, destination));
    ConnectionFacts {
        destination,
        source,
        server_name: hello.and_then(|h| h.server_name.as_deref()).unwrap_or_default(),
        transport: hello.map_or(TransportProtocol::RawBuffer, |_| TransportProtocol::Tls),
        application_protocols: match (hello, spoken) {
            (Some(hello), _) => &hello.application_protocols,
            (None, Some(spoken)) => spoken.application_protocols(),
            (None, None) => &[],
        },
    }
}

/// The chain that takes a connection, or else the default chain.
pub fn chain<'l>(listener: &'l Listener, facts: &ConnectionFacts<'_>) -> Option<&'l Arc<FilterChain>> {
    let found = listener.index.find(facts).and_then(|position| listener.chains.get(position));
    found.or(listener.default_chain.as_ref())
}

/// Where a connection of an `ORIGINAL_DST` cluster goes; `None` for other clusters.
pub fn original_destination(cluster: &Cluster, destination: SocketAddr) -> Option<SocketAddr> {
    match cluster.discovery {
        Discovery::OriginalDst { port_override, .. } => {
            Some(SocketAddr::new(destination.ip(), port_override.unwrap_or(destination.port())))
        }
        _ => None,
    }
}

/// Why a handshake would fail, as far as that can be known without the certificate itself.
fn tls_refusal<'s>(
    snapshot: &'s Snapshot,
    tls: &'s DownstreamTls,
    hello: Option<&Hello>,
    identities: &[Arc<str>],
) -> Option<TlsRefusal<'s>> {
    let Some(hello) = hello else { return Some(TlsRefusal::NotTls) };
    if tls.require_sni && hello.server_name.is_none() {
        return Some(TlsRefusal::NoServerName);
    }
    if snapshot.certificates(&tls.settings).is_none() {
        return tls.settings.secrets().next().map(|s| TlsRefusal::MissingSecret(&s.name));
    }
    let Some(demands) = snapshot.validation(&tls.settings.validation) else {
        return tls.settings.validation.secret.as_ref().map(|s| TlsRefusal::MissingSecret(&s.name));
    };
    if identities.is_empty() {
        return tls.require_client_certificate.then_some(TlsRefusal::NoCertificate);
    }
    if demands.accept_untrusted {
        return None;
    }
    if let Trust::Spiffe(domains) = &demands.trust {
        let known = |name: &str| domains.iter().any(|d| *d.name == *name);
        if !identities.iter().filter_map(|i| trust_domain(i)).any(known) {
            return Some(TlsRefusal::UnknownTrustDomain);
        }
    }
    let named = identities.iter().any(|i| demands.names.iter().any(|m| m.matches(SanKind::Uri, i)));
    (!demands.names.is_empty() && !named).then_some(TlsRefusal::WrongName)
}

/// The trust domain of a SPIFFE ID.
fn trust_domain(identity: &str) -> Option<&str> {
    identity.strip_prefix("spiffe://")?.split('/').next()
}
