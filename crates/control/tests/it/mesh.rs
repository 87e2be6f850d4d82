//! What the mesh's control plane tells which proxy, and when.

use std::net::SocketAddr;
use std::time::Duration;

use envoy::TypeUrl;
use envoy::ads::Client;
use envoy::envoy::config::core::v3::Node;
use envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy::envoy::extensions::transport_sockets::tls::v3::Secret;
use pki::MeshAuthority;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
    monitoring: SocketAddr,
    serving: [JoinHandle<std::io::Result<()>>; 2],
}

const LIMIT: Duration = Duration::from_secs(20);

const POLICIES: &str = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies";

impl Mesh {
    async fn start() -> Mesh {
        let cluster = Cluster::start().await;
        for definition in api::istio::definitions() {
            match cluster.try_create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await {
                Ok(_) | Err((409, _)) => {}
                Err(refusal) => panic!("{refusal:?}"),
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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let monitoring = listener.local_addr().unwrap();
        let mesh = cluster.mesh.clone();
        let watching = tokio::spawn(async move { mesh.serve_monitoring(listener, CancellationToken::new()).await });
        Mesh { cluster, authority, address, monitoring, serving: [serving, watching] }
    }

    /// Ends the control plane's process, so to speak, and starts it again.
    async fn restart(self) -> Mesh {
        self.serving.iter().for_each(JoinHandle::abort);
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

    /// What the monitoring port answers.
    async fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.monitoring).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until a document of the monitoring port is as `wanted`.
    async fn until_page(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = async || {
            let (status, body) = self.page(path).await;
            let document = (status == 200).then(|| serde_json::from_str(&body).unwrap());
            document.filter(|document| wanted(document))
        };
        testkit::until_async(path, LIMIT, look).await
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
    let one = async || {
        let endpoints: ClusterLoadAssignment = proxy.get(TypeUrl::Endpoint, name);
        (endpoints.endpoints.iter().map(|l| l.lb_endpoints.len()).sum::<usize>() == 1).then_some(())
    };
    testkit::until_async("an endpoint", LIMIT, one).await;
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
    let refused = |proxies: &Value| {
        let of = |name: &str| proxies.as_array().unwrap().iter().find(|p| p["proxy"] == name).cloned().unwrap();
        let (a, b) = (of("a.default"), of("b.default"));
        let states = (&a["types"]["LDS"]["status"], &b["types"]["LDS"]["status"]);
        let nonces = a["listener_nacked"] == a["listener_sent"] && b["listener_acked"] == b["listener_sent"];
        nonces && states == (&"ERROR".into(), &"SYNCED".into())
    };
    mesh.until_page("/debug/syncz", refused).await;
    let nacks = mesh.until_page("/debug/nacks", |nacks| nacks[0]["proxy"] == "a.default").await;
    assert!(nacks[0]["error"].as_str().unwrap().contains("virtualInbound: no"), "{nacks}");
    let logs = mesh.flush("second", &[&a, &b]).await;
    let address = mesh.address_of("second").await;
    assert!(logs.iter().all(|log| beside(log, "second", &address).is_empty()), "{logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_says_without_effect_is_in_its_status_and_hinders_no_other() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let a = mesh.connect("a").await;
    mesh.flush("first", &[&a]).await;
    mesh.policy("p", json!({"selector": {"matchLabels": {"app": "nobody"}}, "action": "DENY", "rules": [{}]})).await;
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "r"}, "spec": {"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}}});
    mesh.cluster.create("/apis/networking.istio.io/v1/namespaces/default/destinationrules", rule).await;
    let told = a.until_told().await;
    assert!(told.iter().any(|t| t.names == ["outbound|9000||a.default.svc.cluster.local"]), "{told:?}");
    let path = format!("{POLICIES}/p");
    let policy = mesh.cluster.until(&path, |policy| !policy["status"]["validationMessages"].is_null()).await;
    assert_eq!(policy["status"]["validationMessages"][0]["type"]["code"], "IST0127");
    assert_eq!(policy["status"]["observedGeneration"], policy["metadata"]["generation"]);
    mesh.cluster.patch(&path, json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}})).await;
    let cleared = |policy: &Value| policy["status"]["validationMessages"].as_array().is_some_and(Vec::is_empty);
    mesh.cluster.until(&path, cleared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_applies_an_object_is_warned_of_what_has_no_effect() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    mesh.connect("a").await.until_held(TypeUrl::Listener, "virtualInbound").await;
    let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p"},
        "spec": {"selector": {"matchLabels": {"app": "nobody"}}, "rules": [{}]}});
    let warnings = mesh.cluster.warnings(POLICIES, &policy).await;
    assert!(
        warnings.iter().any(|w| w.contains("spec.selector: no workload has the labels app=nobody")),
        "{warnings:?}"
    );
    let route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "r"},
        "spec": {"hosts": ["a"], "tcp": [{"route": [{"destination": {"host": "a", "subset": "v9"}}]}]}});
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";
    let warnings = mesh.cluster.warnings(path, &route).await;
    assert!(warnings.iter().any(|w| w.contains("spec.tcp[0].route[0].destination: there is no")), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_shows_what_it_knows() {
    let mesh = Mesh::start().await;
    mesh.workload("a").await;
    let a = mesh.connect("a").await;
    mesh.flush("first", &[&a]).await;
    assert_eq!(mesh.page("/ready").await.0, 200);
    let (_, metrics) = mesh.page("/metrics").await;
    assert!(
        metrics.contains("\npilot_xds{version=") && metrics.contains("pilot_xds_pushes{type=\"lds\"}"),
        "{metrics}"
    );
    let dump = mesh.until_page("/debug/config_dump?proxyID=a.default", |_| true).await;
    let listeners = dump["configs"][1]["dynamic_listeners"].as_array().unwrap();
    let inbound = listeners.iter().find(|l| l["name"] == "virtualInbound").unwrap();
    assert_eq!(inbound["active_state"]["listener"]["@type"], TypeUrl::Listener.as_str());
    assert_eq!(inbound["active_state"]["listener"]["address"]["socket_address"]["port_value"], 15006);
    assert_eq!(mesh.page("/debug/config_dump?proxyID=b.default").await.0, 404);
    let clients = mesh.until_page("/debug/adsz", |clients| clients["totalClients"] == 1).await;
    assert_eq!(clients["clients"][0]["connectionId"], "a.default");
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
const CERTS: &str = "/api/v1/namespaces/default/secrets/certs";

/// A Secret's data: a new certificate with its key.
fn certificate() -> Value {
    let certificate = pki::Authority::generate("a").unwrap().issue_server(&["edge.example.com"], &[]).unwrap();
    json!({"tls.crt": certificate.chain_pem, "tls.key": certificate.key_pem})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_given_the_secrets_that_its_account_may_read() {
    let mesh = Mesh::start().await;
    mesh.workload("edge").await;
    let secret = json!({"metadata": {"name": "certs"}, "stringData": certificate()});
    mesh.cluster.create("/api/v1/namespaces/default/secrets", secret).await;
    let server = json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["*"],
        "tls": {"mode": "SIMPLE", "credentialName": "certs"}});
    let gateway = json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
        "spec": {"selector": {"app": "edge"}, "servers": [server]}});
    let gateways = "/apis/networking.istio.io/v1/namespaces/default/gateways";
    mesh.cluster.create(gateways, gateway).await;
    let id = "router~10.33.1.1~edge.default~default.svc.cluster.local".to_owned();
    let mut client = Client::new(Node { id, ..Node::default() });
    let name = "kubernetes://certs";
    client.want(TypeUrl::Secret, [name.to_owned()].into());
    let proxy = mesh.connect_as("spiffe://cluster.local/ns/default/sa/default", client).await.unwrap();
    let gateway = format!("{gateways}/g");
    let until_status =
        async |text: &str| drop(mesh.cluster.until(&gateway, |g| g["status"].to_string().contains(text)).await);
    until_status("may not list Secrets there").await;
    assert!(proxy.names(TypeUrl::Secret).is_empty());
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]);
    mesh.cluster.create(&format!("{RBAC}/roles"), json!({"metadata": {"name": "r"}, "rules": rules})).await;
    let subject = json!({"kind": "ServiceAccount", "name": "default", "namespace": "default"});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
    let binding = json!({"metadata": {"name": "r"}, "subjects": [subject], "roleRef": role});
    mesh.cluster.create(&format!("{RBAC}/rolebindings"), binding).await;
    proxy.until_held(TypeUrl::Secret, name).await;
    let first: Secret = proxy.get(TypeUrl::Secret, name);
    proxy.take_log();
    mesh.cluster.patch(CERTS, json!({"stringData": certificate()})).await;
    let changed = async || (proxy.get::<Secret>(TypeUrl::Secret, name) != first).then_some(());
    testkit::until_async("the new certificate", LIMIT, changed).await;
    assert!(proxy.take_log().iter().all(|told| told.type_url == TypeUrl::Secret), "nothing else has changed");
    let second: Secret = proxy.get(TypeUrl::Secret, name);
    mesh.cluster.patch(CERTS, json!({"stringData": {"tls.crt": "nonsense"}})).await;
    until_status("the Secret certs in default cannot be used, and its last state is").await;
    assert_eq!(proxy.get::<Secret>(TypeUrl::Secret, name), second);
}
