//! Namespaces, garbage collection, and what every namespace has.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::workloads::deployment;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn owned(name: &str, owner: &Value) -> Value {
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true});
    json!({"metadata": {"name": name, "ownerReferences": [reference]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_furnished_and_refurnished() {
    let cluster = Cluster::start().await;
    cluster.create("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await;
    let (account, ca) =
        ("/api/v1/namespaces/ns/serviceaccounts/default", "/api/v1/namespaces/ns/configmaps/kube-root-ca.crt");
    cluster.until(account, |_| true).await;
    cluster.until(ca, |map| map["data"]["ca.crt"] == "the CA").await;
    cluster.delete(account).await;
    cluster.until(account, |_| true).await;
    cluster.patch(ca, json!({"data": {"ca.crt": "forged"}})).await;
    cluster.until(ca, |map| map["data"]["ca.crt"] == "the CA").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_everything_in_it() {
    let cluster = Cluster::start().await;
    cluster.create("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await;
    cluster.create("/apis/apps/v1/namespaces/ns/deployments", deployment(2, "works:1")).await;
    cluster.create("/api/v1/namespaces/ns/secrets", json!({"metadata": {"name": "s"}})).await;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    cluster.create("/api/v1/namespaces/ns/configmaps", held).await;
    cluster.until_list("/api/v1/namespaces/ns/pods", |pods| pods.len() == 2).await;
    cluster.delete("/api/v1/namespaces/ns").await;
    let remaining = |ns: &Value| {
        let conditions = ns["status"]["conditions"].as_array();
        let message = |c: &Value| c["message"].as_str().is_some_and(|m| m.contains("example.com/hold"));
        ns["status"]["phase"] == "Terminating"
            && conditions
                .is_some_and(|list| list.iter().any(|c| c["type"] == "NamespaceFinalizersRemaining" && message(c)))
    };
    cluster.until("/api/v1/namespaces/ns", remaining).await;
    cluster.patch("/api/v1/namespaces/ns/configmaps/held", json!({"metadata": {"finalizers": null}})).await;
    cluster.until_gone("/api/v1/namespaces/ns").await;
    assert_eq!(cluster.list("/api/v1/namespaces/ns/pods").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_namespaces_stay() {
    let cluster = Cluster::start().await;
    let (code, message) = cluster.try_delete("/api/v1/namespaces/default", Value::Null).await.unwrap_err();
    assert_eq!(
        (code, message.as_str()),
        (403, "namespaces \"default\" is forbidden: this namespace may not be deleted")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_owns_goes_with_it() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(2, "works:1")).await;
    cluster.until_list(PODS, |pods| pods.len() == 2).await;
    let background = json!({"propagationPolicy": "Background"});
    cluster.try_delete(&format!("{DEPLOYMENTS}/web"), background).await.unwrap();
    cluster.until_list(SETS, <[Value]>::is_empty).await;
    cluster.until_list(PODS, <[Value]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_owners_in_the_foreground_wait() {
    let cluster = Cluster::start().await;
    let owner = cluster.create(MAPS, json!({"metadata": {"name": "owner"}})).await;
    cluster.create(MAPS, owned("child", &owner)).await;
    cluster.try_delete(&format!("{MAPS}/owner"), json!({"propagationPolicy": "Orphan"})).await.unwrap();
    cluster.until_gone(&format!("{MAPS}/owner")).await;
    let child = cluster.get(&format!("{MAPS}/child")).await.unwrap();
    assert!(child["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));

    let owner = cluster.create(MAPS, json!({"metadata": {"name": "owner"}})).await;
    let mut held = owned("held", &owner);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(MAPS, held).await;
    cluster.try_delete(&format!("{MAPS}/owner"), json!({"propagationPolicy": "Foreground"})).await.unwrap();
    cluster.until(&format!("{MAPS}/held"), |map| map["metadata"]["deletionTimestamp"].is_string()).await;
    assert!(cluster.get(&format!("{MAPS}/owner")).await.is_some());
    cluster.patch(&format!("{MAPS}/held"), json!({"metadata": {"finalizers": null}})).await;
    cluster.until_gone(&format!("{MAPS}/owner")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_owner_never_was_is_garbage() {
    let cluster = Cluster::start().await;
    let mut ghost = cluster.create(MAPS, json!({"metadata": {"name": "owner"}})).await;
    ghost["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    cluster.create(MAPS, owned("child", &ghost)).await;
    cluster.until_gone(&format!("{MAPS}/child")).await;
    assert!(cluster.get(&format!("{MAPS}/owner")).await.is_some(), "it has the name of the owner and another uid");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_collected_too() {
    let cluster = Cluster::start().await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    cluster.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let owner = cluster.create(MAPS, json!({"metadata": {"name": "owner"}})).await;
    let mut thing = owned("thing", &owner);
    thing["apiVersion"] = json!("example.com/v1");
    thing["kind"] = json!("Thing");
    cluster.create("/apis/example.com/v1/namespaces/default/things", thing).await;
    cluster.delete(&format!("{MAPS}/owner")).await;
    cluster.until_gone("/apis/example.com/v1/namespaces/default/things/thing").await;
}
