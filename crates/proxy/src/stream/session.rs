//! TLS over buffers of the caller: the library keeps none for a connection.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::buffers::Output;

/// More than the header, padding and tag of any record.
const RECORD_OVERHEAD: usize = 64;
/// The longest record that is sent, in bytes.
const FRAGMENT: usize = 16 << 10;

/// One end of a TLS connection.
pub(crate) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Session::Server(_) => "Session::Server",
            Session::Client(_) => "Session::Client",
        })
    }
}

/// What came of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// How many of them are done with; the others must be there again the next time, before what follows them.
    pub(crate) used: usize,
    /// Whether the peer says that nothing follows.
    pub(crate) ended: bool,
}

impl Session {
    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Session::Server(server) => server,
            Session::Client(client) => client,
        }
    }

    /// Takes in bytes from the peer: `plain` gets what they say, `answer` what must be sent back.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        answer: &mut Output,
        plain: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<Progress, Error> {
        match self {
            Session::Server(server) => receive(server, bytes, answer, plain),
            Session::Client(client) => receive(client, bytes, answer, plain),
        }
    }

    /// Appends `plain` to `output`, encrypted. `left` is what [`receive`](Self::receive) has not used yet.
    pub(crate) fn send(&mut self, plain: &[u8], left: &mut [u8], output: &mut Output) -> Result<(), Error> {
        match self {
            Session::Server(server) => send(server, Some(plain), left, output),
            Session::Client(client) => send(client, Some(plain), left, output),
        }
    }

    /// Appends to `output` that nothing follows.
    pub(crate) fn end(&mut self, left: &mut [u8], output: &mut Output) -> Result<(), Error> {
        match self {
            Session::Server(server) => send(server, None, left, output),
            Session::Client(client) => send(client, None, left, output),
        }
    }
}

/// What both ends have in common, but the library has twice.
trait Records {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(bytes)
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(bytes)
    }
}

fn receive<C: Records>(
    connection: &mut C,
    bytes: &mut [u8],
    answer: &mut Output,
    mut plain: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Progress, Error> {
    let mut progress = Progress { used: 0, ended: false };
    loop {
        let status = connection.process(bytes.get_mut(progress.used..).unwrap_or_default());
        let discard = status.discard;
        let mut done = false;
        match status.state {
            Err(error) => {
                let rest = bytes.get_mut(progress.used + discard..).unwrap_or_default();
                encode_alert(connection, rest, answer);
                return Err(error);
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => encode(answer, |space| message.encode(space))?,
            Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    plain(record?.payload)?;
                }
            }
            Ok(ConnectionState::PeerClosed) => progress.ended = true,
            // Early data is never offered.
            Ok(_) => done = true,
        }
        progress.used += discard;
        if done {
            return Ok(progress);
        }
    }
}

/// Appends `plain`, or if there is none that nothing follows.
fn send<C: Records>(
    connection: &mut C,
    plain: Option<&[u8]>,
    left: &mut [u8],
    output: &mut Output,
) -> Result<(), Error> {
    loop {
        match connection.process(left).state? {
            ConnectionState::EncodeTlsData(mut message) => encode(output, |space| message.encode(space))?,
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            ConnectionState::PeerClosed => {}
            ConnectionState::WriteTraffic(mut traffic) => {
                let length = plain.map_or(0, <[u8]>::len);
                let mut room = length + (length / FRAGMENT + 1) * RECORD_OVERHEAD;
                loop {
                    let space = output.free(room);
                    let written = match plain {
                        Some(plain) => traffic.encrypt(plain, space),
                        None => traffic.queue_close_notify(space),
                    };
                    match written {
                        Ok(written) => {
                            output.advance(written);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                            room = needed.required_size;
                        }
                        Err(e) => return Err(Error::General(e.to_string())),
                    }
                }
            }
            _ => return Err(Error::HandshakeNotComplete),
        }
    }
}

/// Appends the alert that the library has prepared for the peer after an error. `rest` is what it has not looked at yet.
/// Nothing more may be asked of a connection that has failed: the library would take a second failure for a bug.
fn encode_alert<C: Records>(connection: &mut C, rest: &mut [u8], answer: &mut Output) {
    if let Ok(ConnectionState::EncodeTlsData(mut message)) = connection.process(rest).state {
        // Without the alert the peer learns only that the connection has ended.
        drop(encode(answer, |space| message.encode(space)));
    }
}

fn encode(output: &mut Output, mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<(), Error> {
    let mut room = RECORD_OVERHEAD;
    loop {
        match write(output.free(room)) {
            Ok(written) => {
                output.advance(written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => room = needed.required_size,
            Err(e) => return Err(Error::General(e.to_string())),
        }
    }
}
