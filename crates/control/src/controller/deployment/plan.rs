//! What a Deployment needs next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::revision::{self, Annotations};
use super::rolling::{self, Bounds};
use super::status;

/// A Deployment and all that belongs to it, at one moment.
pub(super) struct Snapshot<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) sets: &'a [Arc<ReplicaSet>],
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) now: Timestamp,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Create(Box<ReplicaSet>),
    Scale {
        set: Arc<ReplicaSet>,
        replicas: i32,
        annotations: Annotations,
    },
    /// Also brings `minReadySeconds` up to date.
    AnnotateSet {
        set: Arc<ReplicaSet>,
        annotations: Annotations,
    },
    Delete(Arc<ReplicaSet>),
    /// Records the newest revision on the Deployment.
    SetRevision(i64),
}

/// What to do, in order, what to report then, and when to look again if nothing changes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: DeploymentStatus,
    pub(super) again: Option<Duration>,
}

/// Which step the Deployment is at.
struct Step<'a> {
    snapshot: &'a Snapshot<'a>,
    bounds: Bounds,
    /// The set of the present template.
    newest: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    actions: Vec<Action>,
}

/// What a set asks for.
pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many pods of a set are available.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// Decides.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut step = Step::new(snapshot);
    let is_paused = snapshot.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if snapshot.deployment.metadata.deletion_timestamp.is_none() {
        if is_paused || step.is_rescaled() {
            step.rescale();
        } else if rolling::is_recreate(snapshot.deployment) {
            step.recreate();
        } else {
            step.roll();
        }
        step.clean_up();
    }
    let created = step.actions.iter().find_map(|action| match action {
        Action::Create(set) => Some(set.name_any()),
        _ => None,
    });
    let (status, again) = status::of(snapshot, step.bounds, step.newest.as_deref(), created.as_deref());
    Plan { actions: step.actions, status, again }
}

impl<'a> Step<'a> {
    fn new(snapshot: &'a Snapshot<'a>) -> Step<'a> {
        let mut sets = snapshot.sets.to_vec();
        sets.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|t| t.0), set.name_any()));
        let newest = sets.iter().find(|set| revision::same_template(set, snapshot.deployment)).cloned();
        let old = sets.into_iter().filter(|set| Some(set.name_any()) != newest.as_ref().map(|n| n.name_any()));
        let bounds = Bounds::of(snapshot.deployment);
        Step { snapshot, bounds, old: old.collect(), newest, actions: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.newest)
    }

    fn active(&self) -> Vec<Arc<ReplicaSet>> {
        self.all().filter(|set| replicas(set) > 0).cloned().collect()
    }

    /// Whether the Deployment has been scaled since its sets were.
    fn is_rescaled(&self) -> bool {
        self.active().iter().any(|set| revision::desired(set).is_some_and(|n| n != self.bounds.replicas))
    }

    fn scale(&mut self, set: &Arc<ReplicaSet>, replicas_now: i32) {
        let mut annotations = set.annotations().clone();
        revision::record_size(&mut annotations, self.bounds.replicas, self.bounds.surge);
        if replicas(set) != replicas_now || annotations != *set.annotations() {
            self.actions.push(Action::Scale { set: set.clone(), replicas: replicas_now, annotations });
        }
    }

    /// Follows a change of `spec.replicas`, without going on with an update.
    fn rescale(&mut self) {
        let active = self.active();
        let only = match active.as_slice() {
            [one] => Some(one.clone()),
            [] => self.newest.clone().or_else(|| self.old.last().cloned()),
            _ => None,
        };
        if let Some(set) = only {
            return self.scale(&set, self.bounds.replicas);
        }
        if let Some(newest) = self.newest.clone().filter(|set| self.is_saturated(set)) {
            self.scale(&newest, self.bounds.replicas);
            for set in active.iter().filter(|set| set.name_any() != newest.name_any()) {
                self.scale(set, 0);
            }
        } else if rolling::is_recreate(self.snapshot.deployment) {
            if let Some(newest) = self.newest.clone() {
                self.scale(&newest, self.bounds.replicas);
            }
        } else {
            for (set, size) in rolling::spread(self.bounds, &active) {
                self.scale(&set, size);
            }
        }
    }

    fn is_saturated(&self, set: &ReplicaSet) -> bool {
        let wanted = self.bounds.replicas;
        replicas(set) == wanted && revision::desired(set) == Some(wanted) && available(set) == wanted
    }

    /// Old pods go first, all of them; then the new ones come.
    fn recreate(&mut self) {
        let old: Vec<_> = self.old.iter().filter(|set| replicas(set) > 0).cloned().collect();
        if !old.is_empty() {
            old.iter().for_each(|set| self.scale(set, 0));
            return;
        }
        let owners: Vec<Option<String>> = self.old.iter().map(|set| set.uid()).collect();
        let lives = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let owner = crate::ownership::controller(pod).map(|owner| owner.uid.clone());
            owners.contains(&owner) && !matches!(phase, Some("Succeeded" | "Failed"))
        };
        if !self.snapshot.pods.iter().any(|pod| lives(pod)) {
            self.bring_newest();
        }
    }

    /// New pods come as far as the surge allows, old ones go as far as enough are available.
    fn roll(&mut self) {
        if self.bring_newest() {
            return;
        }
        let Some(newest) = self.newest.clone() else { return };
        if replicas(&newest) > self.bounds.replicas {
            return self.scale(&newest, self.bounds.replicas);
        }
        for (set, size) in rolling::shrink_old(self.bounds, &newest, &self.old) {
            self.scale(&set, size);
        }
    }

    /// Creates the newest set, or brings it and the Deployment's revision up to date and lets it grow; whether
    /// that changed the number of pods.
    fn bring_newest(&mut self) -> bool {
        let deployment = self.snapshot.deployment;
        let recreate = rolling::is_recreate(deployment);
        let next = self.old.iter().map(|set| revision::number(set)).max().unwrap_or_default() + 1;
        let all: i32 = self.all().map(|set| replicas(set)).sum();
        let present = self.newest.as_ref().map_or(0, |set| replicas(set));
        let size = rolling::new_size(self.bounds, recreate, present, all);
        let mut annotations = revision::annotations(deployment, self.newest.as_deref(), next);
        revision::record_size(&mut annotations, self.bounds.replicas, self.bounds.surge);
        let number = annotations.get(revision::REVISION).and_then(|n| n.parse().ok()).unwrap_or(next);
        let grows = match &self.newest {
            None => {
                let created = revision::new_set(deployment, size, annotations);
                self.actions.extend(created.map(|set| Action::Create(Box::new(set))));
                true
            }
            Some(set) if size > present => {
                let set = set.clone();
                self.actions.push(Action::Scale { set, replicas: size, annotations });
                true
            }
            Some(set) => {
                let ready = |n: Option<i32>| n.unwrap_or_default();
                let wanted = ready(deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds));
                let found = ready(set.spec.as_ref().and_then(|spec| spec.min_ready_seconds));
                if annotations != *set.annotations() || wanted != found {
                    self.actions.push(Action::AnnotateSet { set: set.clone(), annotations });
                }
                false
            }
        };
        if deployment.annotations().get(revision::REVISION) != Some(&number.to_string()) {
            self.actions.push(Action::SetRevision(number));
        }
        grows
    }

    /// Deletes the oldest versions beyond the history, once the rollout is complete.
    fn clean_up(&mut self) {
        let spec = self.snapshot.deployment.spec.as_ref();
        let limit = spec.and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let Some(newest) = &self.newest else { return };
        let total: i32 = self.all().filter_map(|set| set.status.as_ref()).map(|status| status.replicas).sum();
        let done = available(newest) == self.bounds.replicas && total == self.bounds.replicas;
        if !done || !self.actions.is_empty() {
            return;
        }
        let is_idle = |set: &&Arc<ReplicaSet>| {
            let status = set.status.as_ref();
            replicas(set) == 0
                && status.is_some_and(|s| s.replicas == 0 && s.observed_generation >= set.metadata.generation)
                && set.metadata.deletion_timestamp.is_none()
        };
        let mut idle: Vec<Arc<ReplicaSet>> = self.old.iter().filter(is_idle).cloned().collect();
        idle.sort_by_key(|set| revision::number(set));
        let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        self.actions.extend(idle.into_iter().take(surplus).map(Action::Delete));
    }
}
