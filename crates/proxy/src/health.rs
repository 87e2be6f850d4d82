//! Endpoints are asked whether they are well, each at its own times, by the one worker that does so for all.
//!
//! The rules are Envoy's (envoyproxy.io, "Health checking"): an endpoint is unhealthy until it has answered once, and the
//! first answer counts for all.

mod probe;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::metrics::ClusterStats;
use crate::upstream::{Establish, Host, HostRecord, Verdict};
use crate::worker::Worker;
use probe::{Finding, Prober};
use session::{Session, Turn};

/// Keeps a task for each endpoint of a cluster, until the cluster has gone or asks nobody any more.
pub(crate) async fn watch(worker: Rc<Worker>, name: Arc<str>) {
    let mut tasks: HashMap<SocketAddr, (Arc<HostRecord>, AbortOnDropHandle<()>)> = HashMap::new();
    loop {
        let Some(cluster) = worker.current().cluster(&worker, &name) else { return };
        let hosts = cluster.upstream.hosts();
        let asked: HashMap<SocketAddr, &Arc<Host>> =
            hosts.iter().filter(|host| !host.endpoint.check.disabled).map(|host| (host.address, host)).collect();
        tasks.retain(|address, (record, _)| asked.get(address).is_some_and(|host| Arc::ptr_eq(&host.record, record)));
        for (address, host) in asked {
            tasks.entry(address).or_insert_with(|| {
                let task = tokio::task::spawn_local(ask(worker.clone(), name.clone(), host.record.clone()));
                (host.record.clone(), AbortOnDropHandle::new(task))
            });
        }
        let usage = cluster.upstream.usage.clone();
        drop((hosts, cluster));
        usage.moved.notified().await;
    }
}

/// Asks an endpoint again and again.
async fn ask(worker: Rc<Worker>, name: Arc<str>, record: Arc<HostRecord>) {
    let (mut session, mut prober) = (Session::new(record.verdict()), Prober::default());
    let mut first = true;
    loop {
        let Some(cluster) = worker.current().cluster(&worker, &name) else { return };
        let Some(check) = cluster.upstream.config.health_check.clone() else { return };
        if std::mem::take(&mut first) {
            tokio::time::sleep(session::drawn(check.initial_jitter, fastrand::u64(..))).await;
        }
        let Some(host) = cluster.upstream.hosts().into_iter().find(|host| Arc::ptr_eq(&host.record, &record)) else {
            return;
        };
        let finding = prober.ask(&cluster.upstream, &host, &check).await;
        count(&cluster.stats, finding);
        let turn = session.note(&check, finding);
        note(&cluster, &host, finding, turn);
        let used = cluster.upstream.usage.used.load(Ordering::Relaxed);
        let pause = session::pause(&check, finding.is_good(), turn, used, fastrand::u64(..));
        drop((cluster, host));
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
    }
}

/// Puts what was found in force.
fn note(cluster: &Establish, host: &Host, finding: Finding, turn: Turn) {
    let before = host.record.verdict();
    let verdict = match (finding, turn, before) {
        (Finding::Degraded, Turn::Changed, _) | (Finding::Degraded, _, Verdict::Healthy) => Verdict::Degraded,
        (Finding::Good, Turn::Changed, _) | (Finding::Good, _, Verdict::Degraded) => Verdict::Healthy,
        (_, Turn::Changed, _) | (_, _, Verdict::Unknown) if !finding.is_good() => Verdict::Unhealthy,
        (_, _, before) => before,
    };
    if verdict != before {
        let name = &cluster.upstream.config.name;
        tracing::info!(cluster = %name, endpoint = %host.address, ?verdict, "an endpoint was found otherwise than before");
    }
    cluster.upstream.found(&host.record, verdict, finding.is_good());
}

fn count(stats: &ClusterStats, finding: Finding) {
    stats.health_check_attempt.inc();
    match finding {
        Finding::Good | Finding::Degraded => stats.health_check_success.inc(),
        Finding::Bad | Finding::Worse => stats.health_check_failure.inc(),
        Finding::Unreachable => {
            stats.health_check_failure.inc();
            stats.health_check_network_failure.inc();
        }
    }
}
