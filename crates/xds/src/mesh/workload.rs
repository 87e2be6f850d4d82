//! Pods and workload entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::NamespacedName;
use api::istio::{Object, WorkloadEntry};
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

    /// The names of the pods of a namespace (of any, if there is none) that have the labels and a proxy.
    pub(crate) fn pods<'a>(
        &'a self,
        namespace: Option<&'a str>,
        wanted: &'a Labels,
    ) -> impl Iterator<Item = &'a NamespacedName> {
        let selected = move |w: &Workload| {
            namespace.is_none_or(|n| n == w.namespace) && w.has_proxy() && api::istio::includes(&w.labels, wanted)
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
