//! Netfilter's netlink messages, as the kernel's nf_tables and connection tracking speak them.
//!
//! Numbers inside attributes are big-endian, headers are in the machine's own order.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
/// Asks for everything there is of a kind.
pub(super) const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE: u16 = 0x3fff;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;
/// Family, version and resource, between a message's header and its attributes.
const PREFACE: usize = 4;

/// What stands before a message's attributes.
pub(super) struct Header {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) family: i32,
    pub(super) resource: u16,
}

/// Adds a message to those in `bytes`.
pub(super) fn write(bytes: &mut Vec<u8>, header: Header, fill: impl FnOnce(&mut Attributes<'_>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header.kind.to_ne_bytes());
    bytes.extend_from_slice(&header.flags.to_ne_bytes());
    bytes.extend_from_slice(&header.sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[u8::try_from(header.family).unwrap_or_default(), 0]);
    bytes.extend_from_slice(&header.resource.to_be_bytes());
    fill(&mut Attributes { bytes });
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    write_at(bytes, start, &length.to_ne_bytes());
}

/// Attributes of a message, one after the other.
pub(super) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.wrap(kind, |attributes| attributes.bytes.extend_from_slice(value));
    }

    /// Adds attributes that are in their final form.
    pub(super) fn append(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
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

/// The attributes in a piece of a message, as (kind, value).
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        let kind = u16::from_ne_bytes(array(bytes, 2)?) & NLA_TYPE;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(other, _)| *other == kind).map(|(_, value)| value)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// A message of the kernel's.
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// Why the kernel refuses the message with this sequence number, if it does.
    pub(super) fn error(&self) -> Option<io::Error> {
        let code = i32::from_ne_bytes(array(self.body, 0)?);
        (self.kind == NLMSG_ERROR && code != 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
    }

    /// The attributes, yet to be taken apart.
    pub(super) fn attributes(&self) -> &[u8] {
        self.body.get(PREFACE..).unwrap_or_default()
    }
}

fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
        let kind = u16::from_ne_bytes(array(bytes, 4)?);
        let sequence = u32::from_ne_bytes(array(bytes, 8)?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}

/// The socket of one network namespace.
pub(super) struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// Of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Socket> {
        let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkNetFilter);
        let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // The kernel takes what is sent in one piece; it bounds what an ordinary user may ask for here.
        setsockopt(&socket, sockopt::SndBuf, &(1 << 20))?;
        setsockopt(&socket, sockopt::RcvBuf, &(1 << 20))?;
        Ok(Socket { socket })
    }

    /// Sends messages and hears every answer.
    pub(super) fn exchange(&self, messages: &[u8], mut hear: impl FnMut(Answer<'_>)) -> io::Result<()> {
        send(self.socket.as_raw_fd(), messages, MsgFlags::empty())?;
        // The kernel has worked before `send` returns: all of its answers are waiting.
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => answers(buffer.get(..length).unwrap_or_default()).for_each(&mut hear),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
