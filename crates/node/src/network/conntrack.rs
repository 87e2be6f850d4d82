//! Connection tracking's memory of UDP, which has no end of a connection by which to forget.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::libc;

use super::netlink::{self, Attributes, Header, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Socket, attribute};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const ENTRY: u16 = SUBSYSTEM << 8;

/// Attributes of an entry: the way there, and the way back.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// Forgets the ways of UDP packets that are stale: given where a packet was sent and where it was led.
pub(super) fn forget_udp(socket: &Socket, stale: impl Fn(SocketAddrV4, SocketAddrV4) -> bool) -> io::Result<()> {
    let mut dump = Vec::new();
    netlink::write(&mut dump, header(GET, NLM_F_REQUEST | NLM_F_DUMP), |_| {});
    let mut deletions = Vec::new();
    let mut refusal = None;
    socket.exchange(&dump, |answer| {
        refusal = refusal.take().or_else(|| answer.error());
        if answer.kind != ENTRY {
            return;
        }
        let way = |kind| attribute(answer.attributes(), kind);
        if let (Some(there), Some(back)) = (way(ORIGINAL), way(REPLY))
            && let (Some(sent), Some(led)) = (udp_end(there, End::Destination), udp_end(back, End::Source))
            && stale(sent, led)
        {
            let fill = |a: &mut Attributes<'_>| {
                a.nest(ORIGINAL, |a| {
                    netlink::attributes(there).for_each(|(kind, value)| a.nest(kind, |a| a.append(value)))
                })
            };
            let mut deletion = Vec::new();
            netlink::write(&mut deletion, header(DELETE, NLM_F_REQUEST | NLM_F_ACK), fill);
            deletions.push(deletion);
        }
    })?;
    refusal.map_or(Ok(()), Err)?;
    // An entry that has just ended by itself is refused, which is as good.
    deletions.iter().try_for_each(|deletion| socket.exchange(deletion, |_| {}))
}

fn header(kind: u16, flags: u16) -> Header {
    Header { kind, flags, sequence: 1, family: libc::AF_INET, resource: 0 }
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// One end of a way, if it is one of UDP over IPv4.
fn udp_end(way: &[u8], end: End) -> Option<SocketAddrV4> {
    let (addresses, protocol) = (attribute(way, 1)?, attribute(way, 2)?);
    if attribute(protocol, 1)? != [libc::IPPROTO_UDP as u8] {
        return None;
    }
    let (address, port) = match end {
        End::Source => (attribute(addresses, 1)?, attribute(protocol, 2)?),
        End::Destination => (attribute(addresses, 2)?, attribute(protocol, 3)?),
    };
    let address: [u8; 4] = address.try_into().ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes(port.try_into().ok()?)))
}
