//! A pod's status, computed from what runs. Pure.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::lifecycle::{Outcome, Role};
use crate::runtime::sandbox::protocol::{Ended, Exit, Record};

/// A container as the status shows it.
pub(super) struct Seen<'a> {
    pub(super) spec: &'a Container,
    pub(super) role: Role,
    /// Attempts, oldest first.
    pub(super) records: &'a [Record],
    /// Why it does not run, when it neither runs nor has ended for good.
    pub(super) waiting: (&'a str, &'a str),
    pub(super) started: bool,
    pub(super) ready: bool,
    /// It has ended and will be started again.
    pub(super) restarting: bool,
}

impl Seen<'_> {
    fn latest(&self) -> Option<&Record> {
        self.records.last()
    }

    fn running(&self) -> bool {
        self.latest().is_some_and(|record| record.ended.is_none())
    }

    /// How it ended, when it stays so.
    fn finished(&self) -> Option<&Ended> {
        self.latest().and_then(|record| record.ended.as_ref()).filter(|_| !self.restarting)
    }

    fn is_ready(&self) -> bool {
        match self.role {
            Role::Init => self.finished().is_some_and(|ended| ended.exit == Exit::Code(0)),
            Role::Sidecar | Role::Main => self.running() && self.started && self.ready,
        }
    }

    /// Whether what comes after this init container may run.
    fn is_through(&self) -> bool {
        match self.role {
            Role::Init => self.is_ready(),
            Role::Sidecar => self.running() && self.started,
            Role::Main => true,
        }
    }

    fn status(&self) -> ContainerStatus {
        let latest = self.latest();
        let previous = self.records.len().checked_sub(2).and_then(|index| self.records.get(index));
        let (state, last) = match latest.map(|record| (record, &record.ended)) {
            None => (self.waiting(), None),
            Some((record, None)) => {
                let running = ContainerStateRunning { started_at: Some(time(record.started_at)) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, previous)
            }
            Some((_, Some(_))) if self.restarting => (self.waiting(), latest),
            Some((record, Some(ended))) => (terminated(record, ended), previous),
        };
        let last_state = last.and_then(|record| Some(terminated(record, record.ended.as_ref()?)));
        ContainerStatus {
            name: self.spec.name.clone(),
            image: self.spec.image.clone().unwrap_or_default(),
            image_id: latest.map(|record| record.image_id.clone()).unwrap_or_default(),
            container_id: latest.map(container_id),
            ready: self.is_ready(),
            restart_count: latest.map_or(0, |record| i32::try_from(record.attempt).unwrap_or(i32::MAX)),
            started: Some(self.running() && self.started),
            state: Some(state),
            last_state: Some(last_state.unwrap_or_default()),
            ..ContainerStatus::default()
        }
    }

    fn waiting(&self) -> ContainerState {
        let (reason, message) = self.waiting;
        let message = Some(message).filter(|m| !m.is_empty()).map(str::to_owned);
        let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
        ContainerState { waiting: Some(waiting), ..ContainerState::default() }
    }
}

/// The API keeps whole seconds; with more, a status would never equal itself once read back.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn container_id(record: &Record) -> String {
    format!("isthmus://{}", record.id)
}

fn terminated(record: &Record, ended: &Ended) -> ContainerState {
    let (reason, message) = match (&ended.failure, ended.exit) {
        (Some(failure), _) => ("StartError", failure.clone()),
        (None, Exit::Code(0)) => ("Completed", ended.message.clone()),
        (None, _) => ("Error", ended.message.clone()),
    };
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(record)),
        exit_code: ended.exit.code(),
        signal: None,
        reason: Some(reason.to_owned()),
        message: Some(message).filter(|m| !m.is_empty()),
        started_at: Some(time(record.started_at)),
        finished_at: Some(time(ended.at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// A pod as its status shows it.
pub(super) struct Report<'a> {
    pub(super) pod: &'a Pod,
    /// What was reported last, for what stays as it is.
    pub(super) before: &'a PodStatus,
    /// Init containers first.
    pub(super) containers: Vec<Seen<'a>>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) host: Ipv4Addr,
    pub(super) outcome: Option<Outcome>,
    /// Why the pod as a whole failed: reason and message.
    pub(super) verdict: Option<(&'a str, &'a str)>,
    /// The pod's namespaces exist.
    pub(super) sandbox: bool,
    /// The pod is to go, and nothing of it runs any more.
    pub(super) gone: bool,
    pub(super) now: Timestamp,
}

impl Report<'_> {
    pub(super) fn status(&self) -> PodStatus {
        let of = |init: bool| -> Vec<ContainerStatus> {
            self.containers.iter().filter(|c| (c.role != Role::Main) == init).map(Seen::status).collect()
        };
        let address = self.address.map(|a| a.to_string()).or_else(|| self.before.pod_ip.clone());
        let host = self.host.to_string();
        let init = of(true);
        PodStatus {
            phase: Some(self.phase().to_owned()),
            conditions: Some(self.conditions()),
            container_statuses: Some(of(false)),
            init_container_statuses: Some(init).filter(|list| !list.is_empty()),
            host_ip: Some(host.clone()),
            host_ips: Some(vec![HostIP { ip: host }]),
            pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
            pod_ip: address,
            start_time: self.before.start_time.clone().or(Some(time(self.now))),
            reason: self.verdict.map(|(reason, _)| reason.to_owned()),
            message: self.verdict.map(|(_, message)| message.to_owned()),
            qos_class: self.before.qos_class.clone().or_else(|| Some(qos_class(self.pod).to_owned())),
            nominated_node_name: self.before.nominated_node_name.clone(),
            ..PodStatus::default()
        }
    }

    fn initialized(&self) -> bool {
        let main_ran = self.containers.iter().any(|c| c.role == Role::Main && c.latest().is_some());
        main_ran || self.containers.iter().all(Seen::is_through)
    }

    fn phase(&self) -> &'static str {
        let mut main = self.containers.iter().filter(|c| c.role == Role::Main);
        match self.outcome {
            Some(Outcome::Succeeded) => return "Succeeded",
            Some(Outcome::Failed) => return "Failed",
            None if self.gone => {
                let well = |c: &Seen<'_>| c.finished().is_some_and(|ended| ended.exit == Exit::Code(0));
                return if main.all(well) { "Succeeded" } else { "Failed" };
            }
            None => {}
        }
        if self.initialized() && main.all(|c| c.latest().is_some()) { "Running" } else { "Pending" }
    }

    fn conditions(&self) -> Vec<PodCondition> {
        let over = self.outcome == Some(Outcome::Succeeded) || (self.gone && self.phase() == "Succeeded");
        let failed = !over && (self.outcome.is_some() || self.gone);
        let completed = over.then_some(("PodCompleted", String::new()));
        let names = |pick: &dyn Fn(&&Seen<'_>) -> bool| -> Vec<&str> {
            self.containers.iter().filter(pick).map(|c| c.spec.name.as_str()).collect()
        };
        let not_through = names(&|c| c.role != Role::Main && !c.is_through());
        let initialized = (!self.initialized()).then(|| {
            ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", not_through.join(" ")))
        });
        let unready = names(&|c| c.role != Role::Init && !c.is_ready());
        let waiting = (!unready.is_empty())
            .then(|| ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))));
        let failed = failed.then_some(("PodFailed", String::new()));
        let unready = completed.clone().or(failed).or(waiting);
        let gate = self.closed_gate();
        let mut conditions = vec![
            self.condition("PodReadyToStartContainers", self.sandbox, None),
            self.condition("Initialized", initialized.is_none() || over, initialized.filter(|_| !over).or(completed)),
            self.condition("Ready", unready.is_none() && gate.is_none(), unready.clone().or(gate)),
            self.condition("ContainersReady", unready.is_none(), unready),
            self.condition("PodScheduled", true, None),
        ];
        let theirs = self.before.conditions.iter().flatten();
        let foreign: Vec<PodCondition> =
            theirs.filter(|old| conditions.iter().all(|own| own.type_ != old.type_)).cloned().collect();
        conditions.extend(foreign);
        conditions
    }

    /// The first readiness gate that nobody has opened.
    fn closed_gate(&self) -> Option<(&'static str, String)> {
        let gates = self.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
        let current = self.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let open = |name: &str| current.clone().any(|c| c.type_ == name && c.status == "True");
        let closed = gates.map(|gate| gate.condition_type.as_str()).find(|name| !open(name))?;
        let message = format!("the status of pod readiness gate {closed:?} is not \"True\", but False");
        Some(("ReadinessGatesNotReady", message))
    }

    /// A condition; its time of transition stays while its status does.
    fn condition(&self, kind: &str, holds: bool, why: Option<(&str, String)>) -> PodCondition {
        let status = if holds { "True" } else { "False" };
        let mut before = self.before.conditions.iter().flatten();
        let same = before.find(|old| old.type_ == kind && old.status == status);
        let (reason, message) = why.map_or((None, None), |(reason, message)| (Some(reason.to_owned()), Some(message)));
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message: message.filter(|m| !m.is_empty()),
            last_transition_time: same.and_then(|old| old.last_transition_time.clone()).or(Some(time(self.now))),
            ..PodCondition::default()
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by the resources of all containers.
fn qos_class(pod: &Pod) -> &'static str {
    let spec = pod.spec.iter();
    let all: Vec<&Container> =
        spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten())).collect();
    let resources = |c: &&Container| c.resources.clone().unwrap_or_default();
    let none = |c: &&Container| {
        let r = resources(c);
        r.limits.is_none_or(|l| l.is_empty()) && r.requests.is_none_or(|r| r.is_empty())
    };
    let full = |c: &&Container| {
        let r = resources(c);
        let limits = r.limits.unwrap_or_default();
        let requests = r.requests.unwrap_or_default();
        ["cpu", "memory"].iter().all(|name| {
            limits.get(*name).is_some_and(|limit| requests.get(*name).is_none_or(|request| request == limit))
        })
    };
    if all.iter().all(none) {
        "BestEffort"
    } else if all.iter().all(full) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests;
