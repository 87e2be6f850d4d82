//! Pods and workload entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{GatewayTopology, Object, WorkloadEntry};
use api::selector::Labels;
use k8s_openapi::api::core::v1 as core;

use super::objects::Objects;
use crate::node::Locality;

/// The greatest share that counts. Envoy refuses endpoints whose shares add up to more than 32 bits.
const HEAVIEST: u32 = 1_000_000;

/// What is at an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) service_account: String,
    pub(crate) locality: Locality,
    /// The numbers of its ports with a name.
    pub(crate) ports: BTreeMap<String, u16>,
    /// An address, or a DNS name for a workload entry.
    pub(crate) addresses: Vec<String>,
    /// Its share relative to others.
    pub(crate) weight: u32,
    /// What its proxy says of itself as a gateway's, if it is one.
    pub(crate) router: Option<RouterPod>,
}

/// What a gateway's pod says of its proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouterPod {
    /// Whether it may not listen on ports below 1024.
    pub(crate) unprivileged: bool,
    /// What stands before it, where the mesh's configuration does not hold.
    pub(crate) topology: Option<GatewayTopology>,
}

impl Workload {
    /// Whether its proxy takes mutual TLS: the label that injection sets.
    pub(crate) fn has_proxy(&self) -> bool {
        self.labels.get("security.istio.io/tlsMode").is_some_and(|mode| mode == "istio")
    }

    fn of_pod(pod: &core::Pod, nodes: &BTreeMap<String, Locality>) -> Workload {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let node = spec.and_then(|s| s.node_name.as_ref()).and_then(|name| nodes.get(name));
        let ports = spec.into_iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
        let named = ports.filter_map(|p| Some((p.name.clone()?, u16::try_from(p.container_port).ok()?)));
        let account = spec.and_then(|s| s.service_account_name.clone());
        Workload {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            locality: node.cloned().unwrap_or_default(),
            ports: named.collect(),
            addresses: status.into_iter().flat_map(|s| &s.pod_ip).cloned().collect(),
            weight: 1,
            router: router(pod),
        }
    }

    /// A workload entry, or an endpoint of a service entry, of `namespace`.
    pub(crate) fn of_entry(entry: &WorkloadEntry, namespace: &str) -> Workload {
        let mut labels = entry.labels.clone();
        if !entry.service_account.is_empty() {
            labels.entry("security.istio.io/tlsMode".to_owned()).or_insert_with(|| "istio".to_owned());
        }
        Workload {
            namespace: namespace.to_owned(),
            labels,
            service_account: entry.service_account.clone(),
            locality: Locality::parse(&entry.locality),
            ports: entry.ports.clone(),
            addresses: vec![entry.address.clone()],
            weight: entry.weight.clamp(1, HEAVIEST),
            router: None,
        }
    }
}

/// Every workload, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workloads {
    pods: BTreeMap<NamespacedName, Arc<Workload>>,
    entries: BTreeMap<NamespacedName, Arc<Workload>>,
}

impl Workloads {
    /// Those of `objects`; what is equal is taken from `old`.
    pub(crate) fn new(objects: &Objects, old: Option<&Workloads>) -> Workloads {
        let share = |known: Option<&Arc<Workload>>, new: Workload| match known {
            Some(known) if **known == new => known.clone(),
            _ => Arc::new(new),
        };
        let nodes: BTreeMap<String, Locality> = objects.nodes.iter().filter_map(|n| place(n)).collect();
        let pod = |pod: &Arc<core::Pod>| {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let workload = Workload::of_pod(pod, &nodes);
            let name = NamespacedName::new(workload.namespace.clone(), name);
            let workload = share(old.and_then(|o| o.pods.get(&name)), workload);
            (name, workload)
        };
        let entry = |entry: &Arc<Object<WorkloadEntry>>| {
            let workload = Workload::of_entry(&entry.spec, &entry.metadata.namespace);
            (entry.name(), share(old.and_then(|o| o.entries.get(&entry.name())), workload))
        };
        Workloads {
            pods: objects.pods.iter().map(pod).collect(),
            entries: objects.workload_entries.iter().map(entry).collect(),
        }
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        self.pods.get(&NamespacedName::new(namespace, name))
    }

    /// The names of the pods of a namespace (of any, if there is none) that have the labels and a proxy, or are one.
    pub(crate) fn pods<'a>(
        &'a self,
        namespace: Option<&'a str>,
        wanted: &'a Labels,
    ) -> impl Iterator<Item = &'a NamespacedName> {
        let selected = move |w: &Workload| {
            let proxied = w.has_proxy() || w.router.is_some();
            namespace.is_none_or(|n| n == w.namespace) && proxied && api::istio::includes(&w.labels, wanted)
        };
        self.pods.iter().filter(move |(_, workload)| selected(workload)).map(|(name, _)| name)
    }

    /// Everything in a namespace, pods first, each by name.
    pub(crate) fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Workload>> {
        self.pods.values().chain(self.entries.values()).filter(move |w| w.namespace == namespace)
    }

    /// The workload entries of a namespace that have the labels; services of Kubernetes consist of them, too.
    pub(crate) fn entries<'a>(
        &'a self,
        namespace: &'a str,
        wanted: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<Workload>> {
        let own = self.entries.values().filter(move |w| w.namespace == namespace);
        own.filter(move |w| api::istio::includes(&w.labels, wanted))
    }

    /// Whether some workload of `namespace` (of any, if there is none) has the labels.
    pub(crate) fn any_selected(&self, namespace: Option<&str>, wanted: &Labels) -> bool {
        let mut all = self.pods.values().chain(self.entries.values());
        all.any(|w| namespace.is_none_or(|n| n == w.namespace) && api::istio::includes(&w.labels, wanted))
    }
}

/// A pod is a gateway's if a container runs `proxy router`, or will: before injection an annotation says so.
fn router(pod: &core::Pod) -> Option<RouterPod> {
    let annotation = |name: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let runs = |container: &&core::Container| {
        let args = container.args.as_deref().unwrap_or_default();
        args.windows(2).any(|pair| pair == ["proxy", "router"])
    };
    let containers = || pod.spec.iter().flat_map(|spec| &spec.containers);
    let planned = annotation("inject.istio.io/templates").is_some_and(|names| names.split(',').any(|n| n == "gateway"));
    if !planned && containers().find(runs).is_none() {
        return None;
    }
    let variables = containers().flat_map(|container| container.env.iter().flatten());
    let unprivileged = |v: &core::EnvVar| v.name == "ISTIO_META_UNPRIVILEGED_POD" && v.value.as_deref() == Some("true");
    let topology = annotation("proxy.istio.io/config").and_then(|text| GatewayTopology::of_proxy_config(text));
    Some(RouterPod { unprivileged: variables.into_iter().any(unprivileged), topology })
}

fn place(node: &core::Node) -> Option<(String, Locality)> {
    let labels = node.metadata.labels.as_ref()?;
    let of = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let locality = Locality {
        region: of("topology.kubernetes.io/region"),
        zone: of("topology.kubernetes.io/zone"),
        subzone: of("topology.istio.io/subzone"),
    };
    Some((node.metadata.name.clone()?, locality))
}
