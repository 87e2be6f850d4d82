//! A connection as hyper gets it: its bytes are counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
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
    stream: Stream,
    counted: Counted,
    /// How long a peer that was told that nothing follows may take to close, too.
    delay: Option<Duration>,
    /// Until when it may.
    closing: Option<Pin<Box<Sleep>>>,
    /// Whether the peer has said all.
    ended: bool,
    guard: Option<Guard>,
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
        Wire { stream, counted: Counted::Downstream(stats), guard: Some(guard), delay, closing: None, ended: false }
    }

    pub(crate) fn upstream(stream: Stream, stats: Arc<ClusterStats>) -> Wire {
        Wire { stream, counted: Counted::Upstream(stats), guard: None, delay: None, closing: None, ended: false }
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
            if Pin::new(&mut self.stream).poll_read(cx, into)?.is_pending() {
                if self.pause(cx, tired) {
                    continue;
                }
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
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent([bytes], sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.sent(slices.iter().map(|slice| &**slice), sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx))?;
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
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut waste));
            if read.is_err() || waste.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
