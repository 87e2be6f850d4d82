//! Telling the API what became of the pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Worker;
use crate::runtime::kubelet::lifecycle::{self, Role};
use crate::runtime::kubelet::status::{Report, Seen};

/// Fields of the status that are this node's and so are removed when they no longer hold.
const OWN_FIELDS: [&str; 4] = ["reason", "message", "podIP", "podIPs"];

impl Worker {
    fn compute_status(&self) -> PodStatus {
        let containers = self.containers();
        let policy = self.policy();
        let views: Vec<_> = containers.iter().map(|(role, c)| self.view(*role, &c.name)).collect();
        let initialized = lifecycle::is_initialized(&views);
        let has_init = containers.iter().any(|(role, _)| *role != Role::Main);
        let nothing_runs = containers.iter().all(|(_, c)| self.running(&c.name).is_none());
        let ending = self.is_ending();
        let seen = containers.iter().zip(&views).map(|((role, container), view)| {
            let slot = self.slots.get(&container.name);
            let initial = match role {
                Role::Main if initialized || !has_init => "ContainerCreating",
                _ => "PodInitializing",
            };
            let waiting = slot.and_then(|slot| slot.waiting.as_ref());
            Seen {
                spec: container,
                role: *role,
                records: self.records.get(&container.name).map(Vec::as_slice).unwrap_or_default(),
                waiting: waiting.map_or((initial, ""), |(reason, message)| (reason, message.as_str())),
                started: slot.is_some_and(|slot| slot.is_started()),
                ready: slot.is_some_and(|slot| slot.is_ready()),
                restarting: !ending && lifecycle::will_restart(view, policy),
            }
        });
        let report = Report {
            pod: &self.pod,
            before: &self.status,
            containers: seen.collect(),
            address: self.kept.address,
            host: self.kubelet.machine.address,
            outcome: self.outcome.filter(|_| nothing_runs),
            verdict: self.verdict,
            sandbox: self.sandbox().is_some(),
            gone: self.pod.metadata.deletion_timestamp.is_some() && nothing_runs && self.live.is_none(),
            now: Timestamp::now(),
        };
        report.status()
    }

    /// Writes the status when it has changed.
    pub(super) async fn publish(&mut self) {
        self.adopt_conditions();
        let status = self.compute_status();
        if status == self.status {
            self.published = true;
            return;
        }
        self.published = false;
        let mut body = serde_json::to_value(&status).unwrap_or_default();
        if let Value::Object(fields) = &mut body {
            for name in OWN_FIELDS {
                fields.entry(name).or_insert(Value::Null);
            }
        }
        let metadata = &self.pod.metadata;
        let api: Api<Pod> =
            Api::namespaced(self.kubelet.client.clone(), metadata.namespace.as_deref().unwrap_or_default());
        // The uid keeps the status from landing on another pod of the same name.
        let patch = Patch::Merge(json!({ "metadata": { "uid": metadata.uid }, "status": body }));
        let name = metadata.name.as_deref().unwrap_or_default();
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(_) => (self.status, self.published) = (status, true),
            // The pod is gone or another one; the watch will tell.
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => self.published = true,
            Err(error) => {
                tracing::warn!(%error, "writing a pod's status");
                self.look_again(Timestamp::now() + super::RETRY);
            }
        }
    }

    /// Takes over conditions that others have written, so that they are not overwritten.
    fn adopt_conditions(&mut self) {
        const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
        let theirs = self.pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let foreign: Vec<_> = theirs.filter(|c| !OWN.contains(&c.type_.as_str())).cloned().collect();
        let conditions = self.status.conditions.get_or_insert_default();
        conditions.retain(|c| OWN.contains(&c.type_.as_str()));
        conditions.extend(foreign);
    }
}
