//! Ending containers and pods.

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, DeleteParams, Preconditions};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

use super::Worker;
use crate::runtime::kubelet::event::Kind;
use crate::runtime::kubelet::hook;
use crate::runtime::kubelet::lifecycle::Role;
use crate::runtime::sandbox::protocol::Request;

/// Kubernetes' `terminationGracePeriodSeconds` for a pod that sets none.
const GRACE: i64 = 30;
/// A hook that used up the grace period leaves the container this much.
const LAST_SECONDS: SignedDuration = SignedDuration::from_secs(2);

/// A container on its way to its end.
pub(super) struct Stop {
    since: Timestamp,
    /// For the event.
    why: String,
    /// Seconds; overrides the pod's.
    grace: Option<i64>,
    hook: Option<JoinHandle<Result<(), String>>>,
    told: bool,
    terminated: Option<Timestamp>,
    killed: bool,
}

impl Stop {
    pub(super) fn now(why: &str, grace: Option<i64>) -> Stop {
        Stop {
            since: Timestamp::now(),
            why: why.to_owned(),
            grace,
            hook: None,
            told: false,
            terminated: None,
            killed: false,
        }
    }
}

impl Worker {
    /// Seconds between SIGTERM and SIGKILL.
    fn grace(&self) -> i64 {
        let own = self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(GRACE);
        self.pod.metadata.deletion_grace_period_seconds.unwrap_or(own).max(0)
    }

    /// Takes the next step in ending a container: hook, SIGTERM, SIGKILL.
    pub(super) async fn advance_stop(&mut self, container: &Container) {
        let Some(target) = self.target(container) else { return };
        let now = Timestamp::now();
        let (pod_grace, deleting) = (self.grace(), self.pod.metadata.deletion_timestamp.is_some());
        let wake = self.wake.notify.clone();
        let events = self.kubelet.events.clone();
        let Some(stop) = self.slots.entry(container.name.clone()).or_default().stop.as_mut() else { return };
        // A deletion may shorten what a failed probe began.
        let grace = stop.grace.map_or(pod_grace, |grace| if deleting { grace.min(pod_grace) } else { grace });
        let deadline = stop.since + SignedDuration::from_secs(grace);
        if !stop.told {
            stop.told = true;
            events.pod(&self.pod, Some(&container.name), Kind::Normal, "Killing", stop.why.clone());
            let handler = container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()).filter(|_| grace > 0);
            stop.hook = handler.map(|handler| {
                let target = target.clone();
                tokio::spawn(async move {
                    let result = hook::run(&target, &handler).await;
                    wake.notify_one();
                    result
                })
            });
        }
        if stop.hook.as_ref().is_some_and(|hook| hook.is_finished())
            && let Some(Ok(Err(why))) = stop.hook.take().and_then(FutureExt::now_or_never)
        {
            events.pod(&self.pod, Some(&container.name), Kind::Warning, "FailedPreStopHook", why);
        }
        let mut signal = None;
        if stop.terminated.is_none() && (stop.hook.is_none() || now >= deadline) {
            stop.terminated = Some(now);
            signal = Some(Signal::SIGTERM);
        }
        let last = match stop.terminated {
            Some(at) if at >= deadline && grace > 0 => at + LAST_SECONDS,
            _ => deadline,
        };
        if now >= last && !stop.killed && stop.terminated.is_some() {
            stop.killed = true;
            signal = Some(Signal::SIGKILL);
        }
        if !stop.killed {
            self.look_again(last);
        }
        if let Some(signal) = signal {
            let request = Request::Signal { id: target.id.clone(), signal: signal as i32 };
            if let Err(failure) = target.sandbox.request(request).await {
                tracing::warn!(container = container.name, %failure, "ending a container");
            }
        }
    }

    /// Ends every container, sidecars last, then the sandbox.
    pub(super) async fn finish(&mut self) {
        let containers = self.containers();
        let running = |worker: &Worker, sidecars: bool| -> Vec<Container> {
            let wanted = containers.iter().filter(|(role, _)| (*role == Role::Sidecar) == sidecars);
            wanted.map(|(_, c)| c).filter(|c| worker.running(&c.name).is_some()).cloned().collect()
        };
        let mut ending = running(self, false);
        if ending.is_empty() {
            ending = running(self, true);
        }
        if self.sandbox().is_none() || ending.is_empty() {
            self.end_sandbox().await;
            return;
        }
        for container in ending {
            let slot = self.slots.entry(container.name.clone()).or_default();
            slot.stop.get_or_insert_with(|| Stop::now(&format!("Stopping container {}", container.name), None));
            self.advance_stop(&container).await;
        }
    }

    async fn end_sandbox(&mut self) {
        if let Some(live) = self.live.take()
            && let Err(failure) = live.sandbox.stop().await
        {
            tracing::error!(pod = %self.directory.display(), %failure, "ending a pod");
            self.look_again(Timestamp::now() + super::RETRY);
            self.live = Some(live);
            return;
        }
        if self.pod.metadata.deletion_timestamp.is_none() {
            // The status keeps showing the address, as Kubernetes does, but another pod may have it.
            self.free_address();
            if let Err(error) = self.kept.save(&self.directory) {
                tracing::debug!(%error, "a pod that never had a directory has ended");
            }
        }
    }

    /// Lets go of a deleted pod of which nothing runs any more and whose last status has been told.
    pub(super) async fn remove_from_api(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_none() || self.deleted || self.live.is_some() {
            return;
        }
        if !self.published {
            return;
        }
        let Pod { metadata, .. } = &*self.pod;
        let api: Api<Pod> =
            Api::namespaced(self.kubelet.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        let preconditions = Preconditions { uid: metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        match api.delete(metadata.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => self.deleted = true,
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => self.deleted = true,
            Err(error) => {
                tracing::warn!(%error, "deleting a pod that has ended");
                self.look_again(Timestamp::now() + super::RETRY);
            }
        }
    }
}
