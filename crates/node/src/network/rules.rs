//! The node's nftables rules.
//!
//! ```text
//! table ip isthmus {
//!   map services { type ipv4_addr . inet_proto . inet_service : verdict }   what a service answers at : goto its chain
//!   set hairpin { type ipv4_addr . ipv4_addr }                             an endpoint that reaches itself
//!   map affinity { type ipv4_addr . integer : ipv4_addr . inet_service }   a client's endpoint of a service, for a time
//!   chain prerouting, output { nat: ip daddr . meta l4proto . th dport vmap @services }
//!   chain <namespace>/<service>/<protocol>/<port> { dnat to numgen random mod N map { 0 : ADDRESS . PORT, … } }
//!   chain guard/<…> { ip saddr RANGE goto <…>; …; drop }                     loadBalancerSourceRanges
//!   chain postrouting { nat: ip saddr . ip daddr @hairpin masquerade; oifname uplink0 masquerade }
//!   chain forward { iifname uplink0, new and not redirected: drop }
//!   chain input { the same, unless it is for an address of the outer network }
//! }
//! ```
//!
//! What no rule redirects stays with the node, whose own addresses all services' addresses are: it answers that nothing
//! listens there. Established connections keep their way when rules change; connection tracking remembers it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::NetworkError;
use super::cluster::UPLINK;
use super::conntrack;
use super::namespace::Namespace;
use super::netlink::Socket;
use super::nft::{
    self, Batch, Connection, DataType, Expression, Hook, Meta, NftError, Register, Set, Value, field, interface,
};
use super::table::{Backend, BackendName, Frontend, Protocol, Table, Way};

const SERVICES: Set = Set::Named("services");
const HAIRPIN: Set = Set::Named("hairpin");
const AFFINITY: &str = "affinity";

pub(super) const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
pub(super) const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
pub(super) const BEFORE_ROUTING: i32 = -100;
const AFTER_ROUTING: i32 = 100;

/// A transaction that an ordinary user may send at once is at least twice as long.
const LONGEST: usize = 100_000;
/// How many elements are changed before that is looked at again.
const PORTION: usize = 200;

/// The rules of one node, and what they are now.
pub(super) struct Rules {
    socket: Socket,
    outer: Ipv4Net,
    installed: Installed,
}

#[derive(Default)]
struct Installed {
    table: Table,
    hairpins: BTreeSet<Ipv4Addr>,
}

impl Rules {
    /// Installs the rules of a node without services. `outer` is the outer network.
    pub(super) fn install(node: &Namespace, outer: Ipv4Net) -> Result<Rules, NetworkError> {
        const WHAT: &str = "cannot make the node's nftables rules";
        let explain = |source| NetworkError::nftables(WHAT, source);
        let socket = node.run(Socket::open).and_then(|opened| opened).map_err(explain)?;
        let mut rules = Rules { socket, outer, installed: Installed::default() };
        rules.reset().map_err(|e| explain(e.source))?;
        Ok(rules)
    }

    /// Makes the rules what the table asks for: the difference is sent, in one transaction unless it is too long for
    /// one. When the kernel refuses it, everything is made anew.
    pub(super) fn update(&mut self, table: &Table) -> Result<(), NftError> {
        let udp_before = udp(&self.installed.table);
        if let Err(error) = self.send_difference(table) {
            tracing::warn!(%error, "the rules are made anew");
            self.reset()?;
            self.send_difference(table)?;
        }
        let udp_now = udp(table);
        if udp_before != udp_now {
            self.forget(&udp_before, &udp_now);
        }
        Ok(())
    }

    /// Lets clients of UDP services that have changed find the way anew; those of TCP services keep theirs.
    fn forget(&self, before: &UdpServices, now: &UdpServices) {
        let forgotten = conntrack::forget_udp(&self.socket, |sent, led| {
            let known = before.contains_key(&sent) || now.contains_key(&sent);
            known && now.get(&sent).is_none_or(|endpoints| !endpoints.contains(&led))
        });
        if let Err(error) = forgotten {
            tracing::warn!(%error, "clients of UDP services that have changed may still be led to the old endpoints");
        }
    }

    fn reset(&mut self) -> Result<(), NftError> {
        self.installed = Installed::default();
        let mut batch = Batch::new();
        add_base(&mut batch, self.outer);
        nft::commit(&self.socket, batch)
    }

    fn send_difference(&mut self, table: &Table) -> Result<(), NftError> {
        let before = &self.installed.table;
        let batch = self.add_chains(Batch::new(), before, table)?;
        let batch = self.change_elements(batch, before, table)?;
        let batch = self.remove_chains(batch, before, table)?;
        nft::commit(&self.socket, batch)?;
        self.installed = Installed { table: table.clone(), hairpins: hairpins(table) };
        Ok(())
    }

    fn add_chains(&self, mut batch: Batch, before: &Table, table: &Table) -> Result<Batch, NftError> {
        let mut sets = 0;
        for (name, backend) in &table.backends {
            let known = before.backends.get(name);
            let same = known.is_some_and(|k| (&k.endpoints, k.affinity) == (&backend.endpoints, backend.affinity));
            if !same {
                begin_chain(&mut batch, &chain(name), known.is_some());
                lead_to_endpoints(&mut batch, &chain(name), backend, &mut sets);
            }
            let known_sources = known.and_then(|known| known.sources.as_ref());
            if let Some(sources) = &backend.sources
                && known_sources != Some(sources)
            {
                begin_chain(&mut batch, &guard(name), known_sources.is_some());
                let_in(&mut batch, name, sources);
            }
            batch = self.send_if_long(batch)?;
        }
        Ok(batch)
    }

    fn change_elements(&self, mut batch: Batch, before: &Table, table: &Table) -> Result<Batch, NftError> {
        let lacks = |table: &Table, at, way| table.frontends.get(at) != Some(way);
        let removed: Vec<_> = before.frontends.iter().filter(|(at, way)| lacks(table, *at, *way)).collect();
        for portion in removed.chunks(PORTION) {
            batch.delete_elements(SERVICES, portion.iter().map(|(at, _)| frontend_key(at)));
            batch = self.send_if_long(batch)?;
        }
        let added = table.frontends.iter().filter(|(at, way)| lacks(before, *at, *way));
        let added: Vec<_> = added.map(|(at, way)| (at, entrance(way))).collect();
        for portion in added.chunks(PORTION) {
            batch.add_elements(SERVICES, portion.iter().map(|(at, chain)| (frontend_key(at), Value::Goto(chain))));
            batch = self.send_if_long(batch)?;
        }
        let hairpins = hairpins(table);
        batch.delete_elements(HAIRPIN, self.installed.hairpins.difference(&hairpins).map(|ip| hairpin_key(*ip)));
        let new = hairpins.difference(&self.installed.hairpins);
        batch.add_elements(HAIRPIN, new.map(|ip| (hairpin_key(*ip), Value::None)));
        self.send_if_long(batch)
    }

    fn remove_chains(&self, mut batch: Batch, before: &Table, table: &Table) -> Result<Batch, NftError> {
        for (name, backend) in &before.backends {
            let now = table.backends.get(name);
            if backend.sources.is_some() && now.is_none_or(|now| now.sources.is_none()) {
                end_chain(&mut batch, &guard(name));
            }
            if now.is_none() {
                end_chain(&mut batch, &chain(name));
            }
            batch = self.send_if_long(batch)?;
        }
        Ok(batch)
    }

    fn send_if_long(&self, batch: Batch) -> Result<Batch, NftError> {
        if batch.len() < LONGEST {
            return Ok(batch);
        }
        nft::commit(&self.socket, batch)?;
        Ok(Batch::new())
    }
}

fn add_base(batch: &mut Batch, outer: Ipv4Net) {
    use Expression::*;
    const A: Register = Register::FIRST;
    const B: Register = Register::SECOND;
    const C: Register = Register::THIRD;
    batch.replace_table();
    batch.add_set(SERVICES, DataType::ADDRESS_PROTOCOL_PORT, Some(DataType::VERDICT));
    batch.add_set(HAIRPIN, DataType::ADDRESS_PAIR, None);
    batch.add_memory(AFFINITY, DataType::ADDRESS_NUMBER, DataType::ADDRESS_PORT);
    let by_service =
        [Load(field::DESTINATION, A), LoadMeta(Meta::Protocol, B), Load(field::PORT, C), GoWhere(SERVICES, A)];
    for (name, number) in [("prerouting", PREROUTING), ("output", OUTPUT)] {
        batch.add_base_chain(name, Hook { kind: "nat", number, priority: BEFORE_ROUTING });
        batch.add_rule(name, &by_service);
    }
    let uplink = interface(UPLINK);
    batch.add_base_chain("postrouting", Hook { kind: "nat", number: POSTROUTING, priority: AFTER_ROUTING });
    batch.add_rule("postrouting", &[Load(field::SOURCE, A), Load(field::DESTINATION, B), In(HAIRPIN, A), Masquerade]);
    batch.add_rule("postrouting", &[LoadMeta(Meta::OutputInterface, A), Equal(A, &uplink), Masquerade]);

    let zero = [0; 4];
    let from_outside = [
        LoadMeta(Meta::InputInterface, A),
        Equal(A, &uplink),
        LoadConnection(Connection::State, A),
        Mask(A, Connection::NEW.to_ne_bytes()),
        NotEqual(A, &zero),
        LoadConnection(Connection::Status, A),
        Mask(A, Connection::REDIRECTED.to_ne_bytes()),
        Equal(A, &zero),
    ];
    batch.add_base_chain("forward", Hook { kind: "filter", number: FORWARD, priority: 0 });
    batch.add_rule("forward", &[&from_outside[..], &[Drop]].concat());
    let network = outer.network().octets();
    let elsewhere = [Load(field::DESTINATION, A), Mask(A, outer.netmask().octets()), NotEqual(A, &network), Drop];
    batch.add_base_chain("input", Hook { kind: "filter", number: INPUT, priority: 0 });
    batch.add_rule("input", &[&from_outside[..], &elsewhere].concat());
}

fn begin_chain(batch: &mut Batch, chain: &str, exists: bool) {
    if exists {
        batch.flush_chain(chain);
    } else {
        batch.add_chain(chain);
    }
}

fn end_chain(batch: &mut Batch, chain: &str) {
    batch.flush_chain(chain);
    batch.delete_chain(chain);
}

fn let_in(batch: &mut Batch, name: &BackendName, sources: &[Ipv4Net]) {
    use Expression::*;
    const A: Register = Register::FIRST;
    let (guard, chain) = (guard(name), chain(name));
    for range in sources {
        let (network, mask) = (range.network().octets(), range.netmask().octets());
        batch.add_rule(&guard, &[Load(field::SOURCE, A), Mask(A, mask), Equal(A, &network), Goto(&chain)]);
    }
    batch.add_rule(&guard, &[Drop]);
}

fn lead_to_endpoints(batch: &mut Batch, chain: &str, backend: &Backend, sets: &mut u32) {
    use Expression::*;
    const A: Register = Register::FIRST;
    const B: Register = Register::SECOND;
    const C: Register = Register::THIRD;
    const D: Register = Register::FOURTH;
    if let (None, [only]) = (backend.affinity, backend.endpoints.as_slice()) {
        let (address, port) = (only.ip().octets(), only.port().to_be_bytes());
        batch.add_rule(chain, &[Constant(&address, A), Constant(&port, B), Redirect(A, B)]);
        return;
    }
    let values: Vec<_> = backend.endpoints.iter().map(endpoint_value).collect();
    if backend.affinity.is_some() {
        lead_to_known_endpoint(batch, chain, backend, &values, sets);
    }
    *sets += 1;
    let map = Set::Anonymous(*sets);
    batch.add_set(map, DataType::INTEGER, Some(DataType::ADDRESS_PORT));
    // The numbers come from the generator in the machine's own order.
    batch.add_elements(map, (0u32..).zip(&values).map(|(n, value)| (n.to_ne_bytes().to_vec(), Value::Bytes(value))));
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let number = number(chain);
    match backend.affinity {
        None => batch.add_rule(chain, &[Random(count, A), Translate(map, A, A), Redirect(A, B)]),
        Some(seconds) => {
            let client = [Load(field::SOURCE, A), Constant(&number, B)];
            let choose = [Random(count, C), Translate(map, C, C)];
            let go = [Remember(Set::Named(AFFINITY), A, C, seconds), Redirect(C, D)];
            batch.add_rule(chain, &[client, choose, go].concat());
        }
    }
}

/// Leads a client to the endpoint that it had last, unless that is none any more; then it is forgotten.
fn lead_to_known_endpoint(batch: &mut Batch, chain: &str, backend: &Backend, endpoints: &[[u8; 8]], sets: &mut u32) {
    use Expression::*;
    const A: Register = Register::FIRST;
    const B: Register = Register::SECOND;
    const C: Register = Register::THIRD;
    const D: Register = Register::FOURTH;
    const MEMORY: Set = Set::Named(AFFINITY);
    let Some(seconds) = backend.affinity else { return };
    *sets += 1;
    let known = Set::Anonymous(*sets);
    batch.add_set(known, DataType::ADDRESS_PORT, None);
    batch.add_elements(known, endpoints.iter().map(|endpoint| (endpoint.to_vec(), Value::None)));
    let number = number(chain);
    let client = [Load(field::SOURCE, A), Constant(&number, B)];
    let go = [Translate(MEMORY, A, C), In(known, C), Remember(MEMORY, A, C, seconds), Redirect(C, D)];
    batch.add_rule(chain, &[&client[..], &go].concat());
    batch.add_rule(chain, &[&client[..], &[Forget(MEMORY, A)]].concat());
}

/// Tells services apart in the memory of clients. Two that have the same number share a memory, which does no harm:
/// only endpoints of the service's own are taken from it.
fn number(chain: &str) -> [u8; 4] {
    let mut hasher = DefaultHasher::new();
    chain.hash(&mut hasher);
    (hasher.finish() as u32).to_ne_bytes()
}

/// Where UDP services answer, and their endpoints.
type UdpServices = BTreeMap<SocketAddrV4, Vec<SocketAddrV4>>;

fn udp(table: &Table) -> UdpServices {
    let services = table.frontends.iter().filter(|(at, _)| at.protocol == Protocol::Udp);
    let endpoints = |way: &Way| table.backends.get(&way.backend).map(|backend| backend.endpoints.clone());
    services.map(|(at, way)| (SocketAddrV4::new(at.address, at.port), endpoints(way).unwrap_or_default())).collect()
}

fn chain(name: &BackendName) -> String {
    name.to_string()
}

/// The chain that lets only some sources go on to the service's own.
fn guard(name: &BackendName) -> String {
    format!("guard/{name}")
}

fn entrance(way: &Way) -> String {
    if way.guarded { guard(&way.backend) } else { chain(&way.backend) }
}

fn frontend_key(frontend: &Frontend) -> Vec<u8> {
    let port = frontend.port.to_be_bytes();
    [&frontend.address.octets()[..], &[frontend.protocol as u8, 0, 0, 0], &port, &[0, 0]].concat()
}

fn endpoint_value(endpoint: &SocketAddrV4) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (endpoint.ip().octets(), endpoint.port().to_be_bytes());
    [a, b, c, d, high, low, 0, 0]
}

fn hairpin_key(address: Ipv4Addr) -> Vec<u8> {
    [address.octets(), address.octets()].concat()
}

fn hairpins(table: &Table) -> BTreeSet<Ipv4Addr> {
    table.backends.values().flat_map(|backend| &backend.endpoints).map(|endpoint| *endpoint.ip()).collect()
}
