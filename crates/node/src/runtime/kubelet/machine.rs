//! The Node object: what the machine has, and that it is alive.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// How often the Lease is renewed, and how long it lasts, as kubelet has it.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// Kubelet's default; an address range this size is never the limit.
const MOST_PODS: u32 = 110;
const LEASES: &str = "kube-node-lease";

/// The machine as the cluster's node.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// The Node's name.
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) pod_range: String,
}

/// What a container may use when it sets no limit: the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) cpus: u32,
    /// In bytes.
    pub(super) memory: u64,
}

impl Capacity {
    pub(super) fn read() -> Capacity {
        let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        Capacity { cpus, memory: kib.unwrap_or_default() << 10 }
    }
}

impl Machine {
    /// Creates the Node object, or brings it up to date.
    pub(super) async fn register(&self, client: &kube::Client) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(client.clone());
        let labels = BTreeMap::from(
            [
                ("kubernetes.io/hostname", self.name.as_str()),
                ("kubernetes.io/os", "linux"),
                ("kubernetes.io/arch", architecture()),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let metadata = ObjectMeta { name: Some(self.name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        let mut node = Node { metadata, ..Node::default() };
        node.spec = Some(
            serde_json::from_value(json!({ "podCIDR": self.pod_range, "podCIDRs": [self.pod_range] }))
                .map_err(kube::Error::SerdeError)?,
        );
        match nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
        let patch = Patch::Merge(json!({ "status": self.status() }));
        nodes.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    fn status(&self) -> NodeStatus {
        let capacity = Capacity::read();
        let quantities = BTreeMap::from([
            ("cpu".to_owned(), Quantity(capacity.cpus.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", capacity.memory >> 10))),
            ("pods".to_owned(), Quantity(MOST_PODS.to_string())),
        ]);
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        NodeStatus {
            addresses: Some(vec![
                address("InternalIP", self.address.to_string()),
                address("Hostname", self.name.clone()),
            ]),
            allocatable: Some(quantities.clone()),
            capacity: Some(quantities),
            conditions: Some(conditions()),
            daemon_endpoints: Some(NodeDaemonEndpoints::default()),
            node_info: Some(system_info()),
            ..NodeStatus::default()
        }
    }

    /// Renews the node's Lease for as long as the process lives.
    pub(super) async fn keep_alive(self, client: kube::Client) {
        let leases: Api<Lease> = Api::namespaced(client, LEASES);
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let renewal = json!({ "spec": { "renewTime": MicroTime(Timestamp::now()) } });
            let renewed = leases.patch(&self.name, &PatchParams::default(), &Patch::Merge(renewal)).await;
            let result = match renewed {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    leases.create(&PostParams::default(), &self.lease()).await.map(drop)
                }
                other => other.map(drop),
            };
            match result {
                Ok(()) => {}
                // The namespace is made when the cluster starts, which may be a moment later.
                Err(kube::Error::Api(status)) if status.is_not_found() => beat.reset_after(Duration::from_secs(1)),
                Err(error) => tracing::warn!(%error, "renewing the node's lease"),
            }
        }
    }

    fn lease(&self) -> Lease {
        let metadata =
            ObjectMeta { name: Some(self.name.clone()), namespace: Some(LEASES.to_owned()), ..ObjectMeta::default() };
        let spec = LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

fn conditions() -> Vec<NodeCondition> {
    let now = Time(Timestamp::now());
    let all = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ];
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    all.map(condition).to_vec()
}

fn system_info() -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let version = concat!("isthmus://", env!("CARGO_PKG_VERSION"));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: version.to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: "v1.33.0".to_owned(),
        kubelet_version: "v1.33.0".to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        ..NodeSystemInfo::default()
    }
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
