//! Which endpoints of a cluster take part, by health, priority and locality.
//!
//! The rules are Envoy's (envoyproxy.io, "Priority levels", "Panic threshold", "Locality weighted load balancing"):
//! connections go to the highest priority that is healthy enough, spill over to the next ones as it gets less healthy,
//! and disregard health where too little of it is left.

use std::sync::Arc;

use crate::config::{Cluster, Endpoint, Health, LoadAssignment, LocalityEndpoints};

/// The endpoints of a cluster, prepared for choices. It is made anew when endpoints or their health change. `H` is what
/// the caller has for an endpoint.
#[derive(Debug, Clone)]
pub struct HostSets<H> {
    priorities: Box<[Priority<H>]>,
}

/// The endpoints among which the load balancer chooses for one connection.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a, H> {
    /// The endpoints; empty if there are none.
    pub endpoints: &'a [H],
    /// Whether health was disregarded.
    pub panic: bool,
}

#[derive(Debug, Clone)]
struct Priority<H> {
    /// The shares of all connections, in percent, that go to the healthy and to the degraded endpoints.
    load: Shares,
    panic: bool,
    healthy: Hosts<H>,
    degraded: Hosts<H>,
    all: Hosts<H>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Shares {
    healthy: u32,
    degraded: u32,
}

/// Endpoints of one priority and health, by locality.
#[derive(Debug, Clone)]
struct Hosts<H> {
    endpoints: Box<[H]>,
    /// Where localities are weighted: the end of each in `endpoints`, and the end of its share of the weights.
    localities: Box<[(usize, u64)]>,
}

impl<H> Default for HostSets<H> {
    fn default() -> HostSets<H> {
        HostSets { priorities: Box::default() }
    }
}

impl<H> HostSets<H> {
    /// Prepares the endpoints of a cluster. `host` gives the caller's view of an endpoint at a priority and locality,
    /// and whether it is not out of rotation.
    pub fn new(
        cluster: &Cluster,
        assignment: &LoadAssignment,
        host: impl Fn(usize, &LocalityEndpoints, &Arc<Endpoint>) -> (H, bool),
    ) -> HostSets<H> {
        let factor = assignment.overprovisioning;
        let localities_by = cluster.locality_weighted.then_some(factor);
        let prepare = |(priority, localities): (usize, &[LocalityEndpoints])| {
            let hosts = |keep: fn(Health) -> bool| {
                Hosts::new(localities, localities_by, |locality, endpoint| {
                    let (host, available) = host(priority, locality, endpoint);
                    keep(if available { endpoint.health } else { Health::Unhealthy }).then_some(host)
                })
            };
            Priority {
                load: Shares::default(),
                panic: false,
                healthy: hosts(|health| health == Health::Healthy),
                degraded: hosts(|health| health == Health::Degraded),
                all: hosts(|_| true),
            }
        };
        let mut priorities: Box<[Priority<H>]> =
            assignment.priorities.iter().map(AsRef::as_ref).enumerate().map(prepare).collect();
        share(&mut priorities, factor, cluster.panic_threshold);
        HostSets { priorities }
    }

    /// Every endpoint, whatever its health.
    pub fn all(&self) -> impl Iterator<Item = &H> {
        self.priorities.iter().flat_map(|p| p.all.endpoints.iter())
    }

    /// The endpoints for a connection, by a random number that is uniform over all of `u64`.
    pub fn candidates(&self, random: u64) -> Candidates<'_, H> {
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
fn share<H>(priorities: &mut [Priority<H>], factor: u32, panic_threshold: f64) {
    let percent = |part: &Hosts<H>, all: &Hosts<H>| {
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
fn share_by_size<H>(priorities: &mut [Priority<H>]) {
    let size = |p: &Priority<H>| p.all.endpoints.len();
    let total: usize = priorities.iter().map(size).sum::<usize>().max(1);
    for priority in priorities.iter_mut() {
        priority.load.healthy = u32::try_from(100 * size(priority) / total).unwrap_or(100);
    }
    give_remainder(priorities);
}

/// Each priority gets as much as its health allows of what the ones before it left; degraded endpoints come last.
fn share_by_health<H>(priorities: &mut [Priority<H>], health: &[Shares], total: u32) {
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
fn give_remainder<H>(priorities: &mut [Priority<H>]) {
    let given: u32 = priorities.iter().map(|p| p.load.healthy + p.load.degraded).sum();
    let rest = 100_u32.saturating_sub(given);
    if let Some(priority) = priorities.iter_mut().find(|p| p.load.healthy + p.load.degraded > 0) {
        let part = if priority.load.healthy > 0 { &mut priority.load.healthy } else { &mut priority.load.degraded };
        *part += rest;
    }
}

impl<H> Hosts<H> {
    /// The endpoints to keep. With `factor`, localities have their weights, which shrink with their health.
    fn new(
        localities: &[LocalityEndpoints],
        factor: Option<u32>,
        keep: impl Fn(&LocalityEndpoints, &Arc<Endpoint>) -> Option<H>,
    ) -> Hosts<H> {
        let mut endpoints = Vec::new();
        let mut shares = Vec::new();
        let mut share_end = 0_u64;
        for locality in localities {
            let before = endpoints.len();
            endpoints.extend(locality.endpoints.iter().filter_map(|e| keep(locality, e)));
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

    fn choose(&self, random: u64) -> &[H] {
        let Some((_, total)) = self.localities.last() else { return &self.endpoints };
        let value = random % (*total).max(1);
        let chosen = self.localities.partition_point(|(_, share_end)| *share_end <= value);
        let start = chosen.checked_sub(1).and_then(|before| self.localities.get(before)).map_or(0, |(end, _)| *end);
        let end = self.localities.get(chosen).map_or(start, |(end, _)| *end);
        self.endpoints.get(start..end).unwrap_or_default()
    }
}
