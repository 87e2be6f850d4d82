//! nf_tables, spoken over netlink: transactions on one table of the family `ip`.
//!
//! Message and attribute numbers are those of `linux/netfilter/nf_tables.h`.

mod expression;

use std::io;

use nix::libc;

use super::netlink::{self, Attributes, Header, NLM_F_ACK, NLM_F_REQUEST, Socket};
pub(super) use expression::{Connection, Expression, Meta, Register, field, interface};

/// The one table.
const TABLE: &str = "isthmus";

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;

/// What one message of a transaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    DeleteChain = 5,
    NewRule = 6,
    DeleteRule = 8,
    NewSet = 9,
    NewElements = 12,
    DeleteElements = 14,
}

/// A transaction that was refused as a whole.
#[derive(Debug, thiserror::Error)]
#[error("nf_tables refuses {what}: {source}")]
pub(super) struct NftError {
    what: String,
    /// What the kernel said.
    #[source]
    pub(super) source: io::Error,
}

/// What a set's keys or a map's values are; the number is what `nft list` prints them by.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataType {
    kind: u32,
    length: u32,
}

impl DataType {
    pub(super) const INTEGER: DataType = DataType { kind: 4, length: 4 };
    pub(super) const VERDICT: DataType = DataType { kind: 0xffff_ff00, length: 16 };
    /// `ipv4_addr . ipv4_addr`
    pub(super) const ADDRESS_PAIR: DataType = DataType { kind: 7 << 6 | 7, length: 8 };
    /// `ipv4_addr . integer`
    pub(super) const ADDRESS_NUMBER: DataType = DataType { kind: 7 << 6 | 4, length: 8 };
    /// `ipv4_addr . inet_service`
    pub(super) const ADDRESS_PORT: DataType = DataType { kind: 7 << 6 | 13, length: 8 };
    /// `ipv4_addr . inet_proto . inet_service`
    pub(super) const ADDRESS_PROTOCOL_PORT: DataType = DataType { kind: 7 << 12 | 12 << 6 | 13, length: 12 };
}

/// A set or a map of the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Set {
    /// Known by its name, for as long as the table lives.
    Named(&'static str),
    /// Belongs to the rule that uses it. The number tells it from others of the same transaction.
    Anonymous(u32),
}

impl Set {
    fn name(self) -> &'static str {
        match self {
            Set::Named(name) => name,
            // The kernel puts a number of its own in the place of `%d`.
            Set::Anonymous(_) => "__map%d",
        }
    }
}

/// What an element of a map stands for.
pub(super) enum Value<'a> {
    /// Nothing: the element is of a set, or is to be deleted.
    None,
    Bytes(&'a [u8]),
    Goto(&'a str),
}

/// A base chain's place in a packet's way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// Messages that take effect together or not at all.
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// What each message asks for, in order; message n has sequence number n + 1.
    requests: Vec<Request>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let mut batch = Batch { bytes: Vec::new(), requests: Vec::new() };
        batch.frame(BATCH_BEGIN, 0);
        batch
    }

    /// How long the transaction has become, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The sequence number of the last request.
    fn last(&self) -> u32 {
        u32::try_from(self.requests.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Begins or ends the transaction.
    fn frame(&mut self, kind: u16, sequence: u32) {
        let header = Header { kind, flags: NLM_F_REQUEST, sequence, family: libc::AF_UNSPEC, resource: SUBSYSTEM };
        netlink::write(&mut self.bytes, header, |_| {});
    }

    fn message(&mut self, request: Request, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.requests.push(request);
        let flags = match request {
            Request::NewRule => NLM_F_CREATE | NLM_F_APPEND,
            Request::NewTable | Request::NewChain | Request::NewSet | Request::NewElements => NLM_F_CREATE,
            _ => 0,
        };
        let (kind, flags) = (SUBSYSTEM << 8 | request as u16, NLM_F_REQUEST | NLM_F_ACK | flags);
        let header = Header { kind, flags, sequence: self.last(), family: libc::AF_INET, resource: 0 };
        netlink::write(&mut self.bytes, header, fill);
    }

    /// Makes the table anew, empty.
    pub(super) fn replace_table(&mut self) {
        for request in [Request::NewTable, Request::DeleteTable, Request::NewTable] {
            self.message(request, |a| a.text(1, TABLE));
        }
    }

    pub(super) fn add_base_chain(&mut self, name: &str, hook: Hook) {
        self.message(Request::NewChain, |a| {
            a.text(1, TABLE);
            a.text(3, name);
            a.nest(4, |a| {
                a.number(1, hook.number);
                a.put(2, &hook.priority.to_be_bytes());
            });
            a.text(7, hook.kind);
        });
    }

    pub(super) fn add_chain(&mut self, name: &str) {
        self.message(Request::NewChain, |a| {
            a.text(1, TABLE);
            a.text(3, name);
        });
    }

    pub(super) fn delete_chain(&mut self, name: &str) {
        self.message(Request::DeleteChain, |a| {
            a.text(1, TABLE);
            a.text(3, name);
        });
    }

    /// Deletes a chain's rules, and with them the anonymous sets they use.
    pub(super) fn flush_chain(&mut self, name: &str) {
        self.message(Request::DeleteRule, |a| {
            a.text(1, TABLE);
            a.text(2, name);
        });
    }

    pub(super) fn add_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        self.message(Request::NewRule, |a| {
            a.text(1, TABLE);
            a.text(2, chain);
            a.nest(4, |a| expressions.iter().for_each(|expression| a.nest(1, |a| expression.write(a))));
        });
    }

    /// Adds a set, or a map when there is a type of values.
    pub(super) fn add_set(&mut self, set: Set, key: DataType, value: Option<DataType>) {
        const ANONYMOUS: u32 = 1;
        const CONSTANT: u32 = 2;
        const MAP: u32 = 8;
        let (id, life) = match set {
            Set::Named(_) => (0, 0),
            Set::Anonymous(id) => (id, ANONYMOUS | CONSTANT),
        };
        self.message(Request::NewSet, |a| {
            a.text(1, TABLE);
            a.text(2, set.name());
            a.number(3, life | value.map_or(0, |_| MAP));
            a.number(4, key.kind);
            a.number(5, key.length);
            if let Some(value) = value {
                a.number(6, value.kind);
                a.number(7, value.length);
            }
            a.number(10, id);
        });
    }

    /// Adds a map that rules write to, whose elements are forgotten after a time.
    pub(super) fn add_memory(&mut self, name: &'static str, key: DataType, value: DataType) {
        const MAP: u32 = 8;
        const FORGETS: u32 = 0x10;
        const WRITTEN_BY_RULES: u32 = 0x20;
        const MOST: u32 = 1 << 20;
        self.message(Request::NewSet, |a| {
            a.text(1, TABLE);
            a.text(2, name);
            a.number(3, MAP | FORGETS | WRITTEN_BY_RULES);
            a.number(4, key.kind);
            a.number(5, key.length);
            a.number(6, value.kind);
            a.number(7, value.length);
            a.nest(9, |a| a.number(1, MOST));
            a.number(10, 0);
        });
    }

    pub(super) fn add_elements<'a>(&mut self, set: Set, elements: impl Iterator<Item = (Vec<u8>, Value<'a>)>) {
        self.elements(Request::NewElements, set, elements);
    }

    pub(super) fn delete_elements(&mut self, set: Set, keys: impl Iterator<Item = Vec<u8>>) {
        self.elements(Request::DeleteElements, set, keys.map(|key| (key, Value::None)));
    }

    fn elements<'a>(&mut self, request: Request, set: Set, elements: impl Iterator<Item = (Vec<u8>, Value<'a>)>) {
        // An element with the longest chain name takes some 330 bytes, and a list of them at most 64 KiB.
        const PORTION: usize = 150;
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            self.message(request, |a| {
                a.text(1, TABLE);
                a.text(2, set.name());
                if let Set::Anonymous(id) = set {
                    a.number(4, id);
                }
                a.nest(3, |a| elements.by_ref().take(PORTION).for_each(|(key, value)| write_element(a, &key, &value)));
            });
        }
    }
}

fn write_element(attributes: &mut Attributes<'_>, key: &[u8], value: &Value<'_>) {
    attributes.nest(1, |a| {
        a.nest(1, |a| a.put(1, key));
        match value {
            Value::None => {}
            Value::Bytes(bytes) => a.nest(2, |a| a.put(1, bytes)),
            Value::Goto(chain) => a.nest(2, |a| expression::write_goto(a, chain)),
        }
    });
}

/// Carries out a transaction. All of it has taken effect, or nothing has.
pub(super) fn commit(socket: &Socket, mut batch: Batch) -> Result<(), NftError> {
    if batch.is_empty() {
        return Ok(());
    }
    batch.frame(BATCH_END, batch.last().saturating_add(1));
    let mut refusal = None;
    let exchanged = socket.exchange(&batch.bytes, |answer| {
        if let Some(source) = answer.error()
            && refusal.is_none()
        {
            refusal = Some(NftError { what: describe(&batch.requests, answer.sequence), source });
        }
    });
    exchanged.map_err(|source| NftError { what: "a transaction".to_owned(), source })?;
    refusal.map_or(Ok(()), Err)
}

fn describe(requests: &[Request], sequence: u32) -> String {
    let index = usize::try_from(sequence).ok().and_then(|n| n.checked_sub(1));
    match index.and_then(|index| requests.get(index)) {
        Some(request) => format!("{request:?}, message {sequence} of {}", requests.len()),
        None => "a transaction".to_owned(),
    }
}
