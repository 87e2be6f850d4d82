//! One pod's task: brings what runs in line with what the pod asks for, again and again.

mod report;
mod start;
mod stop;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::stop::Stop;
use super::Kubelet;
use super::event::Kind;
use super::lifecycle::{self, Backoff, Outcome, RestartPolicy, Role, State, View};
use super::network_files;
use super::probe::Probes;
use crate::runtime::sandbox::Sandbox;
use crate::runtime::sandbox::protocol::{Ended, Exit, Record, Reply, Request};
use crate::runtime::sandbox::record::{self, Paths, Records};
use crate::runtime::volume::{Sources, Volumes};

/// How long to wait before something that failed outside of the containers is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// What is remembered of a pod in its directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) address: Option<Ipv4Addr>,
    /// When the present sandbox was made: init containers that ran before count for nothing.
    sandbox_since: Option<Timestamp>,
    /// Whether that sandbox has its network. One that was left without is replaced.
    #[serde(default)]
    attached: bool,
}

impl Kept {
    pub(super) fn load(directory: &std::path::Path) -> Kept {
        let text = std::fs::read(directory.join("pod.json")).unwrap_or_default();
        // Without it the pod is started anew, which is right for a file that was never finished.
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn save(&self, directory: &std::path::Path) -> std::io::Result<()> {
        let new = directory.join("pod.json.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, directory.join("pod.json"))
    }
}

/// Wakes a pod's task.
#[derive(Default)]
pub(super) struct Wake {
    pub(super) notify: Arc<Notify>,
    /// Something that the pod is made from has changed: a ConfigMap, a Secret, the catalog.
    changed: AtomicBool,
}

impl Wake {
    pub(super) fn changed(&self) {
        self.changed.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

/// The pod process and the task that follows it.
struct Live {
    sandbox: Sandbox,
    follower: JoinHandle<()>,
    lost: Arc<AtomicBool>,
    /// Which of the cluster's networks the pod is attached to; `None` for one that has just been found.
    network: Option<u64>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// What is remembered of a container between two rounds.
#[derive(Default)]
struct Slot {
    /// Reason and message of its waiting state.
    waiting: Option<(&'static str, String)>,
    /// Refused for what may change: image, configuration. Counts the refusals.
    refusals: Backoff,
    /// The same refusal is told once.
    refused: Option<String>,
    ends: Backoff,
    /// The container whose end has been counted.
    counted: Option<String>,
    not_before: Option<Timestamp>,
    /// The container that probes and hook belong to.
    following: Option<String>,
    probes: Option<Probes>,
    /// Runs until the postStart hook is through; its error ends the container.
    hook: Option<JoinHandle<Result<(), String>>>,
    stop: Option<Stop>,
}

pub(super) struct Worker {
    kubelet: Arc<Kubelet>,
    pod: Arc<Pod>,
    directory: PathBuf,
    wake: Arc<Wake>,
    live: Option<Live>,
    kept: Kept,
    records: Records,
    slots: BTreeMap<String, Slot>,
    volumes: Volumes,
    volumes_ready: bool,
    /// The last complaint about the sandbox or the volumes, which is told once.
    complaint: Option<String>,
    outcome: Option<Outcome>,
    verdict: Option<(&'static str, &'static str)>,
    status: PodStatus,
    published: bool,
    deleted: bool,
    /// When to look again by itself; gathered anew in each round.
    next: Option<Timestamp>,
}

impl Worker {
    pub(super) fn new(kubelet: Arc<Kubelet>, pod: Arc<Pod>, wake: Arc<Wake>) -> Worker {
        let directory = kubelet.directory(pod.metadata.uid.as_deref().unwrap_or_default());
        let status = pod.status.clone().unwrap_or_default();
        let outcome = match status.phase.as_deref() {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed),
            _ => None,
        };
        Worker {
            volumes: Volumes::new(&directory),
            kept: Kept::load(&directory),
            kubelet,
            pod,
            directory,
            wake,
            live: None,
            records: Records::new(),
            slots: BTreeMap::new(),
            volumes_ready: false,
            complaint: None,
            outcome,
            verdict: None,
            status,
            published: false,
            deleted: false,
            next: None,
        }
    }

    /// Runs until the pod is gone from the API: then `pods` closes.
    pub(super) async fn run(mut self, mut pods: watch::Receiver<Arc<Pod>>) {
        match Sandbox::find(&self.directory).await {
            Some(sandbox) if self.kept.attached => self.live = Some(self.follow(sandbox, None)),
            Some(unfinished) => {
                if let Err(failure) = unfinished.stop().await {
                    tracing::error!(pod = %self.directory.display(), %failure, "ending an unfinished pod");
                }
            }
            None => {}
        }
        loop {
            self.pod = pods.borrow_and_update().clone();
            self.round().await;
            let pause = self.next.map_or(Duration::from_secs(3600), |next| {
                Duration::try_from(next.duration_since(Timestamp::now())).unwrap_or_default()
            });
            tokio::select! {
                changed = pods.changed() => if changed.is_err() { break },
                () = self.wake.notify.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.discard().await;
    }

    async fn round(&mut self) {
        self.next = None;
        self.reload().await;
        if self.wake.changed.swap(false, Ordering::AcqRel) {
            self.volumes_ready = false;
            for slot in self.slots.values_mut().filter(|slot| slot.refused.is_some()) {
                slot.not_before = None;
            }
        }
        self.check_deadline();
        if !self.is_ending() {
            self.advance().await;
        }
        if self.is_ending() {
            self.finish().await;
        }
        self.publish().await;
        self.remove_from_api().await;
    }

    fn look_again(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    fn policy(&self) -> RestartPolicy {
        RestartPolicy::parse(self.spec().and_then(|spec| spec.restart_policy.as_deref()))
    }

    /// Init containers, then containers.
    fn containers(&self) -> Vec<(Role, Container)> {
        let Some(spec) = self.spec() else { return Vec::new() };
        let init = spec.init_containers.iter().flatten().map(|c| {
            let sidecar = c.restart_policy.as_deref() == Some("Always");
            (if sidecar { Role::Sidecar } else { Role::Init }, c.clone())
        });
        init.chain(spec.containers.iter().map(|c| (Role::Main, c.clone()))).collect()
    }

    fn latest(&self, container: &str) -> Option<&Record> {
        self.records.get(container).and_then(|attempts| attempts.last())
    }

    /// The container's own ID, while it runs.
    fn running(&self, container: &str) -> Option<&Record> {
        self.latest(container).filter(|record| record.ended.is_none())
    }

    fn sandbox(&self) -> Option<&Sandbox> {
        self.live.as_ref().filter(|live| !live.lost.load(Ordering::Acquire)).map(|live| &live.sandbox)
    }

    fn is_ending(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some() || self.outcome.is_some()
    }

    /// Learns from disk what the containers have done.
    async fn reload(&mut self) {
        match record::load(&self.directory) {
            Ok(records) => self.records = records,
            Err(error) => tracing::error!(pod = %self.directory.display(), %error, "reading the containers' records"),
        }
        if self.sandbox().is_none() {
            self.live = None;
            self.bury();
        }
        let ended: Vec<(String, Record)> =
            self.records.iter().filter_map(|(name, all)| Some((name.clone(), all.last()?.clone()))).collect();
        for (name, record) in ended {
            let Some(end) = &record.ended else { continue };
            let slot = self.slots.entry(name).or_default();
            if slot.counted.as_ref() == Some(&record.id) {
                continue;
            }
            if slot.counted.is_none() {
                slot.ends = Backoff::after(record.attempt);
            }
            let delay = slot.ends.next(end.at.duration_since(record.started_at));
            slot.not_before = Some(end.at + delay);
            slot.counted = Some(record.id);
            (slot.probes, slot.hook, slot.stop, slot.following) = (None, None, None, None);
        }
    }

    /// Records the end of containers whose pod process has died under them.
    fn bury(&mut self) {
        for record in self.records.values_mut().filter_map(|attempts| attempts.last_mut()) {
            if record.ended.is_none() {
                let exit = Exit::Signal(9);
                let message = "the pod's processes are gone".to_owned();
                record.ended = Some(Ended { at: Timestamp::now(), exit, failure: None, message });
                let paths = Paths::new(&self.directory, &record.name, record.attempt);
                if let Err(error) = paths.save(record) {
                    tracing::error!(container = record.name, %error, "recording a container's end");
                }
            }
        }
    }

    fn check_deadline(&mut self) {
        let seconds = self.spec().and_then(|spec| spec.active_deadline_seconds);
        let (Some(seconds), Some(start)) = (seconds, &self.status.start_time) else { return };
        if self.outcome.is_some() {
            return;
        }
        let deadline = start.0 + SignedDuration::from_secs(seconds);
        if deadline > Timestamp::now() {
            self.look_again(deadline);
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline";
        self.outcome = Some(Outcome::Failed);
        self.verdict = Some(("DeadlineExceeded", message));
        self.kubelet.events.pod(&self.pod, None, Kind::Warning, "DeadlineExceeded", message.to_owned());
    }

    fn view(&self, role: Role, name: &str) -> View {
        let fresh = |record: &&Record| {
            role != Role::Init || self.kept.sandbox_since.is_none_or(|since| record.started_at >= since)
        };
        let slot = self.slots.get(name);
        let state = match self.latest(name).filter(fresh) {
            None => State::Absent,
            Some(Record { ended: Some(ended), .. }) => State::Ended { code: ended.exit.code() },
            Some(_) => State::Running { started: slot.is_some_and(Slot::is_started) },
        };
        View { role, state, not_before: slot.and_then(|slot| slot.not_before) }
    }

    /// Takes the next steps of a pod that is to run.
    async fn advance(&mut self) {
        if let Err(complaint) = self.ensure_sandbox().await {
            self.complain("FailedCreatePodSandBox", &complaint);
            return;
        }
        if let Err(complaint) = self.ensure_volumes().await {
            self.complain("FailedMount", &complaint);
            // What runs goes on with the volumes it has.
            if self.records.is_empty() {
                return;
            }
        } else {
            self.complaint = None;
        }
        let containers = self.containers();
        for (_, container) in &containers {
            self.watch_over(container).await;
        }
        let views: Vec<View> = containers.iter().map(|(role, c)| self.view(*role, &c.name)).collect();
        let plan = lifecycle::plan(self.policy(), &views, Timestamp::now());
        for (_, container) in plan.waiting.iter().filter_map(|index| containers.get(*index)) {
            self.wait(container);
        }
        for (_, container) in plan.start.iter().filter_map(|index| containers.get(*index)) {
            self.start(container).await;
        }
        self.outcome = plan.outcome;
        if let Some(at) = self.volumes.next_refresh() {
            self.look_again(at);
        }
    }

    /// Tells a failure of the pod as a whole, once, and has it tried again.
    fn complain(&mut self, reason: &'static str, complaint: &str) {
        self.look_again(Timestamp::now() + RETRY);
        if self.complaint.as_deref() != Some(complaint) {
            self.kubelet.events.pod(&self.pod, None, Kind::Warning, reason, complaint.to_owned());
            self.complaint = Some(complaint.to_owned());
        }
    }

    /// The waiting state and the event of a container that must not be started yet.
    fn wait(&mut self, container: &Container) {
        let metadata = &self.pod.metadata;
        let pod_name = format!(
            "{}_{}({})",
            metadata.name.as_deref().unwrap_or_default(),
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.uid.as_deref().unwrap_or_default()
        );
        let crashed = self.latest(&container.name).is_some();
        let slot = self.slots.entry(container.name.clone()).or_default();
        let Some(until) = slot.not_before else { return };
        let name = &container.name;
        if slot.refused.is_none() && crashed {
            let left = until.duration_since(Timestamp::now()).as_secs() + 1;
            let reason = "CrashLoopBackOff";
            if slot.waiting.as_ref().is_none_or(|(old, _)| *old != reason) {
                let message = format!("Back-off restarting failed container {name} in pod {pod_name}");
                self.kubelet.events.pod(&self.pod, Some(name), Kind::Warning, "BackOff", message);
                let message = format!("back-off {left}s restarting failed container={name} pod={pod_name}");
                slot.waiting = Some((reason, message));
            }
        } else if let Some(("ErrImagePull", message)) = &slot.waiting {
            let image = container.image.as_deref().unwrap_or_default();
            let told = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
            self.kubelet.events.pod(&self.pod, Some(name), Kind::Normal, "BackOff", told.clone());
            slot.waiting = Some(("ImagePullBackOff", told));
        }
        self.look_again(until);
    }

    async fn ensure_sandbox(&mut self) -> Result<(), String> {
        let spec = self.spec().cloned().unwrap_or_default();
        for (set, name) in [(spec.host_network, "hostNetwork"), (spec.host_pid, "hostPID"), (spec.host_ipc, "hostIPC")]
        {
            if set == Some(true) {
                return Err(format!("{name} is not supported: every pod has namespaces of its own"));
            }
        }
        if let Some(sandbox) = self.sandbox().cloned() {
            return self.ensure_attached(&sandbox).await;
        }
        let failed = |e: std::io::Error| format!("making the pod's directory: {e}");
        std::fs::create_dir_all(self.directory.join("root")).map_err(failed)?;
        let address = match self.kept.address {
            Some(address) => address,
            None => self.kubelet.take_address().ok_or("every address of the pod range is taken")?,
        };
        self.kept = Kept { address: Some(address), sandbox_since: Some(Timestamp::now()), attached: false };
        self.kept.save(&self.directory).map_err(failed)?;
        let config = &self.kubelet.config;
        let nameserver = config.plan.dns_service(config.index);
        network_files::write(&self.directory, &self.pod, address, nameserver).map_err(failed)?;
        let metadata = &self.pod.metadata;
        let title = [metadata.namespace.as_deref(), metadata.name.as_deref()].map(Option::unwrap_or_default).join("/");
        let hostname = network_files::hostname(&self.pod);
        let started = Sandbox::start(&self.directory, config.executable.clone(), &hostname, title).await;
        let (sandbox, namespace) = started.map_err(|e| e.message)?;
        let network = *self.kubelet.network.renewals().borrow();
        let attached = self.kubelet.network.attach(std::os::fd::AsFd::as_fd(&namespace), address).await;
        if let Err(error) = attached {
            sandbox.stop().await.map_err(|e| e.message)?;
            return Err(error.to_string());
        }
        self.kept.attached = true;
        self.kept.save(&self.directory).map_err(failed)?;
        self.volumes_ready = false;
        self.live = Some(self.follow(sandbox, Some(network)));
        Ok(())
    }

    /// Attaches a living pod to the network when that was replaced, also while no cluster process was looking.
    async fn ensure_attached(&mut self, sandbox: &Sandbox) -> Result<(), String> {
        let network = Some(*self.kubelet.network.renewals().borrow());
        let (Some(live), Some(address)) = (self.live.as_mut(), self.kept.address) else { return Ok(()) };
        if live.network == network {
            return Ok(());
        }
        let namespace = sandbox.hello().await.map_err(|e| e.message)?;
        let attached = self.kubelet.network.attach(std::os::fd::AsFd::as_fd(&namespace), address).await;
        attached.map_err(|e| e.to_string())?;
        live.network = network;
        Ok(())
    }

    /// Wakes this task whenever a container of the sandbox changes, or the sandbox dies.
    fn follow(&self, sandbox: Sandbox, network: Option<u64>) -> Live {
        let (wake, lost) = (self.wake.notify.clone(), Arc::new(AtomicBool::new(false)));
        let (followed, gone) = (sandbox.clone(), lost.clone());
        let follower = tokio::spawn(async move {
            if let Ok(mut connection) = followed.connect(Request::Watch, Vec::new()).await {
                while let Ok(Reply::Containers(_)) = connection.next().await {
                    wake.notify_one();
                }
            }
            gone.store(true, Ordering::Release);
            wake.notify_one();
        });
        Live { sandbox, follower, lost, network }
    }

    async fn ensure_volumes(&mut self) -> Result<(), String> {
        let due = self.volumes.next_refresh().is_some_and(|at| at <= Timestamp::now());
        let Some(sandbox) = self.sandbox().filter(|_| !self.volumes_ready || due).cloned() else { return Ok(()) };
        let pod = self.pod.clone();
        let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
        let group = group.and_then(|g| u32::try_from(g).ok()).filter(|g| self.kubelet.groups.covers(*g));
        let sources = Sources {
            client: self.kubelet.client.clone(),
            namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
            facts: self.kubelet.facts(&pod, self.kept.address),
            group,
        };
        self.volumes.prepare(&sources, &sandbox).await.map_err(|e| e.to_string())?;
        self.volumes_ready = true;
        Ok(())
    }

    /// Removes everything of a pod that is gone from the API.
    async fn discard(&mut self) {
        self.live = None;
        let directory = self.directory.clone();
        let removed = tokio::task::spawn_blocking(move || super::remove_pod(&directory)).await;
        match removed.map_err(std::io::Error::other).flatten() {
            Ok(()) => {}
            Err(error) => tracing::error!(pod = %self.directory.display(), %error, "removing a pod"),
        }
        self.free_address();
    }

    fn free_address(&mut self) {
        if let Some(address) = self.kept.address.take() {
            self.kubelet.free_address(address);
        }
    }
}
