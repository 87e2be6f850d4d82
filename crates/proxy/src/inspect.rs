//! What a connection's first bytes say: whether they are TLS, and whom and what the ClientHello asks for; and whether they
//! are HTTP.
//!
//! [`client_hello`] looks at bytes that stay where they are. It may be called again with more of them; it never looks
//! at more than the given limit, and keeps nothing.

mod http;

use std::borrow::Cow;

pub use http::{Beginning, Spoken, beginning};

#[cfg(test)]
mod tests;

/// The longest TLS record, in bytes, without its header (RFC 8446, section 5.1).
const RECORD_LIMIT: usize = 1 << 14;
/// The record type of handshakes.
const HANDSHAKE: u8 = 22;
/// The handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;

/// What is known after some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// More bytes are needed.
    NeedMore,
    /// It is not TLS.
    NotTls,
    /// It begins like TLS, but not with a ClientHello that a server could answer.
    Malformed(&'static str),
    /// The ClientHello is longer than the limit.
    TooLong,
    /// A whole ClientHello.
    Hello(Hello),
}

/// What a ClientHello asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server name (SNI), in lower case.
    pub server_name: Option<Box<str>>,
    /// The application protocols (ALPN) in the client's order, without those that are not text.
    pub application_protocols: Box<[Box<str>]>,
}

/// Why a ClientHello cannot be had from some bytes.
enum Obstacle {
    Incomplete,
    NotTls,
    TooLong,
    Malformed(&'static str),
}

/// Looks for a ClientHello of at most `limit` bytes, with the headers of its records, at the start of `bytes`.
pub fn client_hello(bytes: &[u8], limit: usize) -> Inspection {
    let whole = bytes.len() < limit;
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    match handshake(bytes, limit).and_then(|message| hello(&message).map_err(Obstacle::Malformed)) {
        Ok(hello) => Inspection::Hello(hello),
        Err(Obstacle::Incomplete) if whole => Inspection::NeedMore,
        Err(Obstacle::Incomplete | Obstacle::TooLong) => Inspection::TooLong,
        Err(Obstacle::NotTls) => Inspection::NotTls,
        Err(Obstacle::Malformed(reason)) => Inspection::Malformed(reason),
    }
}

/// The body of the first handshake message, which may span records.
fn handshake(bytes: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, Obstacle> {
    let mut rest = Reader(bytes);
    let mut message = Cow::Borrowed(&[][..]);
    loop {
        let fragment = record(&mut rest, message.is_empty())?;
        if message.is_empty() {
            message = Cow::Borrowed(fragment.unwrap_or(rest.0));
        } else {
            message.to_mut().extend_from_slice(fragment.unwrap_or(rest.0));
        }
        if let Some(length) = body_length(&message, limit)? {
            let end = length + 4;
            return Ok(match message {
                Cow::Borrowed(all) => Cow::Borrowed(all.get(4..end).unwrap_or_default()),
                Cow::Owned(mut all) => {
                    all.truncate(end);
                    Cow::Owned(all.split_off(4))
                }
            });
        }
        if fragment.is_none() {
            return Err(Obstacle::Incomplete);
        }
    }
}

/// The length of a message's body, once the body is complete.
fn body_length(message: &[u8], limit: usize) -> Result<Option<usize>, Obstacle> {
    let mut reader = Reader(message);
    let Some(kind) = reader.byte() else { return Ok(None) };
    if kind != CLIENT_HELLO {
        return Err(Obstacle::Malformed("the first handshake message is not a ClientHello"));
    }
    let (Some(high), Some(low)) = (reader.byte(), reader.number()) else { return Ok(None) };
    let length = usize::from(high) << 16 | usize::from(low);
    if length > limit {
        return Err(Obstacle::TooLong);
    }
    Ok((reader.0.len() >= length).then_some(length))
}

/// The content of a record; `None` if not all of it is there, and then what is there remains in `rest`.
fn record<'a>(rest: &mut Reader<'a>, first: bool) -> Result<Option<&'a [u8]>, Obstacle> {
    let other = |reason| if first { Obstacle::NotTls } else { Obstacle::Malformed(reason) };
    match rest.byte() {
        None => return Err(Obstacle::Incomplete),
        Some(HANDSHAKE) => {}
        Some(_) => return Err(other("a record of another type is inside the ClientHello")),
    }
    match rest.byte() {
        None => return Err(Obstacle::Incomplete),
        Some(3) => {}
        Some(_) => return Err(other("a record has an unknown version")),
    }
    let (Some(_), Some(length)) = (rest.byte(), rest.number()) else { return Err(Obstacle::Incomplete) };
    match usize::from(length) {
        0 => Err(Obstacle::Malformed("a record is empty")),
        length if length > RECORD_LIMIT => Err(Obstacle::Malformed("a record is too long")),
        length => Ok(rest.take(length)),
    }
}

/// Reads the body of a ClientHello (RFC 8446, section 4.1.2).
fn hello(body: &[u8]) -> Result<Hello, &'static str> {
    let cut = "the ClientHello is cut off inside";
    let mut reader = Reader(body);
    let fixed = reader.take(2 + 32).and_then(|_| reader.short_list()).filter(|session| session.len() <= 32);
    let ciphers = fixed.and_then(|_| reader.list()).filter(|c| !c.is_empty() && c.len().is_multiple_of(2));
    ciphers.and_then(|_| reader.short_list()).filter(|methods| !methods.is_empty()).ok_or(cut)?;
    let mut hello = Hello::default();
    if reader.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Reader(reader.list().ok_or(cut)?);
    if !reader.0.is_empty() {
        return Err("something follows the ClientHello's extensions");
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number().ok_or(cut)?;
        let content = Reader(extensions.list().ok_or(cut)?);
        match kind {
            SERVER_NAME if !std::mem::replace(&mut named, true) => hello.server_name = server_name(content)?,
            APPLICATION_PROTOCOLS if !std::mem::replace(&mut offered, true) => {
                hello.application_protocols = protocols(content)?;
            }
            SERVER_NAME | APPLICATION_PROTOCOLS => return Err("an extension is there twice"),
            _ => {}
        }
    }
    Ok(hello)
}

/// The host name in a list of server names (RFC 6066, section 3).
fn server_name(mut content: Reader<'_>) -> Result<Option<Box<str>>, &'static str> {
    let wrong = "the server name is malformed";
    let mut list = Reader(content.list().filter(|l| !l.is_empty()).ok_or(wrong)?);
    if !content.0.is_empty() {
        return Err(wrong);
    }
    let mut found = None;
    while let Some(kind) = list.byte() {
        let name = list.list().ok_or(wrong)?;
        if kind != 0 {
            continue;
        }
        let usable = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
        let name = std::str::from_utf8(name).ok().filter(|_| usable && found.is_none()).ok_or(wrong)?;
        found = Some(name.to_ascii_lowercase().into());
    }
    Ok(found)
}

/// The protocols that are offered (RFC 7301, section 3.1).
fn protocols(mut content: Reader<'_>) -> Result<Box<[Box<str>]>, &'static str> {
    let wrong = "the list of application protocols is malformed";
    let mut list = Reader(content.list().filter(|l| !l.is_empty()).ok_or(wrong)?);
    if !content.0.is_empty() {
        return Err(wrong);
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.short_list().filter(|name| !name.is_empty()).ok_or(wrong)?;
        protocols.extend(std::str::from_utf8(name).map(Box::from));
    }
    Ok(protocols.into())
}

/// What is left to be read. Nothing is consumed by a read that fails.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A list whose length is in its first byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A list whose length is in its first two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}
