//! Admission as clients meet it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Refusal};
use crate::workloads::deployment;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn message(refused: Result<Value, Refusal>, code: u16) -> String {
    let (found, message) = refused.unwrap_err();
    assert_eq!(found, code, "{message}");
    message
}

fn pod(spec: Value) -> Value {
    let mut whole = json!({"containers": [{"name": "c", "image": "works"}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": "p"}, "spec": whole})
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_worded_as_kubernetes_words_them() {
    let cluster = Cluster::start().await;
    let unknown = cluster.try_create(PODS, pod(json!({"serviceAccountName": "x"}))).await;
    assert_eq!(
        message(unknown, 403),
        "pods \"p\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found"
    );
    let host = cluster.try_create(PODS, pod(json!({"hostNetwork": true}))).await;
    assert!(message(host, 422).starts_with("Pod \"p\" is invalid: spec.hostNetwork: Forbidden: is not supported"));
    let mut mismatch = deployment(1, "works");
    mismatch["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    let mismatch = cluster.try_create("/apis/apps/v1/namespaces/default/deployments", mismatch).await;
    assert_eq!(
        message(mismatch, 422),
        "Deployment.apps \"web\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` \
         does not match template `labels`"
    );
    let tls = json!({"metadata": {"name": "t"}, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
    let tls = cluster.try_create("/api/v1/namespaces/default/secrets", tls).await;
    assert_eq!(message(tls, 422), "Secret \"t\" is invalid: data[tls.key]: Required value");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_twice_changes_nothing() {
    let cluster = Cluster::start().await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "type": "NodePort"}});
    for (path, name, object) in [
        ("/apis/apps/v1/namespaces/default/deployments", "web", deployment(0, "works")),
        ("/api/v1/namespaces/default/services", "web", service),
        ("/api/v1/namespaces/default/secrets", "s", json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}})),
        (PODS, "p", pod(json!({}))),
    ] {
        let created = cluster.create(path, object.clone()).await;
        let again = cluster.strategic(&format!("{path}/{name}"), &object).await;
        for field in ["spec", "data", "type"] {
            let unbound = |mut value: Value| {
                value.as_object_mut().map(|spec| spec.remove("nodeName"));
                value
            };
            assert_eq!(unbound(again[field].clone()), unbound(created[field].clone()), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_need_not_repeat_what_admission_added() {
    let cluster = Cluster::start().await;
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "works"}]}});
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": template}});
    for (path, name, object) in [(PODS, "p", pod(json!({}))), (jobs, "j", job)] {
        let path_of_one = format!("{path}/{name}");
        cluster.create(path, object.clone()).await;
        let bound = |object: &Value| path != PODS || object["status"]["podIP"].is_string();
        let before = cluster.until(&path_of_one, bound).await;
        let after = cluster.replace(&path_of_one, &object).await;
        assert_eq!(after["spec"], before["spec"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn immutable_fields_stay() {
    let cluster = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.create(maps, json!({"metadata": {"name": "m"}, "data": {"a": "b"}, "immutable": true})).await;
    let changed = cluster.try_patch(&format!("{maps}/m"), json!({"data": {"a": "c"}})).await;
    assert_eq!(
        message(changed, 422),
        "ConfigMap \"m\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    let services = "/api/v1/namespaces/default/services";
    cluster.create(services, json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await;
    let moved = cluster.try_patch(&format!("{services}/s"), json!({"spec": {"clusterIP": "10.97.9.9"}})).await;
    assert_eq!(
        message(moved, 422),
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.97.9.9\"]: may not change once set"
    );
    cluster.create(PODS, pod(json!({}))).await;
    let restart = cluster.try_patch(&format!("{PODS}/p"), json!({"spec": {"hostname": "other"}})).await;
    assert!(message(restart, 422).contains("pod updates may not change fields other than"));
}
