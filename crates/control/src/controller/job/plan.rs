//! What a Job needs next.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::controller::replica_set::{is_active, is_ready};

/// The first delay after a pod failed; it doubles with each further failure up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// What is told about a Job when its status is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What to do, what to report, and when to look again if nothing changes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) create: usize,
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) status: JobStatus,
    pub(super) events: Vec<Told>,
    pub(super) again: Option<Duration>,
    /// The Job has been finished for longer than it is to be kept.
    pub(super) expired: bool,
}

struct Step<'a> {
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    now: Timestamp,
    status: JobStatus,
    events: Vec<Told>,
}

/// Decides.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let status = job.status.clone().unwrap_or_default();
    let Some(spec) = job.spec.as_ref() else {
        return Plan { create: 0, delete: Vec::new(), status, events: Vec::new(), again: None, expired: false };
    };
    let mut step = Step { spec, pods, now, status, events: Vec::new() };
    if let Some(finished) = step.finished_at() {
        return step.keep_until(finished);
    }
    step.count();
    let suspended = spec.suspend == Some(true);
    step.mark_suspension(suspended);
    if !suspended && step.status.start_time.is_none() {
        step.status.start_time = Some(Time(step.second()));
    }
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
    if let Some((reason, message)) = step.failure() {
        step.fail(reason, message);
        return step.end(active);
    }
    if step.is_complete() {
        step.complete();
        return step.end(active);
    }
    if suspended {
        return step.end(active);
    }
    step.go_on(active)
}

impl Step<'_> {
    fn second(&self) -> Timestamp {
        Timestamp::from_second(self.now.as_second()).unwrap_or(self.now)
    }

    fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
    }

    fn finished_at(&self) -> Option<Timestamp> {
        let condition = self.condition("Complete").or_else(|| self.condition("Failed"))?;
        Some(condition.last_transition_time.as_ref().map_or(self.now, |t| t.0))
    }

    fn keep_until(self, finished: Timestamp) -> Plan {
        let kept =
            self.spec.ttl_seconds_after_finished.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or_default()));
        let passed = self.now.duration_since(finished).unsigned_abs();
        let expired = kept.is_some_and(|kept| passed >= kept);
        let again = kept.filter(|_| !expired).map(|kept| kept - passed);
        Plan { again, expired, ..self.plan(0, Vec::new()) }
    }

    fn plan(self, create: usize, delete: Vec<Arc<Pod>>) -> Plan {
        Plan { create, delete, status: self.status, events: self.events, again: None, expired: false }
    }

    /// Counts pods. Finished pods that somebody deleted stay counted.
    fn count(&mut self) {
        let phase = |wanted: &str| {
            let found = self.pods.iter().filter(|pod| phase(pod) == wanted).count();
            i32::try_from(found).unwrap_or(i32::MAX)
        };
        let active = self.pods.iter().filter(|pod| is_active(pod)).count();
        let ready = self.pods.iter().filter(|pod| is_active(pod) && is_ready(pod)).count();
        let ending =
            self.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !is_finished(pod)).count();
        let (succeeded, failed) = (phase("Succeeded"), phase("Failed"));
        self.status.active = Some(i32::try_from(active).unwrap_or(i32::MAX)).filter(|n| *n > 0);
        self.status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
        self.status.terminating = Some(i32::try_from(ending).unwrap_or(i32::MAX));
        self.status.succeeded = self.status.succeeded.max(Some(succeeded).filter(|n| *n > 0));
        self.status.failed = self.status.failed.max(Some(failed).filter(|n| *n > 0));
    }

    fn succeeded(&self) -> i32 {
        self.status.succeeded.unwrap_or_default()
    }

    fn failed(&self) -> i32 {
        self.status.failed.unwrap_or_default()
    }

    fn mark_suspension(&mut self, suspended: bool) {
        let known = self.condition("Suspended").is_some();
        if suspended && !known {
            self.set("Suspended", "True", "JobSuspended", "Job suspended");
            self.status.start_time = None;
            self.tell(false, "Suspended", "Job suspended");
        } else if !suspended && known {
            self.set("Suspended", "False", "JobResumed", "Job resumed");
            self.tell(false, "Resumed", "Job resumed");
        }
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Time(self.second());
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != kind);
        conditions.push(JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now),
        });
    }

    fn tell(&mut self, warning: bool, reason: &'static str, message: &str) {
        self.events.push(Told { warning, reason, message: message.to_owned() });
    }

    /// Why the Job cannot succeed any more.
    fn failure(&self) -> Option<(&'static str, &'static str)> {
        let limit = self.spec.backoff_limit.unwrap_or(6);
        let restarts: i32 = self.pods.iter().filter(|pod| is_active(pod)).map(|pod| restarts(pod)).sum();
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        let retries = if policy == Some("OnFailure") { self.failed().saturating_add(restarts) } else { self.failed() };
        if retries > limit {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
        }
        let left = self.until_deadline()?;
        left.is_zero().then_some(("DeadlineExceeded", "Job was active longer than specified deadline"))
    }

    fn until_deadline(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds.filter(|_| self.spec.suspend != Some(true))?;
        let since = self.status.start_time.as_ref()?.0;
        let deadline = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        Some(deadline.saturating_sub(self.now.duration_since(since).unsigned_abs()))
    }

    fn fail(&mut self, reason: &'static str, message: &'static str) {
        self.set("FailureTarget", "True", reason, message);
        self.set("Failed", "True", reason, message);
        self.tell(true, reason, message);
    }

    /// With a number of completions, that many pods must succeed; without, one pod that succeeds ends the work once
    /// the others are done.
    fn is_complete(&self) -> bool {
        match self.spec.completions {
            Some(wanted) => self.succeeded() >= wanted,
            None => self.succeeded() > 0 && self.status.active.is_none(),
        }
    }

    fn complete(&mut self) {
        const REASON: &str = "CompletionsReached";
        const MESSAGE: &str = "Reached expected number of succeeded pods";
        self.set("SuccessCriteriaMet", "True", REASON, MESSAGE);
        self.set("Complete", "True", REASON, MESSAGE);
        self.status.completion_time = Some(Time(self.second()));
        self.tell(false, "Completed", "Job completed");
    }

    /// Ends or suspends the Job: what still runs is deleted.
    fn end(mut self, active: Vec<Arc<Pod>>) -> Plan {
        let finished = self.condition("Complete").is_some() || self.condition("Failed").is_some();
        if finished {
            self.status.active = None;
            self.status.ready = Some(0);
        }
        let kept = self.spec.ttl_seconds_after_finished.filter(|_| finished);
        let again = kept.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or_default()));
        Plan { again, ..self.plan(0, active) }
    }

    fn go_on(self, active: Vec<Arc<Pod>>) -> Plan {
        let parallel = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            Some(completions) => parallel.min(completions - self.succeeded()),
            // Once one pod has succeeded, the others only finish their work.
            None if self.succeeded() > 0 => i32::try_from(active.len()).unwrap_or(i32::MAX),
            None => parallel,
        };
        let wanted = usize::try_from(wanted).unwrap_or_default();
        let deadline = self.until_deadline();
        if active.len() > wanted {
            let surplus = active.len() - wanted;
            let mut ranked = active;
            ranked.sort_by_key(|pod| {
                (is_ready(pod), pod.metadata.creation_timestamp.as_ref().map(|t| std::cmp::Reverse(t.0)))
            });
            ranked.truncate(surplus);
            return Plan { again: deadline, ..self.plan(0, ranked) };
        }
        let missing = wanted - active.len();
        let wait = self.backoff();
        let create = if wait.is_zero() { missing } else { 0 };
        let retry = (missing > 0 && !wait.is_zero()).then_some(wait);
        let again = [retry, deadline].into_iter().flatten().min();
        Plan { again, ..self.plan(create, Vec::new()) }
    }

    /// How long to wait before the next pod, after the last ones failed.
    fn backoff(&self) -> Duration {
        let ended = |pod: &Pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            let ended = statuses.into_iter().flatten();
            ended.filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max()
        };
        let success = self.pods.iter().filter(|pod| phase(pod) == "Succeeded").filter_map(|pod| ended(pod)).max();
        let failures = self.pods.iter().filter(|pod| phase(pod) == "Failed").filter_map(|pod| ended(pod));
        let failures: Vec<Timestamp> = failures.filter(|at| Some(*at) > success).collect();
        let Some(last) = failures.iter().max() else { return Duration::ZERO };
        let exponent = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX);
        let delay = BACKOFF.0.saturating_mul(2u32.saturating_pow(exponent)).min(BACKOFF.1);
        delay.saturating_sub(self.now.duration_since(*last).unsigned_abs())
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job(spec: Value) -> Job {
        let mut whole = json!({
            "parallelism": 1, "completions": 1, "backoffLimit": 6,
            "template": {"spec": {"restartPolicy": "Never", "containers": []}},
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": whole})).unwrap()
    }

    fn pod(phase: &str, ended: i64) -> Arc<Pod> {
        let terminated = json!({"exitCode": 1, "finishedAt": at(ended).to_string()});
        let container = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": terminated}});
        let statuses = if matches!(phase, "Failed" | "Succeeded") { json!([container]) } else { json!([]) };
        let status = json!({"phase": phase, "containerStatuses": statuses});
        let object = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn has(plan: &Plan, kind: &str) -> bool {
        plan.status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True")
    }

    #[test]
    fn a_job_runs_as_many_pods_at_once_as_it_may() {
        let job = job(json!({"completions": 5, "parallelism": 3}));
        assert_eq!(plan(&job, &[], at(0)).create, 3);
        let pods = [pod("Succeeded", 1), pod("Succeeded", 1), pod("Succeeded", 1), pod("Running", 0)];
        assert_eq!(plan(&job, &pods, at(2)).create, 1, "two are still missing and one of them runs");
    }

    #[test]
    fn a_job_is_complete_when_enough_pods_have_succeeded() {
        let done = plan(&job(json!({})), &[pod("Succeeded", 1)], at(2));
        assert!(has(&done, "Complete") && has(&done, "SuccessCriteriaMet"));
        assert_eq!((done.create, done.status.succeeded), (0, Some(1)));
        let mut finished = job(json!({"ttlSecondsAfterFinished": 10}));
        finished.status = Some(done.status);
        assert_eq!(plan(&finished, &[], at(5)).again, Some(Duration::from_secs(7)));
        assert!(plan(&finished, &[], at(12)).expired);
    }

    #[test]
    fn failures_are_retried_with_growing_delays_until_the_limit() {
        let job = job(json!({"backoffLimit": 2}));
        let early = plan(&job, &[pod("Failed", 100)], at(105));
        assert_eq!((early.create, early.again), (0, Some(Duration::from_secs(5))));
        assert_eq!(plan(&job, &[pod("Failed", 100)], at(110)).create, 1);
        let second = plan(&job, &[pod("Failed", 100), pod("Failed", 120)], at(120));
        assert_eq!(second.again, Some(Duration::from_secs(20)));
        let third = plan(&job, &[pod("Failed", 1), pod("Failed", 2), pod("Failed", 3)], at(120));
        assert!(has(&third, "Failed"));
        assert_eq!(third.events[0].reason, "BackoffLimitExceeded");
    }

    #[test]
    fn a_job_over_its_deadline_fails_and_its_pods_are_deleted() {
        let mut late = job(json!({"activeDeadlineSeconds": 10}));
        late.status = Some(JobStatus { start_time: Some(Time(at(0))), ..JobStatus::default() });
        let over = plan(&late, &[pod("Running", 0)], at(10));
        assert!(has(&over, "Failed"));
        assert_eq!(over.delete.len(), 1);
        assert_eq!(plan(&late, &[pod("Running", 0)], at(4)).again, Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_suspended_job_has_no_pods_and_starts_anew_when_resumed() {
        let suspended = plan(&job(json!({"suspend": true})), &[pod("Running", 0)], at(1));
        assert!(has(&suspended, "Suspended"));
        assert_eq!((suspended.delete.len(), suspended.status.start_time.is_some()), (1, false));
    }
}
