//! Requests as Istio's metrics report them.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::exchange::Exchange;
use super::peer::Introduction;
use crate::access_log::Flags;
use crate::config::http::{Action, ClusterSource};
use crate::config::{Cluster, Direction};
use crate::downstream::service_of;
use crate::metrics::{CallLabels, IstioHttpStats, Metrics, Reporter, RequestLabels, Security, Service, Workload};
use crate::upstream::Establish;

/// Clusters that stand for no service, and are reported by their names.
const NO_SERVICE: [&str; 4] =
    ["BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster", "InboundPassthroughClusterIpv4"];

/// What one worker knows of those whom it reports. What is the same has one address, so that the statistics of a request
/// are found without looking at any text.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    workloads: RefCell<HashSet<Arc<Workload>>>,
    known: RefCell<HashMap<Key, Known>>,
    introduction: OnceCell<Option<Introduction>>,
}

/// What the labels of a request are made of, by address.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    ends: (*const Workload, *const Workload),
    cluster: *const Cluster,
    reporter: Reporter,
    security: Security,
    request: RequestLabels,
    flags: Flags,
}

/// The statistics of a key, and what keeps its addresses from being used for anything else.
#[derive(Debug)]
struct Known {
    stats: Arc<IstioHttpStats>,
    _ends: (Arc<Workload>, Arc<Workload>),
    _cluster: Option<Arc<Cluster>>,
}

/// A request that has ended.
pub(super) struct Ended<'a> {
    pub(super) reporter: Reporter,
    pub(super) security: Security,
    pub(super) source: Arc<Workload>,
    pub(super) destination: Arc<Workload>,
    pub(super) cluster: Option<&'a Arc<Cluster>>,
    /// Where the request itself says that it goes.
    pub(super) authority: &'a str,
    pub(super) request: RequestLabels,
    pub(super) flags: Flags,
}

impl Reports {
    /// The one workload like this.
    pub(crate) fn intern(&self, workload: Workload) -> Arc<Workload> {
        let mut workloads = self.workloads.borrow_mut();
        if let Some(known) = workloads.get(&workload) {
            return known.clone();
        }
        let workload = Arc::new(workload);
        workloads.insert(workload.clone());
        workload
    }

    /// What this proxy says of its workload, if it has one.
    pub(crate) fn introduction(&self, own: &Workload) -> Option<&Introduction> {
        self.introduction.get_or_init(|| Introduction::of(own)).as_ref()
    }

    /// Forgets what may have gone.
    pub(crate) fn forget(&self) {
        self.known.borrow_mut().clear();
        self.workloads.borrow_mut().clear();
    }

    fn stats(&self, ended: Ended<'_>, metrics: &Metrics) -> Arc<IstioHttpStats> {
        let key = Key {
            ends: (Arc::as_ptr(&ended.source), Arc::as_ptr(&ended.destination)),
            cluster: ended.cluster.map_or(std::ptr::null(), Arc::as_ptr),
            reporter: ended.reporter,
            security: ended.security,
            request: ended.request,
            flags: ended.flags,
        };
        if let Some(known) = self.known.borrow().get(&key) {
            return known.stats.clone();
        }
        let (service, is_of_cluster) = ended.service();
        let labels = CallLabels {
            reporter: ended.reporter,
            source: ended.source.clone(),
            destination: ended.destination.clone(),
            service: Arc::new(service),
            request: Some(ended.request),
            flags: ended.flags,
            security: ended.security,
        };
        let stats = metrics.istio_http.of(&labels);
        if is_of_cluster {
            let ends = (ended.source, ended.destination);
            let known = Known { stats: stats.clone(), _ends: ends, _cluster: ended.cluster.cloned() };
            self.known.borrow_mut().insert(key, known);
        }
        stats
    }
}

impl Ended<'_> {
    /// The service that was called, and whether it follows from the cluster alone. What the control plane does not know
    /// is called what a client calls it.
    fn service(&self) -> (Service, bool) {
        let mut service = self.cluster.map(|cluster| service_of(cluster)).unwrap_or_default();
        let named = !service.host.is_empty();
        if !named {
            let cluster = self.cluster.map_or("", |cluster| &cluster.name);
            if self.reporter == Reporter::Source {
                service.host = self.authority.into();
                service.name = self.authority.into();
            }
            if NO_SERVICE.contains(&cluster) {
                service.name = cluster.into();
            }
        }
        if service.namespace.is_empty() {
            service.namespace = self.destination.namespace.clone();
        }
        (service, named || self.reporter == Reporter::Destination)
    }
}

/// How large a head is on the wire of HTTP/1, without its first line, in bytes.
pub(super) fn size(headers: &HeaderMap) -> u64 {
    const SEPARATORS: usize = ": \r\n".len();
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + SEPARATORS) as u64).sum()
}

/// Reports a request that has ended, if it is known which way it went.
pub(super) fn report(exchange: &Exchange, authority: &str, took: Duration) {
    let connection = &exchange.connection;
    let worker = &connection.worker;
    let (reports, own) = (&worker.reports, &worker.setup.workload);
    let inbound = match connection.listener.config.direction {
        Direction::Unspecified => return,
        Direction::Inbound => true,
        Direction::Outbound => false,
    };
    let meant = exchange.cluster.clone().or_else(|| meant(exchange));
    let ended = Ended {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        security: match (inbound, connection.is_secure() && !connection.identities.is_empty()) {
            (false, _) => Security::Unknown,
            (true, true) => Security::MutualTls,
            (true, false) => Security::None,
        },
        source: if inbound { connection.peer(reports) } else { exchange.own_end(reports, own) },
        destination: if inbound { connection.own_end(reports, own) } else { exchange.other_end(reports) },
        cluster: meant.as_ref().map(|cluster| &cluster.upstream.config),
        authority,
        request: RequestLabels {
            grpc: exchange.grpc,
            status: exchange.status.map_or(0, |status| status.as_u16()),
            grpc_status: exchange.grpc_status.filter(|_| exchange.grpc),
        },
        flags: exchange.flags,
    };
    let stats = reports.stats(ended, &worker.setup.metrics);
    stats.requests.inc();
    stats.duration.record(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    stats.request_bytes.record(exchange.head_sizes.0 + exchange.received());
    stats.response_bytes.record(exchange.head_sizes.1 + exchange.sent);
    if exchange.grpc {
        stats.request_messages.add(exchange.upload.as_ref().map_or(0, |upload| upload.messages()));
        stats.response_messages.add(exchange.messages.begun());
    }
}

/// Where a request would have gone that was answered here.
fn meant(exchange: &Exchange) -> Option<Rc<Establish>> {
    let found = exchange.found.as_ref()?;
    let Action::Forward(action) = &found.route.action else { return None };
    let name = match &action.cluster {
        ClusterSource::Single(name) => name,
        ClusterSource::Weighted(weighted) => &weighted.pick(found.random).cluster,
        ClusterSource::Header(_) => return None,
    };
    let worker = &exchange.connection.worker;
    worker.current().cluster(worker, name)
}
