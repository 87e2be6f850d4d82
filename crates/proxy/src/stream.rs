//! A connection to either side, with or without TLS.

mod buffers;
mod duplex;
mod session;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use buffers::{Buffers, Output};
pub(crate) use session::Session;

/// How much ciphertext may wait for more before the peer has broken the protocol: a handshake message in pieces.
const LEFT_LIMIT: usize = 64 << 10;

/// A connection. It holds bytes only while it waits for more of a TLS record, or for a peer that does not read.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    session: Option<Box<Session>>,
    /// What was received and not used yet: ciphertext of a record that is not whole, or what was read to look at it.
    received: Vec<u8>,
    /// What the peer has said already, decrypted.
    plain: Vec<u8>,
    /// What the peer must still get.
    unsent: Vec<u8>,
    /// Whether `unsent` may wait until there is something else to send.
    lazy: bool,
    /// Whether the peer has said that nothing follows.
    ended: bool,
    /// Whether TLS has failed, so that nothing can be said in it any more.
    failed: bool,
    /// Whether the peer was told that nothing follows.
    said_all: bool,
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    Io(io::Error),
    Tls(rustls::Error),
}

impl From<io::Error> for Broken {
    fn from(e: io::Error) -> Broken {
        Broken::Io(e)
    }
}

impl From<rustls::Error> for Broken {
    fn from(e: rustls::Error) -> Broken {
        Broken::Tls(e)
    }
}

impl Broken {
    /// Whether the peer has reset the connection.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self, Broken::Io(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    }
}

/// What one step brought from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// This many bytes.
    Bytes(usize),
    /// Nothing follows.
    End,
}

impl Stream {
    pub(crate) fn new(socket: TcpStream) -> Stream {
        Stream {
            socket,
            session: None,
            received: Vec::new(),
            plain: Vec::new(),
            unsent: Vec::new(),
            lazy: false,
            ended: false,
            failed: false,
            said_all: false,
        }
    }

    /// What was read to look at it; it is still to be carried.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// The certificates that the peer has shown, its own first.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.session.as_ref().and_then(|s| s.state().peer_certificates()).unwrap_or_default()
    }

    /// The application protocol that was agreed on.
    pub(crate) fn application_protocol(&self) -> Option<&[u8]> {
        self.session.as_ref()?.state().alpn_protocol()
    }

    /// What has been read and is still to be carried.
    pub(crate) fn waiting(&self) -> &[u8] {
        if self.session.is_none() { &self.received } else { &self.plain }
    }

    /// Whether the handshake took up an earlier session, so that the peer's certificate was verified then.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = self.session.as_ref().and_then(|s| s.state().handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// The version of TLS that is spoken.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        match self.session.as_ref()?.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// Closing the socket will reset the connection, so that the peer knows that something is missing.
    pub(crate) fn reset_on_close(&self) {
        // Without it the connection ends with FIN, which is all that can be done then.
        drop(SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
    }

    /// Reads more of the beginning, to look at it; returns whether there was any.
    pub(crate) async fn look(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_look(cx)).await
    }

    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        buffers::with(|buffers| {
            let read = ready!(read(&mut self.socket, cx, &mut buffers.input))?;
            self.received.extend_from_slice(buffers.input.get(..read).unwrap_or_default());
            Poll::Ready(Ok(read > 0))
        })
    }

    /// Waits until the peer has sent something, or has ended; it stays to be carried.
    pub(crate) async fn first_bytes(&mut self) -> Result<(), Broken> {
        while self.plain.is_empty() && !self.ended {
            match &mut self.session {
                None if !self.received.is_empty() => return Ok(()),
                None => {
                    if !self.look().await? {
                        self.ended = true;
                    }
                }
                Some(_) => std::future::poll_fn(|cx| self.poll_more_tls(cx)).await?,
            }
        }
        Ok(())
    }

    /// Waits for more than there is already; returns whether anything came.
    pub(crate) async fn more_bytes(&mut self) -> Result<bool, Broken> {
        let before = self.waiting().len();
        while self.waiting().len() == before && !self.ended {
            match &mut self.session {
                None => self.ended = !self.look().await?,
                Some(_) => std::future::poll_fn(|cx| self.poll_more_tls(cx)).await?,
            }
        }
        Ok(self.waiting().len() > before)
    }

    /// Speaks TLS from here on, and finishes the handshake.
    pub(crate) async fn handshake(&mut self, session: Session) -> Result<(), Broken> {
        self.session = Some(Box::new(session));
        self.take_in()?;
        loop {
            let handshaking = self.session.as_ref().is_some_and(|s| s.state().is_handshaking());
            // A server's tickets and a client's last flight go out with the first data.
            if !handshaking && self.tls_version() == Some("TLSv1.3") {
                self.lazy = true;
                return Ok(());
            }
            std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
            if !handshaking {
                return Ok(());
            }
            if self.ended {
                return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            std::future::poll_fn(|cx| self.poll_more_tls(cx)).await?;
        }
    }

    /// Lets TLS have what has been received so far.
    fn take_in(&mut self) -> Result<(), Broken> {
        buffers::with(|buffers| {
            let length = self.received.len().min(buffers.input.len());
            let bytes = buffers.input.get_mut(..length).unwrap_or_default();
            bytes.copy_from_slice(self.received.get(..length).unwrap_or_default());
            self.take_in_from(length, buffers, |bytes, plain| plain.extend_from_slice(bytes))
        })
    }

    fn poll_more_tls(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        buffers::with(|buffers| {
            let (left, read) = ready!(self.poll_input(cx, &mut buffers.input))?;
            if read == 0 {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(self.take_in_from(left + read, buffers, |bytes, plain| plain.extend_from_slice(bytes)))
        })
    }

    /// `plain` gets what the peer says, and what has been said before and was not carried yet.
    fn take_in_from(
        &mut self,
        length: usize,
        buffers: &mut Buffers,
        mut plain: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<(), Broken> {
        let Buffers { input, answer, .. } = buffers;
        let Some(session) = self.session.as_mut() else { return Ok(()) };
        let (input, waiting) = (input.get_mut(..length).unwrap_or_default(), &mut self.plain);
        let progress = session.receive(input, answer, |bytes| {
            plain(bytes, waiting);
            Ok(())
        });
        self.queue(answer.filled());
        match progress {
            Ok(progress) => {
                self.ended |= progress.ended;
                self.keep(input.get(progress.used..).unwrap_or_default())
            }
            Err(error) => {
                self.fail();
                Err(Broken::Tls(error))
            }
        }
    }

    /// Nothing more can be said in TLS, except the alert that says what was wrong.
    fn fail(&mut self) {
        self.failed = true;
        self.say_goodbye();
    }

    /// Sends what is there to be sent, as far as the kernel takes it at once.
    fn say_goodbye(&mut self) {
        // A peer that does not get it is told by the end of the connection.
        drop(self.socket.try_write(&self.unsent));
        self.unsent.clear();
    }

    /// Puts what is left of the last read before what is read now. Returns the lengths of both.
    fn poll_input(&mut self, cx: &mut Context<'_>, input: &mut [u8]) -> Poll<io::Result<(usize, usize)>> {
        let left = self.received.len();
        let end = Buffers::room(left).min(input.len());
        let free = input.get_mut(left..end).filter(|free| !free.is_empty());
        let Some(free) = free else { return Poll::Ready(Err(io::ErrorKind::InvalidData.into())) };
        let read = ready!(read(&mut self.socket, cx, free))?;
        if let Some(place) = input.get_mut(..left) {
            place.copy_from_slice(&self.received);
        }
        Poll::Ready(Ok((left, read)))
    }

    /// Keeps what TLS could not use yet.
    fn keep(&mut self, rest: &[u8]) -> Result<(), Broken> {
        if rest.len() > LEFT_LIMIT {
            return Err(Broken::Io(io::ErrorKind::InvalidData.into()));
        }
        if rest.is_empty() {
            self.received = Vec::new();
        } else {
            self.received.clear();
            self.received.extend_from_slice(rest);
        }
        Ok(())
    }

    fn queue(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unsent.extend_from_slice(bytes);
            self.lazy = false;
        }
    }

    /// Whether the kernel has all that the peer must get now.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty() || self.lazy
    }

    /// What waits to be sent goes out now, even if nothing follows it.
    pub(crate) fn hurry(&mut self) {
        self.lazy = false;
    }

    /// Sends what waits to be sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.poll_send(cx, &unsent)
    }

    /// Sends `bytes`; what the kernel does not take waits. Pending if there is such a rest.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    self.queue(rest);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is in `output` behind what waits already.
    fn poll_send_output(&mut self, cx: &mut Context<'_>, output: &Output) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return self.poll_send(cx, output.filled());
        }
        let mut bytes = std::mem::take(&mut self.unsent);
        bytes.extend_from_slice(output.filled());
        self.poll_send(cx, &bytes)
    }

    /// Says in TLS that nothing follows, once. Nothing may be sent afterwards.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        let said_all = std::mem::replace(&mut self.said_all, true);
        if let Some(session) = self.session.as_mut().filter(|_| !self.failed && !said_all) {
            let received = &mut self.received;
            buffers::with(|buffers| {
                session.end(received, &mut buffers.output)?;
                self.unsent.extend_from_slice(buffers.output.filled());
                Ok::<(), rustls::Error>(())
            })?;
        }
        self.lazy = false;
        Ok(())
    }

    /// Says in TLS that nothing follows, if the kernel takes it at once. The connection is not used afterwards.
    pub(crate) fn farewell(&mut self) {
        if self.end().is_ok() {
            self.say_goodbye();
        }
    }

    /// Ends the sending half of the TCP connection.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        match ready!(Pin::new(&mut self.socket).poll_shutdown(cx)) {
            // The peer was faster.
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }

    /// Appends `plain` to `output` as the peer is to get it.
    fn write_into(&mut self, plain: &[u8], output: &mut Output) -> Result<(), rustls::Error> {
        match self.session.as_mut() {
            Some(_) if self.failed => Err(rustls::Error::HandshakeNotComplete),
            Some(session) => session.send(plain, &mut self.received, output),
            None => {
                output.push(plain);
                Ok(())
            }
        }
    }

    /// Reads once, and sends on to `to` what was read. Whatever `to` does not take waits there; the caller flushes it
    /// before it carries more.
    pub(crate) fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        limit: usize,
    ) -> Poll<Result<Carried, (Side, Broken)>> {
        buffers::with(|buffers| {
            if let Some(waiting) = self.take_waiting() {
                return Poll::Ready(deliver(cx, to, &waiting, buffers));
            }
            if self.ended {
                return Poll::Ready(Ok(Carried::End));
            }
            match self.session {
                None => self.poll_carry_raw(cx, to, limit, buffers),
                Some(_) => self.poll_carry_tls(cx, to, buffers),
            }
        })
    }

    /// What the peer has said before anybody listened.
    fn take_waiting(&mut self) -> Option<Vec<u8>> {
        let waiting = if self.session.is_none() { &mut self.received } else { &mut self.plain };
        (!waiting.is_empty()).then(|| std::mem::take(waiting))
    }

    fn poll_carry_raw(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        limit: usize,
        buffers: &mut Buffers,
    ) -> Poll<Result<Carried, (Side, Broken)>> {
        let Buffers { input, output, .. } = buffers;
        let end = Buffers::room(0).min(limit.max(1));
        let read = ready!(read(&mut self.socket, cx, input.get_mut(..end).unwrap_or_default()));
        let read = read.map_err(|e| (Side::From, Broken::Io(e)))?;
        if read == 0 {
            self.ended = true;
            return Poll::Ready(Ok(Carried::End));
        }
        let bytes = input.get(..read).unwrap_or_default();
        let sent = if to.session.is_none() && to.unsent.is_empty() {
            to.poll_send(cx, bytes)
        } else {
            to.write_into(bytes, output).map_err(|e| (Side::To, Broken::Tls(e)))?;
            to.poll_send_output(cx, output)
        };
        settled(sent, read)
    }

    fn poll_carry_tls(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        buffers: &mut Buffers,
    ) -> Poll<Result<Carried, (Side, Broken)>> {
        let from = |e: Broken| (Side::From, e);
        let (left, read) = ready!(self.poll_input(cx, &mut buffers.input)).map_err(|e| from(e.into()))?;
        if read == 0 {
            // Without a farewell something may be missing, which is not for a proxy to judge.
            self.ended = true;
            return Poll::Ready(Ok(Carried::End));
        }
        let Buffers { input, output, answer } = buffers;
        let input = input.get_mut(..left + read).unwrap_or_default();
        let Some(session) = self.session.as_mut() else { return Poll::Ready(Ok(Carried::End)) };
        let (mut carried, mut refused) = (0, None);
        let progress = session.receive(input, answer, |plain| {
            carried += plain.len();
            to.write_into(plain, output).inspect_err(|e| refused = Some(e.clone()))
        });
        self.queue(answer.filled());
        let progress = match (progress, refused) {
            (_, Some(e)) => return Poll::Ready(Err((Side::To, Broken::Tls(e)))),
            (Err(e), None) => {
                self.fail();
                return Poll::Ready(Err(from(e.into())));
            }
            (Ok(progress), None) => progress,
        };
        self.ended |= progress.ended;
        self.keep(input.get(progress.used..).unwrap_or_default()).map_err(from)?;
        // An answer is sent with the next data, or by whoever looks after the other direction.
        if let Poll::Ready(Err(e)) = self.poll_flush(cx) {
            return Poll::Ready(Err(from(e.into())));
        }
        if carried == 0 {
            return Poll::Ready(Ok(if self.ended { Carried::End } else { Carried::Bytes(0) }));
        }
        settled(to.poll_send_output(cx, output), carried)
    }
}

/// At which end of a step something broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    From,
    To,
}

/// Sends what had been read before.
fn deliver(
    cx: &mut Context<'_>,
    to: &mut Stream,
    plain: &[u8],
    buffers: &mut Buffers,
) -> Result<Carried, (Side, Broken)> {
    to.write_into(plain, &mut buffers.output).map_err(|e| (Side::To, Broken::Tls(e)))?;
    match to.poll_send_output(cx, &buffers.output) {
        Poll::Ready(Err(e)) => Err((Side::To, Broken::Io(e))),
        Poll::Ready(Ok(())) | Poll::Pending => Ok(Carried::Bytes(plain.len())),
    }
}

/// A step is done even if the kernel did not take everything: the rest waits with the stream.
fn settled(sent: Poll<io::Result<()>>, carried: usize) -> Poll<Result<Carried, (Side, Broken)>> {
    match sent {
        Poll::Ready(Err(e)) => Poll::Ready(Err((Side::To, Broken::Io(e)))),
        Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(Carried::Bytes(carried))),
    }
}

fn read(socket: &mut TcpStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
