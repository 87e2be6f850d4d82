//! The connections to one endpoint.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::carrier::{Carrier, Lease, Sender};
use super::connect::{self, Unavailable};
use super::{Lifetime, Protocol};
use crate::http::body::RequestBody;
use crate::upstream::{Establish, Greeting, Host, Pending};

/// The connections of one worker to an endpoint over one transport and protocol.
#[derive(Debug)]
pub(super) struct HostPool {
    lifetime: Lifetime,
    greeting: Greeting,
    /// Connections of HTTP/1.1 that carry nothing, the latest at the end.
    idle: RefCell<Vec<Idle>>,
    /// Connections of HTTP/2.
    shared: RefCell<Vec<Shared>>,
    /// Connections that are there.
    open: Cell<u32>,
    /// Whether a connection of HTTP/2 is being opened.
    opening: Cell<bool>,
    /// Wakes requests that wait for a connection.
    changed: Notify,
    /// How many connections of HTTP/2 did not come about, and why the last one did not.
    failures: Cell<u64>,
    last_failure: RefCell<Option<Unavailable>>,
    /// Whether somebody looks after connections that are idle for too long.
    swept: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    carrier: Rc<Carrier>,
    sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    carrier: Rc<Carrier>,
    sender: http2::SendRequest<RequestBody>,
    idle_since: Instant,
}

impl HostPool {
    pub(super) fn new(lifetime: Lifetime, greeting: Greeting) -> HostPool {
        HostPool {
            lifetime,
            greeting,
            idle: RefCell::default(),
            shared: RefCell::default(),
            open: Cell::new(0),
            opening: Cell::new(false),
            changed: Notify::new(),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
            swept: Cell::new(false),
        }
    }

    /// Whether its endpoint has gone, or it has nothing.
    pub(super) fn is_of_the_past(&self) -> bool {
        let idle = self.idle.borrow();
        let shared = self.shared.borrow();
        let gone = |carrier: &Carrier| carrier.host.record.gone.is_cancelled();
        let unused = idle.is_empty() && shared.is_empty() && self.open.get() == 0 && !self.opening.get();
        unused || idle.iter().any(|i| gone(&i.carrier)) || shared.iter().any(|s| gone(&s.carrier))
    }

    /// Whether another connection may be opened. An endpoint without any gets one, whatever the circuit breaker says.
    fn may_open(&self, cluster: &Establish) -> bool {
        let (usage, limits) = (&cluster.upstream.usage, &cluster.upstream.config.limits);
        if self.open.get() == 0 || usage.connections.load(Ordering::Relaxed) < limits.max_connections {
            return true;
        }
        cluster.stats.cx_overflow.inc();
        false
    }

    pub(super) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The latest idle connection that still lives.
    fn idle(&self) -> Option<(Rc<Carrier>, http1::SendRequest<RequestBody>, AbortHandle)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { carrier, sender, task, .. }) = idle.pop() {
            if !sender.is_closed() && carrier.is_usable(&self.lifetime) {
                return Some((carrier, sender, task));
            }
            carrier.ended_here.set(!sender.is_closed());
        }
        None
    }

    /// A connection of HTTP/2 that takes another request.
    fn shared(&self) -> Option<(Rc<Carrier>, http2::SendRequest<RequestBody>)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|s| !s.sender.is_closed() && (s.carrier.active.get() > 0 || s.carrier.is_usable(&self.lifetime)));
        let free = shared.iter().find(|s| {
            let streams = self.lifetime.streams.min(s.carrier.streams.get());
            s.carrier.is_usable(&self.lifetime) && s.carrier.active.get() < streams
        });
        free.map(|s| (s.carrier.clone(), s.sender.clone()))
    }

    /// Takes a connection of HTTP/1.1 whose request is over.
    pub(super) fn take_back(self: &Rc<Self>, carrier: &Rc<Carrier>, sender: Sender) {
        let Sender::Http1(sender, task) = sender else { return };
        if sender.is_closed() {
            return;
        }
        if !carrier.is_usable(&self.lifetime) {
            carrier.ended_here.set(true);
            return;
        }
        self.idle.borrow_mut().push(Idle { carrier: carrier.clone(), sender, task, since: Instant::now() });
        self.changed.notify_one();
        self.sweep();
    }

    /// A request no longer needs its connection.
    pub(super) fn released(self: &Rc<Self>, carrier: &Rc<Carrier>) {
        let mut shared = self.shared.borrow_mut();
        if let Some(shared) = shared.iter_mut().find(|s| Rc::ptr_eq(&s.carrier, carrier)) {
            shared.idle_since = Instant::now();
        }
        drop(shared);
        if carrier.active.get() == 0 {
            self.sweep();
        }
        self.changed.notify_one();
    }

    /// Sees to it that connections do not idle for too long. Nobody looks after a pool in which nothing does.
    fn sweep(self: &Rc<Self>) {
        let Some(idle) = self.lifetime.idle.filter(|_| !self.swept.replace(true)) else { return };
        let pool = Rc::downgrade(self);
        tokio::task::spawn_local(sweep(pool, idle));
    }

    /// Closes what has idled for too long; returns how long the next one has until then.
    fn close_idle(&self, limit: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut next = None;
        let mut keep = |carrier: &Carrier, since: Instant| {
            let left = limit.saturating_sub(now.saturating_duration_since(since));
            if left.is_zero() {
                carrier.ended_here.set(true);
                carrier.cluster.stats.cx_idle_timeout.inc();
            } else {
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
            }
            !left.is_zero()
        };
        self.idle.borrow_mut().retain(|i| keep(&i.carrier, i.since));
        self.shared.borrow_mut().retain(|s| s.carrier.active.get() > 0 || keep(&s.carrier, s.idle_since));
        next
    }
}

async fn sweep(pool: Weak<HostPool>, limit: Duration) {
    let mut next = Some(limit);
    while let Some(wait) = next {
        tokio::time::sleep(wait).await;
        let Some(pool) = pool.upgrade() else { return };
        next = pool.close_idle(limit);
        pool.swept.set(next.is_some());
    }
}

/// A connection of HTTP/1.1: one that idles, or a new one, or the next that is free if no more may be opened.
pub(super) async fn http1(
    pool: &Rc<HostPool>,
    cluster: &Rc<Establish>,
    host: &Arc<Host>,
) -> Result<Lease, Unavailable> {
    loop {
        if let Some((carrier, sender, task)) = pool.idle() {
            return Ok(Lease::new(carrier, Sender::Http1(sender, task), pool));
        }
        if pool.may_open(cluster) {
            let (carrier, sender) = connect::connect(pool, cluster, host, Protocol::Http1).await?;
            return Ok(Lease::new(carrier, sender, pool));
        }
        wait(pool, cluster).await?;
    }
}

/// A connection of HTTP/2: one that takes another request, or the next.
pub(super) async fn http2(
    pool: &Rc<HostPool>,
    cluster: &Rc<Establish>,
    host: &Arc<Host>,
) -> Result<Lease, Unavailable> {
    let failures = pool.failures.get();
    loop {
        if let Some((carrier, sender)) = pool.shared() {
            return Ok(Lease::new(carrier, Sender::Http2(sender), pool));
        }
        if pool.failures.get() != failures
            && let Some(failure) = pool.last_failure.borrow().clone()
        {
            return Err(failure);
        }
        if !pool.opening.get() && pool.may_open(cluster) {
            pool.opening.set(true);
            // The connection is for all that wait, so it does not depend on the request that was first.
            tokio::task::spawn_local(share(pool.clone(), cluster.clone(), host.clone()));
        }
        wait(pool, cluster).await?;
    }
}

/// Opens a connection that requests share.
async fn share(pool: Rc<HostPool>, cluster: Rc<Establish>, host: Arc<Host>) {
    match connect::connect(&pool, &cluster, &host, Protocol::Http2).await {
        Ok((carrier, Sender::Http2(sender))) => {
            pool.shared.borrow_mut().push(Shared { carrier, sender, idle_since: Instant::now() });
        }
        Ok(_) => {}
        Err(failure) => {
            *pool.last_failure.borrow_mut() = Some(failure);
            pool.failures.set(pool.failures.get() + 1);
        }
    }
    pool.opening.set(false);
    pool.changed.notify_waiters();
}

/// Waits until something has changed, if not too many wait already.
async fn wait(pool: &HostPool, cluster: &Establish) -> Result<(), Unavailable> {
    let (usage, limits) = (&cluster.upstream.usage, &cluster.upstream.config.limits);
    if usage.pending.load(Ordering::Relaxed) >= limits.max_pending {
        cluster.stats.pending_overflow.inc();
        return Err(Unavailable::Overflow);
    }
    let _pending = Pending::new(cluster);
    pool.changed.notified().await;
    Ok(())
}

/// A connection's place among those of its endpoint.
#[derive(Debug)]
pub(super) struct Seat(Weak<HostPool>);

impl Seat {
    pub(super) fn new(pool: &Rc<HostPool>) -> Seat {
        pool.open.set(pool.open.get() + 1);
        Seat(Rc::downgrade(pool))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.open.set(pool.open.get() - 1);
            // Whoever waits may open another one.
            pool.changed.notify_one();
        }
    }
}
