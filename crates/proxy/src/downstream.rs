//! The life of a connection from downstream.

mod istio;
mod record;
mod requests;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;
use xxhash_rust::xxh64::xxh64;

use crate::access_log::Flag;
use crate::config::{Listener, Terminal};
use crate::inspect::{self, Beginning, Hello, Inspection, Spoken};
use crate::rbac::{Peer, Verdict};
use crate::relay::{self, End, Terms};
use crate::select;
use crate::stream::{Broken, Stream};
use crate::tls::{FailureKind, TlsFailure};
use crate::upstream::{self, LbContext};
use crate::worker::{Current, LocalChain, LocalListener, Worker};
use istio::{Reported, Way};
pub(crate) use istio::{known, service_of};
use record::{Counts, Record};

/// The longest ClientHello that is looked at where the listener does not say, in bytes.
const CLIENT_HELLO_LIMIT: usize = 16 << 10;
/// The longest first line of a request that is waited for to tell it from something else, in bytes.
const REQUEST_LINE_LIMIT: usize = 64 << 10;

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    current: Rc<Current>,
    accepted: Arc<Listener>,
    socket: TcpStream,
    remote: SocketAddr,
) {
    let _counted = worker.count();
    // The kernel's default only costs time.
    drop(socket.set_nodelay(true));
    let remote = canonical(remote);
    let Ok(local) = socket.local_addr().map(canonical) else { return };
    let captured = if accepted.original_dst { original_destination(&socket, local) } else { None };
    let destination = captured.unwrap_or(local);
    let listener = select::hand_over(&current.prepared.snapshot, &accepted, destination);
    let listener = current.listener(&worker, listener);
    let _open = OpenConnection::new(&listener);
    let mut record = Record::new(worker.number(), destination, remote);
    let mut stream = Stream::new(socket);
    // What is only needed at the beginning is boxed, so that open connections do not keep room for it.
    let arrived = Box::pin(arrive(&worker, &current, &listener, &mut stream, &mut record)).await;
    let Some((chain, hello)) = arrived else {
        worker.log(&listener.config.access_logs, &record.entry());
        return;
    };
    chain.stats.cx_total.inc();
    record.chain = Some(chain.config.clone());
    if let Some(manager) = chain.http.clone() {
        drop(current);
        let served = requests::serve(worker, (listener.clone(), chain), manager, stream, (hello, captured), record);
        return Box::pin(served).await;
    }
    proxy(&worker, current, &listener, &chain, (&mut stream, hello, captured), &mut record).await;
    if let Terminal::Tcp(proxy) = &chain.config.terminal {
        worker.log(&proxy.access_logs, &record.entry());
    }
}

/// Counts a connection among those of its listener.
struct OpenConnection(Rc<LocalListener>);

impl OpenConnection {
    fn new(listener: &Rc<LocalListener>) -> OpenConnection {
        listener.stats.cx_total.inc();
        listener.stats.cx_active.inc();
        OpenConnection(listener.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.stats.cx_active.dec();
        self.0.stats.cx_destroy.inc();
    }
}

/// An IPv4 address in its own form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where a connection was going before it was captured; `None` if it came straight to the proxy.
fn original_destination(socket: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let destination = match local.ip() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    let destination = destination.ok()?.as_socket().map(canonical)?;
    (destination != local).then_some(destination)
}

/// Learns what is to be learnt before a chain is chosen, and chooses it.
async fn arrive(
    worker: &Worker,
    current: &Current,
    listener: &LocalListener,
    stream: &mut Stream,
    record: &mut Record,
) -> Option<(Rc<LocalChain>, Option<Hello>)> {
    let config = &listener.config;
    let (hello, spoken) = inspect(listener, stream, record).await?;
    let facts = select::facts(config, (record.local, record.remote), hello.as_ref(), spoken);
    let chain = select::chain(config, &facts).map(|chain| current.chain(worker, listener, chain));
    record.server_name = hello.as_ref().and_then(|h| h.server_name.clone());
    match chain {
        Some(chain) => Some((chain, hello)),
        None => {
            listener.stats.no_filter_chain_match.inc();
            record.flags.set(Flag::NoRouteFound);
            record.details = Some("filter_chain_not_found");
            None
        }
    }
}

/// Learns what is spoken, as far as the listener wants to know and in the time that it gives; `None` ends the connection.
async fn inspect(
    listener: &LocalListener,
    stream: &mut Stream,
    record: &Record,
) -> Option<(Option<Hello>, Option<Spoken>)> {
    let (stats, config) = (&listener.stats, &listener.config);
    let tls = config.tls_inspector.as_ref().filter(|_| select::inspects(config, record.local));
    let http = select::listens_for_http(config, record.local);
    if tls.is_none() && !http {
        return Some((None, None));
    }
    let looked = async {
        let hello = match tls {
            Some(inspector) => {
                let found = look(stream, inspector.max_client_hello).await?;
                learnt(listener, found, inspector.close_on_error)?
            }
            None => None,
        };
        let spoken = if http && hello.is_none() { look_for_http(stream).await } else { None };
        Some((hello, spoken))
    };
    stats.pre_cx_active.inc();
    let found = match config.listener_filters_timeout {
        Some(timeout) => tokio::time::timeout(timeout, looked).await,
        None => Ok(looked.await),
    };
    stats.pre_cx_active.dec();
    found.unwrap_or_else(|_| {
        stats.pre_cx_timeout.inc();
        config.continue_on_timeout.then_some((None, None))
    })
}

/// Looks for a request of HTTP. A peer that says nothing more has not begun one.
async fn look_for_http(stream: &mut Stream) -> Option<Spoken> {
    loop {
        match inspect::beginning(stream.received(), REQUEST_LINE_LIMIT) {
            Beginning::Http(spoken) => return Some(spoken),
            Beginning::NotHttp => return None,
            Beginning::NeedMore => {}
        }
        if !stream.look().await.unwrap_or(false) {
            return None;
        }
    }
}

/// Looks for a ClientHello; `None` if the peer has gone before it was clear whether there is one.
async fn look(stream: &mut Stream, limit: usize) -> Option<Inspection> {
    loop {
        match inspect::client_hello(stream.received(), limit) {
            Inspection::NeedMore => {}
            known => return Some(known),
        }
        if !stream.look().await.unwrap_or(false) {
            return None;
        }
    }
}

/// Counts what was found. The outer `None` ends the connection.
fn learnt(listener: &LocalListener, found: Inspection, close_on_error: bool) -> Option<Option<Hello>> {
    let stats = &listener.stats;
    match found {
        Inspection::Hello(hello) => {
            stats.tls_found.inc();
            if !hello.application_protocols.is_empty() {
                stats.alpn_found.inc();
            }
            if hello.server_name.is_some() {
                stats.sni_found.inc();
            }
            Some(Some(hello))
        }
        Inspection::TooLong => {
            stats.client_hello_too_large.inc();
            None
        }
        Inspection::Malformed(_) if close_on_error => None,
        Inspection::Malformed(_) | Inspection::NotTls | Inspection::NeedMore => {
            stats.tls_not_found.inc();
            Some(None)
        }
    }
}

/// Takes a connection through the filters of its chain.
async fn proxy(
    worker: &Rc<Worker>,
    current: Rc<Current>,
    listener: &LocalListener,
    chain: &LocalChain,
    (stream, hello, captured): (&mut Stream, Option<Hello>, Option<SocketAddr>),
    record: &mut Record,
) {
    let Terminal::Tcp(config) = &chain.config.terminal else { return stream.farewell() };
    // Where a connection was to go is told of those, too, that do not get there.
    let cluster = current.cluster(worker, config.cluster.pick(fastrand::u64(..)));
    record.cluster = cluster.as_ref().map(|cluster| cluster.upstream.config.clone());
    // A snapshot that has been replaced is not kept by connections.
    drop(current);
    let identities = match Box::pin(terminate(listener, chain, stream, hello, record)).await {
        Ok(identities) => identities,
        Err(failure) => {
            count_failure(listener, &failure);
            record.downstream_failure = Some(failure.reason);
            return;
        }
    };
    record.peer_identity = identities.first().cloned();
    if let Some(denied) = authorize(chain, &identities, record) {
        Box::pin(refuse(chain, stream, denied, record)).await;
        return;
    }
    let Some(cluster) = cluster else {
        chain.stats.cx_no_route.inc();
        record.flags.set(Flag::NoClusterFound);
        stream.farewell();
        return;
    };
    let attempts = config.max_connect_attempts.get();
    let hash = config.hash_source.then(|| xxh64(record.remote.ip().to_string().as_bytes(), 0));
    let context = LbContext { hash, captured, ..LbContext::default() };
    let mut connected = match Box::pin(upstream::connect(&cluster, &context, attempts)).await {
        Ok(connected) => connected,
        Err(failure) => {
            failure.flags.iter().for_each(|flag| record.flags.set(*flag));
            record.upstream_host = failure.host;
            record.upstream_failure = failure.reason;
            Reported::unconnected(&Way { worker, listener, chain, cluster: &cluster }, record);
            stream.farewell();
            return;
        }
    };
    record.upstream_host = Some(connected.host.address);
    record.upstream_local = connected.local;
    let reported = Reported::opened(&Way { worker, listener, chain, cluster: &cluster }, &connected, record);
    let terms = Terms {
        idle: config.idle_timeout,
        until: config.max_duration.map(|d| Instant::now() + d),
        downstream_limit: usize::try_from(listener.config.buffer_limit).unwrap_or(usize::MAX),
        upstream_limit: usize::try_from(cluster.upstream.config.buffer_limit).unwrap_or(usize::MAX),
    };
    let mut counts =
        Counts { tcp: &chain.stats, cluster: &cluster.stats, istio: reported.stats(), sent: 0, received: 0 };
    let closed = pin!(chain.closed.cancelled());
    let relayed = relay::relay(stream, &mut connected.stream, terms, closed, &mut counts);
    let end = if cluster.upstream.config.close_on_unhealthy {
        tokio::select! {
            end = relayed => end,
            () = connected.host.record.gone.cancelled() => End::Drained,
            () = connected.host.record.fell.notified() => End::Drained,
        }
    } else {
        relayed.await
    };
    (record.received, record.sent) = (counts.received, counts.sent);
    finish(chain, &cluster, stream, &mut connected.stream, end, record);
    reported.closed(worker, record);
    drop(connected.open);
}

/// Terminates TLS, if the chain does; returns the identities of the peer.
async fn terminate(
    listener: &LocalListener,
    chain: &LocalChain,
    stream: &mut Stream,
    hello: Option<Hello>,
    record: &mut Record,
) -> Result<Box<[Arc<str>]>, TlsFailure> {
    let Some(server) = &chain.server else { return Ok(Box::default()) };
    record.own_identity = server.identity().cloned();
    let handshake = async {
        let hello = match hello {
            Some(hello) => Some(hello),
            None => match look(stream, CLIENT_HELLO_LIMIT).await {
                Some(Inspection::Hello(hello)) => Some(hello),
                Some(_) => None,
                None => {
                    return Err(TlsFailure::other("the peer closed the connection before its ClientHello"));
                }
            },
        };
        record.server_name = hello.as_ref().and_then(|h| h.server_name.clone());
        stream.handshake(server.session(hello.as_ref())?).await.map_err(|e| TlsFailure::from(&e))?;
        server.peer_identities(stream.peer_certificates(), stream.is_resumed())
    };
    let limit = chain.config.tls_timeout.or(chain.config.terminal.idle_timeout());
    let identities = match limit {
        Some(limit) => tokio::time::timeout(limit, handshake)
            .await
            .unwrap_or_else(|_| Err(TlsFailure::other("the handshake took too long"))),
        None => handshake.await,
    }?;
    listener.stats.ssl_handshake.inc();
    record.tls_version = stream.tls_version();
    Ok(identities)
}

fn count_failure(listener: &LocalListener, failure: &TlsFailure) {
    match failure.kind {
        FailureKind::NoCertificate => listener.stats.ssl_fail_verify_no_cert.inc(),
        FailureKind::Untrusted => listener.stats.ssl_fail_verify_error.inc(),
        FailureKind::WrongName => listener.stats.ssl_fail_verify_san.inc(),
        FailureKind::WrongHash => listener.stats.ssl_fail_verify_cert_hash.inc(),
        FailureKind::Other => listener.stats.ssl_connection_error.inc(),
    }
}

/// Asks every RBAC filter; returns the denial, if there is one.
fn authorize<'c>(chain: &'c LocalChain, identities: &[Arc<str>], record: &Record) -> Option<Denied<'c>> {
    let peer = Peer {
        destination: record.local,
        source: record.remote.ip(),
        server_name: record.server_name.as_deref().unwrap_or_default(),
        tls: chain.server.is_some(),
        identities,
    };
    for (filter, (stats, shadow_stats)) in chain.config.rbac.iter().zip(&chain.rbac) {
        if let Some(verdict) = filter.shadow_verdict(&peer) {
            if verdict.allowed { shadow_stats.shadow_allowed.inc() } else { shadow_stats.shadow_denied.inc() }
        }
        match filter.verdict(&peer) {
            Some(verdict) if !verdict.allowed => return Some(Denied { verdict, stats }),
            Some(_) => stats.allowed.inc(),
            None => {}
        }
    }
    None
}

/// A denial, with the statistics that count it.
struct Denied<'c> {
    verdict: Verdict<'c>,
    stats: &'c crate::metrics::RbacStats,
}

/// Closes a connection that was denied, once it says something: so do Envoy's connections, and a peer that only looks
/// whether somebody listens is not told. In the meantime nothing of upstream is seen by the peer.
async fn refuse(chain: &LocalChain, stream: &mut Stream, denied: Denied<'_>, record: &mut Record) {
    let patience = async {
        match chain.config.terminal.idle_timeout() {
            Some(idle) => tokio::time::sleep(idle).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = stream.first_bytes() => {
            denied.stats.denied.inc();
            record.termination = Some(denied.verdict.to_string().into());
        }
        () = patience => {
            chain.stats.idle_timeout.inc();
            record.flags.set(Flag::StreamIdleTimeout);
        }
        () = chain.closed.cancelled() => {}
    }
    stream.farewell();
}

/// Notes why a connection has ended, and passes on how.
fn finish(
    chain: &LocalChain,
    cluster: &upstream::Establish,
    downstream: &mut Stream,
    upstream: &mut Stream,
    end: End,
    record: &mut Record,
) {
    let stats = &cluster.stats;
    match end {
        End::Complete { upstream_first: true } => return stats.cx_destroy_remote.inc(),
        End::Complete { upstream_first: false } => {}
        End::Upstream(broken) => {
            stats.cx_destroy_remote.inc();
            record.flags.set(Flag::UpstreamConnectionTermination);
            record.upstream_failure = tls_reason(&broken);
            if broken.is_reset() {
                return downstream.reset_on_close();
            }
            return downstream.farewell();
        }
        End::Downstream(broken) => {
            record.flags.set(Flag::DownstreamConnectionTermination);
            record.downstream_failure = tls_reason(&broken);
            if broken.is_reset() {
                upstream.reset_on_close();
            }
        }
        End::Idle => {
            chain.stats.idle_timeout.inc();
            stats.cx_idle_timeout.inc();
            record.flags.set(Flag::StreamIdleTimeout);
        }
        End::TooLong => {
            chain.stats.max_duration.inc();
            record.flags.set(Flag::DurationTimeout);
        }
        End::Drained => {}
    }
    stats.cx_destroy_local.inc();
    downstream.farewell();
    upstream.farewell();
}

fn tls_reason(broken: &Broken) -> Option<Arc<str>> {
    match broken {
        Broken::Tls(e) => Some(TlsFailure::from(e).reason),
        Broken::Io(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_open_connection_costs_little_memory() {
        let size = size_of_future(serve);
        assert!(size <= 2048, "a connection takes {size} bytes");
    }
}
