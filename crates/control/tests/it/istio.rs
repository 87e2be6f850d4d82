//! What a cluster has of its mesh, and what it does to new pods.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SYSTEM: &str = "/api/v1/namespaces/istio-system";

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// The value of a variable of the sidecar.
fn variable<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let proxy = containers.iter().find(|container| container["name"] == "istio-proxy").unwrap();
    proxy["env"].as_array().unwrap().iter().find(|v| v["name"] == name)?["value"].as_str()
}

async fn namespace(cluster: &Cluster, name: &str, labels: Value) -> String {
    cluster.create("/api/v1/namespaces", json!({"metadata": {"name": name, "labels": labels}})).await;
    format!("/api/v1/namespaces/{name}/pods")
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "app", "image": "works"}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_labelled_namespaces_get_sidecars() {
    let cluster = Cluster::start().await;
    let pods = namespace(&cluster, "meshed", json!({"istio-injection": "enabled"})).await;
    let injected = cluster.create(&pods, pod("p")).await;
    assert_eq!(names(&injected["spec"]["containers"]), ["app", "istio-proxy"]);
    assert_eq!(names(&injected["spec"]["initContainers"]), ["istio-init"]);
    assert_eq!(injected["metadata"]["labels"]["security.istio.io/tlsMode"], "istio");
    for (name, value) in
        [("ISTIO_META_CLUSTER_ID", "c1"), ("TRUST_DOMAIN", "cluster.local"), ("ISTHMUS_DATA_PLANE", "native")]
    {
        assert_eq!(variable(&injected, name), Some(value), "{name}");
    }
    let config = variable(&injected, "PROXY_CONFIG").unwrap();
    assert!(config.contains("istiod.istio-system.svc:15012"), "{config}");
    let plain = cluster.create("/api/v1/namespaces/default/pods", pod("p")).await;
    assert_eq!(names(&plain["spec"]["containers"]), ["app"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kube_inject_made_is_completed_and_not_injected_again() {
    let cluster = Cluster::start().await;
    let pods = namespace(&cluster, "meshed", json!({"istio-injection": "enabled"})).await;
    let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod("p")["spec"]});
    let manifest = control::inject_manifest(&manifest.to_string()).unwrap();
    let manifest: Value = serde_saphyr::from_str(&manifest).unwrap();
    for path in [pods.as_str(), "/api/v1/namespaces/default/pods"] {
        let created = cluster.create(path, manifest.clone()).await;
        assert_eq!(names(&created["spec"]["containers"]), ["app", "istio-proxy"], "{path}");
        assert_eq!(names(&created["spec"]["initContainers"]), ["istio-init"]);
        assert_eq!(variable(&created, "ISTIO_META_CLUSTER_ID"), Some("c1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_says_nonsense_about_its_sidecar_is_refused() {
    let cluster = Cluster::start().await;
    let pods = namespace(&cluster, "meshed", json!({"istio-injection": "enabled"})).await;
    let mut wrong = pod("p");
    wrong["metadata"]["annotations"] = json!({"traffic.sidecar.istio.io/excludeInboundPorts": "http"});
    let (code, message) = cluster.try_create(&pods, wrong).await.unwrap_err();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "admission webhook \"namespace.sidecar-injector.istio.io\" denied the request: invalid value \"http\" for \
         annotation \"traffic.sidecar.istio.io/excludeInboundPorts\": \"http\" is not a port, a number of 1 to 65535"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_meshs_configuration_is_its_users() {
    let cluster = Cluster::start().await;
    let map = format!("{SYSTEM}/configmaps/istio");
    let changed = json!({"data": {"mesh": "trustDomain: td\naccessLogFile: /dev/stdout\n"}});
    cluster.patch(&map, changed).await;
    let pods = namespace(&cluster, "meshed", json!({"istio-injection": "enabled"})).await;
    let injected = cluster.create(&pods, pod("p")).await;
    assert_eq!(variable(&injected, "TRUST_DOMAIN"), Some("td"));
    let cluster = cluster.restart().await;
    let kept = cluster.until(&map, |_| true).await;
    assert!(kept["data"]["mesh"].as_str().unwrap().contains("accessLogFile"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_is_a_service_of_this_process() {
    let cluster = Cluster::start().await;
    let service = cluster.until(&format!("{SYSTEM}/services/istiod"), |_| true).await;
    assert_eq!(names(&service["spec"]["ports"]), ["https-dns", "http-monitoring"]);
    let slices = format!("/apis/discovery.k8s.io/v1{}/endpointslices/istiod", SYSTEM.trim_start_matches("/api/v1"));
    let slice = cluster.until(&slices, |_| true).await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.33.0.1"]));
    let endpoints = cluster.until(&format!("{SYSTEM}/endpoints/istiod"), |_| true).await;
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.33.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn istios_kinds_are_served_and_brought_up_to_date() {
    let cluster = Cluster::start().await;
    let gateways = format!("{DEFINITIONS}/gateways.networking.istio.io");
    let ours = cluster.until(&gateways, |_| true).await;
    let versions = json!({"spec": {"versions": [ours["spec"]["versions"][0]], "names": {"shortNames": ["old"]}}});
    cluster.patch(&gateways, versions).await;
    let cluster = cluster.restart().await;
    let is_ours = |stored: &Value| {
        stored["spec"] == ours["spec"] && stored["status"]["acceptedNames"]["shortNames"] == json!(["gw"])
    };
    cluster.until(&gateways, is_ours).await;
    for (group, versions, plural) in [
        ("networking.istio.io", ["v1", "v1beta1", "v1alpha3"].as_slice(), "workloadentries"),
        ("security.istio.io", &["v1", "v1beta1"], "peerauthentications"),
    ] {
        for version in versions {
            let path = format!("/apis/{group}/{version}/namespaces/default/{plural}");
            assert_eq!(cluster.list(&path).await.len(), 0, "{path}");
        }
    }
}
