//! Leading a pod's TCP connections to its sidecar, in the pod's own network namespace, with the meaning that Istio's
//! `istio-iptables` gives its options.
//!
//! ```text
//! table ip isthmus {
//!   chain inbound  { nat prerouting: excluded interfaces and ports accept; captured ports redirect to :15006 }
//!   chain outbound { nat output: what is exempt accept; the sidecar to the pod itself redirect to :15006;
//!                    the sidecar and everything on lo accept; captured ports and ranges redirect to :15001 }
//! }
//! ```
//!
//! There are no rules for IPv6, because a pod has no IPv6 address but `::1`, and what stays on lo is not led away.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use nix::libc;

use super::NetworkError;
use super::netlink::Socket;
use super::nft::{self, Batch, Expression, Hook, Meta, Register, field, interface};
use super::rules::{BEFORE_ROUTING, OUTPUT, PREROUTING};

const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";
const TCP: [u8; 1] = [6];
/// Connections for applications in the sidecar's own pod come from here when it does not know the port.
const PASSTHROUGH: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const A: Register = Register::FIRST;

/// Everything, or only what is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<T> {
    /// `*`
    All,
    /// Nothing else; nothing at all when the list is empty.
    Only(Vec<T>),
}

/// Which TCP connections of a pod are led to its sidecar, and where it listens. UDP is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Where the sidecar takes connections that leave the pod.
    pub outbound_port: u16,
    /// Where the sidecar takes connections that come in.
    pub inbound_port: u16,
    /// A port of the sidecar's own, to which connections are never led elsewhere.
    pub tunnel_port: u16,
    /// The sidecar's users. Sockets that are marked with a user's number are that user's, too.
    pub users: Vec<u32>,
    /// The sidecar's groups.
    pub groups: Vec<u32>,
    /// Connections to these ranges are captured.
    pub outbound: Selection<Ipv4Net>,
    /// … but not those to these.
    pub excluded_outbound: Vec<Ipv4Net>,
    /// Connections to these ports are captured wherever they lead, unless they lead to an excluded range.
    pub outbound_ports: Vec<u16>,
    /// Connections to these ports are never captured.
    pub excluded_outbound_ports: Vec<u16>,
    /// Connections to these ports of the pod are captured.
    pub inbound: Selection<u16>,
    /// … but, when all are, not those to these.
    pub excluded_inbound_ports: Vec<u16>,
    /// What comes or goes by these interfaces is left alone.
    pub excluded_interfaces: Vec<String>,
}

impl Capture {
    /// Makes the rules of the calling thread's network namespace, or makes them anew.
    pub fn install(&self) -> Result<(), NetworkError> {
        let mut batch = Batch::new();
        batch.replace_table();
        self.add_inbound(&mut batch);
        self.add_outbound(&mut batch);
        let socket = Socket::open().map_err(explain)?;
        nft::commit(&socket, batch).map_err(|e| explain(e.source))
    }

    /// Whether the connections of the pod's applications to an address elsewhere are led to the sidecar.
    pub fn takes_outbound(&self, to: SocketAddrV4) -> bool {
        let (address, port) = (to.ip(), to.port());
        if self.excluded_outbound_ports.contains(&port) || self.excluded_outbound.iter().any(|r| r.contains(address)) {
            return false;
        }
        self.outbound_ports.contains(&port)
            || match &self.outbound {
                Selection::All => true,
                Selection::Only(ranges) => ranges.iter().any(|range| range.contains(address)),
            }
    }

    /// Whether connections from elsewhere to a port of the pod are led to the sidecar.
    pub fn takes_inbound(&self, port: u16) -> bool {
        port != self.tunnel_port
            && match &self.inbound {
                Selection::All => !self.excluded_inbound_ports.contains(&port),
                Selection::Only(ports) => ports.contains(&port),
            }
    }

    fn add_inbound(&self, batch: &mut Batch) {
        use Expression::*;
        let to_sidecar = self.inbound_port.to_be_bytes();
        let redirect = [Constant(&to_sidecar, A), ToLocalPort(A)];
        batch.add_base_chain(INBOUND, Hook { kind: "nat", number: PREROUTING, priority: BEFORE_ROUTING });
        batch.add_rule(INBOUND, &[LoadMeta(Meta::Protocol, A), NotEqual(A, &TCP), Accept]);
        for name in &self.excluded_interfaces {
            batch.add_rule(INBOUND, &[LoadMeta(Meta::InputInterface, A), Equal(A, &interface(name)), Accept]);
        }
        accept_port(batch, INBOUND, self.tunnel_port);
        match &self.inbound {
            Selection::All => {
                self.excluded_inbound_ports.iter().for_each(|port| accept_port(batch, INBOUND, *port));
                batch.add_rule(INBOUND, &redirect);
            }
            Selection::Only(ports) => {
                for port in ports {
                    let port = port.to_be_bytes();
                    batch.add_rule(INBOUND, &[&[Load(field::PORT, A), Equal(A, &port)], &redirect[..]].concat());
                }
            }
        }
    }

    fn add_outbound(&self, batch: &mut Batch) {
        use Expression::*;
        batch.add_base_chain(OUTBOUND, Hook { kind: "nat", number: OUTPUT, priority: BEFORE_ROUTING });
        batch.add_rule(OUTBOUND, &[LoadMeta(Meta::Protocol, A), NotEqual(A, &TCP), Accept]);
        for name in &self.excluded_interfaces {
            batch.add_rule(OUTBOUND, &[LoadMeta(Meta::OutputInterface, A), Equal(A, &interface(name)), Accept]);
        }
        self.excluded_outbound_ports.iter().for_each(|port| accept_port(batch, OUTBOUND, *port));
        self.add_loopback(batch);
        for (what, id) in self.owners() {
            batch.add_rule(OUTBOUND, &[LoadMeta(what, A), Equal(A, &id), Accept]);
        }
        for range in &self.excluded_outbound {
            to_range(batch, *range, &[Accept]);
        }
        let to_sidecar = self.outbound_port.to_be_bytes();
        let redirect = [Constant(&to_sidecar, A), ToLocalPort(A)];
        for port in &self.outbound_ports {
            let port = port.to_be_bytes();
            batch.add_rule(OUTBOUND, &[&[Load(field::PORT, A), Equal(A, &port)], &redirect[..]].concat());
        }
        match &self.outbound {
            Selection::All => batch.add_rule(OUTBOUND, &redirect),
            Selection::Only(ranges) => ranges.iter().for_each(|range| to_range(batch, *range, &redirect)),
        }
    }

    /// What the pod sends to itself. The application reaches its own pod, and localhost, without a sidecar; the sidecar
    /// reaches applications of its pod through its own inbound side, unless it is that side which connects.
    fn add_loopback(&self, batch: &mut Batch) {
        use Expression::*;
        let name = interface("lo");
        let on_lo = [LoadMeta(Meta::OutputInterface, A), Equal(A, &name)];
        let passthrough = PASSTHROUGH.octets();
        let from_inbound = [Load(field::SOURCE, A), Equal(A, &passthrough), Accept];
        batch.add_rule(OUTBOUND, &[&on_lo[..], &from_inbound].concat());
        let (localhost, tunnel) = (Ipv4Addr::LOCALHOST.octets(), self.tunnel_port.to_be_bytes());
        let to_sidecar = self.inbound_port.to_be_bytes();
        for (what, id) in self.owners() {
            let to_the_pod = [
                Load(field::DESTINATION, A),
                NotEqual(A, &localhost),
                Load(field::PORT, A),
                NotEqual(A, &tunnel),
                LoadMeta(what, A),
                Equal(A, &id),
                Constant(&to_sidecar, A),
                ToLocalPort(A),
            ];
            batch.add_rule(OUTBOUND, &[&on_lo[..], &to_the_pod].concat());
        }
        batch.add_rule(OUTBOUND, &[&on_lo[..], &[Accept]].concat());
    }

    /// What tells the sidecar's packets from others, in the machine's own order.
    fn owners(&self) -> impl Iterator<Item = (Meta, [u8; 4])> {
        let users = self.users.iter().flat_map(|id| [(Meta::User, id), (Meta::Mark, id)]);
        users.chain(self.groups.iter().map(|id| (Meta::Group, id))).map(|(what, id)| (what, id.to_ne_bytes()))
    }
}

fn accept_port(batch: &mut Batch, chain: &str, port: u16) {
    use Expression::*;
    batch.add_rule(chain, &[Load(field::PORT, A), Equal(A, &port.to_be_bytes()), Accept]);
}

fn to_range(batch: &mut Batch, range: Ipv4Net, then: &[Expression<'_>]) {
    use Expression::*;
    let network = range.network().octets();
    let inside = [Load(field::DESTINATION, A), Mask(A, range.netmask().octets()), Equal(A, &network)];
    batch.add_rule(OUTBOUND, &[&inside[..], then].concat());
}

fn explain(source: io::Error) -> NetworkError {
    if source.raw_os_error() == Some(libc::EPERM) {
        let remedy = "add NET_ADMIN to the container's securityContext.capabilities, and let it run as root";
        return NetworkError::Refused(format!("the pod's nftables rules may not be changed: {remedy}"));
    }
    NetworkError::nftables("cannot make the pod's nftables rules", source)
}
