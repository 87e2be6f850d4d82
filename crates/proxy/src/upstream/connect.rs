//! Connections to endpoints.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpSocket;

use super::Greeting;
use super::balance::Choice;
use super::{Carried, Host, LbContext, Outcome, Upstream};
use crate::access_log::Flag;
use crate::config::{Cluster, Keepalive};
use crate::http::pool::Pool;
use crate::metrics::ClusterStats;
use crate::stream::Stream;
use crate::tls::{ClientTls, FailureKind, TlsFailure, as_one_word};

/// A cluster as one worker uses it.
#[derive(Debug)]
pub(crate) struct Establish {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) stats: Arc<ClusterStats>,
    /// The connections that requests share.
    pub(crate) pool: Rc<Pool>,
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) host: Arc<Host>,
    pub(crate) local: Option<SocketAddr>,
    /// The identity that the endpoint has shown.
    pub(crate) identity: Option<Arc<str>>,
    /// The identity that it was shown.
    pub(crate) own_identity: Option<Arc<str>>,
    /// Counts it for as long as it is there.
    pub(crate) open: Open,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct ConnectFailure {
    pub(crate) flags: &'static [Flag],
    /// The endpoint that was tried last.
    pub(crate) host: Option<SocketAddr>,
    /// What was wrong with it.
    pub(crate) reason: Option<Arc<str>>,
}

/// Why there is no connection to an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct ConnectError {
    pub(crate) reason: Arc<str>,
    pub(crate) timed_out: bool,
}

/// Counts a connection among those that are open.
#[derive(Debug)]
pub(crate) struct Open {
    cluster: Rc<Establish>,
    host: Arc<Host>,
    /// It counts among what the endpoint has to do as long as it is there, and not only with its requests.
    carried: Option<Carried>,
}

impl Open {
    fn new(cluster: &Rc<Establish>, host: &Arc<Host>) -> Open {
        cluster.stats.cx_total.inc();
        cluster.stats.cx_active.inc();
        cluster.upstream.usage.connections.fetch_add(1, Ordering::Relaxed);
        cluster.upstream.usage.used.store(true, Ordering::Relaxed);
        host.record.total.fetch_add(1, Ordering::Relaxed);
        host.record.active.fetch_add(1, Ordering::Relaxed);
        Open { cluster: cluster.clone(), host: host.clone(), carried: None }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.cluster.stats.cx_active.dec();
        self.cluster.stats.cx_destroy.inc();
        self.cluster.upstream.usage.connections.fetch_sub(1, Ordering::Relaxed);
        self.host.record.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection, or a request, among those that wait for a connection.
pub(crate) struct Pending<'a>(&'a Establish);

impl<'a> Pending<'a> {
    pub(crate) fn new(cluster: &'a Establish) -> Pending<'a> {
        cluster.stats.pending_total.inc();
        cluster.stats.pending_active.inc();
        cluster.upstream.usage.pending.fetch_add(1, Ordering::Relaxed);
        Pending(cluster)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.stats.pending_active.dec();
        self.0.upstream.usage.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What went wrong with one attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    TimedOut,
    Io(io::Error),
    Tls(TlsFailure),
}

impl Attempt {
    fn outcome(&self) -> Outcome {
        match self {
            Attempt::TimedOut => Outcome::TimedOut,
            Attempt::Io(_) | Attempt::Tls(_) => Outcome::Failed,
        }
    }
}

/// Connects to one of a cluster's endpoints, in at most so many attempts.
pub(crate) async fn connect(
    cluster: &Rc<Establish>,
    context: &LbContext<'_>,
    attempts: u32,
) -> Result<Connected, ConnectFailure> {
    let stats = &cluster.stats;
    let mut last = ConnectFailure { flags: &[], host: None, reason: None };
    for _ in 0..attempts {
        if let Some(flags) = overflow(cluster) {
            return Err(ConnectFailure { flags, ..last });
        }
        let Some(Choice { host, panic }) = cluster.upstream.choose(context) else {
            stats.cx_none_healthy.inc();
            return Err(ConnectFailure { flags: &[Flag::NoHealthyUpstream], ..last });
        };
        if panic {
            stats.lb_healthy_panic.inc();
        }
        match open(cluster, &host, &Greeting::default()).await {
            Ok(mut connected) => {
                cluster.upstream.report(&host, Outcome::Carried);
                connected.open.carried = Some(Carried::new(&host));
                return Ok(connected);
            }
            Err(e) => last = ConnectFailure { flags: &[], host: Some(host.address), reason: Some(e.reason) },
        }
    }
    stats.cx_connect_attempts_exceeded.inc();
    Err(ConnectFailure { flags: &[Flag::UpstreamConnectionFailure, Flag::UpstreamRetryLimitExceeded], ..last })
}

/// Connects to an endpoint, and notes how that went. What is in the greeting replaces what its transport
/// says.
pub(crate) async fn open(
    cluster: &Rc<Establish>,
    host: &Arc<Host>,
    greeting: &Greeting,
) -> Result<Connected, ConnectError> {
    match connect_to(cluster, host, greeting).await {
        Ok(connected) => {
            cluster.upstream.report(host, Outcome::Connected);
            Ok(connected)
        }
        Err(attempt) => {
            let reason = count(cluster, host, &attempt);
            cluster.upstream.report(host, attempt.outcome());
            Err(ConnectError { reason, timed_out: matches!(attempt, Attempt::TimedOut) })
        }
    }
}

/// Whether a circuit breaker is open.
fn overflow(cluster: &Establish) -> Option<&'static [Flag]> {
    let (usage, limits) = (&cluster.upstream.usage, &cluster.upstream.config.limits);
    if usage.connections.load(Ordering::Relaxed) >= limits.max_connections {
        cluster.stats.cx_overflow.inc();
        return Some(&[Flag::UpstreamOverflow]);
    }
    if usage.pending.load(Ordering::Relaxed) >= limits.max_pending {
        cluster.stats.pending_overflow.inc();
        return Some(&[Flag::UpstreamOverflow]);
    }
    None
}

async fn connect_to(cluster: &Rc<Establish>, host: &Arc<Host>, greeting: &Greeting) -> Result<Connected, Attempt> {
    let open = Open::new(cluster, host);
    let _pending = Pending::new(cluster);
    let upstream = &cluster.upstream;
    let dialled = dial(upstream, host, host.address, greeting);
    let dialled = tokio::time::timeout(upstream.config.connect_timeout, dialled).await;
    let Dialled { stream, local, identity, own_identity } = dialled.unwrap_or(Err(Attempt::TimedOut))?;
    if stream.tls_version().is_some() {
        cluster.stats.ssl_handshake.inc();
    }
    Ok(Connected { stream, host: host.clone(), local, identity, own_identity, open })
}

/// A connection to an endpoint that nobody has counted.
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    local: Option<SocketAddr>,
    identity: Option<Arc<str>>,
    own_identity: Option<Arc<str>>,
}

/// Connects to an address of an endpoint, over the endpoint's transport.
pub(crate) async fn dial(
    upstream: &Upstream,
    host: &Host,
    address: SocketAddr,
    greeting: &Greeting,
) -> Result<Dialled, Attempt> {
    let socket = socket(&upstream.config, address).map_err(Attempt::Io)?;
    let socket = socket.connect(address).await.map_err(Attempt::Io)?;
    let local = socket.local_addr().ok();
    let mut dialled = Dialled { stream: Stream::new(socket), local, identity: None, own_identity: None };
    if let Some(tls) = upstream.transport(host).tls() {
        secure(&mut dialled, address.ip(), tls, greeting).await.map_err(Attempt::Tls)?;
    }
    Ok(dialled)
}

fn socket(cluster: &Cluster, address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(source) = cluster.source {
        socket.bind(source)?;
    }
    if let Some(keepalive) = cluster.keepalive {
        SockRef::from(&socket).set_tcp_keepalive(&probes(keepalive))?;
    }
    Ok(socket)
}

fn probes(keepalive: Keepalive) -> TcpKeepalive {
    let Keepalive { probes, time, interval } = keepalive;
    let mut set = TcpKeepalive::new();
    if let Some(time) = time {
        set = set.with_time(time);
    }
    if let Some(interval) = interval {
        set = set.with_interval(interval);
    }
    if let Some(probes) = probes {
        set = set.with_retries(probes);
    }
    set
}

async fn secure(dialled: &mut Dialled, at: IpAddr, tls: &ClientTls, greeting: &Greeting) -> Result<(), TlsFailure> {
    let session = tls.session(at, greeting)?;
    let stream = &mut dialled.stream;
    stream.handshake(session).await.map_err(|e| TlsFailure::from(&e))?;
    let identities = tls.peer_identities(stream.peer_certificates(), stream.is_resumed())?;
    if let Some(name) = &greeting.verified {
        tls.check_name(stream.peer_certificates(), name)?;
    }
    dialled.identity = identities.first().cloned();
    dialled.own_identity = tls.identity().cloned();
    Ok(())
}

/// Counts a failure, and says it in words.
fn count(cluster: &Establish, host: &Host, attempt: &Attempt) -> Arc<str> {
    let stats = &cluster.stats;
    host.record.failed.fetch_add(1, Ordering::Relaxed);
    stats.cx_connect_fail.inc();
    stats.pending_failure_eject.inc();
    match attempt {
        Attempt::TimedOut => {
            stats.cx_connect_timeout.inc();
            as_one_word("connection timeout")
        }
        Attempt::Io(e) => as_one_word(&format!("delayed connect error: {}", plain(e))),
        Attempt::Tls(failure) => {
            match failure.kind {
                FailureKind::WrongName => stats.ssl_fail_verify_san.inc(),
                FailureKind::WrongHash => stats.ssl_fail_verify_cert_hash.inc(),
                FailureKind::Untrusted | FailureKind::NoCertificate => stats.ssl_fail_verify_error.inc(),
                FailureKind::Other => stats.ssl_connection_error.inc(),
            }
            failure.reason.clone()
        }
    }
}

/// The kernel's words, without the number that the standard library adds.
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}
