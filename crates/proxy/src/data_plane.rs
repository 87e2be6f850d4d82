//! The data plane as others see it: it is given snapshots, and tells what it counts.

mod sockets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::Snapshot;
use crate::access_log::LogWriter;
use crate::config::{Direction, Health, Listener, Locality};
use crate::http::KeyStore;
use crate::metrics::{Metrics, Workload};
use crate::prepared::Prepared;
use crate::upstream::{Host, Upstream, Verdict};
use crate::worker::{self, Command, Setup};
use sockets::Sockets;

/// What a data plane needs to know before it gets its configuration.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many threads carry connections.
    pub workers: NonZeroUsize,
    /// How long open connections of a filter chain that has changed or gone may go on.
    pub drain_time: Duration,
    /// The workload that the proxy stands beside, as metrics name it.
    pub workload: Arc<Workload>,
}

/// A running data plane; clones are handles to the same one. When the last is dropped, every connection ends.
#[derive(Debug, Clone)]
pub struct DataPlane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: Vec<WorkerHandle>,
    /// What is counted for all workers together.
    shared: Arc<Metrics>,
    state: Mutex<State>,
    /// Dropped after the workers, so that their last lines are written.
    _log: LogWriter,
}

#[derive(Debug, Default)]
struct State {
    prepared: Arc<Prepared>,
    sockets: Sockets,
    drained: Option<Drained>,
}

struct WorkerHandle {
    commands: Option<mpsc::UnboundedSender<Command>>,
    metrics: Arc<Metrics>,
    open: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Which listeners have stopped to listen for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drained {
    /// Those of traffic to the workload: while it ends, it may still call others.
    Inbound,
    /// All of them.
    All,
}

impl Drained {
    fn covers(self, listener: &Listener) -> bool {
        self == Drained::All || listener.direction == Direction::Inbound
    }
}

/// A listener that could not have its socket.
#[derive(Debug)]
pub struct Unbound {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

/// An endpoint, with what has become of connections to it.
#[derive(Debug, Clone)]
pub struct EndpointState {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name, if it has one.
    pub hostname: Arc<str>,
    /// Its share beside the other endpoints of the locality.
    pub weight: u32,
    /// Its priority; 0 is the highest.
    pub priority: usize,
    /// Where it stands.
    pub locality: Locality,
    /// What the control plane says of it.
    pub health: Health,
    /// Whether it has not answered that it is well, where it is asked.
    pub failed_check: bool,
    /// Whether it is out of rotation for its failures.
    pub ejected: bool,
    /// Connections that are open.
    pub active: u64,
    /// Connections that were begun.
    pub total: u64,
    /// Connections that did not come about.
    pub failed: u64,
}

/// Which circuit breakers of a cluster are open.
#[derive(Debug, Clone)]
pub(crate) struct Breakers {
    /// What the statistics of the cluster are called.
    pub(crate) cluster: Arc<str>,
    pub(crate) connections: bool,
    pub(crate) pending: bool,
    pub(crate) requests: bool,
    pub(crate) retries: bool,
    /// How many endpoints there are, and how many of them take connections.
    pub(crate) members: (u64, u64),
}

impl Breakers {
    fn of(upstream: &Upstream) -> Breakers {
        let (usage, limits) = (&upstream.usage, &upstream.config.limits);
        let open = |count: &AtomicU32, limit: u32| count.load(Ordering::Relaxed) >= limit;
        let hosts = upstream.hosts();
        let healthy = hosts.iter().map(|host| EndpointState::of(upstream, host));
        let well = |state: &EndpointState| !state.ejected && !state.failed_check && state.health != Health::Unhealthy;
        let healthy = healthy.filter(well).count();
        Breakers {
            cluster: upstream.config.stat_name.clone(),
            connections: open(&usage.connections, limits.max_connections),
            pending: open(&usage.pending, limits.max_pending),
            requests: open(&usage.requests, limits.max_requests),
            retries: limits.retry_budget.is_none() && open(&usage.retries, limits.max_retries),
            members: (hosts.len() as u64, healthy as u64),
        }
    }
}

impl DataPlane {
    /// Starts the workers, without listeners.
    pub fn start(options: Options) -> io::Result<DataPlane> {
        let log = LogWriter::start()?;
        let keys = Arc::default();
        let mut workers = Vec::new();
        for number in 0..options.workers.get() {
            workers.push(WorkerHandle::start(&options, (&log, &keys), number)?);
        }
        Ok(DataPlane(Arc::new(Inner { workers, shared: Arc::default(), state: Mutex::default(), _log: log })))
    }

    /// Puts a snapshot in force: opens and closes sockets as its listeners need, and drains the connections of filter
    /// chains that are no longer there. Returns the listeners that could not have their socket; they are tried again
    /// with the next snapshot.
    pub fn install(&self, snapshot: Arc<Snapshot>) -> Vec<Unbound> {
        let mut state = self.state();
        state.prepared = Arc::new(state.prepared.next(snapshot, &self.0.shared));
        self.put_in_force(&mut state)
    }

    fn put_in_force(&self, state: &mut State) -> Vec<Unbound> {
        let (workers, prepared, drained) = (&self.0.workers, &state.prepared, state.drained);
        let listens = |listener: &Listener| listener.bind_to_port && !drained.is_some_and(|d| d.covers(listener));
        let change = state.sockets.change(&prepared.snapshot, workers.len(), listens);
        let mut opened = change.opened.into_iter();
        for worker in workers {
            let opened = opened.next().unwrap_or_default();
            worker.tell(Command::Install { prepared: prepared.clone(), opened, closed: change.closed.clone() });
        }
        change.unbound
    }

    /// What each worker counts, and what is counted for all of them together.
    pub fn metrics(&self) -> Vec<Arc<Metrics>> {
        self.0.workers.iter().map(|w| &w.metrics).chain([&self.0.shared]).cloned().collect()
    }

    /// The endpoints of each cluster, DNS names resolved.
    pub fn endpoints(&self) -> BTreeMap<Arc<str>, Vec<EndpointState>> {
        let prepared = self.state().prepared.clone();
        let endpoints = prepared.clusters().map(|upstream| {
            let states = upstream.hosts().iter().map(|host| EndpointState::of(upstream, host)).collect();
            (upstream.config.name.clone(), states)
        });
        endpoints.collect()
    }

    /// Which circuit breakers of the clusters are open.
    pub(crate) fn breakers(&self) -> Vec<Breakers> {
        let prepared = self.state().prepared.clone();
        prepared.clusters().map(|upstream| Breakers::of(upstream)).collect()
    }

    /// Where the listeners with a socket listen, by name; a port of zero in the configuration is a number here.
    pub fn addresses(&self) -> BTreeMap<Arc<str>, SocketAddr> {
        self.state().sockets.addresses()
    }

    /// Stops to listen, for good. Open connections go on.
    pub fn drain(&self, drained: Drained) {
        let mut state = self.state();
        state.drained = state.drained.max(Some(drained));
        // A listener that still cannot have its socket was told when its snapshot was installed.
        drop(self.put_in_force(&mut state));
    }

    /// How many connections from downstream are open.
    pub fn connections(&self) -> u64 {
        self.0.workers.iter().map(|w| w.open.load(Ordering::Relaxed)).sum()
    }

    /// Stops to listen, waits for open connections to end, but no longer than `within`, and ends the workers.
    pub async fn stop(self, within: Duration) {
        self.drain(Drained::All);
        let stop = |worker: &WorkerHandle| {
            let (done, stopped) = oneshot::channel();
            worker.tell(Command::Stop(within, done));
            stopped
        };
        let stopped: Vec<_> = self.0.workers.iter().map(stop).collect();
        for worker in stopped {
            // A worker that is gone already has stopped too.
            drop(worker.await);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot have left the state half changed: everything in it is replaced as a whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerHandle {
    fn start(options: &Options, (log, keys): (&LogWriter, &Arc<KeyStore>), number: usize) -> io::Result<WorkerHandle> {
        let (commands, incoming) = mpsc::unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        let (metrics, open) = (Arc::<Metrics>::default(), Arc::<AtomicU64>::default());
        let setup = Setup {
            metrics: metrics.clone(),
            workload: options.workload.clone(),
            keys: keys.clone(),
            drain_time: options.drain_time,
            lines: log.lines(),
            open: open.clone(),
            numbers: (number as u64, options.workers.get() as u64),
            first: number == 0,
        };
        let thread = std::thread::Builder::new()
            .name(format!("proxy-{number}"))
            .spawn(move || worker::run(setup, incoming, ready))?;
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the worker has failed")))?;
        Ok(WorkerHandle { commands: Some(commands), metrics, open, thread: Some(thread) })
    }

    fn tell(&self, command: Command) {
        // A worker ends only when it is told to, and then nothing that follows concerns it.
        drop(self.commands.as_ref().map(|commands| commands.send(command)));
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker has failed");
        }
    }
}

impl EndpointState {
    fn of(upstream: &Upstream, host: &Host) -> EndpointState {
        let record = &host.record;
        let well = matches!(record.verdict(), Verdict::Healthy | Verdict::Degraded);
        EndpointState {
            address: host.address,
            hostname: host.endpoint.hostname.clone(),
            weight: host.endpoint.weight.get(),
            priority: host.priority,
            locality: host.locality.clone(),
            health: host.endpoint.health,
            failed_check: upstream.is_asked(&host.endpoint) && !well,
            ejected: record.is_ejected(),
            active: record.active.load(Ordering::Relaxed),
            total: record.total.load(Ordering::Relaxed),
            failed: record.failed.load(Ordering::Relaxed),
        }
    }
}
