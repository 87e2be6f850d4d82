//! Which endpoint takes the next connection or request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Host, Members, Upstream};
use crate::config::{LoadBalancer, SlowStart};
use crate::select::Candidates;

/// The fractional part of the golden ratio, in 1/2^64: its multiples are spread more evenly than those of any other
/// number.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is known of a connection or a request whose endpoint is to be chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LbContext<'a> {
    /// Its hash, where hashes decide.
    pub(crate) hash: Option<u64>,
    /// Endpoints that should not be chosen again.
    pub(crate) tried: &'a [SocketAddr],
    /// How often to choose again because of them; then one of them is taken.
    pub(crate) reselections: u32,
    /// Where it was going, if it was captured on the way: nothing else can be sent on to its original destination, or
    /// a connection to the proxy itself would go round for ever.
    pub(crate) captured: Option<SocketAddr>,
}

/// An endpoint that was chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) host: Arc<Host>,
    /// Whether health was disregarded.
    pub(crate) panic: bool,
}

impl Upstream {
    /// The endpoint for a connection or a request.
    pub(crate) fn choose(&self, context: &LbContext<'_>) -> Option<Choice> {
        if self.is_original_destination() {
            let address = crate::select::original_destination(&self.config, context.captured?)?;
            return Some(Choice { host: self.host_at(address), panic: false });
        }
        let members = self.members.load();
        let hash = context.hash.unwrap_or_else(|| fastrand::u64(..));
        let choose = |attempt| match self.config.load_balancer.hashes() {
            true => members.by_hash(&self.config, hash, attempt),
            false => self.by_turn_or_chance(&members),
        };
        let mut chosen = choose(0)?;
        for attempt in 1..=context.reselections {
            if !context.tried.contains(&chosen.host.address) {
                break;
            }
            chosen = choose(attempt)?;
        }
        Some(chosen)
    }

    fn by_turn_or_chance(&self, members: &Members) -> Option<Choice> {
        let candidates = members.sets.candidates(fastrand::u64(..));
        let starting = self.config.load_balancer.slow_start().zip(members.slow_until);
        let starting =
            starting.map(|(slow, until)| (slow, until, Instant::now())).filter(|(_, until, now)| now < until);
        let weight = |host: &Host| {
            let weight = f64::from(host.endpoint.weight.get());
            starting.map_or(weight, |(slow, _, now)| weight * slow.part(now.saturating_duration_since(host.since)))
        };
        let host = match self.config.load_balancer {
            LoadBalancer::RoundRobin { .. } if starting.is_some() => {
                drawn(candidates.endpoints, self.turn().wrapping_mul(GOLDEN), weight)
            }
            LoadBalancer::RoundRobin { .. } => in_turn(&candidates, self.turn()),
            LoadBalancer::LeastRequest { choices, .. } if starting.is_none() && candidates.is_even() => {
                least_busy(candidates.endpoints, choices.get())
            }
            LoadBalancer::LeastRequest { bias, .. } => {
                let weight = |host: &Host| weight(host) / busyness(host).powf(bias);
                drawn(candidates.endpoints, fastrand::u64(..), weight)
            }
            _ => at_random(candidates.endpoints),
        };
        host.map(|host| Choice { host: host.clone(), panic: candidates.panic })
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl SlowStart {
    /// The part of its weight that an endpoint has so long after it came.
    fn part(&self, age: Duration) -> f64 {
        let SlowStart { window, aggression, minimum } = *self;
        let time = age.max(Duration::from_millis(1)).as_secs_f64() / window.as_secs_f64();
        if time >= 1.0 { 1.0 } else { time.powf(aggression.recip()).max(minimum) }
    }
}

/// How many requests the endpoint would have under way with another one.
fn busyness(host: &Host) -> f64 {
    (host.record.requests.load(Ordering::Relaxed) + 1) as f64
}

/// The endpoint whose turn it is. Heavier ones come more often, but not in a row.
fn in_turn<'h>(candidates: &Candidates<'h, Arc<Host>>, turn: u64) -> Option<&'h Arc<Host>> {
    if candidates.is_even() {
        return candidates.at(turn);
    }
    let position = (u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(candidates.total())) >> 64;
    candidates.at(u64::try_from(position).unwrap_or_default())
}

fn at_random(hosts: &[Arc<Host>]) -> Option<&Arc<Host>> {
    let position = fastrand::u64(..).checked_rem(hosts.len() as u64)?;
    hosts.get(usize::try_from(position).ok()?)
}

/// The least busy of some that are drawn.
fn least_busy(hosts: &[Arc<Host>], choices: u32) -> Option<&Arc<Host>> {
    let drawn = (0..choices).filter_map(|_| at_random(hosts));
    drawn.min_by_key(|host| host.record.requests.load(Ordering::Relaxed))
}

/// The endpoint at a position among all, in 1/2^64 of the sum of their weights.
fn drawn(hosts: &[Arc<Host>], position: u64, weight: impl Fn(&Host) -> f64) -> Option<&Arc<Host>> {
    let total: f64 = hosts.iter().map(|host| weight(host)).sum();
    let mut rest = position as f64 / 2_f64.powi(64) * total;
    let found = hosts.iter().find(|host| {
        rest -= weight(host);
        rest < 0.0
    });
    // Rounding may leave a rest after the last.
    found.or(hosts.last())
}

#[cfg(test)]
mod tests;
