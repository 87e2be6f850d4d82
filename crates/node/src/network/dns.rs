//! Cluster DNS: answers for the cluster's own names, and refuses all others at once, because there is no upstream.

mod zone;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::namespace::Namespace;
use super::objects::Objects;
use super::table::Place;
use zone::{Entry, Found, ZONE, Zone};

const PORT: u16 = 53;
/// How long an answer may be kept, in seconds; as CoreDNS says it.
const TTL: u32 = 5;
/// The longest answer by UDP to a client that takes so much.
const LONGEST_DATAGRAM: u16 = 4096;
/// The longest answer by UDP to a client that says nothing.
const SHORTEST_DATAGRAM: u16 = 512;
/// How many TCP connections are served at once, and how long one may be silent.
const CONNECTIONS: usize = 256;
const SILENCE: Duration = Duration::from_secs(10);
/// How many aliases are followed.
const ALIASES: usize = 8;

/// The names to answer from; nothing until the API server has been heard once.
pub(super) type Names = watch::Receiver<Option<Arc<Snapshot>>>;

/// The names of one moment.
pub(super) struct Snapshot {
    zone: Zone,
    serial: u32,
}

impl Snapshot {
    pub(super) fn new(objects: &Objects, place: Place, serial: u32) -> Snapshot {
        Snapshot { zone: Zone::new(objects, place), serial }
    }
}

/// The sockets of the server, at one address.
pub(super) struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Server {
    /// Takes the DNS port of an address of the node.
    pub(super) fn bind(node: &Namespace, address: Ipv4Addr) -> io::Result<Server> {
        let at = SocketAddr::from((address, PORT));
        let (udp, tcp) = node.run(move || (UdpSocket::bind(at), TcpListener::bind(at)))?;
        let server = Server { udp: udp?, tcp: tcp? };
        server.udp.set_nonblocking(true)?;
        server.tcp.set_nonblocking(true)?;
        Ok(server)
    }

    /// Answers for as long as it is polled.
    pub(super) async fn serve(self, names: Names) -> io::Result<()> {
        let udp = tokio::net::UdpSocket::from_std(self.udp)?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp)?;
        tokio::join!(serve_datagrams(udp, names.clone()), serve_connections(tcp, names));
        Ok(())
    }
}

async fn serve_datagrams(socket: tokio::net::UdpSocket, names: Names) {
    let mut buffer = vec![0; usize::from(LONGEST_DATAGRAM)];
    loop {
        // Errors are of single packets: a client that has gone away, no memory for the moment.
        let received = socket.recv_from(&mut buffer).await;
        let Ok((length, client)) = received.inspect_err(|error| tracing::debug!(%error, "cannot receive")) else {
            continue;
        };
        let Some(answer) = respond(buffer.get(..length).unwrap_or_default(), &names, Transport::Datagram) else {
            continue;
        };
        if let Err(error) = socket.send_to(&answer, client).await {
            tracing::debug!(%error, %client, "cannot answer");
        }
    }
}

async fn serve_connections(listener: tokio::net::TcpListener, names: Names) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                let names = names.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_connection(stream, &names).await {
                        tracing::debug!(%error, %client, "a connection has ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, names: &Names) -> io::Result<()> {
    loop {
        let request = timeout(SILENCE, async {
            let length = stream.read_u16().await?;
            let mut request = vec![0; usize::from(length)];
            stream.read_exact(&mut request).await?;
            io::Result::Ok(request)
        });
        let request = request.await??;
        let Some(answer) = respond(&request, names, Transport::Stream) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(SILENCE, stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())).await??;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Datagram,
    Stream,
}

/// The answer to a packet, unless it is none that may be answered.
fn respond(packet: &[u8], names: &Names, transport: Transport) -> Option<Vec<u8>> {
    let names = names.borrow().clone();
    let (answer, longest) = match Message::from_vec(packet) {
        // Answering answers could go on for ever.
        Ok(request) if request.metadata.message_type != MessageType::Query => return None,
        Ok(request) => (answer(&request, names.as_deref()), longest(&request, transport)),
        Err(_) => (refuse_malformed(packet)?, SHORTEST_DATAGRAM),
    };
    let encode =
        |message: &Message| message.to_vec().inspect_err(|error| tracing::error!(%error, "cannot encode")).ok();
    let bytes = encode(&answer)?;
    if bytes.len() <= usize::from(longest) { Some(bytes) } else { encode(&answer.truncate()) }
}

fn longest(request: &Message, transport: Transport) -> u16 {
    match (transport, &request.edns) {
        (Transport::Stream, _) => u16::MAX,
        (_, Some(edns)) => edns.max_payload().clamp(SHORTEST_DATAGRAM, LONGEST_DATAGRAM),
        (_, None) => SHORTEST_DATAGRAM,
    }
}

/// A packet that is no message but has the beginning of a query.
fn refuse_malformed(packet: &[u8]) -> Option<Message> {
    const HEADER: usize = 12;
    const RESPONSE: u8 = 0x80;
    match packet {
        [high, low, flags, ..] if packet.len() >= HEADER && flags & RESPONSE == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            Some(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
        _ => None,
    }
}

fn answer(request: &Message, names: Option<&Snapshot>) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = false;
    response.add_queries(request.queries.iter().cloned());
    if let Some(edns) = &request.edns {
        let mut own = Edns::new();
        own.set_max_payload(LONGEST_DATAGRAM);
        response.set_edns(own);
        if edns.version() != 0 {
            response.metadata.response_code = ResponseCode::BADVERS;
            return response;
        }
    }
    response.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice(), names) {
        (OpCode::Query, [query], _) if query.query_class() != DNSClass::IN => ResponseCode::Refused,
        (OpCode::Query, [query], Some(names)) => {
            let turn = usize::from(request.metadata.id);
            Answer { names, turn, response: &mut response }.fill(query.name(), query.query_type())
        }
        (OpCode::Query, [_], None) => ResponseCode::ServFail,
        (OpCode::Query, _, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    response
}

/// An answer in the making.
struct Answer<'a> {
    names: &'a Snapshot,
    /// Where lists of addresses begin, so that clients that take the first do not all take the same.
    turn: usize,
    response: &'a mut Message,
}

impl Answer<'_> {
    fn fill(mut self, asked: &Name, kind: RecordType) -> ResponseCode {
        let mut owner = asked.clone();
        for _ in 0..ALIASES {
            let found = key(&owner).map_or(Found::Nothing, |name| self.names.zone.find(&name));
            let first = self.response.answers.is_empty();
            match found {
                Found::Elsewhere if first => return ResponseCode::Refused,
                // An alias leads out of the cluster; who asked may know the way from there.
                Found::Elsewhere => return ResponseCode::NoError,
                Found::Nothing => {
                    self.response.metadata.authoritative = true;
                    self.add_authority();
                    return ResponseCode::NXDomain;
                }
                Found::Entry(entry) => {
                    self.response.metadata.authoritative = true;
                    let Some(next) = self.add_entry(&owner, &entry, kind) else { break };
                    owner = next;
                }
            }
        }
        if self.response.answers.is_empty() {
            self.add_authority();
        }
        ResponseCode::NoError
    }

    /// Adds what an entry has of a kind. Gives the name to go on with if the entry is an alias.
    fn add_entry(&mut self, owner: &Name, entry: &Entry, kind: RecordType) -> Option<Name> {
        let wants = |other| kind == other || kind == RecordType::ANY;
        if wants(RecordType::A) {
            let mut addresses = entry.addresses.clone();
            if let Some(first) = self.turn.checked_rem(addresses.len()) {
                addresses.rotate_left(first);
            }
            addresses.into_iter().for_each(|address| self.add(owner, RData::A(A(address))));
        }
        if wants(RecordType::SRV) {
            self.add_services(owner, entry);
        }
        if wants(RecordType::PTR) {
            for name in entry.pointers.iter().filter_map(|name| parse(name)) {
                self.add(owner, RData::PTR(PTR(name)));
            }
        }
        if wants(RecordType::SOA) && key(owner).is_some_and(|name| name == ZONE) {
            let record = self.authority();
            self.response.answers.extend(record);
        }
        let alias = entry.alias.as_deref().and_then(parse)?;
        self.add(owner, RData::CNAME(CNAME(alias.clone())));
        (kind != RecordType::CNAME).then_some(alias)
    }

    fn add_services(&mut self, owner: &Name, entry: &Entry) {
        for location in &entry.services {
            let Some(target) = parse(&location.target) else { continue };
            self.add(owner, RData::SRV(SRV::new(0, 100, location.port, target.clone())));
            if let Found::Entry(entry) = self.names.zone.find(&location.target) {
                let addresses =
                    entry.addresses.iter().map(|ip| Record::from_rdata(target.clone(), TTL, RData::A(A(*ip))));
                let missing =
                    addresses.filter(|record| !self.response.additionals.contains(record)).collect::<Vec<_>>();
                self.response.additionals.extend(missing);
            }
        }
    }

    fn add(&mut self, owner: &Name, data: RData) {
        self.response.answers.push(Record::from_rdata(owner.clone(), TTL, data));
    }

    /// Says how long it may be remembered that there is nothing.
    fn add_authority(&mut self) {
        let record = self.authority();
        self.response.authorities.extend(record);
    }

    fn authority(&self) -> Option<Record> {
        let (zone, server, person) = (parse(ZONE)?, parse("ns.dns.cluster.local")?, parse("hostmaster.cluster.local")?);
        let data = SOA::new(server, person, self.names.serial, 7200, 1800, 86400, TTL);
        Some(Record::from_rdata(zone, TTL, RData::SOA(data)))
    }
}

/// A name as the zone has it, if it can be one of the zone's: in lower case, without the last dot.
fn key(name: &Name) -> Option<String> {
    let mut key = String::with_capacity(name.len());
    for label in name.iter() {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !label.iter().all(plain) {
            return None;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some(key)
}

fn parse(name: &str) -> Option<Name> {
    let mut parsed = Name::from_ascii(name).ok()?;
    parsed.set_fqdn(true);
    Some(parsed)
}

#[cfg(test)]
mod tests;
