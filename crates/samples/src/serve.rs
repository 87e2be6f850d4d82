//! Listening, serving and ending: what the samples have in common.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;

/// Runs `server` on one thread until it fails or a signal ends the process's work.
///
/// The handlers matter in a pod, where a program may be the first process of its namespace: the kernel ignores a
/// signal without a handler there.
pub(crate) fn until_signalled(server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Start)?;
        tokio::select! {
            outcome = server => outcome,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    runtime.shutdown_background();
    outcome
}

/// Listens on every address, IPv6 included where the machine has it.
pub(crate) async fn listen(port: u16) -> Result<TcpListener, Failure> {
    listen_on(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await
}

/// Listens on `address`; the IPv6 wildcard also takes IPv4, and becomes the IPv4 wildcard where IPv6 is absent.
pub(crate) async fn listen_on(address: SocketAddr) -> Result<TcpListener, Failure> {
    let port = address.port();
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(source) if source.kind() == std::io::ErrorKind::AddrInUse || address.ip() != Ipv6Addr::UNSPECIFIED => {
            Err(Failure::Bind { port, source })
        }
        Err(_) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map_err(|source| Failure::Bind { port, source })
        }
    }
}

/// Gives each connection of `listener` a task of its own.
pub(crate) async fn accept<F, C>(listener: TcpListener, connection: F)
where
    F: Fn(TcpStream, IpAddr) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(stream, peer.ip().to_canonical()));
            }
            Err(error) => {
                log(format_args!("cannot accept a connection: {error}"));
                // Descriptors have run out: they come back only when connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves HTTP/1.1 and, with prior knowledge, HTTP/2 in clear on `listener`; `answer` is given each request and the
/// client's address.
pub(crate) async fn serve_http<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>, IpAddr) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let answer = Arc::new(answer);
    let connection = move |stream: TcpStream, peer: IpAddr| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let response = answer(request, peer);
            async move { Ok::<_, Infallible>(response.await) }
        });
        async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                log(format_args!("connection from {peer}: {error}"));
            }
        }
    };
    accept(listener, connection).await;
}

/// The pod's name: Kubernetes gives it as `HOSTNAME` and as the host name.
pub(crate) fn host_name() -> Option<String> {
    let name = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"));
    name.ok().map(|name| name.trim().to_owned())
}

/// Writes one line to stdout.
pub(crate) fn log(line: std::fmt::Arguments<'_>) {
    // When stdout is closed there is nobody left to tell.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}
