//! Requests that change to another protocol: from then on bytes go both ways as they are.
//!
//! In HTTP/2 that is `CONNECT` with the name of the protocol (RFC 8441). Everything between both ends sees the form that it
//! has in HTTP/1, as in Envoy.

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Uri};
use http::{Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::exchange::Exchange;
use super::head;
use super::pool;
use super::reply::Reply;
use crate::config::http::RouteAction;

/// How much is read at once, in bytes.
const BUFFER: usize = 16 << 10;

/// What `connection` says of a request that asks for another protocol.
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// Gives a request that came over HTTP/2 the form that it has in HTTP/1; returns whether it asks for another protocol.
pub(super) fn receive(parts: &mut Parts) -> bool {
    let Some(protocol) = parts.extensions.remove::<Protocol>() else {
        return parts.version == Version::HTTP_2 && parts.method == Method::CONNECT;
    };
    parts.method = Method::GET;
    // What cannot stand in a header is the name of no protocol, and is refused as such.
    let protocol = HeaderValue::from_bytes(protocol.as_ref()).unwrap_or(HeaderValue::from_static(""));
    parts.headers.insert(header::UPGRADE, protocol);
    parts.headers.insert(header::CONNECTION, UPGRADE);
    true
}

/// Gives a request that asks for another protocol the form that it has in the protocol of upstream. Returns what it asks
/// for, if that is HTTP/2.
pub(super) fn send(parts: &mut Parts, protocol: pool::Protocol) -> Option<HeaderValue> {
    if parts.method == Method::CONNECT {
        let named = parts.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let authority = named.or_else(|| parts.uri.authority().cloned());
        // It has no path.
        parts.uri = authority.map(Uri::from).unwrap_or_default();
        return None;
    }
    if protocol != pool::Protocol::Http2 || !head::is_upgrade(parts) {
        return None;
    }
    let asked = parts.headers.remove(header::UPGRADE)?;
    parts.headers.remove(header::CONNECTION);
    parts.method = Method::CONNECT;
    parts.extensions.insert(Protocol::from(asked.to_str().unwrap_or_default()));
    Some(asked)
}

/// Gives the answer of an endpoint that was asked over HTTP/2 for this protocol the form that it has in HTTP/1.
pub(super) fn answered(response: &mut Response<Incoming>, asked: &HeaderValue) {
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::UPGRADE, asked.clone());
        response.headers_mut().insert(header::CONNECTION, UPGRADE);
    }
}

/// Whether an answer changes the protocol, if that was asked for.
pub(super) fn is_change(exchange: &Exchange, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || exchange.method() == Method::CONNECT && status.is_success()
}

/// Gives an answer that changes the protocol the form that it has in HTTP/2.
pub(super) fn extend<B>(response: &mut Response<B>) {
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(header::UPGRADE);
    response.headers_mut().remove(header::CONNECTION);
}

/// Whether a request may change to the protocol that it asks for; the route says it, or else the connection manager.
pub(super) fn check(exchange: &Exchange, parts: &Parts, action: &RouteAction) -> Result<(), Reply> {
    if !head::is_upgrade(parts) {
        return Ok(());
    }
    let asked = parts.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let of_route = action.upgrades.allows(asked);
    if of_route.or_else(|| exchange.connection.manager.config.upgrades.allows(asked)) == Some(true) {
        return Ok(());
    }
    Err(Reply::new(StatusCode::FORBIDDEN, "upgrade_failed").closing())
}

/// Refuses CONNECT where it is not allowed, which is for the connection manager to say.
pub(super) fn check_connect(exchange: &Exchange, parts: &Parts) -> Result<(), Reply> {
    let allowed = || exchange.connection.manager.config.upgrades.allows("CONNECT") == Some(true);
    if parts.method != Method::CONNECT || allowed() {
        return Ok(());
    }
    Err(Reply::new(StatusCode::FORBIDDEN, "upgrade_failed").closing())
}

/// Joins both ends of a request whose protocol upstream has changed, until both have said all.
pub(super) fn join(mut exchange: Box<Exchange>, response: &mut Response<Incoming>) {
    let upstream = hyper::upgrade::on(response);
    let Some(downstream) = exchange.upgrade.take() else { return };
    let stats = exchange.connection.manager.stats.clone();
    tokio::task::spawn_local(async move {
        stats.cx_upgrades_total.inc();
        stats.cx_upgrades_active.inc();
        let closed = exchange.connection.chain.closed.clone();
        tokio::select! {
            () = carry(&mut exchange, downstream, upstream) => {}
            () = closed.cancelled() => {}
        }
        stats.cx_upgrades_active.dec();
        exchange.complete();
    });
}

async fn carry(exchange: &mut Exchange, downstream: OnUpgrade, upstream: OnUpgrade) {
    let (Ok(downstream), Ok(upstream)) = futures::future::join(downstream, upstream).await else { return };
    let (mut from_downstream, mut to_downstream) = tokio::io::split(TokioIo::new(downstream));
    let (mut from_upstream, mut to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let (tunnelled, sent) = (&mut exchange.tunnelled, &mut exchange.sent);
    // As in Envoy neither end listens after the other has said all.
    tokio::select! {
        () = copy(&mut from_downstream, &mut to_upstream, tunnelled) => {}
        () = copy(&mut from_upstream, &mut to_downstream, sent) => {}
    }
}

/// Carries bytes one way until there are no more.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), count: &mut u64) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
        *count += read as u64;
    }
    // Whoever has gone need not be told.
    drop(to.shutdown().await);
}
