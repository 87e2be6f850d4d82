//! What the mesh's control plane tells which proxy, and when.

use std::net::SocketAddr;

use envoy::TypeUrl;
use envoy::ads::Client;
use envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use pki::MeshAuthority;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::cluster::Cluster;
use crate::proxy::{Proxy, Told, channel, node, svid};

/// A cluster with a mesh: Istio's kinds are served, and the control plane listens.
struct Mesh {
    cluster: Cluster,
    authority: MeshAuthority,
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

const KINDS: [(&str, &str, &str); 7] = [
    ("security.istio.io", "AuthorizationPolicy", "authorizationpolicies"),
    ("security.istio.io", "PeerAuthentication", "peerauthentications"),
    ("networking.istio.io", "DestinationRule", "destinationrules"),
    ("networking.istio.io", "ServiceEntry", "serviceentries"),
    ("networking.istio.io", "Sidecar", "sidecars"),
    ("networking.istio.io", "VirtualService", "virtualservices"),
    ("networking.istio.io", "WorkloadEntry", "workloadentries"),
];

const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies";

impl Mesh {
    async fn start() -> Mesh {
        let cluster = Cluster::start().await;
        for (group, kind, plural) in KINDS {
            let definition = json!({
                "metadata": {"name": format!("{plural}.{group}")},
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
                },
            });
            match cluster.try_create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await {
                Ok(_) | Err((409, _)) => {}
                Err(refusal) => panic!("{kind}: {refusal:?}"),
            }
        }
        Mesh::serve(cluster).await
    }

    async fn serve(cluster: Cluster) -> Mesh {
        let authority = cluster.mesh_authority().await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mesh = cluster.mesh.clone();
        let serving = tokio::spawn(async move { mesh.serve(listener, CancellationToken::new()).await });
        Mesh { cluster, authority, address, serving }
    }

    /// Ends the control plane's process, so to speak, and starts it again.
    async fn restart(self) -> Mesh {
        self.serving.abort();
        Mesh::serve(self.cluster.restart().await).await
    }

    /// A pod `name` with the label `app: name`, and its service.
    async fn workload(&self, name: &str) {
        let labels = json!({"app": name});
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "app", "image": "works", "ports": [{"containerPort": 9000}]}]},
        });
        self.cluster.create("/api/v1/namespaces/default/pods", pod).await;
        self.service(name, &labels).await;
        let endpoints = format!("/api/v1/namespaces/default/endpoints/{name}");
        self.cluster.until(&endpoints, |endpoints| !endpoints["subsets"][0]["addresses"].is_null()).await;
    }

    async fn service(&self, name: &str, selector: &Value) {
        let service = json!({
            "metadata": {"name": name},
            "spec": {"selector": selector, "ports": [{"name": "tcp", "port": 9000, "protocol": "TCP"}]},
        });
        self.cluster.create("/api/v1/namespaces/default/services", service).await;
    }

    async fn policy(&self, name: &str, spec: Value) {
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name}, "spec": spec});
        self.cluster.create(POLICIES, policy).await;
    }

    async fn connect_as(&self, id: &str, client: Client) -> Result<Proxy, tonic::Status> {
        let certificate = svid(&self.authority, id);
        let channel = channel(self.address, self.authority.root_bundle_pem(), Some(&certificate)).await.unwrap();
        Proxy::connect(channel, client).await
    }

    async fn connect(&self, pod: &str) -> Proxy {
        let client = Client::new(node("default", pod));
        self.connect_as("spiffe://cluster.local/ns/default/sa/default", client).await.unwrap()
    }

    /// Tells every proxy of a new service, and returns what these have been told since they were last asked; the new
    /// service comes last.
    async fn flush(&self, name: &str, proxies: &[&Proxy]) -> Vec<Vec<Told>> {
        self.service(name, &json!({"app": "nobody"})).await;
        let mut all = Vec::new();
        for proxy in proxies {
            proxy.until_held(TypeUrl::Listener, &self.address_of(name).await).await;
            proxy.until_held(TypeUrl::Endpoint, name).await;
            all.push(proxy.take_log());
        }
        all
    }

    async fn address_of(&self, service: &str) -> String {
        let service = self.cluster.get(&format!("/api/v1/namespaces/default/services/{service}")).await.unwrap();
        service["spec"]["clusterIP"].as_str().unwrap().to_owned()
    }
}

/// Of what was told, what does not concern the service `name`.
fn beside(log: &[Told], name: &str, address: &str) -> Vec<Told> {
    let concerns = |told: &&Told| told.names.iter().any(|n| !n.contains(name) && !n.contains(address));
    log.iter().filter(concerns).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_told_of_services_and_endpoints() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let proxy = mesh.connect("a").await;
    proxy.until_held(TypeUrl::Listener, "virtualInbound").await;
    let name = "outbound|9000||a.default.svc.cluster.local";
    proxy.until_held(TypeUrl::Cluster, name).await;
    proxy.until_held(TypeUrl::Endpoint, name).await;
    let endpoints: ClusterLoadAssignment = proxy.get(TypeUrl::Endpoint, name);
    assert_eq!(endpoints.endpoints.iter().map(|l| l.lb_endpoints.len()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_reaches_only_the_proxies_that_it_selects() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    mesh.workload("b").await;
    let (a, b) = (mesh.connect("a").await, mesh.connect("b").await);
    mesh.flush("first", &[&a, &b]).await;
    mesh.policy("p", json!({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": [{}]})).await;
    let told = Told { type_url: TypeUrl::Listener, names: vec!["virtualInbound".to_owned()], removed: vec![] };
    assert_eq!(a.until_told().await, [told]);
    let logs = mesh.flush("second", &[&a, &b]).await;
    let address = mesh.address_of("second").await;
    assert!(logs.iter().all(|log| beside(log, "second", &address).is_empty()), "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_sends_the_endpoints_of_its_clusters_alone() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    mesh.service("other", &json!({"app": "b"})).await;
    let a = mesh.connect("a").await;
    mesh.flush("first", &[&a]).await;
    let slice = json!({
        "metadata": {"name": "other-own", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.33.7.7"]}],
        "ports": [{"name": "tcp", "port": 9000, "protocol": "TCP"}],
    });
    mesh.cluster.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await;
    let name = "outbound|9000||other.default.svc.cluster.local".to_owned();
    let told = Told { type_url: TypeUrl::Endpoint, names: vec![name.clone()], removed: vec![] };
    assert_eq!(a.until_told().await, [told]);
    let endpoints: ClusterLoadAssignment = a.get(TypeUrl::Endpoint, &name);
    assert!(format!("{endpoints:?}").contains("10.33.7.7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_only_who_its_certificate_says() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let refusal = async |pod: &str, id: &str| {
        let proxy = mesh.connect_as(id, Client::new(node("default", pod))).await;
        match proxy {
            Ok(proxy) => proxy.until_ended().await,
            Err(status) => status,
        }
    };
    let other = refusal("a", "spiffe://cluster.local/ns/default/sa/other").await;
    assert_eq!(other.code(), Code::PermissionDenied);
    assert!(other.message().contains("is not the identity of the pod default/a"), "{other}");
    let foreign = refusal("a", "spiffe://elsewhere/ns/default/sa/default").await;
    assert_eq!(foreign.code(), Code::PermissionDenied);
    let nobody = refusal("nobody", "spiffe://cluster.local/ns/default/sa/default").await;
    assert_eq!((nobody.code(), nobody.message()), (Code::PermissionDenied, "there is no pod default/nobody"));
    let channel = channel(mesh.address, mesh.authority.root_bundle_pem(), None).await.unwrap();
    let unknown = Proxy::connect(channel, Client::new(node("default", "a"))).await.err().unwrap();
    assert_eq!(unknown.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_comes_back_is_sent_nothing_that_it_has() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let a = mesh.connect("a").await;
    mesh.flush("first", &[&a]).await;
    let client = a.hang_up().await;
    let mesh = mesh.restart().await;
    let a = mesh.connect_as("spiffe://cluster.local/ns/default/sa/default", client).await.unwrap();
    let logs = mesh.flush("second", &[&a]).await;
    let address = mesh.address_of("second").await;
    assert_eq!(beside(&logs[0], "second", &address), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_pod() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let a = mesh.connect("a").await;
    a.until_held(TypeUrl::Listener, "virtualInbound").await;
    mesh.cluster.delete("/api/v1/namespaces/default/pods/a").await;
    assert_eq!(a.until_ended().await.message(), "the pod default/a is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_holds_nobody_up_and_hears_of_what_follows() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    mesh.workload("b").await;
    let (a, b) = (mesh.connect("a").await, mesh.connect("b").await);
    mesh.flush("first", &[&a, &b]).await;
    a.refuse("virtualInbound");
    mesh.policy("p", json!({"action": "DENY", "rules": [{}]})).await;
    let told = Told { type_url: TypeUrl::Listener, names: vec!["virtualInbound".to_owned()], removed: vec![] };
    assert_eq!(a.until_told().await, std::slice::from_ref(&told));
    assert_eq!(b.until_told().await, [told]);
    let logs = mesh.flush("second", &[&a, &b]).await;
    let address = mesh.address_of("second").await;
    assert!(logs.iter().all(|log| beside(log, "second", &address).is_empty()), "{logs:?}");
}
