//! The kubelet: runs the pods that are bound to this node.

mod action;
mod address;
mod blueprint;
mod environment;
mod event;
pub(crate) mod field;
mod hook;
mod images;
mod lifecycle;
mod machine;
mod network_files;
mod probe;
mod status;
mod worker;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use tokio::sync::{oneshot, watch};

use self::address::Addresses;
use self::event::Recorder;
use self::field::Facts;
use self::images::Images;
use self::machine::Machine;
use self::worker::{Kept, Wake, Worker};
use super::container::identity::IdMap;
use super::volume::{Dependency, dependencies};
use super::{NodeConfig, sandbox};
use crate::network::ClusterNetwork;

/// The node's state, shared by the tasks of its pods.
pub(super) struct Kubelet {
    pub(super) config: NodeConfig,
    pub(super) client: kube::Client,
    network: ClusterNetwork,
    machine: Machine,
    events: Recorder,
    images: Images,
    users: IdMap,
    groups: IdMap,
    addresses: Mutex<Addresses>,
    pods: Mutex<HashMap<String, Running>>,
}

/// A pod's task as the watches see it. The task ends the pod when this is dropped.
struct Running {
    pod: watch::Sender<Arc<Pod>>,
    wake: Arc<Wake>,
    namespace: String,
    dependencies: BTreeSet<Dependency>,
}

/// Ends whatever runs of a pod and removes its directory.
pub(super) fn remove_pod(directory: &Path) -> io::Result<()> {
    sandbox::kill_pod(directory)?;
    match std::fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Kubelet {
    /// Registers the node and starts running its pods. Returns when those that there were before have been looked at:
    /// each that the API has is handed to its task, and what the API does not have any more is ended.
    pub(super) async fn start(
        config: NodeConfig,
        network: ClusterNetwork,
        client: kube::Client,
    ) -> Result<Arc<Kubelet>, String> {
        let pods = pods_directory(&config.home, &config.cluster);
        std::fs::create_dir_all(&pods).map_err(|e| format!("{}: {e}", pods.display()))?;
        let range = config.plan.pods(config.index);
        let used = used_addresses(&pods).map_err(|e| format!("{}: {e}", pods.display()))?;
        let machine = Machine {
            name: format!("{}-node", config.cluster),
            address: config.plan.node(config.index),
            pod_range: range.to_string(),
        };
        machine.register(&client).await.map_err(|e| format!("registering the node: {e}"))?;
        let events = Recorder::start(client.clone(), machine.name.clone());
        events.node(&machine.name, "Starting", "Starting kubelet.".to_owned());
        let map = |file| IdMap::read(file).map_err(|e| format!("reading {file}: {e}"));
        let kubelet = Arc::new(Kubelet {
            images: Images::new(config.home.clone()),
            config,
            client: client.clone(),
            network,
            machine: machine.clone(),
            events,
            users: map("uid_map")?,
            groups: map("gid_map")?,
            addresses: Mutex::new(Addresses::new(range, used)),
            pods: Mutex::default(),
        });
        tokio::spawn(machine.keep_alive(client));
        let (listed, first_list) = oneshot::channel();
        tokio::spawn(kubelet.clone().watch_pods(listed));
        tokio::spawn(
            kubelet.clone().watch_dependency(|_: &PartialObjectMeta<ConfigMap>, name| Dependency::ConfigMap(name)),
        );
        tokio::spawn(kubelet.clone().watch_dependency(|_: &PartialObjectMeta<Secret>, name| Dependency::Secret(name)));
        tokio::spawn(kubelet.clone().watch_images());
        tokio::spawn(kubelet.clone().watch_network());
        first_list.await.map_err(|_| "the node's pods are not watched".to_owned())?;
        Ok(kubelet)
    }

    /// Where a pod is kept.
    pub(super) fn directory(&self, uid: &str) -> PathBuf {
        pods_directory(&self.config.home, &self.config.cluster).join(uid)
    }

    fn facts<'a>(&'a self, pod: &'a Pod, address: Option<Ipv4Addr>) -> Facts<'a> {
        Facts { pod, address, host: self.machine.address, node: &self.machine.name }
    }

    /// Whether users other than root exist for pods.
    pub(super) fn maps_users(&self) -> bool {
        self.users.covers(1)
    }

    fn take_address(&self) -> Option<Ipv4Addr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn free_address(&self, address: Ipv4Addr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).free(address);
    }

    /// Entries are inserted and removed in single steps.
    fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch_pods(self: Arc<Kubelet>, first_list: oneshot::Sender<()>) {
        let mut first_list = Some(first_list);
        let api: Api<Pod> = Api::all(self.client.clone());
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", self.machine.name));
        let mut events = watcher(api, mine).boxed();
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.extend(pod.uid());
                    self.update(pod);
                }
                Ok(Event::InitDone) => {
                    self.sweep(&listed);
                    // Nobody waits any more when the cluster is about to end.
                    let _ = first_list.take().map(|first| first.send(()));
                }
                Ok(Event::Apply(pod)) => self.update(pod),
                Ok(Event::Delete(pod)) => {
                    self.running().remove(&pod.uid().unwrap_or_default());
                }
                Err(error) => {
                    tracing::warn!(%error, "watching the node's pods");
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// Hands a pod to its task, which is started when there is none.
    fn update(self: &Arc<Kubelet>, pod: Pod) {
        let Some(uid) = pod.uid().filter(|uid| is_plain(uid)) else {
            return tracing::error!(pod = pod.name_any(), "a pod without a usable uid is not run");
        };
        let (namespace, dependencies) = (pod.namespace().unwrap_or_default(), dependencies(&pod));
        let pod = Arc::new(pod);
        let mut running = self.running();
        if let Some(known) = running.get_mut(&uid) {
            if known.pod.borrow().metadata.annotations != pod.metadata.annotations
                || known.pod.borrow().metadata.labels != pod.metadata.labels
            {
                known.wake.changed();
            }
            known.dependencies = dependencies;
            known.pod.send_replace(pod);
            return;
        }
        let wake = Arc::new(Wake::default());
        let worker = Worker::new(self.clone(), pod.clone(), wake.clone());
        let (sender, receiver) = watch::channel(pod);
        running.insert(uid, Running { pod: sender, wake, namespace, dependencies });
        tokio::spawn(worker.run(receiver));
    }

    /// Ends pods that the API no longer has.
    fn sweep(&self, listed: &BTreeSet<String>) {
        self.running().retain(|uid, _| listed.contains(uid));
        let pods = pods_directory(&self.config.home, &self.config.cluster);
        let found = std::fs::read_dir(&pods).into_iter().flatten().flatten();
        for entry in found {
            let (path, uid) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if listed.contains(&uid) || self.running().contains_key(&uid) {
                continue;
            }
            let address = Kept::load(&path).address;
            match remove_pod(&path) {
                Ok(()) => address.into_iter().for_each(|address| self.free_address(address)),
                Err(error) => tracing::error!(pod = uid, %error, "ending a pod that was deleted meanwhile"),
            }
        }
    }

    /// Wakes the pods that are made from an object when it changes.
    async fn watch_dependency<K>(self: Arc<Kubelet>, dependency: fn(&PartialObjectMeta<K>, String) -> Dependency)
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::all(self.client.clone());
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
                    let namespace = object.namespace().unwrap_or_default();
                    let changed = dependency(&object, object.name_any());
                    let running = self.running();
                    let concerned = |pod: &&Running| pod.namespace == namespace && pod.dependencies.contains(&changed);
                    running.values().filter(concerned).for_each(|pod| pod.wake.changed());
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => {
                    tracing::warn!(%error, "watching what pods are made from");
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                }
            }
        }
    }

    async fn watch_images(self: Arc<Kubelet>) {
        loop {
            self.images.changed().await;
            self.running().values().for_each(|pod| pod.wake.changed());
        }
    }
}

impl Kubelet {
    /// Has every pod attached again when the network was replaced.
    async fn watch_network(self: Arc<Kubelet>) {
        let mut renewals = self.network.renewals();
        while renewals.changed().await.is_ok() {
            self.running().values().for_each(|pod| pod.wake.notify.notify_one());
        }
    }
}

/// A uid becomes a directory's name.
fn is_plain(uid: &str) -> bool {
    !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Where the pods of a cluster are kept.
pub(super) fn pods_directory(home: &Path, cluster: &str) -> PathBuf {
    home.join(cluster).join("pods")
}

fn used_addresses(pods: &Path) -> io::Result<Vec<Ipv4Addr>> {
    let mut used = Vec::new();
    for entry in std::fs::read_dir(pods)? {
        used.extend(Kept::load(&entry?.path()).address);
    }
    Ok(used)
}
