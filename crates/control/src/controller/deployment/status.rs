//! What a Deployment reports: counts, and the conditions that `kubectl rollout status` and `kubectl wait` read.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::plan::{Snapshot, replicas};
use super::rolling::Bounds;

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// The conditions while they are being worked out.
struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Time,
}

impl Conditions {
    fn of(deployment: &Deployment, now: Timestamp) -> Conditions {
        let list = deployment.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Conditions { list, now: Time(now) }
    }

    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    fn reason(&self, kind: &str) -> Option<&str> {
        self.get(kind)?.reason.as_deref()
    }

    /// Sets a condition; if its status and reason stay, it stays as it is.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let same = |c: &&DeploymentCondition| c.status == status && c.reason.as_deref() == Some(reason);
        if self.get(kind).filter(same).is_none() {
            self.renew(kind, status, reason, message);
        }
    }

    /// Sets a condition as of now; the time of transition stays if its status does.
    fn renew(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let before = self.get(kind).filter(|c| c.status == status);
        let since = before.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| self.now.clone());
        self.remove(kind);
        self.list.push(DeploymentCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(since),
            last_update_time: Some(self.now.clone()),
        });
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }
}

/// The status, and when time alone may change it. `created` names the set that is being created.
pub(super) fn of(
    snapshot: &Snapshot<'_>,
    bounds: Bounds,
    newest: Option<&ReplicaSet>,
    created: Option<&str>,
) -> (DeploymentStatus, Option<Duration>) {
    let deployment = snapshot.deployment;
    let mut status = counts(snapshot, newest);
    let mut conditions = Conditions::of(deployment, snapshot.now);
    if status.available_replicas.unwrap_or_default() >= bounds.least() {
        let message = "Deployment has minimum availability.".to_owned();
        conditions.set("Available", "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
    mark_pause(deployment, &mut conditions);
    let mut again = None;
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
    // Kubernetes takes the largest number for "no deadline", which defaulting has no other way to say.
    match deadline.filter(|seconds| *seconds != i32::MAX) {
        None => conditions.remove("Progressing"),
        Some(seconds) => {
            let progress = Progress { snapshot, bounds, status: &status, newest, created };
            again = progress.mark(&mut conditions, Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
        }
    }
    mark_failure(snapshot, newest, &mut conditions);
    status.conditions = Some(conditions.list);
    (status, again)
}

fn counts(snapshot: &Snapshot<'_>, newest: Option<&ReplicaSet>) -> DeploymentStatus {
    let positive = |n: i32| (n > 0).then_some(n);
    let sum =
        |count: &dyn Fn(&ReplicaSet) -> Option<i32>| -> i32 { snapshot.sets.iter().filter_map(|set| count(set)).sum() };
    let available = sum(&|set| set.status.as_ref()?.available_replicas);
    DeploymentStatus {
        observed_generation: snapshot.deployment.metadata.generation,
        replicas: positive(sum(&|set| Some(set.status.as_ref()?.replicas))),
        updated_replicas: positive(newest.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas)),
        ready_replicas: positive(sum(&|set| set.status.as_ref()?.ready_replicas)),
        available_replicas: positive(available),
        unavailable_replicas: positive(sum(&|set| Some(replicas(set))) - available),
        collision_count: snapshot.deployment.status.as_ref().and_then(|status| status.collision_count),
        ..DeploymentStatus::default()
    }
}

fn mark_pause(deployment: &Deployment, conditions: &mut Conditions) {
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    match conditions.reason("Progressing") {
        Some(TIMED_OUT) => {}
        Some(PAUSED) if !is_paused => {
            conditions.renew("Progressing", "Unknown", RESUMED, "Deployment is resumed".to_owned());
        }
        Some(PAUSED) => {}
        _ if is_paused => conditions.renew("Progressing", "Unknown", PAUSED, "Deployment is paused".to_owned()),
        _ => {}
    }
}

/// A rollout under way.
struct Progress<'a> {
    snapshot: &'a Snapshot<'a>,
    bounds: Bounds,
    status: &'a DeploymentStatus,
    newest: Option<&'a ReplicaSet>,
    created: Option<&'a str>,
}

impl Progress<'_> {
    /// Sets `Progressing`; returns how long until the deadline passes.
    fn mark(&self, conditions: &mut Conditions, deadline: Duration) -> Option<Duration> {
        if let Some(name) = self.created {
            let message = format!("Created new replica set {name:?}");
            conditions.renew("Progressing", "True", "NewReplicaSetCreated", message);
            return None;
        }
        let newest = self.newest?;
        let name = newest.name_any();
        if conditions.get("Progressing").is_none() {
            let message = format!("Found new replica set {name:?}");
            conditions.set("Progressing", "True", "FoundNewReplicaSet", message);
        }
        let is_settled = self.status.replicas == self.status.updated_replicas
            && conditions.reason("Progressing") == Some(NEW_AVAILABLE);
        if is_settled || conditions.reason("Progressing") == Some(PAUSED) {
            return None;
        }
        if self.is_complete() {
            let message = format!("ReplicaSet {name:?} has successfully progressed.");
            conditions.set("Progressing", "True", NEW_AVAILABLE, message);
            return None;
        }
        if self.has_moved() {
            let message = format!("ReplicaSet {name:?} is progressing.");
            conditions.renew("Progressing", "True", "ReplicaSetUpdated", message);
            return Some(deadline);
        }
        self.check_deadline(conditions, deadline, &name)
    }

    fn check_deadline(&self, conditions: &mut Conditions, deadline: Duration, name: &str) -> Option<Duration> {
        let current = conditions.get("Progressing")?;
        if matches!(current.reason.as_deref(), Some(TIMED_OUT | NEW_AVAILABLE)) {
            return None;
        }
        let since = current.last_update_time.as_ref().map_or(self.snapshot.now, |t| t.0);
        let passed = self.snapshot.now.duration_since(since).unsigned_abs();
        if passed <= deadline {
            // A moment later than the deadline, so that the next look finds it passed.
            return Some(deadline - passed + Duration::from_millis(1100));
        }
        let message = format!("ReplicaSet {name:?} has timed out progressing.");
        conditions.set("Progressing", "False", TIMED_OUT, message);
        None
    }

    fn is_complete(&self) -> bool {
        let wanted = self.bounds.replicas;
        let counts = [self.status.updated_replicas, self.status.replicas, self.status.available_replicas];
        counts.into_iter().all(|count| count.unwrap_or_default() == wanted)
    }

    fn has_moved(&self) -> bool {
        let old = self.snapshot.deployment.status.clone().unwrap_or_default();
        let updated = |s: &DeploymentStatus| s.updated_replicas.unwrap_or_default();
        let outdated = |s: &DeploymentStatus| s.replicas.unwrap_or_default() - updated(s);
        updated(self.status) > updated(&old)
            || outdated(self.status) < outdated(&old)
            || self.status.ready_replicas > old.ready_replicas
            || self.status.available_replicas > old.available_replicas
    }
}

/// Shows what a set could not do.
fn mark_failure(snapshot: &Snapshot<'_>, newest: Option<&ReplicaSet>, conditions: &mut Conditions) {
    let sets = newest.into_iter().chain(snapshot.sets.iter().map(|set| &**set));
    let failure = sets.filter_map(|set| set.status.as_ref()?.conditions.as_ref()).flatten();
    let failure =
        failure.into_iter().find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    match failure {
        None => conditions.remove("ReplicaFailure"),
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            conditions.set("ReplicaFailure", "True", &reason, failure.message.clone().unwrap_or_default());
        }
    }
}

/// The status after the new set could not be created.
pub(super) fn create_failed(deployment: &Deployment, name: &str, why: &str, now: Timestamp) -> DeploymentStatus {
    let mut conditions = Conditions::of(deployment, now);
    let message = format!("Failed to create new replica set {name:?}: {why}");
    conditions.set("Progressing", "False", "ReplicaSetCreateError", message);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        conditions: Some(conditions.list),
        ..deployment.status.clone().unwrap_or_default()
    }
}
