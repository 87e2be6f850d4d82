//! The objects under analysis.

use std::collections::BTreeMap;

use api::istio::Hostname;
use api::selector::Labels;
use serde_json::{Value, json};

use crate::ObjectRef;
use crate::mesh::DOMAIN;

/// A kind, by its API group.
pub(super) type Kind = (&'static str, &'static str);

const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

pub(super) const NAMESPACE: Kind = ("", "Namespace");
pub(super) const POD: Kind = ("", "Pod");
pub(super) const SECRET: Kind = ("", "Secret");
pub(super) const SERVICE: Kind = ("", "Service");
pub(super) const AUTHORIZATION_POLICY: Kind = (SECURITY, "AuthorizationPolicy");
pub(super) const DESTINATION_RULE: Kind = (NETWORKING, "DestinationRule");
pub(super) const ENVOY_FILTER: Kind = (NETWORKING, "EnvoyFilter");
pub(super) const GATEWAY: Kind = (NETWORKING, "Gateway");
pub(super) const PEER_AUTHENTICATION: Kind = (SECURITY, "PeerAuthentication");
pub(super) const REQUEST_AUTHENTICATION: Kind = (SECURITY, "RequestAuthentication");
pub(super) const SERVICE_ENTRY: Kind = (NETWORKING, "ServiceEntry");
pub(super) const SIDECAR: Kind = (NETWORKING, "Sidecar");
pub(super) const TELEMETRY: Kind = ("telemetry.istio.io", "Telemetry");
pub(super) const VIRTUAL_SERVICE: Kind = (NETWORKING, "VirtualService");

/// Kinds whose objects have a template of pods.
const TEMPLATED: [Kind; 5] =
    [("apps", "DaemonSet"), ("apps", "Deployment"), ("apps", "ReplicaSet"), ("apps", "StatefulSet"), ("batch", "Job")];

/// The namespaces of the cluster itself, where nothing is to be injected.
const OF_THE_SYSTEM: [&str; 6] =
    ["istio-system", "kube-node-lease", "kube-public", "kube-system", "local-path-storage", "istio-private-gateways"];

/// An object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) value: &'a Value,
}

impl<'a> Item<'a> {
    pub(super) fn text(&self, pointer: &str) -> &'a str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &'a str {
        self.text("/kind")
    }

    pub(super) fn namespace(&self) -> &'a str {
        self.text("/metadata/namespace")
    }

    pub(super) fn name(&self) -> &'a str {
        self.text("/metadata/name")
    }

    /// `NAMESPACE/NAME`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    pub(super) fn spec(&self) -> &'a Value {
        &self.value["spec"]
    }

    pub(super) fn labels(&self) -> Labels {
        labels(&self.value["metadata"]["labels"])
    }

    /// An annotation of the object.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.value["metadata"]["annotations"][name].as_str()
    }

    pub(super) fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.namespace(), self.name())
    }

    fn is(&self, (group, kind): Kind) -> bool {
        let own = self.text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        (own, self.kind()) == (group, kind)
    }
}

/// What is like a pod: a pod, or what a template will make.
#[derive(Debug)]
pub(super) struct Workload<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: Labels,
}

/// The objects under analysis.
pub(super) struct World<'a> {
    items: Vec<Item<'a>>,
    /// What answers to a host: services, and entries for it.
    hosts: BTreeMap<Hostname, Vec<Item<'a>>>,
}

impl<'a> World<'a> {
    pub(super) fn new(objects: &'a [Value]) -> World<'a> {
        let items: Vec<Item<'a>> = objects.iter().map(|value| Item { value }).collect();
        let mut hosts: BTreeMap<Hostname, Vec<Item<'a>>> = BTreeMap::new();
        for item in &items {
            if item.is(SERVICE) {
                let host = Hostname::service(item.name(), item.namespace(), DOMAIN);
                hosts.entry(host).or_default().push(*item);
            } else if item.is(SERVICE_ENTRY) {
                for host in texts(&item.spec()["hosts"]) {
                    hosts.entry(Hostname::new(host)).or_default().push(*item);
                }
            }
        }
        World { items, hosts }
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &'a Value> + '_ {
        self.items.iter().map(|item| item.value)
    }

    /// The objects of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = Item<'a>> + '_ {
        self.items.iter().copied().filter(move |item| item.is(kind))
    }

    /// The services and entries that answer to a host; to one with a wildcard, those that it covers.
    pub(super) fn behind(&self, host: &Hostname) -> Vec<Item<'a>> {
        let alike = |known: &Hostname| known == host || known.covers(host) || host.covers(known);
        self.hosts.iter().filter(|(known, _)| alike(known)).flat_map(|(_, items)| items.iter().copied()).collect()
    }

    /// Every host that something answers to.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Hostname> {
        self.hosts.keys()
    }

    /// Pods, and the pods that templates will make.
    pub(super) fn workloads(&self) -> Vec<Workload<'a>> {
        let pods = self.of(POD).map(|pod| Workload { namespace: pod.namespace(), labels: pod.labels() });
        let planned = self.templates().map(|(item, template)| Workload {
            namespace: item.namespace(),
            labels: labels(&template["metadata"]["labels"]),
        });
        pods.chain(planned).collect()
    }

    /// A pod for each template, so that what selects it selects something.
    pub(super) fn planned_pods(&self) -> impl Iterator<Item = Value> + '_ {
        self.templates().map(|(item, template)| {
            let mut pod = template.clone();
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            if !pod["metadata"].is_object() {
                pod["metadata"] = json!({});
            }
            pod["metadata"]["namespace"] = item.namespace().into();
            pod["metadata"]["name"] = format!("{}-planned", item.name()).into();
            pod
        })
    }

    /// Objects with a template of pods, and the template.
    pub(super) fn templates(&self) -> impl Iterator<Item = (Item<'a>, &'a Value)> + '_ {
        let owned =
            |item: &Item<'_>| items(&item.value["metadata"]["ownerReferences"]).iter().any(|o| o["controller"] == true);
        let templated =
            self.items.iter().filter(move |item| TEMPLATED.iter().any(|kind| item.is(*kind)) && !owned(item));
        templated.map(|item| (*item, &item.spec()["template"])).filter(|(_, template)| template.is_object())
    }
}

/// Whether a namespace belongs to the cluster itself.
pub(super) fn is_of_the_system(namespace: &str) -> bool {
    OF_THE_SYSTEM.contains(&namespace)
}

/// A map of texts.
pub(super) fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Labels as Istio writes them.
pub(super) fn written(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The items of a list; of anything else none.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The texts in a list.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).iter().filter_map(Value::as_str)
}

/// The field, under its name in JSON or in protobuf.
pub(super) fn field<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    if value[camel].is_null() { &value[snake] } else { &value[camel] }
}
