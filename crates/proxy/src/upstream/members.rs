//! The endpoints of a cluster, ready for choices.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::Host;
use super::balance::Choice;
use super::hashing::Table;
use crate::config::{Cluster, LoadAssignment};
use crate::select::HostSets;

/// Where the metadata of endpoints hold the text that hashes place them by.
const HASH_KEY: (&str, &str) = ("envoy.lb", "hash_key");

/// The endpoints of a cluster, ready for choices.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) assignment: Arc<LoadAssignment>,
    pub(super) sets: HostSets<Arc<Host>>,
    /// When the last of those that start slowly has its whole share.
    pub(super) slow_until: Option<Instant>,
    /// By priority. A table is made when it is first needed: most endpoints come and go unseen.
    tables: Box<[OnceLock<Placed>]>,
}

/// Endpoints by hash.
#[derive(Debug)]
struct Placed {
    hosts: Box<[Arc<Host>]>,
    table: Option<Table>,
}

impl Members {
    pub(super) fn new(cluster: &Cluster, assignment: Arc<LoadAssignment>, sets: HostSets<Arc<Host>>) -> Members {
        let slow = cluster.load_balancer.slow_start();
        let slow_until = slow.and_then(|slow| sets.all().map(|host| host.since + slow.window).max());
        let tables = (0..sets.priorities()).map(|_| OnceLock::new()).collect();
        Members { assignment, sets, slow_until, tables }
    }

    /// The endpoint that a hash leads to.
    pub(super) fn by_hash(&self, cluster: &Cluster, hash: u64, attempt: u32) -> Option<Choice> {
        let (priority, panic) = self.sets.priority_of(hash)?;
        let placed = self.tables.get(priority)?.get_or_init(|| self.place(cluster, priority));
        let host = placed.hosts.get(placed.table.as_ref()?.at(hash, attempt)?)?;
        Some(Choice { host: host.clone(), panic })
    }

    fn place(&self, cluster: &Cluster, priority: usize) -> Placed {
        let shares = self.sets.shares(priority);
        let keys: Vec<String> = shares.iter().map(|(host, _)| key(cluster, host)).collect();
        let members: Vec<(&str, f64)> =
            keys.iter().zip(&shares).map(|(key, (_, part))| (key.as_str(), *part)).collect();
        Placed {
            table: Table::new(&cluster.load_balancer, &members),
            hosts: shares.into_iter().map(|(host, _)| host.clone()).collect(),
        }
    }
}

/// What hashes place an endpoint by.
fn key(cluster: &Cluster, host: &Host) -> String {
    let (filter, name) = HASH_KEY;
    match host.endpoint.metadata.text(filter, name).filter(|key| !key.is_empty()) {
        Some(key) => key.to_owned(),
        None if cluster.balancing.hash_by_hostname && !host.endpoint.hostname.is_empty() => {
            host.endpoint.hostname.to_string()
        }
        None => host.address.to_string(),
    }
}
