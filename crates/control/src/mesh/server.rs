//! The port that proxies connect to.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tracing::{debug, warn};

use super::ControlPlane;
use super::ads::Services;
use super::ca::CertificateAuthority;
use super::peer::Connection;

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// When a peer that says nothing is asked whether it is there, and when it is given up.
const SILENCE: Duration = Duration::from_secs(30);
const GIVE_UP: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    plane: &ControlPlane,
    listener: std::net::TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (sender, mut connections) = mpsc::channel(16);
    let accepting =
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, plane.authority().clone(), sender)));
    let incoming = futures::stream::poll_fn(move |context| {
        connections.poll_recv(context).map(|next| next.map(Ok::<Connection, Infallible>))
    });
    let server = Server::builder()
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(GIVE_UP))
        .serve_with_incoming(Services { plane: plane.clone() }, incoming);
    let served = stop.run_until_cancelled(server).await;
    accepting.abort();
    served.unwrap_or(Ok(())).map_err(io::Error::other)
}

/// Accepts connections; a slow handshake holds up no other.
async fn accept(listener: TcpListener, authority: CertificateAuthority, connections: mpsc::Sender<Connection>) {
    let handshakes = TaskTracker::new();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let (authority, connections) = (authority.clone(), connections.clone());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, handshake(stream, &authority)).await {
                        Ok(Ok(connection)) => drop(connections.send(connection).await),
                        Ok(Err(error)) => debug!(%address, %error, "a TLS handshake failed"),
                        Err(_) => debug!(%address, "a TLS handshake took too long"),
                    }
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handshake(stream: TcpStream, authority: &CertificateAuthority) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let tls = TlsAcceptor::from(authority.tls().await);
    Ok(Connection(tls.accept(stream).await?))
}
