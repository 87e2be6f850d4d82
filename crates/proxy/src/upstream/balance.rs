//! Which endpoint takes the next connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Host, Upstream};
use crate::config::LoadBalancer;

/// An endpoint that was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) host: Arc<Host>,
    /// Whether health was disregarded.
    pub(crate) panic: bool,
}

impl Upstream {
    /// The endpoint for a connection. `captured` is where it was going, if it was captured on the way: nothing else can
    /// be sent on to its original destination, or a connection to the proxy itself would go round for ever.
    pub(crate) fn choose(&self, captured: Option<SocketAddr>) -> Option<Choice> {
        if self.is_original_destination() {
            let address = crate::select::original_destination(&self.config, captured?)?;
            return Some(Choice { host: self.host_at(address), panic: false });
        }
        let members = self.members.load();
        let candidates = members.sets.candidates(fastrand::u64(..));
        let hosts = candidates.endpoints;
        let host = match self.config.load_balancer {
            LoadBalancer::RoundRobin => self.in_turn(hosts),
            LoadBalancer::LeastRequest { choices } => least_busy(hosts, choices.get()),
            LoadBalancer::Random | LoadBalancer::ClusterProvided => drawn(hosts),
        };
        host.map(|host| Choice { host: host.clone(), panic: candidates.panic })
    }

    fn in_turn<'h>(&self, hosts: &'h [Arc<Host>]) -> Option<&'h Arc<Host>> {
        at(hosts, self.turn.fetch_add(1, Ordering::Relaxed) as u64)
    }
}

fn drawn(hosts: &[Arc<Host>]) -> Option<&Arc<Host>> {
    at(hosts, fastrand::u64(..))
}

/// The endpoint that has the number among all, counted by weight and from the start again after the last.
fn at(hosts: &[Arc<Host>], number: u64) -> Option<&Arc<Host>> {
    let weight = |host: &Arc<Host>| u64::from(host.endpoint.weight.get());
    let total: u64 = hosts.iter().map(weight).sum();
    let mut rest = number.checked_rem(total)?;
    hosts.iter().find(|host| {
        let weight = weight(host);
        let found = rest < weight;
        rest = rest.saturating_sub(weight);
        found
    })
}

/// The least busy of some that are drawn, for its weight.
fn least_busy(hosts: &[Arc<Host>], choices: u32) -> Option<&Arc<Host>> {
    let load = |host: &&Arc<Host>| {
        let active = host.record.active.load(Ordering::Relaxed) + 1;
        // In 1/65536, so that small differences count.
        (active << 16) / u64::from(host.endpoint.weight.get())
    };
    (0..choices).filter_map(|_| drawn(hosts)).min_by_key(load)
}
