//! What comes on a connection of HTTP/1, before hyper reads it.
//!
//! hyper says what a request is and where it ends. Where it lets pass what Envoy refuses, or would answer by itself, a
//! head is stopped here. In its place hyper gets a request without meaning, which is answered in its turn, behind all
//! that came before, and logged and counted as others are; [`Marks`] say why. The ends of messages are followed only to
//! know where heads begin: nothing passes behind one whose end is lost. Nor does what comes behind a request for another
//! protocol, until upstream has agreed to that; if it has not, nobody ever reads it.

mod body;
mod head;
mod marks;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::StatusCode;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::reply::Reply;
use crate::access_log::Flag;
use crate::config::http::HttpConnectionManager;
use body::Chunks;
use head::Head;
pub(crate) use marks::Marks;

/// What hyper gets in the place of a head that was stopped.
const SUBSTITUTE: &[u8] = b"GET / HTTP/1.1\r\nhost: stopped\r\n\r\n";
/// What hyper gets behind a body whose end is lost: in no line of chunks may a carriage return stand before anything but
/// a line feed.
const ILL_END: &[u8] = b"\r\0";

/// Why a head goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is not a head.
    Syntax,
    /// It has more headers than are allowed.
    TooManyHeaders,
    /// It is larger than is allowed.
    TooLarge,
    /// It is of a version that is not spoken.
    Version,
    /// It says in more than one way where its body ends.
    Lengths,
    /// Its body is encoded in a way that is not known.
    Encoding,
    /// Its target has a fragment, which is for the client alone.
    Fragment,
    /// It takes too long to come.
    Late,
}

impl Malformed {
    /// The answer, in Envoy's words.
    fn reply(self) -> Reply {
        let bad = StatusCode::BAD_REQUEST;
        let (status, details) = match self {
            Malformed::Syntax => (bad, "http1.codec_error"),
            Malformed::TooManyHeaders => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http1.too_many_headers"),
            Malformed::TooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http1.headers_too_large"),
            Malformed::Version => (StatusCode::UPGRADE_REQUIRED, "low_version"),
            Malformed::Lengths => (bad, "http1.content_length_and_chunked_not_allowed"),
            Malformed::Encoding => (StatusCode::NOT_IMPLEMENTED, "http1.invalid_transfer_encoding"),
            Malformed::Late => {
                let reply = Reply::new(StatusCode::REQUEST_TIMEOUT, "request_header_timeout");
                return reply.body("request header timeout").closing();
            }
            Malformed::Fragment => return Reply::new(bad, "path_normalization_failed").closing(),
        };
        Reply::new(status, details).standard_body().flag(Flag::DownstreamProtocolError).closing()
    }
}

/// What heads may be like.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// In bytes.
    head: usize,
    headers: usize,
}

/// Looks at what comes on a connection.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    marks: Arc<Marks>,
    place: Place,
    /// Heads so far.
    heads: u32,
    /// Whether the last of them asks for another protocol.
    changing: bool,
    /// What has come and was not passed on yet.
    held: Vec<u8>,
    /// How much of it may be passed on.
    open: usize,
    /// How long a head may take to come, and when the time is over for one that has begun.
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where in a conversation the next byte belongs.
#[derive(Debug)]
enum Place {
    Head,
    /// A body, of which so many bytes are to come.
    Body(u64),
    Chunks(Chunks),
    /// What comes behind a request for another protocol.
    Undecided,
    /// Another protocol, which is not looked at.
    Beyond,
    /// What nobody will read, after what hyper gets in its place.
    Stopped(&'static [u8]),
}

impl Gate {
    /// A gate for a connection that has had so many requests already.
    pub(crate) fn new(config: &HttpConnectionManager, marks: Arc<Marks>, heads: u32) -> Gate {
        let limits = Limits { head: config.max_request_head, headers: config.connections.max_headers };
        Gate {
            limits,
            marks,
            place: Place::Head,
            heads,
            changing: false,
            held: Vec::new(),
            open: 0,
            patience: config.timeouts.request_headers,
            timer: None,
        }
    }

    /// Passes on what is held and may be; returns whether that was something.
    pub(crate) fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        if matches!(self.place, Place::Undecided) && self.open == 0 {
            self.decide();
        }
        let count = self.open.min(into.remaining());
        if count == 0 {
            return false;
        }
        into.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.open -= count;
        true
    }

    /// Whether nothing is to be read, because what was read before may not pass yet.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.place, Place::Undecided) && !self.held.is_empty()
    }

    /// Whether all that has come are whole messages, which were passed on.
    pub(crate) fn is_between_messages(&self) -> bool {
        matches!(self.place, Place::Head) && self.held.is_empty()
    }

    /// Looks at what has come; returns how much of it may be passed on at once. The rest is held.
    pub(crate) fn admit(&mut self, came: &[u8]) -> usize {
        if matches!(self.place, Place::Stopped(_)) {
            return 0;
        }
        let mut held = std::mem::take(&mut self.held);
        let at_once = held.is_empty();
        let passes = if at_once {
            let passes = self.follow(came, 0);
            held.extend_from_slice(came.get(passes..).unwrap_or_default());
            passes
        } else {
            let known = held.len();
            held.extend_from_slice(came);
            self.open = self.follow(&held, known);
            0
        };
        self.held = held;
        self.substitute();
        passes
    }

    /// Whether a head that has begun to come is refused because it takes too long.
    pub(crate) fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let begun = matches!(self.place, Place::Head) && !self.held.is_empty();
        let Some(patience) = self.patience.filter(|_| begun) else {
            self.timer = None;
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.stop(Malformed::Late);
        self.substitute();
        true
    }

    /// Puts in the place of what was stopped what hyper gets instead.
    fn substitute(&mut self) {
        if let Place::Stopped(instead) = self.place {
            self.held.truncate(self.open);
            self.held.extend_from_slice(instead);
            self.open = self.held.len();
        }
    }

    /// Lets what comes behind a request for another protocol pass, or go, once it is known whether upstream agrees.
    fn decide(&mut self) {
        match self.marks.has_changed() {
            None => {}
            Some(true) => {
                self.place = Place::Beyond;
                self.open = self.held.len();
            }
            Some(false) => {
                self.place = Place::Stopped(b"");
                self.substitute();
            }
        }
    }

    /// What comes behind a message.
    fn behind(&self) -> Place {
        if self.changing { Place::Undecided } else { Place::Head }
    }

    /// Follows the conversation through `bytes`, of which the first `known` were looked at before; returns how many of
    /// them may be passed on.
    fn follow(&mut self, bytes: &[u8], known: usize) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match &mut self.place {
                Place::Beyond => return bytes.len(),
                Place::Stopped(_) => return at,
                Place::Undecided => {
                    self.decide();
                    if matches!(self.place, Place::Undecided) {
                        return at;
                    }
                }
                Place::Body(left) => {
                    let part = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= part as u64;
                    at += part;
                    if *left == 0 {
                        self.place = self.behind();
                    }
                }
                Place::Chunks(chunks) => {
                    at += chunks.follow(rest);
                    match chunks.end() {
                        None => {}
                        Some(body::End::Whole) => self.place = self.behind(),
                        Some(body::End::Lost) => self.place = Place::Stopped(ILL_END),
                    }
                }
                Place::Head => match self.head(rest, known.saturating_sub(at)) {
                    Some(length) => at += length,
                    None => return at,
                },
            }
        }
        at
    }

    /// Looks at a head at the beginning of `bytes`; returns its length if it is whole and may pass.
    fn head(&mut self, bytes: &[u8], known: usize) -> Option<usize> {
        let empty = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
        if empty > 0 {
            // Empty lines before a request are nothing.
            return Some(empty);
        }
        match head::read(bytes, known, &self.limits) {
            Head::Incomplete if bytes.len() > self.limits.head => self.stop(Malformed::TooLarge),
            Head::Incomplete => None,
            Head::Malformed(why) => self.stop(why),
            Head::Whole { length, changing, body } => {
                self.heads += 1;
                self.changing = changing;
                if changing {
                    self.marks.ask_to_change(self.heads);
                }
                self.place = body.unwrap_or_else(|| self.behind());
                Some(length)
            }
        }
    }

    fn stop(&mut self, why: Malformed) -> Option<usize> {
        self.heads += 1;
        self.place = Place::Stopped(SUBSTITUTE);
        self.marks.stop(self.heads, why);
        None
    }
}

#[cfg(test)]
mod tests;
