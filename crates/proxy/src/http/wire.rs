//! A connection as hyper gets it: its bytes are counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

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
    /// Looks at what comes, where that is requests of HTTP/1.
    gate: Option<Box<Gate>>,
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
    /// What comes of HTTP/1 is looked at by a gate. A peer has `delay` to read the last bytes after it was told that nothing
    /// follows: if the connection were ended while it still sends, the kernel would throw away what it has not read.
    pub(crate) fn downstream(
        stream: Stream,
        stats: Arc<HttpStats>,
        gate: Option<Gate>,
        delay: Option<Duration>,
    ) -> Wire {
        let gate = gate.map(Box::new);
        Wire { stream, counted: Counted::Downstream(stats), gate, delay, closing: None, ended: false }
    }

    pub(crate) fn upstream(stream: Stream, stats: Arc<ClusterStats>) -> Wire {
        Wire { stream, counted: Counted::Upstream(stats), gate: None, delay: None, closing: None, ended: false }
    }

    fn sent(&self, bytes: usize) {
        match &self.counted {
            Counted::Downstream(stats) => stats.cx_tx_bytes.add(bytes as u64),
            Counted::Upstream(stats) => stats.tx_bytes.add(bytes as u64),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.gate.as_mut().is_some_and(|gate| gate.pass(into)) {
                return Poll::Ready(Ok(()));
            }
            if self.gate.as_ref().is_some_and(|gate| gate.is_full()) {
                // Whoever decides what becomes of it reads again then.
                return Poll::Pending;
            }
            let before = into.filled().len();
            if Pin::new(&mut self.stream).poll_read(cx, into)?.is_pending() {
                if self.gate.as_mut().is_some_and(|gate| gate.is_overdue(cx)) {
                    continue;
                }
                return Poll::Pending;
            }
            self.ended |= into.filled().len() == before && into.remaining() > 0;
            let came = into.filled().get(before..).unwrap_or_default();
            match &self.counted {
                Counted::Downstream(stats) => stats.cx_rx_bytes.add(came.len() as u64),
                Counted::Upstream(stats) => stats.rx_bytes.add(came.len() as u64),
            }
            let Some(gate) = self.gate.as_mut().filter(|_| !came.is_empty()) else { return Poll::Ready(Ok(())) };
            let passes = gate.admit(came);
            into.set_filled(before + passes);
            if passes > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.sent(sent);
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
