//! A connection as hyper gets it: its bytes are counted.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::Sleep;

use super::flood::Flood;
use super::gate::Gate;
use crate::metrics::{ClusterStats, HttpStats};
use crate::stream::Stream;

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Wire {
    /// There until it is dropped.
    stream: Option<Stream>,
    counted: Counted,
    /// How long a peer that was told that nothing follows may take to close, too.
    delay: Option<Duration>,
    /// Until when it may.
    closing: Option<Pin<Box<Sleep>>>,
    /// Whether the peer has said all.
    ended: bool,
    guard: Option<Guard>,
    home: Option<Arc<Home>>,
    /// Whether hyper has more to say than the kernel takes.
    blocked: bool,
}

/// Where a connection of HTTP/1 goes when hyper drops it.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// Whether hyper has everything that has come, and the peer all that was said.
    quiet: AtomicBool,
    stream: Mutex<Option<Stream>>,
}

impl Home {
    /// Whether nothing is lost if hyper goes, provided that it has no request.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// The connection, if it has come back.
    pub(crate) fn take(&self) -> Option<Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Looks at what comes from downstream, before hyper does.
#[derive(Debug)]
pub(crate) enum Guard {
    /// Requests of HTTP/1.
    Http1(Box<Gate>),
    /// Frames of HTTP/2.
    Http2(Box<Flood>),
}

/// How much is read at once of what nobody wants any more, in bytes.
const WASTE: usize = 4 << 10;

/// Where bytes are counted.
#[derive(Debug)]
enum Counted {
    Downstream(Arc<HttpStats>),
    Upstream(Arc<ClusterStats>),
}

impl Wire {
    /// A peer has `delay` to read the last bytes after it was told that nothing follows: if the connection were ended while
    /// it still sends, the kernel would throw away what it has not read.
    pub(crate) fn downstream(stream: Stream, stats: Arc<HttpStats>, guard: Guard, delay: Option<Duration>) -> Wire {
        let mut wire = Wire::new(stream, Counted::Downstream(stats));
        (wire.guard, wire.delay) = (Some(guard), delay);
        wire
    }

    pub(crate) fn upstream(stream: Stream, stats: Arc<ClusterStats>) -> Wire {
        Wire::new(stream, Counted::Upstream(stats))
    }

    fn new(stream: Stream, counted: Counted) -> Wire {
        Wire {
            stream: Some(stream),
            counted,
            delay: None,
            closing: None,
            ended: false,
            guard: None,
            home: None,
            blocked: false,
        }
    }

    /// The connection is not closed when hyper drops it.
    pub(crate) fn returning(mut self, home: Arc<Home>) -> Wire {
        self.home = Some(home);
        self
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("it is there until the wire is dropped"))
    }

    /// Notes whether hyper may go: it has asked for more, and there is nothing.
    fn note_quiet(&self) {
        let (Some(home), Some(Guard::Http1(gate)), Some(stream)) = (&self.home, &self.guard, &self.stream) else {
            return;
        };
        let quiet = !self.ended && !self.blocked && gate.is_between_messages() && stream.is_flushed();
        home.quiet.store(quiet, Ordering::Relaxed);
    }

    /// Counts what was written: so many bytes of these.
    fn sent<'b>(&mut self, slices: impl IntoIterator<Item = &'b [u8]>, bytes: usize) {
        match &self.counted {
            Counted::Downstream(stats) => stats.cx_tx_bytes.add(bytes as u64),
            Counted::Upstream(stats) => stats.tx_bytes.add(bytes as u64),
        }
        let Some(Guard::Http2(flood)) = &mut self.guard else { return };
        let mut left = bytes;
        for slice in slices {
            let part = slice.len().min(left);
            flood.went(slice.get(..part).unwrap_or_default());
            left -= part;
        }
    }

    fn received(&self, bytes: usize) {
        match &self.counted {
            Counted::Downstream(stats) => stats.cx_rx_bytes.add(bytes as u64),
            Counted::Upstream(stats) => stats.rx_bytes.add(bytes as u64),
        }
    }

    /// Nothing more has come so far; `tired` if that is because this task has had its share. Returns whether there is
    /// something to be read nevertheless.
    fn pause(&mut self, cx: &mut Context<'_>, tired: bool) -> bool {
        match &mut self.guard {
            Some(Guard::Http1(gate)) => gate.is_overdue(cx),
            Some(Guard::Http2(flood)) => {
                if !tired {
                    flood.caught_up();
                }
                false
            }
            None => false,
        }
    }

    /// Looks at what has come; returns how much of it may be passed on.
    fn look(&mut self, came: &[u8]) -> io::Result<usize> {
        match &mut self.guard {
            Some(Guard::Http1(gate)) if !came.is_empty() => Ok(gate.admit(came)),
            Some(Guard::Http2(flood)) => match flood.came(came) {
                Ok(()) => Ok(came.len()),
                Err(excess) => {
                    if let Counted::Downstream(stats) = &self.counted {
                        stats.cx_protocol_error.inc();
                    }
                    Err(io::Error::other(excess))
                }
            },
            _ => Ok(came.len()),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            *home.stream.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(Guard::Http1(gate)) = &mut self.guard {
                if gate.pass(into) {
                    return Poll::Ready(Ok(()));
                }
                if gate.is_full() {
                    // Whoever decides what becomes of it reads again then.
                    return Poll::Pending;
                }
            }
            let before = into.filled().len();
            let tired = !coop::has_budget_remaining();
            if self.stream().poll_read(cx, into)?.is_pending() {
                if self.pause(cx, tired) {
                    continue;
                }
                self.note_quiet();
                return Poll::Pending;
            }
            let came = into.filled().len() - before;
            self.ended |= came == 0 && into.remaining() > 0;
            self.received(came);
            let passes = self.look(into.filled().get(before..).unwrap_or_default())?;
            into.set_filled(before + passes);
            if passes > 0 || came == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        self.blocked = written.is_pending();
        let sent = ready!(written)?;
        self.sent([bytes], sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, slices);
        self.blocked = written.is_pending();
        let sent = ready!(written)?;
        self.sent(slices.iter().map(|slice| &**slice), sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self.stream(), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(AsyncWrite::poll_shutdown(self.stream(), cx))?;
        }
        let Some(delay) = self.delay.filter(|_| !self.ended) else { return Poll::Ready(Ok(())) };
        let timer = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(delay)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut waste = [0; WASTE];
        loop {
            let mut waste = ReadBuf::new(&mut waste);
            // Whoever breaks the connection now does not read any more either.
            let read = ready!(self.stream().poll_read(cx, &mut waste));
            if read.is_err() || waste.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
