//! Connections from downstream that speak HTTP.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep};

use super::executor::Local;
use super::filter::LocalFilter;
use super::flood::Flood;
use super::gate::{Gate, Marks};
use super::head::client_certificate::PeerCertificate;
use super::peer;
use super::reply::Reply;
use super::report::Reports;
use super::request;
use super::wire::{Guard, Home, Wire};
use crate::config::http::{Codec, HttpConnectionManager};
use crate::downstream::known;
use crate::metrics::{HttpStats, Metrics, Workload};
use crate::stream::Stream;
use crate::worker::{LocalChain, LocalListener, Worker};

/// What every connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How many headers hyper reads without an allocation.
pub(super) const FREE_HEADERS: usize = 100;
/// Of how many requests half must be broken off at once before a connection ends for it (Envoy 1.40,
/// `overload.premature_reset_total_stream_count`), and how long a request lives that is not broken off at once.
const HASTY_REQUESTS: u32 = 500;
pub(super) const HASTE: Duration = Duration::from_secs(2);
/// The least that hyper takes for its buffer, in bytes.
pub(super) const LEAST_BUFFER: usize = 8 << 10;

/// A connection manager as one worker uses it.
#[derive(Debug)]
pub(crate) struct LocalManager {
    pub(crate) config: Arc<HttpConnectionManager>,
    pub(crate) stats: Arc<HttpStats>,
    /// Its filters, in the order of the configuration.
    pub(crate) filters: Box<[LocalFilter]>,
    /// The headers of requests and of responses that logs show.
    pub(crate) request_headers: Box<[HeaderName]>,
    pub(crate) response_headers: Box<[HeaderName]>,
}

impl LocalManager {
    pub(crate) fn new(config: &Arc<HttpConnectionManager>, metrics: &Metrics) -> LocalManager {
        let (mut request, mut response) = (Vec::new(), Vec::new());
        for log in &config.access_logs {
            let (of_request, of_response) = log.format.headers();
            request.extend(of_request);
            response.extend(of_response);
        }
        for names in [&mut request, &mut response] {
            names.sort_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
            names.dedup();
        }
        let filters = config.filters.iter().map(|f| LocalFilter::new(&f.filter, &config.stat_prefix, metrics));
        LocalManager {
            filters: filters.collect(),
            config: config.clone(),
            stats: metrics.http.of(&config.stat_prefix),
            request_headers: request.into(),
            response_headers: response.into(),
        }
    }
}

/// A connection from downstream, as its requests know it.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Rc<LocalListener>,
    pub(crate) chain: Rc<LocalChain>,
    pub(crate) manager: Rc<LocalManager>,
    pub(crate) number: u64,
    /// Where it was going before it was captured.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) captured: Option<SocketAddr>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) identities: Box<[Arc<str>]>,
    pub(crate) own_identity: Option<Arc<str>>,
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) certificate: Option<PeerCertificate>,
    /// The workload at the other end.
    pub(crate) peer: OnceCell<Arc<Workload>>,
    /// The workload at this end, as the other end knows it.
    pub(crate) own: OnceCell<Arc<Workload>>,
    pub(crate) life: Life,
    /// Requests that are not what hyper takes them for, or ask for another protocol.
    pub(crate) marks: Arc<Marks>,
}

/// A workload as it is known to others: by an identity, or without.
pub(super) fn as_known(own: &Workload, identity: Option<&Arc<str>>) -> Workload {
    Workload { principal: identity.cloned().unwrap_or_default(), ..own.clone() }
}

/// What becomes of a connection in time.
#[derive(Debug)]
pub(crate) struct Life {
    born: Instant,
    /// Requests that are under way, and those that there were.
    active: Cell<u32>,
    requests: Cell<u32>,
    /// Since when there is no request.
    idle_since: Cell<Instant>,
    /// Whether it ends with the requests that are under way.
    closing: Cell<bool>,
    /// Requests that have ended, and those of them that were broken off at once, before there was an answer.
    ended: Cell<u32>,
    hasty: Cell<u32>,
    /// Whether those are too many.
    overrun: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Life {
    pub(crate) fn new() -> Life {
        let now = Instant::now();
        Life {
            born: now,
            active: Cell::new(0),
            requests: Cell::new(0),
            idle_since: Cell::new(now),
            closing: Cell::new(false),
            ended: Cell::new(0),
            hasty: Cell::new(0),
            overrun: Cell::new(false),
            waker: RefCell::new(None),
        }
    }
}

impl Connection {
    /// The workload at the other end, as far as it is known.
    pub(crate) fn peer(&self, reports: &Reports) -> Arc<Workload> {
        self.peer.get().cloned().unwrap_or_else(|| reports.intern(known(self.identities.first())))
    }

    /// Takes what the other end says of its workload.
    pub(crate) fn introduce(&self, said: &HeaderValue) {
        if self.peer.get().is_none()
            && let Some(workload) = self.identities.first().and_then(|id| peer::read(said, known(Some(id))))
        {
            // It says the same every time.
            drop(self.peer.set(self.worker.reports.intern(workload)));
        }
    }

    /// The workload at this end.
    pub(crate) fn own_end(&self, reports: &Reports, own: &Workload) -> Arc<Workload> {
        let with = || reports.intern(as_known(own, self.own_identity.as_ref()));
        self.own.get_or_init(with).clone()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.chain.server.is_some()
    }

    /// Whether it ends with the requests that are under way.
    pub(crate) fn is_closing(&self) -> bool {
        self.life.closing.get()
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        let life = &self.life;
        life.active.set(life.active.get() + 1);
        life.requests.set(life.requests.get() + 1);
        let most = self.manager.config.connections.max_requests;
        if most.is_some_and(|most| life.requests.get() >= most.get()) {
            self.manager.stats.cx_max_requests_reached.inc();
            self.close();
        }
    }

    /// The answer to the request that has just begun, if it was no request.
    pub(crate) fn refusal(&self) -> Option<Reply> {
        self.marks.reply(self.life.requests.get())
    }

    /// Whether the request that has just begun asks for another protocol, so that the connection carries that next, or
    /// ends.
    pub(crate) fn is_to_change(&self) -> bool {
        self.marks.asks_to_change(self.life.requests.get())
    }

    /// A request has ended. Where most requests are broken off at once, before there was an answer, the connection ends:
    /// they cost who sends them next to nothing.
    pub(crate) fn end(&self, hasty: bool) {
        let life = &self.life;
        life.active.set(life.active.get() - 1);
        life.idle_since.set(Instant::now());
        life.ended.set(life.ended.get().saturating_add(1));
        life.hasty.set(life.hasty.get().saturating_add(u32::from(hasty)));
        let half = life.hasty.get() >= life.ended.get().max(HASTY_REQUESTS).div_ceil(2);
        if half && !self.is_closing() && !life.overrun.replace(true) {
            self.manager.stats.rq_too_many_premature_resets.inc();
            if let Some(waker) = life.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends the connection with the requests that are under way.
    pub(crate) fn close(&self) {
        if !self.life.closing.replace(true)
            && let Some(waker) = self.life.waker.take()
        {
            waker.wake();
        }
    }

    /// Waits until nothing has been asked for a while, and nothing is under way.
    async fn rests(&self, home: &Home) {
        let mut timer = pin!(tokio::time::sleep_until(self.life.idle_since.get() + REST));
        std::future::poll_fn(|cx| {
            // Before that, only requests can change it.
            while self.life.active.get() == 0 && !self.is_closing() && home.is_quiet() {
                ready!(timer.as_mut().poll(cx));
                let at = self.life.idle_since.get() + REST;
                if at <= Instant::now() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(at);
            }
            Poll::Pending
        })
        .await;
    }

    /// When to look whether the time is up.
    fn next_check(&self) -> Option<Instant> {
        let connections = &self.manager.config.connections;
        let idle = connections.idle_timeout.map(|idle| self.life.idle_since.get() + idle);
        let whole = connections.max_duration.filter(|_| !self.is_closing()).map(|most| self.life.born + most);
        idle.into_iter().chain(whole).min()
    }

    /// Looks whether the time is up; returns whether the connection has idled for too long.
    fn poll_timer(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        let connections = &self.manager.config.connections;
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if connections.max_duration.is_some_and(|most| self.life.born + most <= now) && !self.is_closing() {
                self.manager.stats.cx_max_duration_reached.inc();
                self.life.closing.set(true);
            }
            if connections.idle_timeout.is_some_and(|idle| self.life.idle_since.get() + idle <= now) {
                if self.life.active.get() == 0 {
                    self.manager.stats.cx_idle_timeout.inc();
                    return Poll::Ready(());
                }
                self.life.idle_since.set(now);
            }
            let Some(next) = self.next_check() else { return Poll::Pending };
            timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

/// Counts a connection for as long as it is there.
struct Open(Rc<LocalManager>, bool, bool);

impl Open {
    fn new(connection: &Connection, http2: bool) -> Open {
        let stats = &connection.manager.stats;
        let secure = connection.is_secure();
        stats.cx_total.inc();
        stats.cx_active.inc();
        if http2 {
            stats.cx_http2_total.inc();
            stats.cx_http2_active.inc();
        } else {
            stats.cx_http1_total.inc();
            stats.cx_http1_active.inc();
        }
        if secure {
            stats.cx_ssl_total.inc();
            stats.cx_ssl_active.inc();
        }
        Open(connection.manager.clone(), http2, secure)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Open(manager, http2, secure) = self;
        let stats = &manager.stats;
        stats.cx_active.dec();
        stats.cx_destroy.inc();
        if *http2 {
            stats.cx_http2_active.dec()
        } else {
            stats.cx_http1_active.dec()
        }
        if *secure {
            stats.cx_ssl_active.dec();
        }
    }
}

/// How long a connection of HTTP/1 keeps its buffers without a request.
const REST: Duration = Duration::from_secs(2);

/// Counts a connection for as long as it rests.
struct Resting<'a>(&'a HttpStats);

impl<'a> Resting<'a> {
    fn new(stats: &'a HttpStats) -> Resting<'a> {
        stats.cx_resting.inc();
        Resting(stats)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.cx_resting.dec();
    }
}

/// Serves the requests of a connection until it ends. While none comes, a connection needs no buffers, which are most of
/// what it takes.
pub(crate) async fn serve(mut stream: Stream, connection: Rc<Connection>) {
    let mut open: Option<Open> = None;
    loop {
        let Some(http2) = next(&mut stream, &connection, open.is_some()).await else { return stream.farewell() };
        open.get_or_insert_with(|| Open::new(&connection, http2));
        if http2 {
            return Box::pin(multiplexed(stream, connection)).await;
        }
        match Box::pin(one_by_one(stream, &connection)).await {
            Some(rested) => stream = rested,
            None => return,
        }
    }
}

/// Waits until a connection has something to do; returns whether it speaks HTTP/2, or `None` if it is over.
async fn next(stream: &mut Stream, connection: &Connection, used: bool) -> Option<bool> {
    let connections = &connection.manager.config.connections;
    let _resting = used.then(|| Resting::new(&connection.manager.stats));
    // What has spoken HTTP/1 goes on with it.
    let codec = if used { Codec::Http1 } else { connection.manager.config.codec };
    let idle = connections.idle_timeout.map(|idle| connection.life.idle_since.get() + idle);
    let old = connections.max_duration.filter(|_| used).map(|most| connection.life.born + most);
    let drained = async {
        if !used {
            std::future::pending::<()>().await;
        }
        connection.chain.draining.cancelled().await;
    };
    tokio::select! {
        http2 = speaks_http2(stream, codec) => http2,
        () = connection.chain.closed.cancelled() => None,
        () = sleep_until(idle) => {
            if used {
                connection.manager.stats.cx_idle_timeout.inc();
            }
            None
        }
        // The peer is told as one is told that does not rest.
        () = drained => Some(false),
        () = sleep_until(old) => Some(false),
    }
}

/// Serves the requests of a connection of HTTP/2 until it ends.
async fn multiplexed(stream: Stream, connection: Rc<Connection>) {
    let guard = Guard::Http2(Box::new(Flood::new(connection.manager.config.http2.frames)));
    // The end of HTTP/2 is said in a frame, after which nobody sends anything.
    let io = TokioIo::new(Wire::downstream(stream, connection.manager.stats.clone(), guard, None));
    let service = {
        let connection = connection.clone();
        service_fn(move |request: Request<Incoming>| request::serve(connection.clone(), request))
    };
    let served = http2_builder(&connection.manager.config).serve_connection(io, service);
    finish(drive(served, http2::Connection::graceful_shutdown, None, &connection).await, &connection);
}

/// Serves the requests of a connection of HTTP/1 until it ends, or rests.
async fn one_by_one(stream: Stream, connection: &Rc<Connection>) -> Option<Stream> {
    let (config, home) = (&connection.manager.config, Arc::<Home>::default());
    let gate = Gate::new(config, connection.marks.clone(), connection.life.requests.get());
    let (guard, delay) = (Guard::Http1(Box::new(gate)), config.timeouts.delayed_close);
    let wire = Wire::downstream(stream, connection.manager.stats.clone(), guard, delay).returning(home.clone());
    let service = service_fn(|request: Request<Incoming>| request::serve(connection.clone(), request));
    let served = http1_builder(config).serve_connection(TokioIo::new(wire), service).with_upgrades();
    // A response tells a client that its connection ends. One that is on its way to ask should find it there.
    let patience = Some(config.timeouts.drain);
    let driven = drive(served, http1::UpgradeableConnection::graceful_shutdown, patience, connection);
    tokio::select! {
        biased;
        ended = driven => {
            finish(ended, connection);
            return None;
        }
        () = connection.rests(&home) => {}
    }
    home.take()
}

/// Notes what a connection broke of, if it did.
fn finish(ended: hyper::Result<()>, connection: &Connection) {
    if let Err(e) = ended {
        if e.is_parse() || e.is_parse_too_large() {
            connection.manager.stats.cx_protocol_error.inc();
        }
        tracing::debug!(connection = connection.number, error = %e, "a connection broke");
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether a connection speaks HTTP/2: ALPN says it, or else its first bytes. `None` if it has ended before.
async fn speaks_http2(stream: &mut Stream, codec: Codec) -> Option<bool> {
    match codec {
        Codec::Http1 => stream.first_bytes().await.ok().map(|()| false),
        Codec::Http2 => stream.first_bytes().await.ok().map(|()| true),
        Codec::Auto => match stream.application_protocol() {
            Some(b"h2") => stream.first_bytes().await.ok().map(|()| true),
            Some(_) => stream.first_bytes().await.ok().map(|()| false),
            None => {
                stream.first_bytes().await.ok()?;
                while stream.waiting().len() < PREFACE.len() && PREFACE.starts_with(stream.waiting()) {
                    if !stream.more_bytes().await.ok()? {
                        return None;
                    }
                }
                Some(stream.waiting().starts_with(PREFACE))
            }
        },
    }
}

/// How long a client that says nothing may keep what has changed, such as a policy. A request that is on its way when
/// things change comes sooner; it is answered as before, and told that its connection ends.
const GRACE: Duration = Duration::from_secs(1);

/// Drives a connection until it ends, is drained, or idles for too long.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    served: C,
    shut_down: impl Fn(Pin<&mut C>),
    patience: Option<Duration>,
    connection: &Connection,
) -> hyper::Result<()> {
    let mut served = pin!(served);
    let mut draining = pin!(connection.chain.draining.cancelled());
    let mut closed = pin!(connection.chain.closed.cancelled());
    let first = connection.next_check();
    let mut timer = pin!(tokio::time::sleep_until(first.unwrap_or(connection.life.born)));
    let mut told = false;
    let (mut wait, mut patience) = (None, patience);
    std::future::poll_fn(|cx| {
        if closed.as_mut().poll(cx).is_ready() || connection.life.overrun.get() {
            return Poll::Ready(Ok(()));
        }
        if !connection.is_closing() && draining.as_mut().poll(cx).is_ready() {
            connection.life.closing.set(true);
            patience = patience.map(|patience| patience.min(GRACE));
        }
        if let Poll::Ready(end) = served.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        if first.is_some() && connection.poll_timer(timer.as_mut(), cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !connection.is_closing() {
            *connection.life.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(patience) = patience {
            let wait = wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(wait.as_mut().poll(cx));
        }
        if !std::mem::replace(&mut told, true) {
            shut_down(served.as_mut());
            return served.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

fn http1_builder(config: &HttpConnectionManager) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(config.max_request_head.max(LEAST_BUFFER)).max_header_size(config.max_request_head);
    if config.connections.max_headers != FREE_HEADERS {
        builder.max_headers(config.connections.max_headers);
    }
    builder
}

fn http2_builder(config: &HttpConnectionManager) -> http2::Builder<Local> {
    let options = &config.http2;
    let mut builder = http2::Builder::new(Local);
    builder
        .max_concurrent_streams(options.max_streams.get())
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .header_table_size(options.hpack_table)
        .max_header_list_size(u32::try_from(config.max_request_head).unwrap_or(u32::MAX));
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    if let Some((interval, timeout)) = options.keepalive {
        builder.timer(TokioTimer::new()).keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    builder
}
