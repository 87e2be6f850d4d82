//! Frames of HTTP/2 that cost their sender less than this proxy, counted before hyper reads them.
//!
//! hyper hides frames; here their heads are looked at, and nothing else. The limits are Envoy's
//! (`envoy.config.core.v3.Http2ProtocolOptions`), and what exceeds one ends the connection, as with Envoy.

mod frames;

use std::convert::Infallible;
use std::fmt;

use frames::{ACK, CONTINUATION, DATA, END_STREAM, Frames, HEADERS, Head, PING, PRIORITY, SETTINGS, WINDOW_UPDATE};

use crate::config::http::FrameLimits;

/// What a connection has seen of frames.
#[derive(Debug)]
pub(crate) struct Flood {
    limits: FrameLimits,
    came: Frames,
    went: Frames,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// Streams that the peer has opened, and the last of them.
    streams: u64,
    last: u32,
    /// Frames of data that went to the peer.
    data: u64,
    /// Frames that want an answer, since everything that had come was read.
    control: u32,
    /// Frames in a row that carry nothing.
    empty: u32,
    priorities: u64,
    windows: u64,
}

/// Of which frames there were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Frames that want an answer.
    Control,
    /// Frames without content.
    Empty,
    /// Frames that change priorities.
    Priority,
    /// Frames that give room for data.
    Window,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Excess::Control => "too many frames that want an answer",
            Excess::Empty => "too many frames without content",
            Excess::Priority => "too many frames of priority",
            Excess::Window => "too many updates of windows",
        })
    }
}

impl std::error::Error for Excess {}

impl Flood {
    /// Watches a connection from a client, from its first byte.
    pub(crate) fn new(limits: FrameLimits) -> Flood {
        Flood { limits, came: Frames::behind_preface(), went: Frames::default(), counts: Counts::default() }
    }

    /// Looks at bytes that have come.
    ///
    /// # Errors
    /// When there are too many frames of a kind.
    pub(crate) fn came(&mut self, bytes: &[u8]) -> Result<(), Excess> {
        let Flood { limits, came, counts, .. } = self;
        came.follow(bytes, |head| counts.came(head, limits))
    }

    /// Looks at bytes that have gone to the peer.
    pub(crate) fn went(&mut self, bytes: &[u8]) {
        let Flood { went, counts, .. } = self;
        let Ok(()) = went.follow(bytes, |head| {
            counts.data += u64::from(head.kind == DATA);
            Ok::<(), Infallible>(())
        });
    }

    /// Everything that has come was read: who wants answers gets them before the next frame.
    pub(crate) fn caught_up(&mut self) {
        self.counts.control = 0;
    }
}

impl Counts {
    fn came(&mut self, head: Head, limits: &FrameLimits) -> Result<(), Excess> {
        match head.kind {
            HEADERS | CONTINUATION | DATA => {
                if head.kind == HEADERS && head.stream > self.last {
                    self.last = head.stream;
                    self.streams += 1;
                }
                let empty = head.is_empty() && head.flags & END_STREAM == 0;
                self.empty = if empty { self.empty + 1 } else { 0 };
                exceeds(self.empty > limits.empty, Excess::Empty)
            }
            PING | SETTINGS if head.flags & ACK == 0 => {
                self.control += 1;
                exceeds(self.control > limits.control, Excess::Control)
            }
            PRIORITY => {
                self.priorities += 1;
                let most = u64::from(limits.priorities_per_stream) * (1 + self.streams);
                exceeds(self.priorities > most, Excess::Priority)
            }
            WINDOW_UPDATE => {
                self.windows += 1;
                let most = 5 + 2 * (self.streams + u64::from(limits.windows_per_data) * self.data);
                exceeds(self.windows > most, Excess::Window)
            }
            _ => Ok(()),
        }
    }
}

fn exceeds(too_many: bool, excess: Excess) -> Result<(), Excess> {
    if too_many { Err(excess) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
