//! Built-in kinds that are served in more than one form.

use super::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn an_event_is_served_by_both_groups() {
    let api = Harness::new().await;
    let modern = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "hello", "reason": "Said",
        "type": "Normal", "action": "Say", "reportingController": "c", "reportingInstance": "c-0",
        "eventTime": "2026-11-21T09:00:00.000000Z", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    let created = api.post(modern, &event).await.expect(201);
    assert_eq!((&created["apiVersion"], &created["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let core = "/api/v1/namespaces/default/events";
    let listed = api.get(&format!("{core}?fieldSelector=involvedObject.name%3Dp")).await.expect(200);
    assert_eq!(listed["items"][0]["message"], "hello");
    assert!(listed["items"][0].get("note").is_none(), "{listed}");
    for path in [core, modern] {
        let table = api.get_as(path, TABLE).await.expect(200);
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert!(cells.contains(&json!("pod/p")) && cells.contains(&json!("hello")), "{table}");
    }
    let patch = json!({"note": "again"});
    let patched = api.patch(&format!("{modern}/e"), "merge-patch+json", &patch).await.expect(200);
    assert_eq!(patched["note"], "again");
    assert_eq!(api.get(&format!("{core}/e")).await.expect(200)["message"], "again");
}

#[tokio::test]
async fn an_autoscaler_is_served_in_both_versions() {
    let api = Harness::new().await;
    let v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 80});
    let autoscaler = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "web"}, "spec": spec});
    let created = api.post(v1, &autoscaler).await.expect(201);
    assert_eq!(created["spec"]["targetCPUUtilizationPercentage"], 80);
    let v2 = api.get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web").await.expect(200);
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
    let table = api.get_as(v1, TABLE).await.expect(200);
    assert!(table["rows"][0]["cells"].as_array().unwrap().contains(&json!("cpu: <unknown>/80%")), "{table}");
}
