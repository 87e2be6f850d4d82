//! A connection as hyper gets it: its bytes are counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::{ClusterStats, HttpStats};
use crate::stream::Stream;

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    counted: Counted,
}

/// Where bytes are counted.
#[derive(Debug)]
enum Counted {
    Downstream(Arc<HttpStats>),
    Upstream(Arc<ClusterStats>),
}

impl Wire {
    pub(crate) fn downstream(stream: Stream, stats: Arc<HttpStats>) -> Wire {
        Wire { stream, counted: Counted::Downstream(stats) }
    }

    pub(crate) fn upstream(stream: Stream, stats: Arc<ClusterStats>) -> Wire {
        Wire { stream, counted: Counted::Upstream(stats) }
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
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let read = (into.filled().len() - before) as u64;
        match &self.counted {
            Counted::Downstream(stats) => stats.cx_rx_bytes.add(read),
            Counted::Upstream(stats) => stats.rx_bytes.add(read),
        }
        Poll::Ready(Ok(()))
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
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
