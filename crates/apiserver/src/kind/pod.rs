//! Pods and their templates, and how the state of a pod is summed up in a word.

use std::collections::HashSet;

use api::GroupVersion;
use k8s_openapi::api::core::v1 as core;
use serde_json::Value;

use super::cell::{self, NONE, list_at, number_at, or, text, text_at, wide};
use super::{Kind, builtin};

const CONNECT: &[&str] = &["create", "get"];

pub(super) fn kinds() -> Vec<Kind> {
    let v1 = || GroupVersion::parse("v1");
    let pod = builtin::stored::<core::Pod>("pod", &["po"])
        .in_all()
        .with_status()
        .with_subresource("attach", v1(), "PodAttachOptions", CONNECT)
        .with_subresource("binding", v1(), "Binding", &["create"])
        .with_subresource("eviction", GroupVersion::parse("policy/v1"), "Eviction", &["create"])
        .with_subresource("exec", v1(), "PodExecOptions", CONNECT)
        .with_subresource("log", v1(), "Pod", &["get"])
        .with_subresource("portforward", v1(), "PodPortForwardOptions", CONNECT)
        .with_fields(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ])
        .with_columns(
            vec![
                text("Ready", "How many of the pod's containers are ready."),
                text("Status", "The state of the pod's containers in a word."),
                text("Restarts", "How often containers of the pod were restarted, and when last."),
                cell::age_column(),
                wide("IP", "The pod's address."),
                wide("Node", "The node that the pod runs on."),
                wide("Nominated Node", "The node on which room is being made for the pod."),
                wide("Readiness Gates", "How many of the pod's readiness gates have passed."),
            ],
            row,
        );
    vec![pod]
}

fn row(pod: &Value, now: i64) -> Vec<Value> {
    let state = State::of(pod);
    let restarts = match &state.last_restart {
        Some(time) if state.restarts > 0 => format!("{} ({} ago)", state.restarts, cell::since(time, now)),
        _ => state.restarts.to_string(),
    };
    let address = or(text_at(pod, "/status/podIPs/0/ip"), text_at(pod, "/status/podIP"));
    vec![
        format!("{}/{}", state.ready, state.total).into(),
        state.reason.into(),
        restarts.into(),
        cell::age(pod, now),
        or(address, NONE).into(),
        or(text_at(pod, "/spec/nodeName"), NONE).into(),
        or(text_at(pod, "/status/nominatedNodeName"), NONE).into(),
        readiness_gates(pod).into(),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let kinds = gates.iter().filter_map(|g| g["conditionType"].as_str());
    format!("{}/{}", kinds.filter(|kind| cell::condition(pod, kind)).count(), gates.len())
}

/// What a pod's containers amount to.
struct State {
    reason: String,
    total: usize,
    ready: usize,
    restarts: i64,
    /// The latest end of a container that was restarted, in RFC 3339.
    last_restart: Option<String>,
}

impl State {
    fn of(pod: &Value) -> State {
        let sidecars: HashSet<&str> = list_at(pod, "/spec/initContainers")
            .iter()
            .filter(|c| c["restartPolicy"] == "Always")
            .filter_map(|c| c["name"].as_str())
            .collect();
        let phase = text_at(pod, "/status/phase");
        let gated = list_at(pod, "/status/conditions")
            .iter()
            .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
        let reason = or(text_at(pod, "/status/reason"), phase);
        let mut state = State {
            reason: if gated { "SchedulingGated" } else { reason }.to_owned(),
            total: cell::count_at(pod, "/spec/containers") + sidecars.len(),
            ready: 0,
            restarts: 0,
            last_restart: None,
        };
        let mut of_sidecars = (0, None);
        let initializing = state.add_init_containers(pod, &sidecars, &mut of_sidecars);
        if !initializing || cell::condition(pod, "Initialized") {
            (state.restarts, state.last_restart) = of_sidecars;
            state.add_containers(pod);
        }
        state.add_deletion(pod, phase);
        state
    }

    /// Whether an init container is still to finish; the restarts of sidecars are counted apart too.
    fn add_init_containers(
        &mut self,
        pod: &Value,
        sidecars: &HashSet<&str>,
        of_sidecars: &mut (i64, Option<String>),
    ) -> bool {
        for (index, container) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
            let sidecar = container["name"].as_str().is_some_and(|name| sidecars.contains(name));
            self.add_restarts(container);
            if sidecar {
                of_sidecars.0 += number_at(container, "/restartCount");
                later(&mut of_sidecars.1, text_at(container, "/lastState/terminated/finishedAt"));
            }
            let terminated = container.pointer("/state/terminated");
            let waiting = text_at(container, "/state/waiting/reason");
            if terminated.is_some_and(|t| number_at(t, "/exitCode") == 0) {
                continue;
            }
            if sidecar && container["started"] == true {
                self.ready += usize::from(container["ready"] == true);
                continue;
            }
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", ending(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", cell::count_at(pod, "/spec/initContainers")),
            };
            return true;
        }
        false
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        // The first container has the last word.
        for container in list_at(pod, "/status/containerStatuses").iter().rev() {
            self.add_restarts(container);
            let waiting = text_at(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = container.pointer("/state/terminated") {
                self.reason = ending(terminated);
            } else if container["ready"] == true && container.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if cell::condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn add_restarts(&mut self, container: &Value) {
        self.restarts += number_at(container, "/restartCount");
        later(&mut self.last_restart, text_at(container, "/lastState/terminated/finishedAt"));
    }

    fn add_deletion(&mut self, pod: &Value, phase: &str) {
        if text_at(pod, "/metadata/deletionTimestamp").is_empty() {
            return;
        }
        if text_at(pod, "/status/reason") == "NodeLost" {
            self.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            self.reason = "Terminating".to_owned();
        }
    }
}

/// Keeps the later of two times.
fn later(latest: &mut Option<String>, time: &str) {
    let newer = latest.as_deref().is_none_or(|known| cell::seconds(known) < cell::seconds(time));
    if newer && cell::seconds(time).is_some() {
        *latest = Some(time.to_owned());
    }
}

/// Why a container ended: its reason, or else its signal or exit code.
fn ending(terminated: &Value) -> String {
    let (reason, signal) = (text_at(terminated, "/reason"), number_at(terminated, "/signal"));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number_at(terminated, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(pod: &Value) -> String {
        let now = cell::seconds("2026-11-21T10:00:00Z").unwrap();
        let cells = row(pod, now);
        let texts: Vec<&str> = cells.iter().take(4).map(|c| c.as_str().unwrap()).collect();
        texts.join(" ")
    }

    #[test]
    fn a_running_pod_shows_its_restarts() {
        let pod = json!({
            "metadata": {"creationTimestamp": "2026-11-21T09:55:52Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"ready": true, "restartCount": 1, "state": {"running": {}},
                 "lastState": {"terminated": {"finishedAt": "2026-11-21T09:59:55Z"}}},
                {"ready": false, "restartCount": 0, "state": {"running": {}}},
            ]},
        });
        assert_eq!(shown(&pod), "1/2 Running 1 (5s ago) 4m8s");
    }

    #[test]
    fn the_reason_of_a_failing_container_is_the_status() {
        let status = |containers: Value, init: Value| {
            json!({
                "metadata": {"creationTimestamp": "2026-11-21T09:59:50Z"},
                "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
                "status": {"phase": "Pending", "containerStatuses": containers, "initContainerStatuses": init},
            })
        };
        let done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]);
        for (containers, init, expected) in [
            (json!([{"state": {"waiting": {"reason": "ErrImagePull"}}}]), done.clone(), "0/1 ErrImagePull 0 10s"),
            (json!([{"state": {"terminated": {"exitCode": 3}}}]), done.clone(), "0/1 ExitCode:3 0 10s"),
            (json!([{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]), done, "0/1 Signal:9 0 10s"),
            (json!([]), json!([{"name": "i", "state": {"running": {}}}]), "0/1 Init:0/1 0 10s"),
            (
                json!([]),
                json!([{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
                "0/1 Init:CrashLoopBackOff 2 10s",
            ),
            (
                json!([]),
                json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]),
                "0/1 Init:Error 0 10s",
            ),
        ] {
            assert_eq!(shown(&status(containers, init)), expected);
        }
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let pod = json!({
            "metadata": {"creationTimestamp": "2026-11-21T09:59:50Z", "deletionTimestamp": "2026-11-21T09:59:59Z"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {
                "phase": "Running",
                "initContainerStatuses": [
                    {"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}},
                ],
                "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}}],
            },
        });
        assert_eq!(shown(&pod), "2/2 Terminating 1 10s");
    }
}
