//! A pod's proxy, as its control plane would have it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use api::istio::SpiffeId;
use envoy::TypeUrl;
use k8s_openapi::api::core::v1::{Container, Pod};
use node::Capture;
use prost::Message;
use prost_types::Any;
use proxy::{Offered, Snapshot, Update};
use xds::{Diagnostic, Node, Resources, Role};

use super::certificate;
use super::world::Cluster;
use crate::pilot_agent::istio_iptables::captured_by;

/// The container that is a proxy, and the one that leads connections to it.
pub(super) const CONTAINER: &str = "istio-proxy";
const INIT: &str = "istio-init";

/// What an init container captures if nothing is said: everything but the ports on which the proxy itself answers.
const USUAL: [&str; 9] = ["istio-iptables", "-i", "*", "-b", "*", "-d", "15020,15021,15090", "-u", "1337"];

/// The proxy of a pod with what it has been told: a sidecar, or the gateway that the pod is.
pub(super) struct Sidecar {
    pub(super) node: Node,
    /// Who the pod is.
    pub(super) identity: String,
    pub(super) snapshot: Snapshot,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// What of it the proxy refuses, so that it goes on with what it had before.
    pub(super) refused: Vec<String>,
    capture: Option<Capture>,
}

impl Sidecar {
    /// The proxy of a pod, if it has one.
    pub(super) fn of(cluster: &Cluster, pod: &Pod) -> anyhow::Result<Option<Sidecar>> {
        let name = api::NamespacedName::new(
            pod.metadata.namespace.clone().unwrap_or_default(),
            pod.metadata.name.clone().unwrap_or_default(),
        );
        let Some(node) = cluster.mesh.node(&name).filter(|_| containers(pod).any(|c| c.name == CONTAINER)) else {
            return Ok(None);
        };
        let capture = match node.role {
            Role::Sidecar => Some(capture(pod)?),
            Role::Router => None,
        };
        let resources = xds::build(&cluster.mesh, &node);
        let mut told = Told::default();
        told.everything(&resources, cluster, pod);
        let diagnostics = resources.diagnostics.into_iter().collect();
        // What is not there by now is not waited for.
        let snapshot = told.snapshot.without_endpoints(Duration::ZERO, |_, _| Duration::MAX);
        let identity = identity(cluster, pod);
        Ok(Some(Sidecar { node, identity, snapshot, diagnostics, refused: told.refused, capture }))
    }

    /// Whether connections to a port of the pod are led to the proxy.
    pub(super) fn takes_inbound(&self, port: u16) -> bool {
        self.capture.as_ref().is_none_or(|capture| capture.takes_inbound(port))
    }

    /// Whether the pod's connections to an address are led to the proxy. Only those of IPv4 are.
    pub(super) fn takes_outbound(&self, to: SocketAddr) -> bool {
        match (&self.capture, to) {
            (Some(capture), SocketAddr::V4(to)) => capture.takes_outbound(to),
            _ => false,
        }
    }

    /// The pod, as `NAMESPACE/NAME`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.node.namespace, self.node.name)
    }
}

/// Who a pod is to those that see its certificate.
pub(super) fn identity(cluster: &Cluster, pod: &Pod) -> String {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    let id = SpiffeId {
        trust_domain: cluster.mesh.config().trust_domain.clone(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
    };
    id.to_string()
}

fn capture(pod: &Pod) -> anyhow::Result<Capture> {
    let arguments = containers(pod).find(|c| c.name == INIT).and_then(|c| c.args.clone());
    captured_by(&arguments.unwrap_or_else(|| USUAL.map(str::to_owned).to_vec()))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
    spec.into_iter().flat_map(|s| &s.containers).chain(init)
}

/// What a proxy has taken, and what it has refused.
#[derive(Default)]
struct Told {
    snapshot: Snapshot,
    refused: Vec<String>,
}

impl Told {
    fn everything(&mut self, resources: &Resources, cluster: &Cluster, pod: &Pod) {
        let Resources { listeners, routes, clusters, endpoints, secrets, diagnostics: _ } = resources;
        self.offer(TypeUrl::Cluster, clusters);
        self.offer(TypeUrl::Endpoint, endpoints);
        self.offer(TypeUrl::Listener, listeners);
        self.offer(TypeUrl::Route, routes);
        let secrets = certificate::secrets(cluster, pod, secrets);
        self.offer(TypeUrl::Secret, &secrets.into_iter().map(|secret| (secret.name.clone(), secret)).collect());
    }

    fn offer(&mut self, type_url: TypeUrl, messages: &BTreeMap<String, impl Message>) {
        let offered = messages.iter().map(|(name, message)| Offered {
            name: name.clone(),
            version: String::new(),
            message: Some(Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }),
        });
        let update = Update { type_url, resources: offered.collect(), removed: Vec::new() };
        let (next, refused) = self.snapshot.apply(update);
        self.snapshot = next;
        let why = |(name, rejected): (String, proxy::config::Rejected)| {
            format!("the proxy refuses {name:?}: {}: {}", rejected.field, rejected.reason)
        };
        self.refused.extend(refused.into_iter().map(why));
    }
}
