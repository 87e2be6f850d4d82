//! Starting containers, and watching over those that run.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus};

use super::{Slot, Stop, Worker};
use crate::runtime::kubelet::action::Target;
use crate::runtime::kubelet::blueprint::{Blueprint, Built, Refusal};
use crate::runtime::kubelet::event::Kind;
use crate::runtime::kubelet::hook;
use crate::runtime::kubelet::probe::Probes;
use crate::runtime::sandbox::protocol::Request;
use crate::runtime::sandbox::record;

impl Slot {
    /// The startup probe and the postStart hook are through.
    pub(super) fn is_started(&self) -> bool {
        self.hook.is_none() && self.probes.as_ref().is_some_and(|probes| probes.health().started)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stop.is_none() && self.probes.as_ref().is_some_and(|probes| probes.health().ready)
    }
}

impl Worker {
    /// Starts a container, or notes why it cannot be.
    pub(super) async fn start(&mut self, container: &Container) {
        let attempt = self.latest(&container.name).map_or(0, |record| record.attempt + 1);
        let (Some(address), Some(sandbox)) = (self.kept.address, self.sandbox().cloned()) else { return };
        let blueprint = Blueprint {
            kubelet: &self.kubelet,
            pod: &self.pod,
            directory: &self.directory,
            address,
            volumes: &self.volumes,
        };
        let built = match blueprint.build(container, attempt).await {
            Ok(built) => built,
            Err(refusal) => return self.refuse(container, refusal),
        };
        let name = &container.name;
        let tell = |kind, reason, message| self.kubelet.events.pod(&self.pod, Some(name), kind, reason, message);
        let Built { spec, warnings } = built;
        if attempt == 0 {
            warnings.into_iter().for_each(|warning| tell(Kind::Warning, "SecurityContext", warning));
        }
        let image = container.image.as_deref().unwrap_or_default();
        tell(Kind::Normal, "Pulled", format!("Container image {image:?} already present on machine"));
        tell(Kind::Normal, "Created", format!("Created container: {name}"));
        let result = sandbox.request(Request::Start(Box::new(spec))).await;
        let result = result.map_err(|failure| {
            let runc = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc \
                        create failed: unable to start container process";
            format!("{runc}: {failure}: unknown")
        });
        match &result {
            Ok(()) => tell(Kind::Normal, "Started", format!("Started container {name}")),
            Err(message) => tell(Kind::Warning, "Failed", format!("Error: {message}")),
        }
        let slot = self.slots.entry(name.clone()).or_default();
        (slot.refused, slot.refusals) = (None, Default::default());
        slot.waiting = result.err().map(|message| ("RunContainerError", message));
        let failed = slot.waiting.is_some();
        match record::load(&self.directory) {
            Ok(records) => self.records = records,
            Err(error) => tracing::error!(%error, "reading the containers' records"),
        }
        if failed {
            // The record has the end; the next round finds out when to try again.
            self.look_again(Timestamp::now());
        }
        self.watch_over(container).await;
    }

    fn refuse(&mut self, container: &Container, refusal: Refusal) {
        let slot = self.slots.entry(container.name.clone()).or_default();
        let delay = slot.refusals.next(SignedDuration::ZERO).max(SignedDuration::from_secs(10));
        let until = Timestamp::now() + delay;
        slot.not_before = Some(until);
        let Refusal { reason, message } = refusal;
        if slot.refused.as_ref() != Some(&message) {
            let tell = |message| {
                self.kubelet.events.pod(&self.pod, Some(&container.name), Kind::Warning, "Failed", message);
            };
            match reason {
                "ErrImagePull" => {
                    let image = container.image.as_deref().unwrap_or_default();
                    tell(format!("Failed to pull image {image:?}: {message}"));
                    tell("Error: ErrImagePull".to_owned());
                }
                _ => tell(format!("Error: {message}")),
            }
            slot.refused = Some(message.clone());
        }
        if slot.waiting.as_ref().is_none_or(|(old, _)| *old != "ImagePullBackOff") || reason != "ErrImagePull" {
            slot.waiting = Some((reason, message));
        }
        self.look_again(until);
    }

    /// A running container as probes and hooks reach it.
    pub(super) fn target(&self, container: &Container) -> Option<Target> {
        Some(Target {
            network: self.kubelet.network.clone(),
            sandbox: self.sandbox()?.clone(),
            address: IpAddr::V4(self.kept.address?),
            container: Arc::new(container.clone()),
            id: self.running(&container.name)?.id.clone(),
        })
    }

    /// Sees to a running container's hook and probes, and to its end when they ask for it.
    pub(super) async fn watch_over(&mut self, container: &Container) {
        let Some(target) = self.target(container) else { return };
        let Some(record) = self.running(&container.name) else { return };
        let age = Duration::try_from(Timestamp::now().duration_since(record.started_at)).unwrap_or_default();
        let wake = self.wake.notify.clone();
        // A hook runs once, with the start; a cluster process that comes back cannot know more.
        let published = self.published(&container.name, &record.id).cloned();
        let slot = self.slots.entry(container.name.clone()).or_default();
        if slot.following.as_ref() != Some(&target.id) {
            let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()).filter(|_| published.is_none());
            slot.hook = hook.map(|handler| {
                let (target, wake) = (target.clone(), wake.clone());
                tokio::spawn(async move {
                    let result = hook::run(&target, &handler).await;
                    wake.notify_one();
                    result
                })
            });
            slot.following = Some(target.id.clone());
            slot.probes = None;
        }
        if slot.hook.as_ref().is_some_and(|hook| hook.is_finished()) {
            let result = slot.hook.take().and_then(FutureExt::now_or_never);
            if let Some(Ok(Err(why))) = result {
                self.kubelet.events.pod(&self.pod, Some(&container.name), Kind::Warning, "FailedPostStartHook", why);
                slot.stop = Some(Stop::now("FailedPostStartHook", None));
            }
        }
        if slot.hook.is_none() && slot.probes.is_none() {
            let events = self.kubelet.events.clone();
            let probes = Probes::start(target, self.pod.clone(), events, wake, age, published.as_ref());
            slot.probes = Some(probes);
        }
        let unhealthy = slot.probes.as_ref().and_then(|probes| probes.health().unhealthy);
        if let Some((which, grace)) = unhealthy.filter(|_| slot.stop.is_none()) {
            let why = format!("Container {} failed {} probe, will be restarted", container.name, which.name());
            slot.stop = Some(Stop::now(&why, grace));
        }
        if slot.stop.is_some() {
            self.advance_stop(container).await;
        }
    }

    /// What the last published status says of this very container.
    fn published(&self, container: &str, id: &str) -> Option<&ContainerStatus> {
        let status = self.pod.status.iter();
        let mut all = status
            .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
        all.find(|c| c.name == container && c.container_id.as_deref().is_some_and(|own| own.ends_with(id)))
    }
}
