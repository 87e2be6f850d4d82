//! What rules are made of.

use super::Set;
use crate::network::netlink::Attributes;

/// One of the sixteen four-byte registers; a longer value takes those that follow, too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register(u32);

impl Register {
    /// The first register.
    pub(crate) const FIRST: Register = Register(8);
    /// The second register.
    pub(crate) const SECOND: Register = Register(9);
    /// The third register.
    pub(crate) const THIRD: Register = Register(10);
    /// The fourth register.
    pub(crate) const FOURTH: Register = Register(11);
    const VERDICT: u32 = 0;
}

/// A part of a packet: which header, at which offset, how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    base: u32,
    offset: u32,
    length: u32,
}

/// The parts of a packet that rules look at.
pub(crate) mod field {
    use super::Field;

    pub(crate) const SOURCE: Field = Field { base: 1, offset: 12, length: 4 };
    pub(crate) const DESTINATION: Field = Field { base: 1, offset: 16, length: 4 };
    /// The destination port, of TCP and of UDP.
    pub(crate) const PORT: Field = Field { base: 2, offset: 2, length: 2 };
}

/// What the kernel knows of a packet besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    Mark = 3,
    InputInterface = 6,
    OutputInterface = 7,
    /// Who made the socket that the packet leaves by, as the namespace's own users count.
    User = 10,
    Group = 11,
    Protocol = 16,
}

/// An interface's name as the kernel compares it: sixteen bytes, filled up with zeros.
pub(crate) fn interface(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// What connection tracking knows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Connection {
    State = 0,
    Status = 2,
}

impl Connection {
    /// The bit of `State` for a connection's first packet.
    pub(crate) const NEW: u32 = 1 << 3;
    /// The bit of `Status` for a connection that was given another destination.
    pub(crate) const REDIRECTED: u32 = 1 << 5;
}

/// One step of a rule. A step that does not hold ends the rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expression<'a> {
    /// Loads a part of the packet.
    Load(Field, Register),
    /// Loads what is known of the packet.
    LoadMeta(Meta, Register),
    /// Loads what is known of the packet's connection: bits, in the machine's order.
    LoadConnection(Connection, Register),
    /// Loads a constant.
    Constant(&'a [u8], Register),
    /// Clears the bits that the mask does not have.
    Mask(Register, [u8; 4]),
    /// Holds if the register has this value.
    Equal(Register, &'a [u8]),
    /// Holds if the register has another value.
    NotEqual(Register, &'a [u8]),
    /// Holds if the set has an element for the value that starts in the register.
    In(Set, Register),
    /// Holds if the map has an element for the value, and loads what it stands for.
    Translate(Set, Register, Register),
    /// Goes on where the map says, if it says so.
    GoWhere(Set, Register),
    /// Loads a random number below the bound.
    Random(u32, Register),
    /// Puts an element into the map, for so many seconds from now on: what the first register stands for, and what for.
    /// An element that is there keeps its value.
    Remember(Set, Register, Register, u64),
    /// Takes the element for the eight bytes from the register on out of the map. Holds if there is one.
    Forget(Set, Register),
    /// Gives the connection another destination: the address and the port in two registers.
    Redirect(Register, Register),
    /// Leads the connection to the port in the register, of this machine itself.
    ToLocalPort(Register),
    /// Gives the connection the address of the link that it leaves by as its source.
    Masquerade,
    /// Goes on in another chain.
    Goto(&'a str),
    /// Leaves the packet as it is.
    Accept,
    Drop,
}

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_GOTO: i32 = -4;

impl Expression<'_> {
    pub(super) fn write(&self, a: &mut Attributes<'_>) {
        match *self {
            Expression::Load(field, to) => expression(a, "payload", |a| {
                a.number(1, to.0);
                a.number(2, field.base);
                a.number(3, field.offset);
                a.number(4, field.length);
            }),
            Expression::LoadMeta(key, to) => expression(a, "meta", |a| {
                a.number(1, to.0);
                a.number(2, key as u32);
            }),
            Expression::LoadConnection(key, to) => expression(a, "ct", |a| {
                a.number(1, to.0);
                a.number(2, key as u32);
            }),
            Expression::Constant(value, to) => expression(a, "immediate", |a| {
                a.number(1, to.0);
                a.nest(2, |a| a.put(1, value));
            }),
            Expression::Mask(register, mask) => write_mask(a, register, mask),
            Expression::Equal(register, value) => write_comparison(a, register, 0, value),
            Expression::NotEqual(register, value) => write_comparison(a, register, 1, value),
            Expression::In(set, from) => write_lookup(a, set, from, None),
            Expression::Translate(set, from, to) => write_lookup(a, set, from, Some(to.0)),
            Expression::GoWhere(set, from) => write_lookup(a, set, from, Some(Register::VERDICT)),
            Expression::Random(bound, to) => expression(a, "numgen", |a| {
                const RANDOM: u32 = 1;
                a.number(1, to.0);
                a.number(2, bound);
                a.number(3, RANDOM);
            }),
            Expression::Remember(map, key, value, seconds) => expression(a, "dynset", |a| {
                const UPDATE: u32 = 1;
                write_change(a, map, UPDATE, key, value);
                a.put(6, &seconds.saturating_mul(1000).to_be_bytes());
            }),
            Expression::Forget(map, key) => expression(a, "dynset", |a| {
                const DELETE: u32 = 2;
                // The kernel wants a value here as well, and does not look at it.
                write_change(a, map, DELETE, key, key);
            }),
            Expression::Redirect(address, port) => expression(a, "nat", |a| {
                const DESTINATION: u32 = 1;
                const AF_INET: u32 = 2;
                a.number(1, DESTINATION);
                a.number(2, AF_INET);
                a.number(3, address.0);
                a.number(5, port.0);
            }),
            Expression::ToLocalPort(port) => expression(a, "redir", |a| a.number(1, port.0)),
            Expression::Masquerade => expression(a, "masq", |_| {}),
            Expression::Goto(chain) => expression(a, "immediate", |a| {
                a.number(1, Register::VERDICT);
                a.nest(2, |a| write_goto(a, chain));
            }),
            Expression::Accept => write_verdict(a, NF_ACCEPT),
            Expression::Drop => write_verdict(a, NF_DROP),
        }
    }
}

fn expression(attributes: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    attributes.text(1, name);
    attributes.nest(2, fill);
}

fn write_change(attributes: &mut Attributes<'_>, map: Set, how: u32, key: Register, value: Register) {
    attributes.text(1, map.name());
    attributes.number(3, how);
    attributes.number(4, key.0);
    attributes.number(5, value.0);
}

fn write_verdict(attributes: &mut Attributes<'_>, verdict: u32) {
    expression(attributes, "immediate", |a| {
        a.number(1, Register::VERDICT);
        a.nest(2, |a| a.nest(2, |a| a.number(1, verdict)));
    });
}

fn write_mask(attributes: &mut Attributes<'_>, register: Register, mask: [u8; 4]) {
    expression(attributes, "bitwise", |a| {
        a.number(1, register.0);
        a.number(2, register.0);
        a.number(3, 4);
        a.nest(4, |a| a.put(1, &mask));
        a.nest(5, |a| a.put(1, &[0; 4]));
    });
}

fn write_comparison(attributes: &mut Attributes<'_>, register: Register, how: u32, value: &[u8]) {
    expression(attributes, "cmp", |a| {
        a.number(1, register.0);
        a.number(2, how);
        a.nest(3, |a| a.put(1, value));
    });
}

fn write_lookup(attributes: &mut Attributes<'_>, set: Set, from: Register, to: Option<u32>) {
    expression(attributes, "lookup", |a| {
        a.text(1, set.name());
        a.number(2, from.0);
        if let Some(to) = to {
            a.number(3, to);
        }
        if let Set::Anonymous(id) = set {
            a.number(4, id);
        }
    });
}

/// The verdict of a map's element: goes on in another chain.
pub(super) fn write_goto(attributes: &mut Attributes<'_>, chain: &str) {
    attributes.nest(2, |a| {
        a.put(1, &NFT_GOTO.to_be_bytes());
        a.text(2, chain);
    });
}
