//! The pods behind a service, and the Endpoints that list them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

/// A port of a service, as one pod serves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) port: i32,
    pub(super) protocol: Option<String>,
    pub(super) app_protocol: Option<String>,
}

/// A pod behind a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) ip: String,
    pub(super) node: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) pod: ObjectReference,
    pub(super) ports: Vec<Port>,
    /// Whether clients should use it: it is ready and not on its way out, or the service does not care.
    pub(super) ready: bool,
    /// Whether it could still serve, even if it is on its way out.
    pub(super) serving: bool,
    pub(super) terminating: bool,
}

/// The members of a service among the pods it selects, ordered by address.
pub(super) fn of(service: &Service, pods: &[Arc<Pod>]) -> Vec<Member> {
    let mut members: Vec<Member> = pods.iter().filter_map(|pod| member(service, pod)).collect();
    members.sort_by(|a, b| (&a.ip, &a.pod.name).cmp(&(&b.ip, &b.pod.name)));
    members
}

fn member(service: &Service, pod: &Pod) -> Option<Member> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let service_spec = service.spec.as_ref()?;
    let tolerant = service_spec.publish_not_ready_addresses == Some(true);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = tolerant || crate::controller::replica_set::is_ready(pod);
    let named = spec.hostname.as_ref().filter(|_| spec.subdomain == service.metadata.name);
    let ports = service_spec.ports.iter().flatten();
    let mut ports: Vec<Port> = ports.filter_map(|port| resolve(port, pod)).collect();
    ports.sort();
    if ports.is_empty() && service_spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return None;
    }
    Some(Member {
        ip,
        node: spec.node_name.clone().filter(|node| !node.is_empty()),
        hostname: named.cloned(),
        pod: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.meta().name.clone(),
            uid: pod.uid(),
            ..ObjectReference::default()
        },
        ports,
        ready: serving && (tolerant || !terminating),
        serving,
        terminating,
    })
}

/// The number of the port on the pod; a name is looked up among the ports of its containers.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match port.target_port.as_ref() {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let named = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
                p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            ports.find(named)?.container_port
        }
    };
    Some(Port {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: number,
        protocol: Some(protocol.to_owned()),
        app_protocol: port.app_protocol.clone(),
    })
}

/// The subsets of Endpoints: members that serve the same ports together, ready ones and others apart. Members on
/// their way out are left out, as Endpoints cannot say so.
pub(super) fn subsets(members: &[Member]) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<&[Port], EndpointSubset> = BTreeMap::new();
    for member in members.iter().filter(|member| !member.terminating || member.ready) {
        let subset = groups.entry(&member.ports).or_default();
        let list = if member.ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: member.ip.clone(),
            hostname: member.hostname.clone(),
            node_name: member.node.clone(),
            target_ref: Some(member.pod.clone()),
        });
    }
    groups
        .into_iter()
        .map(|(ports, subset)| {
            let ports: Vec<EndpointPort> = ports.iter().map(endpoint_port).collect();
            EndpointSubset { ports: (!ports.is_empty()).then_some(ports), ..subset }
        })
        .collect()
}

fn endpoint_port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone(),
        port: port.port,
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})).unwrap()
    }

    fn pod(name: &str, ip: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let object = json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"nodeName": "n", "hostname": name, "subdomain": "web",
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn pods_are_listed_by_readiness_with_the_ports_they_serve() {
        let service = service(json!({"ports": [{"port": 80, "targetPort": "http", "name": "web"}]}));
        let members = of(&service, &[pod("b", "10.0.0.2", false), pod("a", "10.0.0.1", true)]);
        let subsets = subsets(&members);
        assert_eq!(subsets.len(), 1);
        let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|address| address.ip.clone()).collect()
        };
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.2"]);
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(members[0].hostname.as_deref(), Some("a"));
    }

    #[test]
    fn a_pod_without_the_named_port_serves_nothing() {
        let service = service(json!({"ports": [{"port": 80, "targetPort": "grpc"}]}));
        assert_eq!(of(&service, &[pod("a", "10.0.0.1", true)]), []);
    }

    #[test]
    fn a_pod_on_its_way_out_is_not_ready_unless_the_service_does_not_care() {
        let mut leaving = (*pod("a", "10.0.0.1", true)).clone();
        leaving.metadata.deletion_timestamp = Some(crate::engine::now());
        let leaving = [Arc::new(leaving)];
        let plain = of(&service(json!({"ports": [{"port": 80}]})), &leaving);
        assert_eq!((plain[0].ready, plain[0].serving, plain[0].terminating), (false, true, true));
        assert_eq!(subsets(&plain), []);
        let tolerant = of(&service(json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true})), &leaving);
        assert!(tolerant[0].ready);
    }
}
