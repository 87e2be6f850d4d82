//! nf_tables, spoken over netlink: transactions on one table of the family `ip`.
//!
//! Message and attribute numbers are those of `linux/netfilter/nf_tables.h`. Numbers inside attributes are big-endian,
//! headers are in the machine's own order.

mod expression;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

pub(super) use expression::{Connection, Expression, Meta, Register, field};

/// The one table.
const TABLE: &str = "isthmus";

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10 << 8;
const HEADER: usize = 16;

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

/// Attributes of a message, one after the other.
pub(super) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.wrap(kind, |attributes| attributes.bytes.extend_from_slice(value));
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A name, closed by a zero byte.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.wrap(kind, |attributes| {
            attributes.bytes.extend_from_slice(value.as_bytes());
            attributes.bytes.push(0);
        });
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.wrap(kind | NLA_F_NESTED, fill);
    }

    fn wrap(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        // An attribute never nears 64 KiB: elements are sent in portions, names are bounded by the API server.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        write_at(self.bytes, start, &length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn write_at(bytes: &mut [u8], start: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(start..start + value.len()) {
        place.copy_from_slice(value);
    }
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
        batch.raw(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM >> 8, |_| {});
        batch
    }

    /// How long the transaction has become, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn raw(&mut self, kind: u16, flags: u16, sequence: u32, resource: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let family = if kind < SUBSYSTEM { libc::AF_UNSPEC } else { libc::AF_INET };
        self.bytes.extend_from_slice(&[u8::try_from(family).unwrap_or_default(), 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        fill(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        write_at(&mut self.bytes, start, &length.to_ne_bytes());
    }

    fn message(&mut self, request: Request, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.requests.push(request);
        let flags = match request {
            Request::NewRule => NLM_F_CREATE | NLM_F_APPEND,
            Request::NewTable | Request::NewChain | Request::NewSet | Request::NewElements => NLM_F_CREATE,
            _ => 0,
        };
        let sequence = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        self.raw(SUBSYSTEM | request as u16, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, 0, fill);
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

/// The netlink socket of one network namespace.
pub(super) struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// Of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Socket> {
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel takes a transaction in one piece; it bounds what an ordinary user may ask for here.
        setsockopt(&socket, sockopt::SndBuf, &(1 << 20))?;
        setsockopt(&socket, sockopt::RcvBuf, &(1 << 20))?;
        Ok(Socket { socket })
    }

    /// Carries out a transaction. All of it has taken effect, or nothing has.
    pub(super) fn commit(&self, mut batch: Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let last = u32::try_from(batch.requests.len()).unwrap_or(u32::MAX);
        batch.raw(BATCH_END, NLM_F_REQUEST, last.saturating_add(1), SUBSYSTEM >> 8, |_| {});
        let failed = |what: &str, errno: Errno| NftError { what: what.to_owned(), source: errno.into() };
        send(self.socket.as_raw_fd(), &batch.bytes, MsgFlags::empty()).map_err(|e| failed("a transaction", e))?;
        // The kernel has worked before `send` returns: all of its answers are waiting.
        let mut answers = vec![0; 1 << 16];
        let mut refusal = None;
        loop {
            match recv(self.socket.as_raw_fd(), &mut answers, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let answers = answers.get(..length).unwrap_or_default();
                    refusal = refusal.or_else(|| first_refusal(answers, &batch.requests));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return refusal.map_or(Ok(()), Err),
                Err(e) => return Err(failed("a transaction", e)),
            }
        }
    }
}

fn first_refusal(mut answers: &[u8], requests: &[Request]) -> Option<NftError> {
    while let Some(answer) = Answer::parse(answers) {
        if answer.kind == NLMSG_ERROR && answer.code != 0 {
            let n = usize::try_from(answer.sequence).ok().and_then(|n| n.checked_sub(1));
            let what = match n.and_then(|n| requests.get(n)) {
                Some(request) => format!("{request:?}, message {} of {}", answer.sequence, requests.len()),
                None => "a transaction".to_owned(),
            };
            return Some(NftError { what, source: io::Error::from_raw_os_error(answer.code.saturating_neg()) });
        }
        answers = answers.get(answer.length.max(HEADER)..).unwrap_or_default();
    }
    None
}

struct Answer {
    length: usize,
    kind: u16,
    sequence: u32,
    /// 0 or a negative error number.
    code: i32,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Answer> {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|w| <[u8; 4]>::try_from(w).ok());
        let kind = bytes.get(4..6).and_then(|k| <[u8; 2]>::try_from(k).ok())?;
        Some(Answer {
            length: usize::try_from(u32::from_ne_bytes(word(0)?)).ok()?.next_multiple_of(4),
            kind: u16::from_ne_bytes(kind),
            sequence: u32::from_ne_bytes(word(8)?),
            code: i32::from_ne_bytes(word(HEADER)?),
        })
    }
}
