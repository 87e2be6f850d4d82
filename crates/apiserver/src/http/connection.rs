//! Connections: accepting, TLS, HTTP/1.1 and HTTP/2, and their end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Server;
use super::authentication::Peer;
use super::body::RequestBody;

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long it may take, or be idle, until the head of the next request is there. Longer than clients keep idle
/// connections (90 s), so that no request meets a connection that is just being closed.
const REQUEST_HEAD: Duration = Duration::from_secs(120);
/// How long requests may still run when the server stops. Watches end by themselves; a log that is followed is cut.
const DRAIN: Duration = Duration::from_secs(2);
/// When a peer that says nothing is asked whether it is there, and when it is given up.
const SILENCE: Duration = Duration::from_secs(30);
const GIVE_UP: Duration = Duration::from_secs(20);
/// The pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_STREAMS: u32 = 2048;

pub(super) async fn serve(
    server: Arc<Server>,
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let abandon = CancellationToken::new();
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (server, acceptor, stop) = (server.clone(), acceptor.clone(), stop.clone());
        connections.spawn(abandon.clone().run_until_cancelled_owned(async move {
            if let Err(error) = connection(server, acceptor, stream, stop).await {
                tracing::debug!(%address, %error, "a connection ended with an error");
            }
        }));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are cut after {} seconds", DRAIN.as_secs());
        abandon.cancel();
        connections.wait().await;
    }
    Ok(())
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(GIVE_UP / 4).with_retries(4);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let peer = Arc::new(peer_of(stream.get_ref().1)?);
    let service = {
        let stop = stop.clone();
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (server, peer, stop) = (server.clone(), peer.clone(), stop.clone());
            async move { Ok::<_, Infallible>(server.respond(request.map(RequestBody::Connection), &peer, &stop).await) }
        })
    };
    let builder = builder();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

fn peer_of(tls: &rustls::ServerConnection) -> Result<Peer, ConnectionError> {
    let Some(certificate) = tls.peer_certificates().and_then(|chain| chain.first()) else { return Ok(Peer::Unknown) };
    let identity = pki::client_identity(certificate);
    let (user, groups) = identity.ok_or("the client's certificate names no user (CN)")?;
    Ok(Peer::Certificate(user, groups))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD).max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(GIVE_UP)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    builder
}
