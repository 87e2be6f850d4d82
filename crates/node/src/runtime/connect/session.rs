//! A command's streams over a WebSocket, as `v4.channel.k8s.io` and `v5.channel.k8s.io` have it: the first byte of each
//! message is the channel.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Bytes, Message, Utf8Bytes};

use super::Socket;
use super::stdio::{Input, Output, Stdio};
use crate::runtime::kernel;
use crate::runtime::sandbox::protocol::{Exit, Failure, Resize};
use crate::runtime::sandbox::{Connection, Resizes};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel that the second byte names; new in version 5.
const CLOSE: u8 = 255;

/// kubectl reports a close without this code as an error.
const NORMAL: CloseFrame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };

const CHUNK: usize = 32 << 10;
/// After a command has ended, something that it left behind may hold its output open. It is listened to until it has
/// said nothing for this long.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How long a command on a terminal waits for the terminal's size. kubectl sends it first; other clients may never.
const SIZE: Duration = Duration::from_millis(100);
/// How long a client may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(2);

type Sink = Arc<Mutex<SplitSink<Socket, Message>>>;

/// One client's connection.
pub(super) struct Session {
    sink: Sink,
    stream: SplitStream<Socket>,
    /// A message that came while a size was awaited.
    early: Option<Message>,
    can_close_stdin: bool,
    /// Counts messages sent, to tell silence from activity.
    sent: Arc<AtomicU64>,
}

impl Session {
    pub(super) fn new(socket: Socket, protocol: &str) -> Session {
        let (sink, stream) = socket.split();
        Session {
            sink: Arc::new(Mutex::new(sink)),
            stream,
            early: None,
            can_close_stdin: protocol.starts_with("v5"),
            sent: Arc::default(),
        }
    }

    /// Gives a terminal its size before the command starts, so that it never sees another.
    pub(super) async fn size_terminal(&mut self, terminal: impl AsFd) {
        let Ok(Some(Ok(message))) = tokio::time::timeout(SIZE, self.stream.next()).await else { return };
        let size = match &message {
            Message::Binary(bytes) => bytes.strip_prefix(&[RESIZE]).and_then(|size| serde_json::from_slice(size).ok()),
            _ => None,
        };
        match size {
            Some(Resize { rows, columns }) => {
                if let Err(error) = kernel::resize_terminal(terminal, rows, columns) {
                    tracing::debug!(%error, "sizing a terminal");
                }
            }
            None => self.early = Some(message),
        }
    }

    /// Serves a command until it ends, or hangs up on it when the client goes.
    pub(super) async fn run_command(self, connection: Result<Connection, Failure>, stdio: Stdio) {
        let connection = match connection {
            Ok(connection) => connection,
            Err(failure) => return self.end(not_started(&failure)).await,
        };
        let (mut exits, resizes) = connection.split();
        let ended = async move {
            match exits.wait().await {
                Ok(exit) => exit_status(exit),
                Err(error) => internal_error(&format!("error executing command in container: {error}")),
            }
        };
        self.serve(stdio, resizes, Some(ended)).await;
    }

    /// Serves an attached client until the container ends.
    pub(super) async fn run_attached(self, connection: Result<Connection, Failure>, stdio: Stdio) {
        match connection {
            Ok(connection) => {
                // The pod process closes the streams when the container ends; it says nothing more.
                let (_exits, resizes) = connection.split();
                self.serve(stdio, resizes, None::<std::future::Pending<Value>>).await;
            }
            Err(failure) => self.end(internal_error(&failure.message)).await,
        }
    }

    async fn serve(mut self, stdio: Stdio, resizes: Resizes, ended: Option<impl Future<Output = Value>>) {
        let Stdio { stdin, stdout, stderr } = stdio;
        let (sink, sent) = (self.sink.clone(), self.sent.clone());
        let outputs = async {
            tokio::join!(copy(&sink, &sent, stdout, STDOUT), copy(&sink, &sent, stderr, STDERR));
        };
        let status = {
            let mut outputs = std::pin::pin!(outputs);
            let finished = async {
                let Some(ended) = ended else {
                    outputs.await;
                    return success();
                };
                let mut ended = std::pin::pin!(ended);
                tokio::select! {
                    status = &mut ended => {
                        drain(outputs, &sent).await;
                        status
                    }
                    () = &mut outputs => ended.await,
                }
            };
            let early = futures::stream::iter(self.early.take().map(Ok));
            let input = take_input(early.chain(&mut self.stream), stdin, resizes, self.can_close_stdin);
            tokio::select! {
                status = finished => Some(status),
                () = input => None,
            }
        };
        if let Some(status) = status {
            self.end(status).await;
        }
    }

    /// Tells how it went and closes the connection.
    async fn end(mut self, status: Value) {
        let sent = send(&self.sink, STATUS, status.to_string().as_bytes()).await;
        let closed = self.sink.lock().await.send(Message::Close(Some(NORMAL))).await;
        if sent.and(closed).is_err() {
            return;
        }
        // Closing at once could take the last messages away from a client that is still sending.
        let farewell = async { while let Some(Ok(_)) = self.stream.next().await {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("a client did not answer the close of its connection");
        }
    }
}

/// Copies a stream to its channel until it ends or the client is gone.
async fn copy(sink: &Sink, sent: &AtomicU64, output: Option<Output>, channel: u8) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match output.read(&mut buffer).await {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "reading a command's output");
                return;
            }
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        sent.fetch_add(1, Ordering::Relaxed);
        if send(sink, channel, bytes).await.is_err() {
            return;
        }
    }
}

async fn drain(mut outputs: std::pin::Pin<&mut impl Future<Output = ()>>, sent: &AtomicU64) {
    let mut before = sent.load(Ordering::Relaxed);
    loop {
        if tokio::time::timeout(AFTERWARDS, &mut outputs).await.is_ok() {
            return;
        }
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

async fn send(sink: &Sink, channel: u8, bytes: &[u8]) -> tungstenite::Result<()> {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    sink.lock().await.send(Message::Binary(Bytes::from(message))).await
}

/// Takes a client's messages until it goes.
async fn take_input(
    mut stream: impl Stream<Item = tungstenite::Result<Message>> + Unpin,
    mut stdin: Option<Input>,
    mut resizes: Resizes,
    can_close_stdin: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, data)) => {
                let Some(input) = stdin.as_mut() else { continue };
                // A command that reads no further lets the rest go, as a broken pipe would.
                if input.write_all(data).await.is_err() {
                    stdin = None;
                }
            }
            Some((&RESIZE, data)) => {
                let Ok(size) = serde_json::from_slice::<Resize>(data) else { continue };
                if let Err(error) = resizes.send(size).await {
                    tracing::debug!(%error, "resizing a terminal");
                }
            }
            Some((&CLOSE, [STDIN])) if can_close_stdin => {
                if let Some(Err(error)) = futures::future::OptionFuture::from(stdin.take().map(Input::close)).await {
                    tracing::debug!(%error, "closing a command's input");
                }
            }
            _ => {}
        }
    }
}

fn success() -> Value {
    json!({ "metadata": {}, "status": "Success" })
}

fn exit_status(exit: Exit) -> Value {
    let code = exit.code();
    if code == 0 {
        return success();
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

fn not_started(failure: &Failure) -> Value {
    internal_error(&format!(
        "error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec \
         failed: exec failed: unable to start container process: {failure}: unknown"
    ))
}

fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {message}"),
        "details": { "causes": [{ "message": message }] },
    })
}
