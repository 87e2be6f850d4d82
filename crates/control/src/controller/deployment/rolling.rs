//! How many pods of which version there may be during a rolling update, and how a change of scale is spread.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::plan::{available, replicas};
use super::revision;

/// The bounds of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// What the Deployment asks for.
    pub(super) replicas: i32,
    /// How many pods more there may be.
    pub(super) surge: i32,
    /// How many pods fewer may be available.
    pub(super) unavailable: i32,
}

/// Whether all pods are to be deleted before new ones are made.
pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

impl Bounds {
    /// Percentages of surge are rounded up and those of unavailability down; if both come to zero, one pod may be
    /// unavailable, or nothing could move.
    pub(super) fn of(deployment: &Deployment) -> Bounds {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        if is_recreate(deployment) {
            return Bounds { replicas, surge: 0, unavailable: 0 };
        }
        let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = amount(rolling.and_then(|r| r.max_surge.as_ref()), replicas, true);
        let unavailable = amount(rolling.and_then(|r| r.max_unavailable.as_ref()), replicas, false);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Bounds { replicas, surge, unavailable: unavailable.min(replicas) }
    }

    fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest pods that must be available.
    pub(super) fn least(self) -> i32 {
        self.replicas - self.unavailable
    }
}

fn amount(amount: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    let percent = match amount {
        Some(IntOrString::Int(n)) => return *n,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
        None => 25,
    };
    let product = i64::from(of) * percent;
    let rounded = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

/// How large the newest set may be now, beside the others.
pub(super) fn new_size(bounds: Bounds, recreate: bool, present: i32, all: i32) -> i32 {
    if recreate || present >= bounds.replicas {
        return bounds.replicas;
    }
    let room = bounds.most().saturating_sub(all).max(0);
    present + room.min(bounds.replicas - present)
}

/// The old sets that shrink now, with their new sizes: first by their pods that do not work anyway, then as far
/// as enough pods are available.
pub(super) fn shrink_old(bounds: Bounds, newest: &ReplicaSet, old: &[Arc<ReplicaSet>]) -> Vec<(Arc<ReplicaSet>, i32)> {
    let all: i32 = old.iter().map(|set| replicas(set)).sum::<i32>() + replicas(newest);
    let waiting = (replicas(newest) - available(newest)).max(0);
    let mut budget = all - bounds.least() - waiting;
    if budget <= 0 {
        return Vec::new();
    }
    let mut sorted: Vec<&Arc<ReplicaSet>> = old.iter().filter(|set| replicas(set) > 0).collect();
    sorted.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|t| t.0));
    let mut sizes: Vec<i32> = sorted.iter().map(|set| replicas(set)).collect();
    for (set, size) in sorted.iter().zip(&mut sizes) {
        let cut = (*size - available(set)).clamp(0, budget);
        *size -= cut;
        budget -= cut;
    }
    let working: i32 = old.iter().map(|set| available(set)).sum::<i32>() + available(newest);
    let mut spare = working - bounds.least();
    for size in &mut sizes {
        let cut = (*size).min(spare).max(0);
        *size -= cut;
        spare -= cut;
    }
    let changed = sorted.iter().zip(sizes).filter(|(set, size)| replicas(set) != *size);
    changed.map(|(set, size)| ((*set).clone(), size)).collect()
}

/// The sets whose size changes because the Deployment's did, while an update is under way: each in proportion to
/// its size.
pub(super) fn spread(bounds: Bounds, active: &[Arc<ReplicaSet>]) -> Vec<(Arc<ReplicaSet>, i32)> {
    let total: i32 = active.iter().map(|set| replicas(set)).sum();
    let allowed = if bounds.replicas > 0 { bounds.most() } else { 0 };
    let to_add = allowed - total;
    let mut sorted: Vec<&Arc<ReplicaSet>> = active.iter().collect();
    let age = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|t| t.0);
    if to_add > 0 {
        sorted.sort_by_key(|set| (Reverse(replicas(set)), Reverse(age(set))));
    } else {
        sorted.sort_by_key(|set| (Reverse(replicas(set)), age(set)));
    }
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::new();
    for set in &sorted {
        let share = share(bounds, set);
        let left = to_add - added;
        let share = if to_add > 0 { share.min(left).max(0) } else { share.max(left).min(0) };
        sizes.push(replicas(set) + share);
        added += share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    sorted.into_iter().cloned().zip(sizes).collect()
}

/// By how much a set grows (or shrinks, below zero) if all sets keep their proportions.
fn share(bounds: Bounds, set: &ReplicaSet) -> i32 {
    if bounds.replicas == 0 {
        return -replicas(set);
    }
    let before = revision::maximum(set).filter(|n| *n > 0).unwrap_or(bounds.most());
    let scaled = f64::from(replicas(set)) * f64::from(bounds.most()) / f64::from(before);
    // Rounded, a share of an i32 is an i32: `before` is at least as large as the set was.
    scaled.round() as i32 - replicas(set)
}
