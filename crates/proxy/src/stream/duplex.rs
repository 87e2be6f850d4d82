//! A connection as tokio's traits have it, for those who speak more than bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, Buffers};
use super::{Broken, Stream};

/// How much is encrypted at once, in bytes.
const WRITE: usize = 64 << 10;

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        match broken {
            Broken::Io(e) => e,
            Broken::Tls(e) => io::Error::new(io::ErrorKind::InvalidData, e),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        if stream.session.is_none() {
            if stream.received.is_empty() {
                return Pin::new(&mut stream.socket).poll_read(cx, into);
            }
            hand_out(&mut stream.received, into);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        while stream.plain.is_empty() && into.filled().len() == before && !stream.ended {
            ready!(stream.poll_read_tls(cx, into))?;
        }
        hand_out(&mut stream.plain, into);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut *self;
        ready!(stream.poll_flush(cx))?;
        if stream.session.is_none() {
            return Pin::new(&mut stream.socket).poll_write(cx, bytes);
        }
        stream.poll_write_tls(cx, &mut std::iter::once(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self;
        ready!(stream.poll_flush(cx))?;
        if stream.session.is_none() {
            return Pin::new(&mut stream.socket).poll_write_vectored(cx, slices);
        }
        stream.poll_write_tls(cx, &mut slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Stream::poll_flush(&mut self, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end()?;
        Stream::poll_shutdown(&mut self, cx)
    }
}

impl Stream {
    fn poll_read_tls(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffers::with(|buffers| {
            let (left, read) = ready!(self.poll_input(cx, &mut buffers.input))?;
            if read == 0 {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            self.take_in_from(left + read, buffers, |plain, rest| {
                let (fits, more) = plain.split_at(plain.len().min(into.remaining()));
                into.put_slice(fits);
                rest.extend_from_slice(more);
            })?;
            // An answer that the kernel does not take now goes out with the next data.
            match self.poll_flush(cx) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                _ => Poll::Ready(Ok(())),
            }
        })
    }

    /// Encrypts what there is, up to a limit. What the kernel does not take waits, and nothing more is taken until then.
    fn poll_write_tls(
        &mut self,
        cx: &mut Context<'_>,
        slices: &mut dyn Iterator<Item = &[u8]>,
    ) -> Poll<io::Result<usize>> {
        buffers::with(|buffers| {
            let Buffers { input, output, .. } = buffers;
            let mut taken = 0;
            for slice in slices {
                let room = input.get_mut(taken..WRITE).unwrap_or_default();
                let (fits, more) = slice.split_at(slice.len().min(room.len()));
                if let Some(place) = room.get_mut(..fits.len()) {
                    place.copy_from_slice(fits);
                }
                taken += fits.len();
                if !more.is_empty() {
                    break;
                }
            }
            self.write_into(input.get(..taken).unwrap_or_default(), output).map_err(Broken::Tls)?;
            match self.poll_send_output(cx, output) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                _ => Poll::Ready(Ok(taken)),
            }
        })
    }
}

/// Moves as much as fits; what is empty afterwards holds no memory.
fn hand_out(waiting: &mut Vec<u8>, into: &mut ReadBuf<'_>) {
    let length = waiting.len().min(into.remaining());
    into.put_slice(waiting.get(..length).unwrap_or_default());
    if length == waiting.len() {
        *waiting = Vec::new();
    } else {
        waiting.drain(..length);
    }
}
