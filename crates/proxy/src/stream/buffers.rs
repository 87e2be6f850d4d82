//! The buffers that all connections of a worker share.
//!
//! A connection holds bytes of its own only while somebody is slow: what is read is sent on before anything else is
//! read. So a thousand idle connections cost no more buffers than one.

use std::cell::RefCell;

/// How much is read at once, in bytes. In bulk, a quarter of it costs a third more processor time for each byte.
const READ: usize = 256 << 10;
/// What may be left of the last read: less than a TLS record of the longest kind, or a handshake message in pieces.
const LEFT: usize = 64 << 10;

/// Bytes that are collected to be sent. The space behind them is kept initialized, so that nothing is cleared twice.
#[derive(Debug, Default)]
pub(crate) struct Output {
    space: Vec<u8>,
    length: usize,
}

impl Output {
    pub(crate) fn filled(&self) -> &[u8] {
        self.space.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let free = self.free(bytes.len());
        if let Some(place) = free.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// At least `room` bytes to write to; [`advance`](Self::advance) says how many were written.
    pub(crate) fn free(&mut self, room: usize) -> &mut [u8] {
        let needed = self.length + room;
        if self.space.len() < needed {
            self.space.resize(needed, 0);
        }
        self.space.get_mut(self.length..).unwrap_or_default()
    }

    pub(crate) fn advance(&mut self, written: usize) {
        self.length = (self.length + written).min(self.space.len());
    }
}

/// The buffers of a worker.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// What is read goes here, behind what was left of the last read.
    pub(crate) input: Box<[u8]>,
    /// What is sent to the other end.
    pub(crate) output: Output,
    /// What TLS itself answers to the end that is read from.
    pub(crate) answer: Output,
}

impl Buffers {
    /// How much of `input` may be filled, if `left` bytes are there already.
    pub(crate) fn room(left: usize) -> usize {
        left + READ
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; READ + LEFT].into(),
        output: Output::default(),
        answer: Output::default(),
    });
}

/// Lends this thread's buffers, empty.
pub(crate) fn with<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    BUFFERS.with_borrow_mut(|buffers| {
        buffers.output.clear();
        buffers.answer.clear();
        work(buffers)
    })
}
