//! Which endpoints of a cluster take part, by health, priority and locality.
//!
//! The rules are Envoy's (envoyproxy.io, "Priority levels", "Panic threshold", "Locality weighted load balancing"):
//! connections go to the highest priority that is healthy enough, spill over to the next ones as it gets less healthy,
//! and disregard health where too little of it is left.

use std::sync::Arc;

use crate::config::{Cluster, Endpoint, Health, LoadAssignment, LocalityEndpoints};

/// The endpoints of a cluster, prepared for choices. It is made anew when endpoints or their health change.
#[derive(Debug, Clone)]
pub struct HostSets {
    priorities: Box<[Priority]>,
}

/// The endpoints among which the load balancer chooses for one connection.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// The endpoints; empty if there are none.
    pub endpoints: &'a [Arc<Endpoint>],
    /// Whether health was disregarded.
    pub panic: bool,
}

#[derive(Debug, Clone)]
struct Priority {
    /// The shares of all connections, in percent, that go to the healthy and to the degraded endpoints.
    load: Shares,
    panic: bool,
    healthy: Hosts,
    degraded: Hosts,
    all: Hosts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    healthy: u32,
    degraded: u32,
}

/// Endpoints of one priority and health, by locality.
#[derive(Debug, Clone, Default)]
struct Hosts {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Where localities are weighted: the end of each in `endpoints`, and the end of its share of the weights.
    localities: Box<[(usize, u64)]>,
}

impl HostSets {
    /// Prepares the endpoints of a cluster; `available` says which of them are not out of rotation.
    pub fn new(cluster: &Cluster, assignment: &LoadAssignment, available: impl Fn(&Endpoint) -> bool) -> HostSets {
        let health = |e: &Endpoint| if available(e) { e.health } else { Health::Unhealthy };
        let factor = assignment.overprovisioning;
        let weighted = cluster.locality_weighted;
        let mut priorities: Box<[Priority]> = assignment
            .priorities
            .iter()
            .map(|localities| Priority {
                load: Shares::default(),
                panic: false,
                healthy: Hosts::new(localities, weighted.then_some(factor), |e| health(e) == Health::Healthy),
                degraded: Hosts::new(localities, weighted.then_some(factor), |e| health(e) == Health::Degraded),
                all: Hosts::new(localities, weighted.then_some(factor), |_| true),
            })
            .collect();
        share(&mut priorities, factor, cluster.panic_threshold);
        HostSets { priorities }
    }

    /// The endpoints for a connection, by a random number that is uniform over all of `u64`.
    pub fn candidates(&self, random: u64) -> Candidates<'_> {
        // One number decides twice: its lower half on the priority, its upper half on the locality.
        let (mut percent, upper) = ((random & 0xffff_ffff) % 100, random >> 32);
        for (degraded, priority) in [false, true].into_iter().flat_map(|d| self.priorities.iter().map(move |p| (d, p)))
        {
            let load = u64::from(if degraded { priority.load.degraded } else { priority.load.healthy });
            if percent < load {
                let hosts = match (priority.panic, degraded) {
                    (true, _) => &priority.all,
                    (false, false) => &priority.healthy,
                    (false, true) => &priority.degraded,
                };
                return Candidates { endpoints: hosts.choose(upper), panic: priority.panic };
            }
            percent -= load;
        }
        Candidates { endpoints: &[], panic: false }
    }
}

/// Distributes all connections over the priorities.
fn share(priorities: &mut [Priority], factor: u32, panic_threshold: f64) {
    let percent = |part: &Hosts, all: &Hosts| {
        let (part, all) = (part.endpoints.len() as u64, all.endpoints.len().max(1) as u64);
        u32::try_from((u64::from(factor) * part / all).min(100)).unwrap_or(100)
    };
    let health: Vec<Shares> = priorities
        .iter()
        .map(|p| Shares { healthy: percent(&p.healthy, &p.all), degraded: percent(&p.degraded, &p.all) })
        .collect();
    let total = health.iter().map(|h| h.healthy + h.degraded).sum::<u32>().min(100);
    for priority in priorities.iter_mut() {
        let usable = priority.healthy.endpoints.len() + priority.degraded.endpoints.len();
        let share = 100.0 * usable as f64 / priority.all.endpoints.len().max(1) as f64;
        priority.panic = total != 100 && share < panic_threshold;
    }
    if priorities.iter().all(|p| p.panic) {
        share_by_size(priorities);
    } else {
        share_by_health(priorities, &health, total);
    }
}

/// Where all priorities panic, each gets as much as it has endpoints.
fn share_by_size(priorities: &mut [Priority]) {
    let size = |p: &Priority| p.all.endpoints.len();
    let total: usize = priorities.iter().map(size).sum::<usize>().max(1);
    for priority in priorities.iter_mut() {
        priority.load.healthy = u32::try_from(100 * size(priority) / total).unwrap_or(100);
    }
    give_remainder(priorities);
}

/// Each priority gets as much as its health allows of what the ones before it left; degraded endpoints come last.
fn share_by_health(priorities: &mut [Priority], health: &[Shares], total: u32) {
    let mut remaining = 100;
    let mut take = |health: u32| {
        let load = (health * 100).checked_div(total).unwrap_or(0).min(remaining);
        remaining -= load;
        load
    };
    for (priority, health) in priorities.iter_mut().zip(health) {
        priority.load.healthy = take(health.healthy);
    }
    for (priority, health) in priorities.iter_mut().zip(health) {
        priority.load.degraded = take(health.degraded);
    }
    give_remainder(priorities);
}

/// Gives what rounding lost to the first priority that has anything.
fn give_remainder(priorities: &mut [Priority]) {
    let given: u32 = priorities.iter().map(|p| p.load.healthy + p.load.degraded).sum();
    let rest = 100_u32.saturating_sub(given);
    if let Some(priority) = priorities.iter_mut().find(|p| p.load.healthy + p.load.degraded > 0) {
        let part = if priority.load.healthy > 0 { &mut priority.load.healthy } else { &mut priority.load.degraded };
        *part += rest;
    }
}

impl Hosts {
    /// The endpoints to keep. With `factor`, localities have their weights, which shrink with their health.
    fn new(localities: &[LocalityEndpoints], factor: Option<u32>, keep: impl Fn(&Endpoint) -> bool) -> Hosts {
        let mut endpoints = Vec::new();
        let mut shares = Vec::new();
        let mut share_end = 0_u64;
        for locality in localities {
            let before = endpoints.len();
            endpoints.extend(locality.endpoints.iter().filter(|e| keep(e)).cloned());
            let (kept, all) = ((endpoints.len() - before) as u64, locality.endpoints.len().max(1) as u64);
            if let Some(factor) = factor {
                let available = (u64::from(factor) * kept * 100 / all).min(10_000);
                share_end += locality.weight.map_or(0, |w| u64::from(w.get())) * available;
                shares.push((endpoints.len(), share_end));
            }
        }
        // Without any weight there is nothing to choose by.
        let localities = if share_end > 0 { shares } else { Vec::new() };
        Hosts { endpoints: endpoints.into(), localities: localities.into() }
    }

    fn choose(&self, random: u64) -> &[Arc<Endpoint>] {
        let Some((_, total)) = self.localities.last() else { return &self.endpoints };
        let value = random % (*total).max(1);
        let chosen = self.localities.partition_point(|(_, share_end)| *share_end <= value);
        let start = chosen.checked_sub(1).and_then(|before| self.localities.get(before)).map_or(0, |(end, _)| *end);
        let end = self.localities.get(chosen).map_or(start, |(end, _)| *end);
        self.endpoints.get(start..end).unwrap_or_default()
    }
}
