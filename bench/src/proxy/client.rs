//! Clients that spend as little as can be on each request, so that the proxy's work is what is seen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use super::upstream::{ANSWER, END, MESSAGE};

/// How many requests share a connection, in HTTP/2.
const STREAMS: usize = 16;
/// What is sent on a connection that has nothing else to carry.
const PING: &[u8] = b"ping";

/// One sort of request, and where it is sent.
pub(crate) struct Client {
    address: SocketAddr,
    kind: Kind,
    tls: Option<Secured>,
    /// How many connections were secured.
    turn: AtomicUsize,
}

/// How connections are secured.
#[derive(Clone)]
pub(crate) struct Secured {
    config: Arc<ClientConfig>,
    /// Asked for in turn.
    names: Vec<ServerName<'static>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A request in HTTP/1.1, and an answer whose body has so many bytes.
    Http1 { request: Bytes, body: usize },
    /// The same, on a connection of its own.
    Once { request: Bytes, body: usize },
    /// A request in HTTP/2.
    Http2 { path: String },
    /// A call in gRPC.
    Grpc,
    /// Bytes back and forth on a connection that stays.
    Exchange,
    /// A connection, a few bytes back and forth, and its end.
    Connect { resumed: bool },
    /// A connection that begins with these bytes, which come back, and its end.
    Say(Bytes),
    /// A connection on which so many bytes come.
    Fetch { bytes: usize },
}

/// What one request at a time goes over.
pub(crate) enum Lane {
    /// Nothing stays from one request to the next.
    Fresh,
    Stream(Box<dyn Duplex>, Vec<u8>),
    Multiplexed(SendRequest<Full<Bytes>>),
}

/// Bytes in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

impl Secured {
    pub(crate) fn new(config: Arc<ClientConfig>, names: &[String]) -> anyhow::Result<Secured> {
        let names = names.iter().map(|name| Ok(ServerName::try_from(name.clone())?));
        Ok(Secured { config, names: names.collect::<anyhow::Result<_>>()? })
    }

    async fn begin(&self, stream: TcpStream, turn: usize) -> anyhow::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(self.names[turn % self.names.len()].clone(), stream).await.context("the handshake fails")
    }
}

impl Client {
    /// A client whose connections are secured in this way.
    pub(crate) fn new(address: SocketAddr, kind: Kind, mut tls: Option<Secured>) -> Client {
        if let (Kind::Connect { resumed: true }, Some(tls)) = (&kind, &mut tls) {
            // Sessions of its own: another server's tickets are worth nothing.
            Arc::make_mut(&mut tls.config).resumption = Resumption::in_memory_sessions(64);
        }
        Client { address, kind, tls, turn: AtomicUsize::new(0) }
    }

    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// So many lanes, with the connections that they need.
    pub(crate) async fn lanes(&self, count: usize) -> anyhow::Result<Vec<Lane>> {
        let mut lanes = Vec::new();
        for n in 0..count {
            let lane = match (&self.kind, lanes.last()) {
                (Kind::Once { .. } | Kind::Connect { .. } | Kind::Say(_) | Kind::Fetch { .. }, _) => Lane::Fresh,
                (Kind::Http2 { .. } | Kind::Grpc, Some(Lane::Multiplexed(shared))) if n % STREAMS != 0 => {
                    Lane::Multiplexed(shared.clone())
                }
                _ => self.lane().await?,
            };
            lanes.push(lane);
        }
        Ok(lanes)
    }

    async fn lane(&self) -> anyhow::Result<Lane> {
        let stream = self.open().await?;
        Ok(match self.kind {
            Kind::Http2 { .. } | Kind::Grpc => {
                let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                // Its errors come back from the requests, too.
                tokio::spawn(async { drop(connection.await) });
                Lane::Multiplexed(sender)
            }
            _ => Lane::Stream(stream, Vec::with_capacity(64 << 10)),
        })
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn open(&self) -> anyhow::Result<Box<dyn Duplex>> {
        let stream = self.connect().await?;
        Ok(match &self.tls {
            Some(tls) => Box::new(tls.begin(stream, self.next()).await?),
            None => Box::new(stream),
        })
    }

    /// A connection to the server whose turn it is, and the certificate that it shows.
    pub(crate) async fn see_certificate(&self) -> anyhow::Result<Vec<u8>> {
        let tls = self.tls.as_ref().context("nothing is secured")?;
        let stream = tls.begin(self.connect().await?, self.next()).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        Ok(shown.context("the server shows no certificate")?.to_vec())
    }

    /// One request and its answer. After a failure the lane has a new connection, if one can be made.
    pub(crate) async fn ask(&self, lane: &mut Lane) -> anyhow::Result<()> {
        let outcome = self.try_ask(lane).await;
        if outcome.is_err() && !matches!(lane, Lane::Fresh) {
            *lane = self.lane().await?;
        }
        outcome
    }

    async fn try_ask(&self, lane: &mut Lane) -> anyhow::Result<()> {
        match (&self.kind, lane) {
            (Kind::Http1 { request, body }, Lane::Stream(stream, buffer)) => {
                stream.write_all(request).await?;
                answered(stream, buffer, *body).await
            }
            (Kind::Once { request, body }, Lane::Fresh) => {
                let mut stream = self.open().await?;
                stream.write_all(request).await?;
                answered(&mut stream, &mut Vec::with_capacity(1024), *body).await?;
                Ok(stream.shutdown().await?)
            }
            (Kind::Http2 { path }, Lane::Multiplexed(sender)) => get(sender, path).await,
            (Kind::Grpc, Lane::Multiplexed(sender)) => call(sender).await,
            (Kind::Exchange, Lane::Stream(stream, _)) => echo(stream, &[b'x'; 64]).await,
            (Kind::Connect { resumed }, Lane::Fresh) => self.connect_once(*resumed).await,
            (Kind::Say(bytes), Lane::Fresh) => {
                let mut stream = self.connect().await?;
                echo(&mut stream, bytes).await?;
                Ok(stream.shutdown().await?)
            }
            (Kind::Fetch { bytes }, Lane::Fresh) => fetch(&mut self.open().await?, *bytes).await,
            _ => bail!("lanes are made for their kind"),
        }
    }

    async fn connect_once(&self, resumed: bool) -> anyhow::Result<()> {
        let stream = self.connect().await?;
        match &self.tls {
            None => ping(stream).await,
            Some(tls) => {
                let stream = tls.begin(stream, self.next()).await?;
                let kind = stream.get_ref().1.handshake_kind();
                let is_resumed = matches!(kind, Some(HandshakeKind::Resumed));
                ping(stream).await?;
                ensure!(is_resumed == resumed, "a handshake was {kind:?}");
                Ok(())
            }
        }
    }
}

/// What comes back last says that everything has come, session tickets, too.
async fn ping(mut stream: impl Duplex) -> anyhow::Result<()> {
    echo(&mut stream, PING).await?;
    Ok(stream.shutdown().await?)
}

async fn echo(stream: &mut impl Duplex, bytes: &[u8]) -> anyhow::Result<()> {
    stream.write_all(bytes).await?;
    let mut answer = [0; 2048];
    let answer = answer.get_mut(..bytes.len()).context("what is said is too long")?;
    stream.read_exact(answer).await?;
    ensure!(answer == bytes, "something else comes back");
    Ok(())
}

/// Reads an answer in HTTP/1.1 whose body has so many bytes.
async fn answered(stream: &mut Box<dyn Duplex>, buffer: &mut Vec<u8>, body: usize) -> anyhow::Result<()> {
    buffer.clear();
    let mut left = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection is closed before an answer");
        if let Some(end) = buffer.windows(END.len()).position(|window| window == END) {
            ensure!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..end]));
            break (end + END.len() + body).checked_sub(buffer.len()).context("more comes than was asked for")?;
        }
    };
    while left > 0 {
        buffer.clear();
        let read = stream.read_buf(buffer).await?;
        ensure!(read > 0, "the answer is cut off");
        left = left.checked_sub(read).context("more comes than was asked for")?;
    }
    Ok(())
}

async fn get(sender: &mut SendRequest<Full<Bytes>>, path: &str) -> anyhow::Result<()> {
    let request = http::Request::get(format!("http://{HOST}{path}"))
        .header("user-agent", "bench/1.0")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip, deflate")
        .header("cookie", COOKIE);
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::default())?).await?;
    ensure!(answer.status() == http::StatusCode::OK, "{answer:?}");
    let body = answer.into_body().collect().await.context("the answer is cut off")?;
    ensure!(body.to_bytes() == ANSWER, "the answer is another");
    Ok(())
}

async fn call(sender: &mut SendRequest<Full<Bytes>>) -> anyhow::Result<()> {
    let request = http::Request::post(format!("http://{HOST}/service-0/Call"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "bench/1.0");
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::new(Bytes::from_static(MESSAGE)))?).await?;
    ensure!(answer.status() == http::StatusCode::OK, "{answer:?}");
    let body = answer.into_body().collect().await.context("the answer is cut off")?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    ensure!(status.is_some_and(|status| status == "0"), "no trailer says that the call succeeded");
    ensure!(body.to_bytes() == MESSAGE, "the answer is another");
    Ok(())
}

async fn fetch(stream: &mut Box<dyn Duplex>, bytes: usize) -> anyhow::Result<()> {
    stream.write_all(b"go").await?;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        total += length;
    }
    ensure!(total == bytes, "{total} bytes came of {bytes}");
    Ok(())
}

const HOST: &str = "shop.bench.svc.cluster.local:9080";
const COOKIE: &str = "session=0f8fad5b-d9cb-469f-a165-70867728950e";

/// A request with the headers that a browser's have, and so many bytes after them.
pub(crate) fn request(path: &str, host: &str, body: usize) -> Bytes {
    let method = if body > 0 {
        format!("POST {path} HTTP/1.1\r\ncontent-length: {body}")
    } else {
        format!("GET {path} HTTP/1.1")
    };
    let head = format!(
        "{method}\r\nhost: {host}\r\nuser-agent: bench/1.0\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\ncookie: {COOKIE}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.resize(request.len() + body, b'x');
    request.into()
}

/// The same, for the service that routes lead to.
pub(crate) fn request_to_service(path: &str, body: usize) -> Bytes {
    request(path, HOST, body)
}
