//! The running proxy: configuration comes in, the data plane gets it, and people can look inside.
//!
//! Everything here happens beside the data path. Updates are converted and put in force one after the other, whoever
//! brings them: the control plane over ADS ([`Proxy::discover`]), or the pod's own agent, which holds the keys.

mod arrivals;
mod state;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use envoy::TypeUrl;
use envoy::envoy::config::core::v3::Node;
use tokio::sync::{Notify, watch};

use crate::admin::Loggers;
use crate::config::Rejected;
use crate::metrics::{Sample, collect};
use crate::{DataPlane, Drained, Options, Snapshot, Unbound, Update, Wanted};

pub(crate) use state::{State, sample};

/// How often a proxy that ends looks whether connections are left.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// What a proxy is started with.
#[derive(Debug)]
pub struct Settings {
    /// What the data plane needs.
    pub data_plane: Options,
    /// How long a cluster waits for its first endpoints, and a listener for such a cluster, before they go live
    /// without. Certificates are waited for as long as it takes: without them every connection would fail.
    pub initial_fetch_timeout: Duration,
    /// What is logged.
    pub loggers: Loggers,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    node: Node,
    data_plane: DataPlane,
    concurrency: NonZeroUsize,
    started: (Instant, SystemTime),
    initial_fetch_timeout: Duration,
    loggers: Loggers,
    state: Mutex<State>,
    wanted: watch::Sender<Wanted>,
    updates: watch::Sender<u64>,
    /// Rings when something begins to warm.
    warming: Notify,
    /// Rings when the proxy is to end.
    quit: Notify,
}

impl Proxy {
    /// Starts a proxy that has no configuration yet. `node` is what it tells the control plane about itself.
    pub fn start(node: Node, settings: Settings) -> io::Result<Proxy> {
        let Settings { data_plane, initial_fetch_timeout, loggers } = settings;
        Ok(Proxy {
            node,
            concurrency: data_plane.workers,
            data_plane: DataPlane::start(data_plane)?,
            started: (Instant::now(), SystemTime::now()),
            initial_fetch_timeout,
            loggers,
            state: Mutex::default(),
            wanted: watch::Sender::default(),
            updates: watch::Sender::default(),
            warming: Notify::new(),
            quit: Notify::new(),
        })
    }

    /// Puts an update in force, and says what was refused, by the name of the resource. What is refused leaves its
    /// last good version in force.
    pub fn apply(&self, update: Update) -> Vec<(String, Rejected)> {
        let mut state = self.state();
        let offered: BTreeSet<Arc<str>> = update.resources.iter().map(|r| r.name.as_str().into()).collect();
        let listeners = update.type_url == TypeUrl::Listener;
        let mut refused = state.apply(update, Instant::now(), SystemTime::now());
        for unbound in self.install(&state) {
            tracing::warn!("the listener {} cannot have {}: {}", unbound.listener, unbound.address, unbound.error);
            if listeners && offered.contains(&unbound.listener) {
                let reason = format!("{} cannot be had: {}", unbound.address, unbound.error);
                refused.push((unbound.listener.to_string(), Rejected { field: "address".to_owned(), reason }));
            }
        }
        self.warming.notify_one();
        self.updates.send_modify(|count| *count += 1);
        refused
    }

    /// The configuration in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state().snapshot().clone()
    }

    /// The endpoints and secrets that the configuration names, as they change. Secrets that come from a cluster and
    /// not over ADS are the agent's to bring, with [`Proxy::apply`]; what it brought stays until it is replaced.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// How many updates there have been.
    pub fn updates(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }

    /// Whether the first configuration is live, and the proxy neither drains nor was told to fail.
    pub fn is_ready(&self) -> bool {
        self.state().name() == "LIVE"
    }

    /// Stops to listen, and to be ready. Open connections go on.
    pub fn drain(&self, drained: Drained) {
        self.state().drain();
        self.data_plane.drain(drained);
    }

    /// How many connections from downstream are open.
    pub fn connections(&self) -> u64 {
        self.data_plane.connections()
    }

    /// Takes no more connections for the workload, which may itself still call others; waits for open connections to
    /// end, but no longer than `within`; then ends the rest.
    pub async fn stop(&self, within: Duration) {
        self.drain(Drained::Inbound);
        let idle = async {
            while self.connections() > 0 {
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        // That some are left is what the limit is for.
        let _patience_ended = tokio::time::timeout(within, idle).await;
        self.data_plane.clone().stop(Duration::ZERO).await;
    }

    /// Ends when somebody has asked the proxy to end, at `/quitquitquit`.
    pub async fn quit_requested(&self) {
        self.quit.notified().await;
    }

    pub(crate) fn quit(&self) {
        self.quit.notify_one();
    }

    pub(crate) fn data_plane(&self) -> &DataPlane {
        &self.data_plane
    }

    pub(crate) fn loggers(&self) -> &Loggers {
        &self.loggers
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.get()
    }

    pub(crate) fn started(&self) -> SystemTime {
        self.started.1
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.0.elapsed()
    }

    /// Everything that has been counted since the start.
    pub(crate) fn counted(&self) -> Vec<Sample> {
        let mut samples = collect(&self.data_plane.metrics());
        samples.extend(self.state().samples());
        samples
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Puts live, for ever, what has waited too long.
    pub(crate) async fn give_up_waiting(&self) -> Infallible {
        loop {
            let due = self.state().gives_up_at(self.initial_fetch_timeout);
            let changed = self.warming.notified();
            match due {
                None => changed.await,
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(due.into()) => self.give_up(),
                },
            }
        }
    }

    fn give_up(&self) {
        let mut state = self.state();
        if state.give_up(Instant::now(), self.initial_fetch_timeout) {
            tracing::warn!("endpoints or certificates have not come in time and are not waited for");
            for unbound in self.install(&state) {
                tracing::warn!("the listener {} cannot have {}: {}", unbound.listener, unbound.address, unbound.error);
            }
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A snapshot is replaced as a whole, so that a panic cannot have left half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on what is in force, under the lock, so that an older snapshot never follows a newer one.
    fn install(&self, state: &State) -> Vec<Unbound> {
        let wanted = state.snapshot().wanted();
        self.wanted.send_if_modified(|last| {
            let changed = *last != wanted;
            *last = wanted;
            changed
        });
        self.data_plane.install(state.snapshot().clone())
    }
}

#[cfg(test)]
mod tests;
