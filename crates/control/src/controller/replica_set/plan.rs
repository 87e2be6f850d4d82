//! What a ReplicaSet lacks, has too much of, and reports.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

/// No more pods than these are created or deleted in one go.
const BURST: usize = 500;

/// How many pods to create, or which to delete.
#[derive(Debug, PartialEq)]
pub(super) enum Scale {
    Keep,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Compares the pods of a set with what it asks for.
pub(super) fn scale(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Scale {
    let wanted = usize::try_from(replicas(set)).unwrap_or_default();
    let mut active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).collect();
    if active.len() < wanted {
        return Scale::Create((wanted - active.len()).min(BURST));
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Scale::Keep;
    }
    active.sort_by_cached_key(|pod| rank(pod));
    Scale::Delete(active.into_iter().take(surplus).cloned().collect())
}

/// What a set asks for; one replica unless it says otherwise.
fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The lower, the sooner a pod is deleted: those that do the least work first, then the newest.
fn rank(pod: &Pod) -> impl Ord + use<> {
    let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|n| !n.is_empty()));
    let phase = match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = pod.annotations().get("controller.kubernetes.io/pod-deletion-cost");
    let cost: i32 = cost.and_then(|cost| cost.parse().ok()).unwrap_or_default();
    let ready_since = ready(pod).and_then(|c| c.last_transition_time.as_ref()).map(|t| Reverse(t.0));
    let restarts = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let restarts = restarts.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or_default();
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| Reverse(t.0));
    (assigned, phase, is_ready(pod), cost, ready_since, Reverse(restarts), created, pod.name_any())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether a pod counts: it is neither finished nor on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

fn ready(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready(pod).is_some()
}

/// When a pod becomes (or became) available: once it has been ready for `least` seconds.
fn available_at(pod: &Pod, least: i32) -> Option<Timestamp> {
    let since = ready(pod)?.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    since.checked_add(Duration::from_secs(u64::try_from(least).unwrap_or_default())).ok()
}

fn least_ready(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default()
}

/// How long until the next of the pods becomes available by the passing of time alone.
pub(super) fn next_available(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let times = pods.iter().filter(|p| is_active(p)).filter_map(|pod| available_at(pod, least_ready(set)));
    let next = times.filter(|at| *at > now).min()?;
    Some(next.duration_since(now).unsigned_abs())
}

/// The status of a set with these pods; `failure` is the reason and message of what went wrong.
pub(super) fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<(&'static str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).and_then(|t| t.metadata.as_ref());
    let template = template.and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let active: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).collect();
    let count = |wanted: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| wanted(pod)).count()).unwrap_or(i32::MAX)
    };
    let labelled = count(&|pod| template.iter().all(|(key, value)| pod.labels().get(key) == Some(value)));
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: positive(labelled),
        ready_replicas: positive(count(&is_ready)),
        available_replicas: positive(count(&|pod| available_at(pod, least_ready(set)).is_some_and(|at| at <= now))),
        observed_generation: set.metadata.generation,
        terminating_replicas: None,
        conditions: conditions(set, failure, now),
    }
}

/// Kubernetes leaves counts of zero out.
fn positive(count: i32) -> Option<i32> {
    (count > 0).then_some(count)
}

fn conditions(
    set: &ReplicaSet,
    failure: Option<(&'static str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let (reason, message) = failure?;
    let before = set.status.as_ref().and_then(|status| status.conditions.as_ref());
    let before =
        before.into_iter().flatten().find(|c| c.type_ == "ReplicaFailure" && c.reason.as_deref() == Some(reason));
    let since = before.and_then(|c| c.last_transition_time.clone());
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Some(vec![ReplicaSetCondition {
        type_: "ReplicaFailure".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(replicas: i32, least_ready: i32) -> ReplicaSet {
        let object = json!({
            "metadata": {"name": "web", "namespace": "ns", "generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": least_ready, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn pod(name: &str, node: &str, phase: &str, ready_second: Option<i64>) -> Arc<Pod> {
        let ready: Vec<_> = ready_second
            .map(|s| Timestamp::from_second(s).unwrap().to_string())
            .map(|at| json!({"type": "Ready", "status": "True", "lastTransitionTime": at}))
            .into_iter()
            .collect();
        let object = json!({
            "metadata": {"name": name, "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": ready},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_is_missing_is_created_and_finished_pods_do_not_count() {
        let pods = [pod("a", "n", "Running", Some(1)), pod("b", "n", "Failed", None)];
        assert_eq!(scale(&set(3, 0), &pods), Scale::Create(2));
        assert_eq!(scale(&set(1, 0), &pods), Scale::Keep);
        assert_eq!(scale(&set(10_000, 0), &pods), Scale::Create(BURST));
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let pods = [
            pod("old", "n", "Running", Some(1)),
            pod("new", "n", "Running", Some(9)),
            pod("unready", "n", "Running", None),
            pod("pending", "n", "Pending", None),
            pod("unassigned", "", "Pending", None),
        ];
        let Scale::Delete(victims) = scale(&set(1, 0), &pods) else { panic!("nothing is deleted") };
        let names: Vec<String> = victims.iter().map(|pod| pod.name_any()).collect();
        assert_eq!(names, ["unassigned", "pending", "unready", "new"]);
    }

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_long_enough() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pods = [pod("a", "n", "Running", Some(100))];
        let early = status(&set(1, 10), &pods, None, at(105));
        assert_eq!((early.ready_replicas, early.available_replicas), (Some(1), None));
        assert_eq!(next_available(&set(1, 10), &pods, at(105)), Some(Duration::from_secs(5)));
        let later = status(&set(1, 10), &pods, None, at(110));
        assert_eq!((later.available_replicas, later.observed_generation), (Some(1), Some(3)));
        assert_eq!(next_available(&set(1, 10), &pods, at(110)), None);
    }
}
