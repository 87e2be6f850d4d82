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

const ROOT_NAMESPACE: &str = "istio-system";
const PORT: u16 = 9000;
const LIMIT: Duration = Duration::from_secs(60);

/// How large the mesh is: multiples of the number of namespaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: usize,
    /// Each is of a pod behind one of the services.
    pub(crate) proxies: usize,
}

impl Size {
    fn services_each(self) -> usize {
        self.services / NAMESPACES
    }

    fn pods_each(self) -> usize {
        self.proxies / NAMESPACES
    }

    /// The service of a namespace that the `n`th of its pods is behind.
    fn service_of(self, n: usize) -> usize {
        // The last one of each has an endpoint of its own, which is edited.
        n % (self.services_each() - 1)
    }
}

/// A pod that has a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) address: String,
}

/// An object that is edited, again and again.
pub(crate) struct Edited {
    pub(crate) what: &'static str,
    path: String,
    document: fn(usize) -> Value,
    /// Whose proxies must hear of it.
    pub(crate) concerns: fn(&Workload) -> bool,
}

impl Edited {
    /// Writes the `n`th version.
    pub(crate) async fn edit(&self, connection: &mut Connection, n: usize) -> anyhow::Result<()> {
        connection.request(Method::PATCH, &self.path, (self.document)(n).to_string()).await?;
        Ok(())
    }
}

/// An object of each kind that changes what proxies have.
pub(crate) fn edited(size: Size) -> Vec<Edited> {
    let all: fn(&Workload) -> bool = |_| true;
    let of = |what, path, document, concerns| Edited { what, path, document, concerns };
    let last = format!("s{}", size.services_each() - 1);
    let core = format!("/api/v1/namespaces/{}", namespace(0));
    vec![
        of(
            "AuthorizationPolicy of one workload",
            istio("security", 0, "authorizationpolicies", "edited"),
            rules,
            is_restricted,
        ),
        of("AuthorizationPolicy of all", format!("{}/edited", policies(ROOT_NAMESPACE)), rules, all),
        of("PeerAuthentication of a namespace", istio("security", 0, "peerauthentications", "edited"), modes, is_first),
        of("EndpointSlice", format!("{}/{last}", slices(&namespace(0))), endpoints, all),
        of("Service", format!("{core}/services/{last}"), ports, all),
        of("DestinationRule", istio("networking", 0, "destinationrules", "edited"), pools, all),
        of("VirtualService", istio("networking", 0, "virtualservices", "edited"), routes, all),
        of("ServiceEntry", istio("networking", 0, "serviceentries", "edited"), outside, all),
    ]
}

/// The endpoint of the last service of the `n`th namespace, to be changed often.
pub(crate) fn churned(size: Size, n: usize) -> Edited {
    let last = format!("s{}", size.services_each() - 1);
    let path = format!("{}/{last}", slices(&namespace(n % NAMESPACES)));
    Edited { what: "EndpointSlice", path, document: endpoints, concerns: |_| true }
}

fn is_restricted(workload: &Workload) -> bool {
    is_first(workload) && workload.pod == "w0"
}

fn is_first(workload: &Workload) -> bool {
    workload.namespace == namespace(0)
}

fn endpoints(n: usize) -> Value {
    json!({"endpoints": [{"addresses": [format!("10.33.250.{}", n % 250 + 1)]}]})
}

fn ports(n: usize) -> Value {
    let port = |name: &str, port| json!({"name": name, "port": port, "protocol": "TCP"});
    json!({"spec": {"ports": [port("tcp", usize::from(PORT)), port("tcp-more", 10_000 + n)]}})
}

fn pools(n: usize) -> Value {
    let pool = json!({"tcp": {"maxConnections": 100 + n}});
    json!({"spec": {"host": "s0.mesh-1.svc.cluster.local", "trafficPolicy": {"connectionPool": pool}}})
}

fn routes(n: usize) -> Value {
    let to = |service: usize, weight| {
        let host = format!("s{service}.mesh-1.svc.cluster.local");
        json!({"destination": {"host": host, "port": {"number": PORT}}, "weight": weight})
    };
    let route = json!([to(2, 1 + n % 98), to(3, 99 - n % 98)]);
    json!({"spec": {"hosts": ["s2.mesh-1.svc.cluster.local"], "tcp": [{"route": route}]}})
}

fn outside(n: usize) -> Value {
    let port = json!({"number": 9000 + n, "name": "tcp", "protocol": "TCP"});
    json!({"spec": {
        "hosts": ["edited.example"], "addresses": ["240.1.2.3"], "ports": [port], "resolution": "STATIC",
        "location": "MESH_EXTERNAL", "endpoints": [{"address": "198.51.100.7"}],
    }})
}

fn modes(n: usize) -> Value {
    json!({"spec": {"mtls": {"mode": if n.is_multiple_of(2) { "PERMISSIVE" } else { "STRICT" }}}})
}

fn istio(group: &str, n: usize, plural: &str, name: &str) -> String {
    format!("/apis/{group}.istio.io/v1/namespaces/{}/{plural}/{name}", namespace(n))
}

/// Creates everything; returns the pods.
pub(crate) async fn furnish(server: &Server, size: Size) -> anyhow::Result<Vec<Workload>> {
    let workloads = try_join_all((0..NAMESPACES).map(|n| furnish_namespace(server, n, size))).await?;
    let mut connection = server.connect().await?;
    let mut one = rules(0);
    one["spec"]["selector"] = json!({"matchLabels": {"pod": "w0"}});
    let security = "security.istio.io/v1";
    let networking = "networking.istio.io/v1";
    let created = [
        (istio("security", 0, "authorizationpolicies", ""), security, "AuthorizationPolicy", one),
        (policies(ROOT_NAMESPACE), security, "AuthorizationPolicy", rules(0)),
        (istio("security", 0, "peerauthentications", ""), security, "PeerAuthentication", modes(0)),
        (istio("networking", 0, "destinationrules", ""), networking, "DestinationRule", pools(0)),
        (istio("networking", 0, "virtualservices", ""), networking, "VirtualService", routes(0)),
        (istio("networking", 0, "serviceentries", ""), networking, "ServiceEntry", outside(0)),
    ];
    for (path, version, kind, mut object) in created {
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "edited"});
        connection.request(Method::POST, path.trim_end_matches('/'), object.to_string()).await?;
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

async fn furnish_namespace(server: &Server, n: usize, size: Size) -> anyhow::Result<Vec<Workload>> {
    let mut connection = server.connect().await?;
    let namespace = namespace(n);
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    connection.request(Method::POST, "/api/v1/namespaces", object.to_string()).await?;
    let core = format!("/api/v1/namespaces/{namespace}");
    for path in [format!("{core}/serviceaccounts/default"), format!("{core}/configmaps/istio-ca-root-cert")] {
        let look = async || connection.is_ok(&path).await.then_some(());
        until_async(&path, LIMIT, look).await;
    }
    for i in 0..size.services_each() {
        let (name, has_pod) = (format!("s{i}"), i < size.pods_each().min(size.services_each() - 1));
        connection.request(Method::POST, &format!("{core}/services"), service(&name, has_pod).to_string()).await?;
        if !has_pod {
            let address = address(n * size.services_each() + i);
            connection.request(Method::POST, &slices(&namespace), slice(&name, &address).to_string()).await?;
        }
    }
    let mut workloads = Vec::new();
    for i in 0..size.pods_each() {
        let (pod_name, service) = (format!("w{i}"), format!("s{}", size.service_of(i)));
        let address = address(size.services + n * size.pods_each() + i);
        connection.request(Method::POST, &format!("{core}/pods"), pod(&pod_name, &service).to_string()).await?;
        let path = format!("{core}/pods/{pod_name}/status");
        connection.request(Method::PATCH, &path, status(&address).to_string()).await?;
        workloads.push(Workload { namespace: namespace.clone(), pod: pod_name, address });
    }
    Ok(workloads)
}

/// The `n`th address of pods that nobody runs.
fn address(n: usize) -> String {
    format!("10.33.{}.{}", 64 + n / 250, n % 250 + 1)
}

fn service(name: &str, has_pod: bool) -> Value {
    let selector = has_pod.then(|| json!({"app": name}));
    let port = json!({"name": "tcp", "port": PORT, "protocol": "TCP"});
    let spec = json!({"selector": selector, "ports": [port]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn pod(name: &str, service: &str) -> Value {
    let container = json!({"name": "app", "image": "nothing", "ports": [{"containerPort": PORT}]});
    let labels = json!({"app": service, "pod": name, "security.istio.io/tlsMode": "istio"});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
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
