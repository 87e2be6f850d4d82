//! Services, their addresses and their endpoints.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::workloads::deployment;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const WEB: &str = "/api/v1/namespaces/default/services/web";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn service(name: &str, spec: Value) -> Value {
    let mut whole = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": whole})
}

fn slices_of(service: &str) -> String {
    format!("{SLICES}?labelSelector=kubernetes.io/service-name={service}")
}

fn addresses(slices: &[Value]) -> Vec<String> {
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let mut all: Vec<String> = endpoints.map(|e| e["addresses"][0].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_of_the_cluster_itself_are_there() {
    let cluster = Cluster::start().await;
    let kubernetes = cluster.get("/api/v1/namespaces/default/services/kubernetes").await.unwrap();
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.97.0.1");
    let dns = cluster.get("/api/v1/namespaces/kube-system/services/kube-dns").await.unwrap();
    assert_eq!(dns["spec"]["clusterIP"], "10.97.0.10");
    let endpoints = cluster.get("/api/v1/namespaces/default/endpoints/kubernetes").await.unwrap();
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.33.0.1");
    let slices = cluster.list(&slices_of("kubernetes")).await;
    assert_eq!(addresses(&slices), ["10.33.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods() {
    let cluster = Cluster::start().await;
    cluster
        .create(SERVICES, service("web", json!({"ports": [{"port": 80, "targetPort": 8080, "name": "http"}]})))
        .await;
    cluster.create(DEPLOYMENTS, deployment(2, "works:1")).await;
    let slices = cluster.until_list(&slices_of("web"), |slices| addresses(slices).len() == 2).await;
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    let path = format!("{ENDPOINTS}/web");
    let lists = |n: usize| move |e: &Value| e["subsets"][0]["addresses"].as_array().is_some_and(|a| a.len() == n);
    cluster.until(&path, lists(2)).await;
    cluster.patch(&format!("{DEPLOYMENTS}/web"), json!({"spec": {"replicas": 1}})).await;
    cluster.until_list(&slices_of("web"), |slices| slices.len() == 1 && addresses(slices).len() == 1).await;
    cluster.until(&path, lists(1)).await;
    cluster.delete(WEB).await;
    cluster.until_gone(&path).await;
    cluster.until_list(&slices_of("web"), <[Value]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_ready_are_listed_as_such() {
    let cluster = Cluster::start().await;
    cluster.create(SERVICES, service("web", json!({}))).await;
    cluster.create(DEPLOYMENTS, deployment(1, "stuck:1")).await;
    let not_ready = |e: &Value| e["subsets"][0]["notReadyAddresses"].as_array().is_some_and(|a| a.len() == 1);
    cluster.until(&format!("{ENDPOINTS}/web"), not_ready).await;
    let slices = cluster.until_list(&slices_of("web"), |slices| addresses(slices).len() == 1).await;
    assert_eq!(slices[0]["endpoints"][0]["conditions"]["ready"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_written_endpoints_are_mirrored_and_hand_written_slices_left_alone() {
    let cluster = Cluster::start().await;
    cluster.create(SERVICES, json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    let endpoints = json!({"metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "198.18.2.2"}], "ports": [{"port": 5432}]}]});
    cluster.create(ENDPOINTS, endpoints).await;
    let slices = cluster.until_list(&slices_of("db"), |slices| addresses(slices) == ["198.18.2.2"]).await;
    let by = &slices[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    assert_eq!(by, "endpointslicemirroring-controller.k8s.io");
    let own = json!({"metadata": {"name": "own", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["198.18.2.3"]}], "ports": [{"port": 5432}]});
    cluster.create(SLICES, own).await;
    cluster.delete(&format!("{ENDPOINTS}/db")).await;
    cluster.until_list(&slices_of("db"), |slices| addresses(slices) == ["198.18.2.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_its_type_in_every_direction() {
    let cluster = Cluster::start().await;
    let created = cluster.create(SERVICES, service("web", json!({}))).await;
    let ip = created["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let node = cluster.patch(WEB, json!({"spec": {"type": "NodePort"}})).await;
    assert_eq!(node["spec"]["clusterIP"], *ip);
    let port = node["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port));
    cluster.patch(WEB, json!({"spec": {"type": "LoadBalancer"}})).await;
    let balanced = |s: &Value| s["status"]["loadBalancer"]["ingress"][0]["ip"] == "198.18.1.2";
    let web = cluster.until(WEB, balanced).await;
    assert_eq!(web["spec"]["ports"][0]["nodePort"], port);
    let external = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    let web = cluster.patch(WEB, external).await;
    assert_eq!(web["spec"]["clusterIP"], Value::Null);
    cluster.until(WEB, |s| s["status"]["loadBalancer"]["ingress"].is_null()).await;
    let web = cluster.patch(WEB, json!({"spec": {"type": "ClusterIP", "externalName": null}})).await;
    assert!(web["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97."));
    assert_eq!(web["spec"]["ports"][0]["nodePort"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_given_once_and_come_back_when_a_service_goes() {
    let cluster = Cluster::start().await;
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let spec = || json!({"type": "NodePort"});
    let created = names.iter().map(|name| cluster.create(SERVICES, service(name, spec())));
    let created = futures::future::join_all(created).await;
    let unique =
        |field: fn(&Value) -> String| created.iter().map(field).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(unique(|s| s["spec"]["clusterIP"].to_string()), 40);
    assert_eq!(unique(|s| s["spec"]["ports"][0]["nodePort"].to_string()), 40);
    let taken = created[0]["spec"]["clusterIP"].as_str().unwrap();
    let (code, message) = cluster.try_create(SERVICES, service("x", json!({"clusterIP": taken}))).await.unwrap_err();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        format!(
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"{taken}\"]: failed to allocate IP {taken}: \
             provided IP is already allocated"
        )
    );
    let dry = cluster.create(&format!("{SERVICES}?dryRun=All"), service("dry", json!({}))).await;
    let free = dry["spec"]["clusterIP"].as_str().unwrap();
    cluster.create(SERVICES, service("wet", json!({"clusterIP": free}))).await;
    cluster.delete(&format!("{SERVICES}/s0")).await;
    cluster.create(SERVICES, service("again", json!({"clusterIP": taken}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancer_addresses_are_given_back() {
    let cluster = Cluster::start().await;
    let balanced = |spec: Value| service("web", spec);
    cluster.create(SERVICES, balanced(json!({"type": "LoadBalancer", "loadBalancerIP": "198.18.1.77"}))).await;
    let ip = |wanted: &'static str| move |s: &Value| s["status"]["loadBalancer"]["ingress"][0]["ip"] == wanted;
    cluster.until(WEB, ip("198.18.1.77")).await;
    let mut second = balanced(json!({"type": "LoadBalancer", "loadBalancerIP": "198.18.1.77"}));
    second["metadata"]["name"] = json!("second");
    cluster.create(SERVICES, second).await;
    let told = |events: &[Value]| events.iter().any(|e| e["reason"] == "SyncLoadBalancerFailed");
    cluster.until_list("/api/v1/namespaces/default/events", told).await;
    cluster.delete(WEB).await;
    cluster.until(&format!("{SERVICES}/second"), ip("198.18.1.77")).await;
}
