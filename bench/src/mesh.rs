//! A mesh to measure: services in several namespaces, and proxies of pods that nobody runs.
//!
//! What counts is the control plane, so the pods have no processes: no scheduler knows them, and their status is written
//! here as a kubelet would. They are authenticated like others, by the tokens of their service accounts.

pub(crate) mod sidecar;

use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};
use testkit::until_async;

use crate::connection::{Connection, Server};

const NAMESPACES: usize = 10;
/// In each namespace.
const SERVICES: usize = 100;
/// In each namespace; each is of a pod behind a service of the same name.
const PODS: usize = 20;
pub(crate) const PROXIES: usize = NAMESPACES * PODS;

const ROOT_NAMESPACE: &str = "istio-system";
const PORT: u16 = 9000;
const LIMIT: Duration = Duration::from_secs(30);

/// A pod that has a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) address: String,
}

/// An object that is edited, again and again.
pub(crate) struct Edited {
    path: String,
    document: fn(usize) -> Value,
}

impl Edited {
    /// Writes the `n`th version.
    pub(crate) async fn edit(&self, connection: &mut Connection, n: usize) -> anyhow::Result<()> {
        connection.request(Method::PATCH, &self.path, (self.document)(n).to_string()).await?;
        Ok(())
    }
}

/// The policy of the workload that [`is_restricted`].
pub(crate) fn policy_of_one() -> Edited {
    Edited { path: format!("{}/edited", policies(&namespace(0))), document: rules }
}

/// The policy that every workload has.
pub(crate) fn policy_of_all() -> Edited {
    Edited { path: format!("{}/edited", policies(ROOT_NAMESPACE)), document: rules }
}

/// The endpoint of a service that everybody may call.
pub(crate) fn endpoint() -> Edited {
    Edited {
        path: format!("{}/s{}", slices(&namespace(0)), SERVICES - 1),
        document: |n| json!({"endpoints": [{"addresses": [format!("10.33.250.{}", n % 250 + 1)]}]}),
    }
}

/// Whether [`policy_of_one`] is for this workload.
pub(crate) fn is_restricted(workload: &Workload) -> bool {
    workload.namespace == namespace(0) && workload.pod == "s0"
}

/// Creates everything; returns the pods.
pub(crate) async fn furnish(server: &Server) -> anyhow::Result<Vec<Workload>> {
    let workloads = try_join_all((0..NAMESPACES).map(|n| furnish_namespace(server, n))).await?;
    let mut connection = server.connect().await?;
    let one = json!({"matchLabels": {"app": "s0"}});
    for (namespace, selector) in [(namespace(0), Some(one)), (ROOT_NAMESPACE.to_owned(), None)] {
        let mut policy = rules(0);
        policy["apiVersion"] = "security.istio.io/v1".into();
        policy["kind"] = "AuthorizationPolicy".into();
        policy["metadata"] = json!({"name": "edited"});
        if let Some(selector) = selector {
            policy["spec"]["selector"] = selector;
        }
        connection.request(Method::POST, &policies(&namespace), policy.to_string()).await?;
    }
    Ok(workloads.concat())
}

/// Makes the control plane reachable from the host; returns its address.
pub(crate) async fn publish(connection: &mut Connection) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{ROOT_NAMESPACE}/services/istiod");
    let public = json!({"spec": {"type": "LoadBalancer"}});
    connection.request(Method::PATCH, &path, public.to_string()).await?;
    let look = async || {
        let service: Value = serde_json::from_slice(&connection.request(Method::GET, &path, "").await.ok()?).ok()?;
        Some(service.pointer("/status/loadBalancer/ingress/0/ip")?.as_str()?.to_owned())
    };
    Ok(until_async("the control plane has an address outside", LIMIT, look).await)
}

/// What the workloads trust.
pub(crate) async fn roots(connection: &mut Connection) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{}/configmaps/istio-ca-root-cert", namespace(0));
    let map: Value = serde_json::from_slice(&connection.request(Method::GET, &path, "").await?)?;
    Ok(map.pointer("/data/root-cert.pem").and_then(Value::as_str).context("no root certificate")?.to_owned())
}

/// A token for the mesh's CA, as the kubelet projects it into the pod.
pub(crate) async fn token(connection: &mut Connection, workload: &Workload) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/default/token", workload.namespace);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": workload.pod});
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["istio-ca"], "boundObjectRef": pod},
    });
    let answer: Value = serde_json::from_slice(&connection.request(Method::POST, &path, request.to_string()).await?)?;
    Ok(answer.pointer("/status/token").and_then(Value::as_str).context("no token")?.to_owned())
}

fn namespace(n: usize) -> String {
    format!("mesh-{n}")
}

fn policies(namespace: &str) -> String {
    format!("/apis/security.istio.io/v1/namespaces/{namespace}/authorizationpolicies")
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn rules(n: usize) -> Value {
    let source = json!({"principals": [format!("cluster.local/ns/mesh-1/sa/caller-{n}")]});
    json!({"spec": {"action": "DENY", "rules": [{"from": [{"source": source}]}]}})
}

async fn furnish_namespace(server: &Server, n: usize) -> anyhow::Result<Vec<Workload>> {
    let mut connection = server.connect().await?;
    let namespace = namespace(n);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    connection.request(Method::POST, "/api/v1/namespaces", object.to_string()).await?;
    let core = format!("/api/v1/namespaces/{namespace}");
    for path in [format!("{core}/serviceaccounts/default"), format!("{core}/configmaps/istio-ca-root-cert")] {
        let look = async || connection.is_ok(&path).await.then_some(());
        until_async(&path, LIMIT, look).await;
    }
    let mut workloads = Vec::new();
    for i in 0..SERVICES {
        let (name, address) = (format!("s{i}"), format!("10.33.{}.{}", 200 + n, i + 1));
        let has_pod = i < PODS;
        connection.request(Method::POST, &format!("{core}/services"), service(&name, has_pod).to_string()).await?;
        if has_pod {
            connection.request(Method::POST, &format!("{core}/pods"), pod(&name).to_string()).await?;
            let path = format!("{core}/pods/{name}/status");
            connection.request(Method::PATCH, &path, status(&address).to_string()).await?;
            workloads.push(Workload { namespace: namespace.clone(), pod: name, address });
        } else {
            connection.request(Method::POST, &slices(&namespace), slice(&name, &address).to_string()).await?;
        }
    }
    Ok(workloads)
}

fn service(name: &str, has_pod: bool) -> Value {
    let selector = has_pod.then(|| json!({"app": name}));
    let port = json!({"name": "tcp", "port": PORT, "protocol": "TCP"});
    let spec = json!({"selector": selector, "ports": [port]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn pod(name: &str) -> Value {
    let container = json!({"name": "app", "image": "nothing", "ports": [{"containerPort": PORT}]});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "security.istio.io/tlsMode": "istio"}},
        "spec": {"schedulerName": "nobody", "containers": [container]},
    })
}

fn status(address: &str) -> Value {
    let ready = json!({"type": "Ready", "status": "True"});
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready],
    }})
}

fn slice(service: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address]}],
        "ports": [{"name": "tcp", "port": PORT, "protocol": "TCP"}],
    })
}
