//! Which chain takes a connection.
//!
//! The order is Envoy's: destination port, destination address, server name, transport protocol, application protocol,
//! peer address, kind of source, source address, source port. At each level the most specific entry that matches is
//! taken, and nothing is tried again if a later level then fails: such a connection goes to the default chain.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::filter_chain::{ChainMatch, FilterChain, ServerName, SourceType, TransportProtocol};

/// What is known of a connection when its chain is chosen. An IPv4 address must not be in its IPv6 form.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionFacts<'a> {
    /// Where it was going before it was captured.
    pub destination: SocketAddr,
    /// Where it comes from.
    pub source: SocketAddr,
    /// The server name of its ClientHello, in lower case; empty if there was none.
    pub server_name: &'a str,
    /// What it speaks, if that was looked at; `raw_buffer` if it was not.
    pub transport: TransportProtocol,
    /// The protocols that its ClientHello offers, in its order.
    pub application_protocols: &'a [Box<str>],
}

/// An index over the chains of a listener; a lookup allocates nothing and does not grow with the number of chains.
#[derive(Debug, Clone)]
pub struct ChainIndex {
    /// A tree with a level for each of [`LEVELS`]; the first node is its root.
    nodes: Vec<Node>,
    /// The chain that is alone and takes everything. Most listeners are of this kind: they get no tree.
    everything: Option<usize>,
}

/// Two chains that take the same connections, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) earlier: usize,
    pub(super) later: usize,
}

/// The criteria, in the order in which they are tried.
const LEVELS: [Level; 9] = [
    Level::DestinationPort,
    Level::Destination,
    Level::ServerName,
    Level::Transport,
    Level::ApplicationProtocol,
    Level::DirectSource,
    Level::SourceType,
    Level::Source,
    Level::SourcePort,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    DestinationPort,
    Destination,
    ServerName,
    Transport,
    ApplicationProtocol,
    DirectSource,
    SourceType,
    Source,
    SourcePort,
}

/// One value of a criterion.
#[derive(Debug, Clone)]
enum Key {
    Any,
    Port(u16),
    Net(IpNet),
    /// A protocol, a server name, or the suffix of server names, which begins with a dot.
    Text(Arc<str>),
    /// TLS or local (0), raw or external (1).
    Kind(usize),
}

/// What follows each value of a criterion: a node, or at the last level a chain. Only one of the tables is in use.
#[derive(Debug, Clone, Default)]
struct Node {
    any: Option<usize>,
    ports: HashMap<u16, Option<usize>>,
    /// By prefix length, the longest first.
    nets: Vec<(u8, HashMap<IpNet, Option<usize>>)>,
    texts: HashMap<Arc<str>, Option<usize>>,
    kinds: [Option<usize>; 2],
}

impl ChainIndex {
    pub(super) fn new(chains: &[Arc<FilterChain>]) -> Result<ChainIndex, Clash> {
        if let [only] = chains
            && only.matches == ChainMatch::default()
        {
            return Ok(ChainIndex { nodes: Vec::new(), everything: Some(0) });
        }
        let mut index = ChainIndex { nodes: vec![Node::default()], everything: None };
        for (later, chain) in chains.iter().enumerate() {
            let keys = LEVELS.map(|level| keys(level, &chain.matches));
            index.insert(0, &keys, later).map_err(|earlier| Clash { earlier, later })?;
        }
        index.nodes.shrink_to_fit();
        Ok(index)
    }

    /// The position of the chain that takes a connection. `None` sends it to the default chain.
    pub fn find(&self, facts: &ConnectionFacts<'_>) -> Option<usize> {
        let next = |node: usize, level: &Level| self.nodes.get(node)?.next(*level, facts);
        self.everything.or_else(|| LEVELS.iter().try_fold(0, next))
    }

    /// Enters `chain` below `node` for every combination of `keys`; the error is the chain that is there already.
    fn insert(&mut self, node: usize, keys: &[Vec<Key>], chain: usize) -> Result<(), usize> {
        let Some((level, below)) = keys.split_first() else { return Ok(()) };
        for key in level {
            let fresh = if below.is_empty() { chain } else { self.nodes.len() };
            let entry = self.nodes.get_mut(node).expect("nodes are never removed").entry(key);
            match (*entry, below.is_empty()) {
                (Some(taken), true) if taken != chain => return Err(taken),
                (Some(_), true) => {}
                (None, true) => *entry = Some(chain),
                (Some(next), false) => self.insert(next, below, chain)?,
                (None, false) => {
                    *entry = Some(fresh);
                    self.nodes.push(Node::default());
                    self.insert(fresh, below, chain)?;
                }
            }
        }
        Ok(())
    }
}

/// The values of a chain's criterion.
fn keys(level: Level, matches: &ChainMatch) -> Vec<Key> {
    let nets = |nets: &[IpNet]| nets.iter().copied().map(Key::Net).collect();
    let keys: Vec<Key> = match level {
        Level::DestinationPort => matches.destination_port.into_iter().map(Key::Port).collect(),
        Level::Destination => nets(&matches.destination),
        Level::ServerName => matches
            .server_names
            .iter()
            .map(|name| match name {
                ServerName::Exact(text) | ServerName::Suffix(text) => Key::Text(text.clone()),
            })
            .collect(),
        Level::Transport => matches.transport_protocol.into_iter().map(|t| Key::Kind(transport(t))).collect(),
        Level::ApplicationProtocol => matches.application_protocols.iter().cloned().map(Key::Text).collect(),
        Level::DirectSource => nets(&matches.direct_source),
        Level::SourceType => match matches.source_type {
            SourceType::Any => Vec::new(),
            SourceType::Local => vec![Key::Kind(0)],
            SourceType::External => vec![Key::Kind(1)],
        },
        Level::Source => nets(&matches.source),
        Level::SourcePort => matches.source_ports.iter().copied().map(Key::Port).collect(),
    };
    if keys.is_empty() { vec![Key::Any] } else { keys }
}

fn transport(protocol: TransportProtocol) -> usize {
    match protocol {
        TransportProtocol::Tls => 0,
        TransportProtocol::RawBuffer => 1,
    }
}

impl Node {
    /// Where the successor of `key` is noted. A prefix of length zero takes every address of its family only.
    fn entry(&mut self, key: &Key) -> &mut Option<usize> {
        match key {
            Key::Any => &mut self.any,
            Key::Port(port) => self.ports.entry(*port).or_default(),
            Key::Text(text) => self.texts.entry(text.clone()).or_default(),
            Key::Net(net) => self.nets_of(net.prefix_len()).entry(*net).or_default(),
            Key::Kind(kind) => &mut self.kinds[*kind],
        }
    }

    fn nets_of(&mut self, length: u8) -> &mut HashMap<IpNet, Option<usize>> {
        let at = self.nets.partition_point(|(l, _)| *l > length);
        if self.nets.get(at).is_none_or(|(l, _)| *l != length) {
            self.nets.insert(at, (length, HashMap::new()));
        }
        &mut self.nets[at].1
    }

    fn next(&self, level: Level, facts: &ConnectionFacts<'_>) -> Option<usize> {
        let found = match level {
            Level::DestinationPort => self.port(facts.destination.port()),
            Level::Destination => self.net(facts.destination.ip()),
            Level::ServerName => self.server_name(facts.server_name),
            Level::Transport => self.kind(transport(facts.transport)),
            Level::ApplicationProtocol => {
                facts.application_protocols.iter().find_map(|p| self.texts.get(&**p).copied().flatten())
            }
            Level::DirectSource | Level::Source => self.net(facts.source.ip()),
            Level::SourceType => self.kind(if is_local(facts) { 0 } else { 1 }),
            Level::SourcePort => self.port(facts.source.port()),
        };
        found.or(self.any)
    }

    fn port(&self, port: u16) -> Option<usize> {
        self.ports.get(&port).copied().flatten()
    }

    fn kind(&self, kind: usize) -> Option<usize> {
        self.kinds.get(kind).copied().flatten()
    }

    fn net(&self, ip: IpAddr) -> Option<usize> {
        self.nets.iter().find_map(|(length, nets)| {
            let net = IpNet::new(ip, *length).ok()?.trunc();
            nets.get(&net).copied().flatten()
        })
    }

    /// The name itself, or else its longest suffix that begins with a dot.
    fn server_name(&self, name: &str) -> Option<usize> {
        if self.texts.is_empty() || name.is_empty() {
            return None;
        }
        let exact = if name.starts_with('.') { None } else { self.text(name) };
        let dots = name.match_indices('.').map(|(dot, _)| dot).filter(|dot| *dot > 0);
        exact.or_else(|| dots.into_iter().find_map(|dot| self.text(name.get(dot..)?)))
    }

    fn text(&self, text: &str) -> Option<usize> {
        self.texts.get(text).copied().flatten()
    }
}

/// Whether a connection comes from this host, as Envoy's `SAME_IP_OR_LOOPBACK` has it.
fn is_local(facts: &ConnectionFacts<'_>) -> bool {
    let source = facts.source.ip();
    source == facts.destination.ip() || source.is_loopback()
}
