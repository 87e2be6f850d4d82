//! Deployments, ReplicaSets, Jobs and the scheduler.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const EVENTS: &str = "/api/v1/namespaces/default/events";

pub(crate) fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

fn job(name: &str, image: &str, spec: Value) -> Value {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}});
    let mut whole = json!({"template": template});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": whole})
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

fn is_rolled_out(object: &Value, replicas: i32) -> bool {
    let status = &object["status"];
    status["observedGeneration"] == object["metadata"]["generation"]
        && status["updatedReplicas"] == replicas
        && status["replicas"] == replicas
        && status["availableReplicas"] == replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_available_and_its_pods_are_named_after_it() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(3, "works:1")).await;
    let web = cluster.until(WEB, |web| is_rolled_out(web, 3)).await;
    assert_eq!(condition(&web, "Available")["status"], "True");
    assert_eq!(condition(&web, "Progressing")["reason"], "NewReplicaSetAvailable");
    assert_eq!(web["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let set = cluster.list(SETS).await.remove(0);
    let name = set["metadata"]["name"].as_str().unwrap();
    assert_eq!(name, format!("web-{}", set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap()));
    let pods = cluster.list(PODS).await;
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert!(pod["metadata"]["name"].as_str().unwrap().starts_with(&format!("{name}-")));
        assert_eq!(pod["spec"]["nodeName"], "node");
        assert_eq!(pod["spec"]["volumes"][0]["projected"]["sources"].as_array().unwrap().len(), 3);
    }
    let scaled = |events: &[Value]| {
        let message = format!("Scaled up replica set {name} from 0 to 3");
        events.iter().any(|e| e["reason"] == "ScalingReplicaSet" && e["message"] == message)
    };
    cluster.until_list(EVENTS, scaled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_rolls_and_can_be_undone() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(2, "works:1")).await;
    cluster.until(WEB, |web| is_rolled_out(web, 2)).await;
    let container =
        |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.patch(WEB, container("works:2")).await;
    cluster.until(WEB, |web| is_rolled_out(web, 2)).await;
    let revisions = |sets: &[Value]| {
        let mut all: Vec<String> = sets
            .iter()
            .map(|set| {
                let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
                let revision = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().unwrap();
                format!("{image} {revision} {}", set["spec"]["replicas"])
            })
            .collect();
        all.sort();
        all
    };
    cluster.until_list(SETS, |sets| revisions(sets) == ["works:1 1 0", "works:2 2 2"]).await;
    cluster.patch(WEB, container("works:1")).await;
    cluster.until(WEB, |web| is_rolled_out(web, 2)).await;
    cluster.until_list(SETS, |sets| revisions(sets) == ["works:1 3 2", "works:2 2 0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_scales_and_replaces_pods_that_are_deleted() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(1, "works:1")).await;
    cluster.until(WEB, |web| is_rolled_out(web, 1)).await;
    cluster.patch(&format!("{WEB}/scale"), json!({"spec": {"replicas": 20}})).await;
    cluster.until(WEB, |web| is_rolled_out(web, 20)).await;
    assert_eq!(cluster.list(PODS).await.len(), 20, "not one too many");
    cluster.patch(&format!("{WEB}/scale"), json!({"spec": {"replicas": 2}})).await;
    cluster.until(WEB, |web| is_rolled_out(web, 2)).await;
    let pods = cluster.until_list(PODS, |pods| pods.len() == 2).await;
    let victim = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.delete(&format!("{PODS}/{victim}")).await;
    cluster.until_list(PODS, |pods| pods.len() == 2 && pods.iter().all(|pod| pod["metadata"]["name"] != *victim)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing_and_the_work_goes_on() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, deployment(3, "works:1")).await;
    cluster.until(WEB, |web| is_rolled_out(web, 3)).await;
    let names = |pods: &[Value]| pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect::<Vec<_>>();
    let before = names(&cluster.list(PODS).await);
    let cluster = cluster.restart().await;
    cluster.patch(WEB, json!({"metadata": {"annotations": {"after": "restart"}}})).await;
    let annotated = |sets: &[Value]| sets.len() == 1 && sets[0]["metadata"]["annotations"]["after"] == "restart";
    cluster.until_list(SETS, annotated).await;
    assert_eq!(names(&cluster.list(PODS).await), before);
    cluster.patch(&format!("{WEB}/scale"), json!({"spec": {"replicas": 4}})).await;
    cluster.until(WEB, |web| is_rolled_out(web, 4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_matches_is_adopted_and_one_that_stops_matching_is_released() {
    let cluster = Cluster::start().await;
    let pod = json!({"metadata": {"name": "stray", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "works:1"}]}});
    cluster.create(PODS, pod).await;
    let set = json!({"metadata": {"name": "set"}, "spec": deployment(1, "works:1")["spec"].clone()});
    cluster.create(SETS, set).await;
    let stray = format!("{PODS}/stray");
    cluster.until(&stray, |pod| pod["metadata"]["ownerReferences"][0]["name"] == "set").await;
    assert_eq!(cluster.list(PODS).await.len(), 1);
    cluster.patch(&stray, json!({"metadata": {"labels": {"app": "other"}}})).await;
    cluster.until(&stray, |pod| pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)).await;
    cluster.until_list(PODS, |pods| pods.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_created_shows_in_the_conditions() {
    let cluster = Cluster::start().await;
    let mut web = deployment(1, "works:1");
    web["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
    cluster.create(DEPLOYMENTS, web).await;
    let web = cluster.until(WEB, |web| condition(web, "ReplicaFailure")["status"] == "True").await;
    let message = condition(&web, "ReplicaFailure")["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("error looking up service account default/nobody: serviceaccount \"nobody\" not found"),
        "{message}"
    );
    cluster.create("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "nobody"}})).await;
    cluster.until(WEB, |web| is_rolled_out(web, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_wait_for_a_node_that_fits() {
    let cluster = Cluster::without_node().await;
    let pod = json!({"metadata": {"name": "p"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "works:1"}]}});
    cluster.create(PODS, pod).await;
    let path = format!("{PODS}/p");
    let waiting = cluster.until(&path, |pod| condition(pod, "PodScheduled")["status"] == "False").await;
    assert_eq!(condition(&waiting, "PodScheduled")["message"], "no nodes available to schedule pods");
    cluster.add_node().await;
    cluster
        .until(&path, |pod| condition(pod, "PodScheduled")["message"].as_str().is_some_and(|m| m.contains("selector")))
        .await;
    cluster.patch("/api/v1/nodes/node", json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    let bound = cluster.until(&path, |pod| pod["spec"]["nodeName"] == "node").await;
    assert_eq!(condition(&bound, "PodScheduled")["status"], "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_completes_or_fails() {
    let cluster = Cluster::start().await;
    cluster.create(JOBS, job("good", "succeeds", json!({"completions": 3, "parallelism": 2}))).await;
    let good = cluster.until(&format!("{JOBS}/good"), |job| condition(job, "Complete")["status"] == "True").await;
    assert_eq!(good["status"]["succeeded"], 3);
    cluster.create(JOBS, job("bad", "fails", json!({"backoffLimit": 0}))).await;
    let bad = cluster.until(&format!("{JOBS}/bad"), |job| condition(job, "Failed")["status"] == "True").await;
    assert_eq!(condition(&bad, "Failed")["reason"], "BackoffLimitExceeded");
    cluster.create(JOBS, job("brief", "succeeds", json!({"ttlSecondsAfterFinished": 0}))).await;
    cluster.until_gone(&format!("{JOBS}/brief")).await;
}
