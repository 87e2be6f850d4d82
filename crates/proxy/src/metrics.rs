//! What the proxy counts, in Envoy's names and in Istio's.
//!
//! Every worker has [`Metrics`] of its own and is the only one that writes them, so that counting costs a load and a
//! store: no lock, no shared cache line. A scrape reads those of all workers and adds them up. What workers decide
//! together is counted under the lock that they decide under, in metrics that belong to none of them.

mod histogram;
mod istio;
mod stats;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use histogram::Histogram;
pub use istio::{CallLabels, IstioHttpStats, IstioTcpStats, Reporter, RequestLabels, Security, Service, Workload};
pub use stats::{
    ClusterStats, CorsStats, ExtAuthzStats, FaultStats, HttpStats, JwtAuthnStats, ListenerStats, OutlierStats,
    RbacStats, TcpStats,
};
pub use text::{envoy_text, prometheus_text};

/// A number that only grows. It has one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        // A plain load and store instead of an atomic addition: nobody else writes.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks. It has one writer. What one worker added another may take away: a single gauge may
/// then wrap around, but the sum over all workers is right.
#[derive(Debug, Default)]
pub struct Gauge(Counter);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.add(u64::MAX);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It may shrink.
    Gauge,
    /// Of a histogram: how many values are no greater than the bound of this number.
    Bucket(u8),
    /// Of a histogram: what all values add up to.
    Sum,
    /// Of a histogram: how many values there are.
    Count,
}

impl Kind {
    /// Whether it only grows.
    pub fn only_grows(self) -> bool {
        self != Kind::Gauge
    }

    /// Whether it is part of a histogram.
    pub fn is_of_histogram(self) -> bool {
        matches!(self, Kind::Bucket(_) | Kind::Sum | Kind::Count)
    }
}

/// Numbers of one subject, with their names.
trait Stats: Default {
    /// Tells name, kind and value of each number.
    fn visit(&self, tell: &mut dyn FnMut(&'static str, Kind, u64));
}

/// The statistics of many subjects of one sort. Those who count hold on to the [`Arc`] that they got; the lock is
/// taken when a subject is first seen, and by scrapes.
#[derive(Debug)]
pub struct Family<K, S>(Mutex<HashMap<K, Arc<S>>>);

impl<K, S> Default for Family<K, S> {
    fn default() -> Family<K, S> {
        Family(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, S: Default> Family<K, S> {
    /// The statistics of a subject, from zero if it is new.
    pub fn of(&self, subject: &K) -> Arc<S> {
        let mut subjects = self.subjects();
        match subjects.get(subject) {
            Some(stats) => stats.clone(),
            None => subjects.entry(subject.clone()).or_default().clone(),
        }
    }

    /// Forgets the subjects that are not to be kept; whoever still counts for one counts in vain.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.subjects().retain(|subject, _| keep(subject));
    }

    fn subjects(&self) -> MutexGuard<'_, HashMap<K, Arc<S>>> {
        // A panic elsewhere cannot have left a map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By `stat_prefix` of the listener.
    pub listeners: Family<Arc<str>, ListenerStats>,
    /// By `stat_name` of the cluster.
    pub clusters: Family<Arc<str>, ClusterStats>,
    /// By `stat_name` of the cluster, where outliers are detected.
    pub outliers: Family<Arc<str>, OutlierStats>,
    /// By `stat_prefix` of the TCP proxy.
    pub tcp: Family<Arc<str>, TcpStats>,
    /// By `stat_prefix` of the HTTP connection manager.
    pub http: Family<Arc<str>, HttpStats>,
    /// By `stat_prefix` of the HTTP connection manager, as with all of its filters.
    pub faults: Family<Arc<str>, FaultStats>,
    /// By the same.
    pub cors: Family<Arc<str>, CorsStats>,
    /// By the same, and the filter's own prefix.
    pub jwt_authn: Family<HttpFilterName, JwtAuthnStats>,
    /// By the same, and the filter's own prefix.
    pub ext_authz: Family<HttpFilterName, ExtAuthzStats>,
    /// By `stat_prefix` of the RBAC filter.
    pub rbac: Family<Arc<str>, RbacStats>,
    /// By the labels of Istio's TCP metrics.
    pub istio: Family<CallLabels, IstioTcpStats>,
    /// By the labels of Istio's HTTP metrics.
    pub istio_http: Family<CallLabels, IstioHttpStats>,
}

/// By what the statistics of some HTTP filters go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpFilterName {
    /// The `stat_prefix` of the connection manager.
    pub manager: Arc<str>,
    /// That of the filter; it may be empty.
    pub prefix: Arc<str>,
}

/// What a number is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The proxy as a whole; the name is whole then, such as `server.live`.
    Server,
    /// A listener, by its `stat_prefix`.
    Listener(Arc<str>),
    /// A cluster, by its `stat_name`.
    Cluster(Arc<str>),
    /// TCP proxies, by `stat_prefix`.
    Tcp(Arc<str>),
    /// HTTP connection managers, by `stat_prefix`.
    Http(Arc<str>),
    /// HTTP filters that authenticate requests.
    JwtAuthn(HttpFilterName),
    /// HTTP filters that ask somebody else.
    ExtAuthz(HttpFilterName),
    /// RBAC filters, by `stat_prefix`.
    Rbac(Arc<str>),
    /// Connections, or requests, with these labels.
    Istio(CallLabels),
}

/// A number at the time of a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What it is about.
    pub scope: Scope,
    /// Its name within the scope, such as `upstream_cx_total`.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its value.
    pub value: u64,
}

/// The numbers of all workers, added up, in the order of scope and name.
pub fn collect(workers: &[Arc<Metrics>]) -> Vec<Sample> {
    let mut sums = BTreeMap::new();
    for worker in workers {
        add(&worker.listeners, Scope::Listener, &mut sums);
        add(&worker.clusters, Scope::Cluster, &mut sums);
        add(&worker.outliers, Scope::Cluster, &mut sums);
        add(&worker.tcp, Scope::Tcp, &mut sums);
        add(&worker.http, Scope::Http, &mut sums);
        add(&worker.faults, Scope::Http, &mut sums);
        add(&worker.cors, Scope::Http, &mut sums);
        add(&worker.jwt_authn, Scope::JwtAuthn, &mut sums);
        add(&worker.ext_authz, Scope::ExtAuthz, &mut sums);
        add(&worker.rbac, Scope::Rbac, &mut sums);
        add(&worker.istio, Scope::Istio, &mut sums);
        add(&worker.istio_http, Scope::Istio, &mut sums);
    }
    let scopes = sums.into_iter().flat_map(|(scope, numbers)| {
        numbers.into_iter().map(move |((name, kind), value)| Sample { scope: scope.clone(), name, kind, value })
    });
    scopes.collect()
}

/// The numbers of each scope, by name.
type Sums = BTreeMap<Scope, BTreeMap<(&'static str, Kind), u64>>;

fn add<K: Hash + Eq + Clone, S: Stats>(family: &Family<K, S>, scope: fn(K) -> Scope, sums: &mut Sums) {
    for (subject, stats) in family.subjects().iter() {
        let numbers = sums.entry(scope(subject.clone())).or_default();
        stats.visit(&mut |name, kind, value| {
            let sum = numbers.entry((name, kind)).or_insert(0);
            *sum = sum.wrapping_add(value);
        });
    }
}
