//! One thread that carries connections, with a runtime, sockets and counts of its own.

mod accept;
mod lease;
mod local;
mod tasks;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::access_log::{Entry, FLUSH_INTERVAL, Lines};
use crate::config::{AccessLog, Cluster, HealthCheck};
use crate::health;
use crate::http::pool::Pool;
use crate::http::{KeyStore, Reports, Spans};
use crate::metrics::{Metrics, Workload};
use crate::prepared::Prepared;
use crate::upstream::{self, Upstream};
pub(crate) use lease::Lease;
pub(crate) use local::{Current, LocalChain, LocalListener};
use tasks::Tasks;

/// How often it is looked whether the last connection has ended.
const STOP_INTERVAL: Duration = Duration::from_millis(10);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// From now on this configuration is in force.
    Install {
        prepared: Arc<Prepared>,
        /// New sockets, by the name of the listener.
        opened: Vec<(Arc<str>, TcpListener)>,
        /// Listeners whose sockets are to be closed.
        closed: Vec<Arc<str>>,
    },
    /// The worker is to end, after its connections, but within the time.
    Stop(Duration, oneshot::Sender<()>),
}

/// What a worker is made of.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workload: Arc<Workload>,
    /// Keys of tokens that were fetched.
    pub(crate) keys: Arc<KeyStore>,
    pub(crate) drain_time: Duration,
    pub(crate) lines: Lines,
    /// Open connections of this worker, for others to read.
    pub(crate) open: Arc<AtomicU64>,
    /// The first number for connections, and the step to the next one.
    pub(crate) numbers: (u64, u64),
    /// Whether it looks after what is there once for all workers: names to be resolved, endpoints to be asked.
    pub(crate) first: bool,
}

/// A worker, on its thread.
pub(crate) struct Worker {
    pub(crate) setup: Setup,
    current: RefCell<Rc<Current>>,
    /// By listener and fingerprint of the chain: ends the connections of a chain.
    leases: RefCell<HashMap<(Arc<str>, u64), Lease>>,
    /// Ends everything.
    ended: Lease,
    /// The connections that requests share, by cluster.
    pools: RefCell<HashMap<Arc<str>, ClusterPool>>,
    own_address: OnceCell<Option<IpAddr>>,
    /// What collectors of traces have not been told yet.
    pub(crate) spans: Spans,
    /// Whom it reports in Istio's metrics.
    pub(crate) reports: Reports,
    accepting: RefCell<HashMap<Arc<str>, AbortHandle>>,
    resolving: Tasks<Arc<Cluster>>,
    detecting: Tasks<Duration>,
    checking: Tasks<Arc<HealthCheck>>,
    last_number: Cell<u64>,
}

/// The connections to a cluster as it is configured.
type ClusterPool = (Arc<Cluster>, Rc<Pool>);

/// Counts a connection for as long as it is there.
pub(crate) struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a worker on this thread until it is told to stop, or nobody is left to tell it. `ready` learns whether it runs.
pub(crate) fn run(
    setup: Setup,
    mut commands: mpsc::UnboundedReceiver<Command>,
    ready: std::sync::mpsc::Sender<io::Result<()>>,
) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let (outcome, runtime) = match runtime {
        Ok(runtime) => (Ok(()), Some(runtime)),
        Err(e) => (Err(e), None),
    };
    // If nobody waits any more, there is nobody to send commands either.
    drop(ready.send(outcome));
    let Some(runtime) = runtime else { return };
    let stopped = runtime.block_on(async move {
        let worker = Rc::new(Worker::new(setup));
        let mut stopped = None;
        while let Some(command) = commands.recv().await {
            match command {
                Command::Install { prepared, opened, closed } => worker.install(prepared, opened, &closed),
                Command::Stop(within, done) => {
                    worker.stop(within).await;
                    stopped = Some(done);
                    break;
                }
            }
        }
        worker.setup.lines.flush();
        stopped
    });
    drop(runtime);
    if let Some(done) = stopped {
        // Whoever asked for it may have lost patience.
        let _ = done.send(());
    }
}

impl Worker {
    fn new(setup: Setup) -> Worker {
        Worker {
            last_number: Cell::new(setup.numbers.0),
            setup,
            current: RefCell::default(),
            leases: RefCell::default(),
            ended: Lease::new(),
            pools: RefCell::default(),
            own_address: OnceCell::new(),
            spans: Spans::default(),
            reports: Reports::default(),
            accepting: RefCell::default(),
            resolving: Tasks::default(),
            detecting: Tasks::default(),
            checking: Tasks::default(),
        }
    }

    pub(crate) fn current(&self) -> Rc<Current> {
        self.current.borrow().clone()
    }

    fn install(self: &Rc<Worker>, prepared: Arc<Prepared>, opened: Vec<(Arc<str>, TcpListener)>, closed: &[Arc<str>]) {
        *self.current.borrow_mut() = Rc::new(Current::new(prepared));
        self.close(Some(closed));
        for (name, socket) in opened {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    let task = tokio::task::spawn_local(accept::accept(self.clone(), name.clone(), socket));
                    self.accepting.borrow_mut().insert(name, task.abort_handle());
                }
                Err(e) => tracing::error!(listener = %name, error = %e, "a socket cannot be watched"),
            }
        }
        self.end_leases();
        self.end_pools();
        self.reports.forget();
        if self.setup.first {
            self.resolve_names();
            self.detect_outliers();
            self.check_health();
        }
    }

    /// Closes the sockets of these listeners, or of all.
    fn close(&self, names: Option<&[Arc<str>]>) {
        self.accepting.borrow_mut().retain(|name, task| {
            let keep = names.is_some_and(|names| !names.contains(name));
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// What ends the connections of a chain.
    pub(crate) fn lease(&self, listener: &Arc<str>, fingerprint: u64) -> Lease {
        let mut leases = self.leases.borrow_mut();
        leases.entry((listener.clone(), fingerprint)).or_insert_with(|| self.ended.child()).clone()
    }

    /// Gives the connections of chains that are no longer there the drain time to end.
    fn end_leases(&self) {
        let current = self.current();
        let snapshot = &current.prepared.snapshot;
        let drain_time = self.setup.drain_time;
        self.leases.borrow_mut().retain(|(listener, fingerprint), lease| {
            let chains = snapshot.listener(listener).into_iter().flat_map(|l| l.chains.iter().chain(&l.default_chain));
            let there = chains.into_iter().any(|c| c.fingerprint == *fingerprint);
            if !there {
                lease.end(drain_time);
            }
            there
        });
    }

    /// The connections to a cluster that requests share.
    pub(crate) fn pool(&self, cluster: &Arc<Cluster>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        match pools.get(&cluster.name).filter(|(config, _)| Arc::ptr_eq(config, cluster)) {
            Some((_, pool)) => pool.clone(),
            None => {
                let pool = Rc::new(Pool::of(cluster));
                pools.insert(cluster.name.clone(), (cluster.clone(), pool.clone()));
                pool
            }
        }
    }

    /// Gives up the shared connections to clusters that have changed or gone, and to endpoints that have gone.
    fn end_pools(&self) {
        let current = self.current();
        self.pools.borrow_mut().retain(|name, (config, pool)| {
            pool.prune();
            current.prepared.cluster(name).is_some_and(|upstream| Arc::ptr_eq(&upstream.config, config))
        });
    }

    /// An address of this machine that others reach it by, if it has one.
    pub(crate) fn own_address(&self) -> Option<IpAddr> {
        *self.own_address.get_or_init(|| {
            // Nothing is sent: the kernel only says which address it would take.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
            socket.local_addr().ok().map(|address| address.ip())
        })
    }

    /// Keeps a task for each cluster whose endpoints are names.
    fn resolve_names(self: &Rc<Worker>) {
        let current = self.current();
        let clusters = current.prepared.clusters().filter(|u| upstream::is_resolved(&u.config));
        let wanted = clusters.map(|u| (u.config.name.clone(), u.config.clone())).collect();
        self.resolving.keep(
            wanted,
            |new, old| new.discovery == old.discovery,
            |name, cluster| {
                let (worker, name) = (self.clone(), name.clone());
                let take = move |assignment| match worker.current().prepared.cluster(&name) {
                    Some(upstream) => {
                        upstream.replace(assignment);
                        true
                    }
                    None => false,
                };
                upstream::resolve(cluster.clone(), take)
            },
        );
    }

    /// Keeps a task for each cluster that detects outliers.
    fn detect_outliers(self: &Rc<Worker>) {
        let current = self.current();
        let interval = |u: &Arc<Upstream>| Some((u.config.name.clone(), u.config.outlier_detection.as_ref()?.interval));
        let wanted = current.prepared.clusters().filter_map(interval).collect();
        self.detecting.keep(
            wanted,
            |new, old| new == old,
            |name, interval| {
                let (worker, name, interval) = (self.clone(), name.clone(), *interval);
                async move {
                    loop {
                        tokio::time::sleep(interval).await;
                        let Some(upstream) = worker.current().prepared.cluster(&name).cloned() else { return };
                        upstream.look_over();
                    }
                }
            },
        );
    }

    /// Keeps a task for each cluster whose endpoints are asked for their health.
    fn check_health(self: &Rc<Worker>) {
        let current = self.current();
        let check = |u: &Arc<Upstream>| Some((u.config.name.clone(), u.config.health_check.clone()?));
        let wanted = current.prepared.clusters().filter_map(check).collect();
        self.checking.keep(wanted, |new, old| new == old, |name, _| health::watch(self.clone(), name.clone()));
    }

    async fn stop(&self, within: Duration) {
        self.close(None);
        self.ended.draining.cancel();
        let open = || self.setup.open.load(Ordering::Relaxed) > 0;
        let none_left = async {
            while open() {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(within, none_left).await.is_err() {
            self.ended.closed.cancel();
            // They write their last lines when they are woken.
            tokio::time::sleep(STOP_INTERVAL).await;
        }
    }

    pub(crate) fn count(&self) -> Counted {
        self.setup.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.setup.open.clone())
    }

    /// The next number of a connection, which no other worker gives out.
    pub(crate) fn number(&self) -> u64 {
        let number = self.last_number.get();
        self.last_number.set(number + self.setup.numbers.1);
        number
    }

    /// Writes a connection to those logs that want it.
    pub(crate) fn log(self: &Rc<Worker>, logs: &[AccessLog], entry: &Entry<'_>) {
        for log in logs.iter().filter(|log| log.wants(entry.flags)) {
            if self.setup.lines.add(&log.sink, &log.format, entry) {
                let worker = self.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(FLUSH_INTERVAL).await;
                    worker.setup.lines.flush();
                });
            }
        }
    }
}
