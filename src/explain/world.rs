//! The clusters that a question is about, and where addresses lead in them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServicePort};
use serde_json::Value;
use xds::{Mesh, Objects};

use super::certificate::Stub;
use super::question::ip;

/// What a cluster has.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) objects: Objects,
    pub(super) mesh: Mesh,
    pub(super) secrets: Vec<Secret>,
    /// Stands for the certificates of its workloads.
    pub(super) stub: Arc<Stub>,
}

/// The clusters of a federation, that of the caller first.
pub(super) struct World {
    clusters: Vec<Cluster>,
}

/// What is at an address.
pub(super) enum Place<'w> {
    /// A port of a service.
    Service(&'w Cluster, &'w Service, &'w ServicePort),
    /// A service without such a port.
    Closed(&'w Service),
    Pod(&'w Cluster, &'w Pod),
    /// Nothing that a cluster has.
    Elsewhere,
}

impl World {
    /// The clusters by their names, with their objects. Those with the same authority for their workloads trust one
    /// another.
    pub(super) fn new(found: impl IntoIterator<Item = (String, Vec<Value>)>) -> anyhow::Result<World> {
        let mut known: Vec<(Option<String>, Arc<Stub>)> = Vec::new();
        let mut clusters = Vec::new();
        for (name, values) in found {
            let root = values.iter().find_map(root_of);
            let same = known.iter().find(|(other, _)| root.is_some() && *other == root).map(|(_, stub)| stub.clone());
            let stub = same.map_or_else(|| Stub::new().map(Arc::new), Ok)?;
            known.push((root, stub.clone()));
            let mut objects = Objects::default();
            let mut secrets = Vec::new();
            for value in values {
                match value["kind"].as_str() {
                    Some("Secret") => secrets.extend(serde_json::from_value(value)),
                    _ => objects.insert(value),
                }
            }
            clusters.push(Cluster { name, mesh: Mesh::new(&objects), objects, secrets, stub });
        }
        Ok(World { clusters })
    }

    /// The cluster of the caller.
    pub(super) fn own(&self) -> &Cluster {
        self.clusters.first().expect("a question is about a cluster")
    }

    /// Whether it has to be said in which cluster something is.
    pub(super) fn has_several(&self) -> bool {
        self.clusters.len() > 1
    }

    /// What an address is to the pods of a cluster: of other clusters they reach load balancers and node ports.
    pub(super) fn place<'w>(&'w self, from: &'w Cluster, address: SocketAddr) -> Place<'w> {
        if let Some(place) = from.inside(address).or_else(|| from.outside(address)) {
            return place;
        }
        let others = self.clusters.iter().filter(|cluster| cluster.name != from.name);
        others.filter_map(|cluster| cluster.outside(address)).next().unwrap_or(Place::Elsewhere)
    }
}

impl Cluster {
    /// What pods of the cluster alone reach.
    fn inside(&self, address: SocketAddr) -> Option<Place<'_>> {
        let service = self.objects.services.iter().find(|service| has_own_address(service, address.ip()));
        let pod = || self.objects.pods.iter().find(|pod| ip(pod) == Some(address.ip()));
        match service {
            Some(service) => Some(self.at(service, address.port())),
            None => pod().map(|pod| Place::Pod(self, pod)),
        }
    }

    /// What everybody reaches.
    fn outside(&self, address: SocketAddr) -> Option<Place<'_>> {
        let services = &self.objects.services;
        if let Some(service) = services.iter().find(|service| has_outer_address(service, address.ip())) {
            return Some(self.at(service, address.port()));
        }
        let is_node = |ip: &str| ip.parse() == Ok(address.ip());
        let addresses = self.objects.nodes.iter().filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
        if !addresses.into_iter().any(|known| is_node(&known.address)) {
            return None;
        }
        let at_node = |port: &&ServicePort| port.node_port.and_then(|p| u16::try_from(p).ok()) == Some(address.port());
        services.iter().find_map(|service| {
            let port = service.spec.as_ref()?.ports.as_ref()?.iter().find(at_node)?;
            Some(Place::Service(self, service, port))
        })
    }

    fn at<'w>(&'w self, service: &'w Service, port: u16) -> Place<'w> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        match ports.into_iter().find(|p| u16::try_from(p.port) == Ok(port)) {
            Some(port) => Place::Service(self, service, port),
            None => Place::Closed(service),
        }
    }
}

fn has_own_address(service: &Service, address: IpAddr) -> bool {
    let spec = service.spec.as_ref();
    let own = spec.into_iter().flat_map(|s| s.cluster_ip.iter().chain(s.cluster_ips.iter().flatten()));
    own.into_iter().any(|ip| ip.parse() == Ok(address))
}

fn has_outer_address(service: &Service, address: IpAddr) -> bool {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given = balancer.into_iter().flat_map(|b| b.ingress.iter().flatten()).filter_map(|i| i.ip.as_ref());
    let claimed = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    given.chain(claimed).any(|ip| ip.parse() == Ok(address))
}

/// Whom the workloads of a cluster trust.
fn root_of(value: &Value) -> Option<String> {
    let named = value["kind"] == "ConfigMap" && value["metadata"]["name"] == "istio-ca-root-cert";
    named.then(|| value["data"]["root-cert.pem"].as_str().map(str::to_owned)).flatten()
}
