//! Clusters at work: their endpoints, limits and TLS contexts, shared by all workers.

mod balance;
mod breaker;
mod connect;
mod greeting;
mod hashing;
mod members;
mod names;
mod outlier;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Snapshot;
use crate::config::{
    Cluster, Discovery, Endpoint, EndpointAddress, EndpointCheck, Health, LoadAssignment, Locality, LocalityEndpoints,
    OutlierDetection, Socket, UpstreamTls,
};
use crate::metrics::{Metrics, OutlierStats};
use crate::select::HostSets;
use crate::tls::{ClientTls, Secrets};

pub(crate) use balance::LbContext;
pub(crate) use breaker::{Carried, UnderWay};
pub(crate) use connect::{ConnectError, Connected, Establish, Pending, connect, dial, open};
pub(crate) use greeting::Greeting;
use members::Members;
pub(crate) use names::{is_resolved, resolve};
pub(crate) use outlier::Outcome;
use outlier::{Detector, Monitor, Now};

/// A cluster at work. A change of its configuration, its endpoints or its secrets makes another one, which takes over
/// what is under way.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) config: Arc<Cluster>,
    pub(crate) usage: Arc<Usage>,
    members: ArcSwap<Members>,
    /// In the order of [`Cluster::sockets`].
    transports: Arc<[Transport]>,
    turn: AtomicU64,
}

/// What is under way, in all workers.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Open connections, and those that are being opened.
    pub(crate) connections: AtomicU32,
    /// Those that are being opened.
    pub(crate) pending: AtomicU32,
    /// Requests, from when they get a connection.
    pub(crate) requests: AtomicU32,
    /// Those that are not sent for the first time.
    pub(crate) retries: AtomicU32,
    /// Whether there was ever a connection.
    pub(crate) used: AtomicBool,
    /// Tells who asks endpoints for their health that there are others.
    pub(crate) moved: Notify,
    /// What outlier detection counts, once there is some. Who holds the lock on the records writes it.
    outliers: OnceLock<Arc<OutlierStats>>,
    /// What is known of the endpoints.
    records: Mutex<HashMap<SocketAddr, Arc<HostRecord>>>,
    /// The cluster as it is now.
    current: Mutex<Weak<Upstream>>,
}

/// An endpoint at an address.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) address: SocketAddr,
    pub(crate) priority: usize,
    pub(crate) locality: Locality,
    pub(crate) record: Arc<HostRecord>,
    /// Since when it takes part.
    since: Instant,
    pub(crate) transport: usize,
}

/// What has become of connections and requests to an address.
#[derive(Debug, Default)]
pub(crate) struct HostRecord {
    pub(crate) active: AtomicU64,
    pub(crate) total: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Requests that are under way, and connections that are passed on as they are.
    pub(crate) requests: AtomicU64,
    /// Ends connections, where the cluster wants that, when the endpoint goes.
    pub(crate) gone: CancellationToken,
    /// Ends connections, where the cluster wants that, when the endpoint goes out of rotation.
    pub(crate) fell: Notify,
    ejected: AtomicBool,
    /// What it has answered, where it is asked for its health.
    verdict: AtomicU8,
    monitor: Monitor,
    since: OnceLock<Instant>,
}

impl HostRecord {
    /// Whether the endpoint is out of rotation for its failures.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// What the endpoint has answered when it was asked for its health.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            1 => Verdict::Healthy,
            2 => Verdict::Degraded,
            3 => Verdict::Unhealthy,
            _ => Verdict::Unknown,
        }
    }

    /// The endpoint's health, as far as it is not worse than configured; what it answers counts where it is asked.
    fn health(&self, configured: Health, asked: bool) -> Health {
        match (configured, self.verdict()) {
            _ if self.is_ejected() => Health::Unhealthy,
            (Health::Unhealthy, _) => Health::Unhealthy,
            (configured, _) if !asked => configured,
            (_, Verdict::Unknown | Verdict::Unhealthy) => Health::Unhealthy,
            (_, Verdict::Degraded) => Health::Degraded,
            (configured, Verdict::Healthy) => configured,
        }
    }
}

/// What an endpoint has answered when it was asked for its health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not asked, or has not answered.
    #[default]
    Unknown = 0,
    Healthy = 1,
    Degraded = 2,
    Unhealthy = 3,
}

impl Usage {
    /// An endpoint goes.
    fn forget(&self, record: &HostRecord) {
        record.gone.cancel();
        self.readmit(record);
    }

    /// An endpoint is out of rotation no more.
    fn readmit(&self, record: &HostRecord) {
        let ejected = record.ejected.swap(false, Ordering::Relaxed);
        if let Some(stats) = self.outliers.get().filter(|_| ejected) {
            stats.ejections_active.dec();
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let records = std::mem::take(self.records.get_mut().unwrap_or_else(PoisonError::into_inner));
        records.values().for_each(|record| self.forget(record));
    }
}

/// How bytes travel to some endpoints.
#[derive(Debug)]
pub(crate) enum Transport {
    Raw,
    /// The context is made when it is first needed: of a thousand clusters most are never used.
    Tls {
        context: Arc<UpstreamTls>,
        secrets: Secrets,
        ready: OnceLock<ClientTls>,
    },
}

impl Transport {
    pub(crate) fn tls(&self) -> Option<&ClientTls> {
        match self {
            Transport::Raw => None,
            Transport::Tls { context, secrets, ready } => Some(ready.get_or_init(|| ClientTls::new(context, secrets))),
        }
    }
}

impl Upstream {
    /// The cluster as it is in `snapshot`; `last` is what it was before, and stays if nothing has changed.
    pub(crate) fn next(
        last: Option<&Arc<Upstream>>,
        config: &Arc<Cluster>,
        snapshot: &Snapshot,
        metrics: &Metrics,
    ) -> Arc<Upstream> {
        let same = last.filter(|l| Arc::ptr_eq(&l.config, config));
        let configured = snapshot.endpoints_of(config);
        let transports = same.filter(|l| l.has_the_secrets_of(snapshot)).map(|l| l.transports.clone());
        if let (Some(last), Some(_)) = (same, &transports) {
            let unchanged = match (is_resolved(config), configured) {
                (true, _) => true,
                (false, Some(configured)) => Arc::ptr_eq(&last.members.load().assignment, configured),
                (false, None) => last.members.load().assignment.priorities.is_empty(),
            };
            if unchanged {
                return last.clone();
            }
        }
        // Names that are already resolved stay so until DNS says otherwise.
        let resolved = last.filter(|l| l.config.discovery == config.discovery && is_resolved(config));
        let assignment = match resolved {
            Some(last) => last.members.load().assignment.clone(),
            None => configured.cloned().unwrap_or_default(),
        };
        let upstream = Upstream {
            config: config.clone(),
            usage: last.map(|l| l.usage.clone()).unwrap_or_default(),
            members: ArcSwap::from_pointee(Members::default()),
            transports: transports.unwrap_or_else(|| transports_of(config, snapshot)),
            turn: AtomicU64::new(fastrand::u64(..)),
        };
        if config.outlier_detection.is_some() {
            upstream.usage.outliers.get_or_init(|| metrics.outliers.of(&config.stat_name));
        }
        upstream.replace(assignment);
        let upstream = Arc::new(upstream);
        *lock(&upstream.usage.current) = Arc::downgrade(&upstream);
        upstream
    }

    fn has_the_secrets_of(&self, snapshot: &Snapshot) -> bool {
        self.transports.iter().all(|transport| match transport {
            Transport::Raw => true,
            Transport::Tls { context, secrets, .. } => secrets.are(&Secrets::of(&context.settings, snapshot)),
        })
    }

    /// Whether connections go where they were going before they were captured.
    pub(crate) fn is_original_destination(&self) -> bool {
        matches!(self.config.discovery, Discovery::OriginalDst { .. })
    }

    /// Every endpoint that has an address.
    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        self.members.load().sets.all().cloned().collect()
    }

    pub(crate) fn transport(&self, host: &Host) -> &Transport {
        self.transports.get(host.transport).unwrap_or(&Transport::Raw)
    }

    /// The endpoint of an `ORIGINAL_DST` cluster.
    pub(crate) fn host_at(&self, address: SocketAddr) -> Arc<Host> {
        let endpoint = Endpoint {
            address: EndpointAddress::Ip(address),
            hostname: "".into(),
            weight: std::num::NonZeroU32::MIN,
            health: Health::Healthy,
            metadata: crate::config::Metadata::default(),
            check: EndpointCheck::default(),
        };
        Arc::new(Host {
            endpoint: Arc::new(endpoint),
            address,
            priority: 0,
            locality: Locality::default(),
            record: Arc::default(),
            since: Instant::now(),
            transport: self.config.socket_matches.len(),
        })
    }

    /// Takes other endpoints, all of them with addresses.
    pub(crate) fn replace(&self, assignment: Arc<LoadAssignment>) {
        let mut records = lock(&self.usage.records);
        let addresses = assignment.endpoints().filter_map(|(_, _, e)| address(e));
        let mut kept = HashMap::new();
        for address in addresses {
            kept.entry(address).or_insert_with(|| records.remove(&address).unwrap_or_default());
        }
        std::mem::replace(&mut *records, kept).values().for_each(|record| self.usage.forget(record));
        if self.config.outlier_detection.is_none() {
            // Nobody would let them back.
            records.values().for_each(|record| self.usage.readmit(record));
        }
        self.rebuild(assignment, &records);
        self.usage.moved.notify_one();
    }

    /// Whether an endpoint is asked for its health.
    pub(crate) fn is_asked(&self, endpoint: &Endpoint) -> bool {
        self.config.health_check.is_some() && !endpoint.check.disabled
    }

    /// Notes what an endpoint was found to be like, and whether its last answer was good.
    pub(crate) fn found(&self, record: &HostRecord, verdict: Verdict, good: bool) {
        let comes_back = |detection: &OutlierDetection| detection.readmit_on_health && good && record.is_ejected();
        let readmitted = self.config.outlier_detection.as_ref().is_some_and(comes_back);
        if record.verdict() == verdict && !readmitted {
            return;
        }
        let Some(current) = lock(&self.usage.current).upgrade() else { return };
        let records = lock(&current.usage.records);
        if readmitted {
            self.usage.readmit(record);
        }
        record.verdict.store(verdict as u8, Ordering::Relaxed);
        let assignment = current.members.load().assignment.clone();
        current.rebuild(assignment, &records);
        if verdict == Verdict::Unhealthy {
            record.fell.notify_waiters();
        }
    }

    /// Notes what came of a connection or a request to an endpoint, which may go out of rotation for it.
    pub(crate) fn report(&self, host: &Host, outcome: Outcome) {
        let Some(detection) = &self.config.outlier_detection else { return };
        let causes = host.record.monitor.note(detection, outcome);
        if causes.iter().any(Option::is_some) {
            self.detect(|detector| detector.act(&host.record, causes));
        }
    }

    /// Looks over what outlier detection knows, as is to be done once in each of its intervals.
    pub(crate) fn look_over(&self) {
        self.detect(|detector| detector.look_over());
    }

    /// Lets outlier detection decide about the endpoints that the cluster has now. They are prepared anew if `decide`
    /// says that one was taken out of rotation or came back.
    fn detect(&self, decide: impl FnOnce(&Detector<'_>) -> bool) {
        let Some(current) = lock(&self.usage.current).upgrade() else { return };
        let records = lock(&current.usage.records);
        let (Some(detection), Some(stats)) = (&current.config.outlier_detection, current.usage.outliers.get()) else {
            return;
        };
        let all: Vec<Arc<HostRecord>> = records.values().cloned().collect();
        if decide(&Detector { detection, stats, records: &all, now: Now::real() }) {
            let assignment = current.members.load().assignment.clone();
            current.rebuild(assignment, &records);
        }
    }

    /// The caller holds the lock, so that two changes at once are not lost.
    fn rebuild(&self, assignment: Arc<LoadAssignment>, records: &HashMap<SocketAddr, Arc<HostRecord>>) {
        let host = |priority: usize, locality: &LocalityEndpoints, endpoint: &Arc<Endpoint>| {
            let address = address(endpoint).expect("endpoints without an address were left out");
            let record = records.get(&address).cloned().unwrap_or_default();
            let since = *record.since.get_or_init(Instant::now);
            let health = record.health(endpoint.health, self.is_asked(endpoint));
            let (socket, _) = self.config.socket_for(endpoint);
            let transport = self.config.sockets().position(|s| std::ptr::eq(s, socket)).unwrap_or_default();
            let (endpoint, locality) = (endpoint.clone(), locality.locality.clone());
            (Arc::new(Host { endpoint, address, priority, locality, record, since, transport }), health)
        };
        let sets = HostSets::new(&self.config, &with_addresses_only(&assignment), host);
        self.members.store(Arc::new(Members::new(&self.config, assignment, sets)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot have left it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(endpoint: &Endpoint) -> Option<SocketAddr> {
    match endpoint.address {
        EndpointAddress::Ip(address) => Some(address),
        EndpointAddress::Name { .. } => None,
    }
}

/// The assignment without endpoints whose names have not been resolved.
fn with_addresses_only(assignment: &Arc<LoadAssignment>) -> Arc<LoadAssignment> {
    let is_name = |e: &Arc<Endpoint>| address(e).is_none();
    if !assignment.endpoints().any(|(_, _, e)| is_name(e)) {
        return assignment.clone();
    }
    let mut known = LoadAssignment::clone(assignment);
    for locality in known.priorities.iter_mut().flat_map(|p| p.iter_mut()) {
        locality.endpoints = locality.endpoints.iter().filter(|e| !is_name(e)).cloned().collect();
    }
    Arc::new(known)
}

fn transports_of(config: &Cluster, snapshot: &Snapshot) -> Arc<[Transport]> {
    let transport = |socket: &Socket| match socket {
        Socket::Raw => Transport::Raw,
        Socket::Tls(context) => Transport::Tls {
            context: context.clone(),
            secrets: Secrets::of(&context.settings, snapshot),
            ready: OnceLock::new(),
        },
    };
    config.sockets().map(transport).collect()
}
