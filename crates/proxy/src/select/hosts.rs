//! Which endpoints of a cluster take part, by health, priority and locality.
//!
//! The rules are Envoy's (envoyproxy.io, "Priority levels", "Panic threshold", "Locality weighted load balancing"):
//! connections go to the highest priority that is healthy enough, spill over to the next ones as it gets less healthy,
//! and disregard health where too little of it is left.

use std::num::NonZeroU32;
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
    /// The end of each one's share, and where the shares of all begin; empty if they are equal.
    ends: &'a [u64],
    start: u64,
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
    /// The end of each endpoint's share, by weight, counted through all of them.
    ends: Box<[u64]>,
    /// Whether all weights are equal.
    even: bool,
    /// Where localities are weighted.
    localities: Box<[Part]>,
}

/// A locality among [`Hosts`].
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Where it ends among the endpoints.
    end: usize,
    /// Its own weight.
    weight: u32,
    /// The end of its share of all weights, each as far as the locality is available.
    share_end: u64,
}

impl<H> Default for HostSets<H> {
    fn default() -> HostSets<H> {
        HostSets { priorities: Box::default() }
    }
}

impl<H> HostSets<H> {
    /// Prepares the endpoints of a cluster. `host` gives the caller's view of an endpoint at a priority and locality,
    /// and its health, which may be worse than configured.
    pub fn new(
        cluster: &Cluster,
        assignment: &LoadAssignment,
        host: impl Fn(usize, &LocalityEndpoints, &Arc<Endpoint>) -> (H, Health),
    ) -> HostSets<H> {
        let factor = assignment.overprovisioning;
        let localities_by = cluster.balancing.locality_weighted.then_some(factor);
        let prepare = |(priority, localities): (usize, &[LocalityEndpoints])| {
            let hosts = |keep: fn(Health) -> bool| {
                Hosts::new(localities, localities_by, |locality, endpoint| {
                    let (host, health) = host(priority, locality, endpoint);
                    keep(health).then_some(host)
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
        share(&mut priorities, factor, cluster.balancing.panic_threshold);
        HostSets { priorities }
    }

    /// Every endpoint, whatever its health.
    pub fn all(&self) -> impl Iterator<Item = &H> {
        self.priorities.iter().flat_map(|p| p.all.endpoints.iter())
    }

    /// The endpoints for a connection, by a random number that is uniform over all of `u64`.
    pub fn candidates(&self, random: u64) -> Candidates<'_, H> {
        // One number decides twice: its lower half on the priority, its upper half on the locality.
        match self.place(random & 0xffff_ffff) {
            Some((priority, hosts)) => hosts.choose(random >> 32, priority.panic),
            None => Candidates { endpoints: &[], ends: &[], start: 0, panic: false },
        }
    }

    /// The priority that takes a request with this hash, and whether health is disregarded there. Degraded endpoints
    /// bring it requests and get none: so it is with Envoy's tables.
    pub(crate) fn priority_of(&self, hash: u64) -> Option<(usize, bool)> {
        let (chosen, _) = self.place(hash)?;
        let position = self.priorities.iter().position(|p| std::ptr::eq(p, chosen))?;
        Some((position, chosen.panic))
    }

    /// How many priorities there are.
    pub(crate) fn priorities(&self) -> usize {
        self.priorities.len()
    }

    /// The endpoints at a priority that hashes are spread over, each with its share.
    pub(crate) fn shares(&self, priority: usize) -> Vec<(&H, f64)> {
        let Some(priority) = self.priorities.get(priority) else { return Vec::new() };
        if priority.panic { priority.all.shares() } else { priority.healthy.shares() }
    }

    fn place(&self, number: u64) -> Option<(&Priority<H>, &Hosts<H>)> {
        let mut percent = number % 100;
        for (degraded, priority) in [false, true].into_iter().flat_map(|d| self.priorities.iter().map(move |p| (d, p)))
        {
            let load = u64::from(if degraded { priority.load.degraded } else { priority.load.healthy });
            if percent < load {
                let hosts = match (priority.panic, degraded) {
                    (true, _) => &priority.all,
                    (false, false) => &priority.healthy,
                    (false, true) => &priority.degraded,
                };
                return Some((priority, hosts));
            }
            percent -= load;
        }
        None
    }
}

impl<'a, H> Candidates<'a, H> {
    /// Whether every endpoint has the same share.
    pub fn is_even(&self) -> bool {
        self.ends.is_empty()
    }

    /// The sum of all shares.
    pub fn total(&self) -> u64 {
        match self.ends.last() {
            Some(end) => end - self.start,
            None => self.endpoints.len() as u64,
        }
    }

    /// The endpoint that has the number among all, counted by share and from the start again after the last.
    pub fn at(&self, number: u64) -> Option<&'a H> {
        let number = number.checked_rem(self.total())?;
        let position = if self.is_even() {
            usize::try_from(number).unwrap_or_default()
        } else {
            self.ends.partition_point(|end| end - self.start <= number)
        };
        self.endpoints.get(position)
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
        let (mut endpoints, mut ends) = (Vec::new(), Vec::new());
        let mut parts = Vec::new();
        let (mut end, mut share_end) = (0_u64, 0_u64);
        let mut weights = Range::default();
        for locality in localities {
            let before = endpoints.len();
            for endpoint in &locality.endpoints {
                if let Some(host) = keep(locality, endpoint) {
                    weights.take(endpoint.weight.get());
                    end += u64::from(endpoint.weight.get());
                    ends.push(end);
                    endpoints.push(host);
                }
            }
            let (kept, all) = ((endpoints.len() - before) as u64, locality.endpoints.len().max(1) as u64);
            if let Some(factor) = factor {
                let available = (u64::from(factor) * kept * 100 / all).min(10_000);
                let weight = locality.weight.map_or(0, NonZeroU32::get);
                share_end += u64::from(weight) * available;
                parts.push(Part { end: endpoints.len(), weight, share_end });
            }
        }
        // Without any weight there is nothing to choose by.
        let localities = if share_end > 0 { parts } else { Vec::new() };
        let even = weights.is_even();
        Hosts { endpoints: endpoints.into(), ends: ends.into(), even, localities: localities.into() }
    }

    fn choose(&self, random: u64, panic: bool) -> Candidates<'_, H> {
        let Some(last) = self.localities.last() else { return self.between(0, self.endpoints.len(), panic) };
        let value = random % last.share_end.max(1);
        let chosen = self.localities.partition_point(|part| part.share_end <= value);
        let start = chosen.checked_sub(1).and_then(|before| self.localities.get(before)).map_or(0, |part| part.end);
        let end = self.localities.get(chosen).map_or(start, |part| part.end);
        self.between(start, end, panic)
    }

    fn between(&self, start: usize, end: usize, panic: bool) -> Candidates<'_, H> {
        Candidates {
            endpoints: self.endpoints.get(start..end).unwrap_or_default(),
            ends: if self.even { &[] } else { self.ends.get(start..end).unwrap_or_default() },
            start: self.share_before(start),
            panic,
        }
    }

    /// Where the share of the endpoint at a position begins.
    fn share_before(&self, position: usize) -> u64 {
        position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default()
    }

    /// Each endpoint's part of the whole: its weight within its locality, and that of the locality.
    fn shares(&self) -> Vec<(&H, f64)> {
        let everywhere = [Part { end: self.endpoints.len(), weight: 1, share_end: 1 }];
        let parts = if self.localities.is_empty() { &everywhere } else { &*self.localities };
        let whole: f64 = parts.iter().map(|part| f64::from(part.weight)).sum();
        let mut shares = Vec::new();
        let mut start = 0;
        for part in parts {
            let all = (self.share_before(part.end) - self.share_before(start)) as f64;
            let of_locality = f64::from(part.weight) / whole;
            // What has no weight is not there.
            for position in (start..part.end).filter(|_| part.weight > 0) {
                let own = (self.share_before(position + 1) - self.share_before(position)) as f64;
                shares.extend(self.endpoints.get(position).map(|host| (host, of_locality * own / all)));
            }
            start = part.end;
        }
        shares
    }
}

/// The least and the greatest of some numbers.
#[derive(Default)]
struct Range(Option<(u32, u32)>);

impl Range {
    fn take(&mut self, number: u32) {
        let (least, greatest) = self.0.unwrap_or((number, number));
        self.0 = Some((least.min(number), greatest.max(number)));
    }

    fn is_even(&self) -> bool {
        self.0.is_none_or(|(least, greatest)| least == greatest)
    }
}
