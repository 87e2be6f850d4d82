use super::*;

#[tokio::test]
async fn a_deleted_object_is_gone_and_the_answer_says_which() {
    let api = Harness::new().await;
    let created = api.config_map("a", &json!({})).await;
    let path = format!("{CONFIG_MAPS}/a");
    let status = api.delete(&path, &json!({"propagationPolicy": "Background"})).await.expect(200);
    assert_eq!(status["status"], "Success");
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}));
    let gone = api.get(&path).await;
    assert_eq!((gone.code, gone.message().as_str()), (404, "configmaps \"a\" not found"));
    assert_eq!(api.delete(&path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn preconditions_of_a_deletion_must_hold() {
    let api = Harness::new().await;
    let created = api.config_map("a", &json!({})).await;
    let path = format!("{CONFIG_MAPS}/a");
    for preconditions in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        assert_eq!(api.delete(&path, &json!({"preconditions": preconditions})).await.code, 409, "{preconditions}");
    }
    let right = json!({"uid": created["metadata"]["uid"], "resourceVersion": created["metadata"]["resourceVersion"]});
    api.delete(&path, &json!({"preconditions": right})).await.expect(200);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_one_is_gone() {
    let api = Harness::new().await;
    let body = json!({"metadata": {"name": "a", "finalizers": ["x.io/one", "x.io/two"]}});
    api.post(CONFIG_MAPS, &body).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let marked = api.delete(&path, &Value::Null).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let more = api.patch(&path, "merge-patch+json", &finalizers(json!(["x.io/one", "x.io/two", "x.io/three"]))).await;
    assert_eq!(more.code, 422);
    assert!(more.message().contains("no new finalizers can be added if the object is being deleted"));
    api.patch(&path, "merge-patch+json", &finalizers(json!(["x.io/two"]))).await.expect(200);
    assert_eq!(api.get(&path).await.code, 200);
    api.patch(&path, "merge-patch+json", &finalizers(Value::Null)).await.expect(200);
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn propagation_becomes_finalizers() {
    let api = Harness::new().await;
    for (name, policy, finalizer) in [("a", "Foreground", "foregroundDeletion"), ("b", "Orphan", "orphan")] {
        api.post(DEPLOYMENTS, &deployment(name)).await.expect(201);
        let path = format!("{DEPLOYMENTS}/{name}");
        let marked = api.delete(&path, &json!({"propagationPolicy": policy})).await.expect(200);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(marked["metadata"]["generation"], 2, "the deletion is a change of intent");
    }
    assert_eq!(api.delete(&format!("{DEPLOYMENTS}/a"), &json!({"propagationPolicy": "x"})).await.code, 422);
}

#[tokio::test]
async fn a_scheduled_pod_ends_in_grace_and_an_unscheduled_one_at_once() {
    let api = Harness::new().await;
    api.post(PODS, &pod("early")).await.expect(201);
    api.delete(&format!("{PODS}/early"), &Value::Null).await.expect(200);
    assert_eq!(api.get(&format!("{PODS}/early")).await.code, 404);

    let mut scheduled = pod("p");
    scheduled["spec"]["nodeName"] = "n".into();
    scheduled["spec"]["terminationGracePeriodSeconds"] = 20.into();
    api.post(PODS, &scheduled).await.expect(201);
    let path = format!("{PODS}/p");
    let marked = api.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 20);
    let longer = api.delete(&path, &json!({"gracePeriodSeconds": 60})).await.expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 20, "it cannot be prolonged");
    let shorter = api.delete(&path, &json!({"gracePeriodSeconds": 5})).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    api.delete(&path, &json!({"gracePeriodSeconds": 0})).await.expect(200);
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn an_eviction_deletes_in_grace() {
    let api = Harness::new().await;
    let mut scheduled = pod("p");
    scheduled["spec"]["nodeName"] = "n".into();
    api.post(PODS, &scheduled).await.expect(201);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    api.post(&format!("{PODS}/p/eviction"), &eviction).await.expect(201);
    let marked = api.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Harness::new().await;
    for name in ["a", "b", "c"] {
        let body = json!({"metadata": {"name": name, "labels": {"keep": if name == "c" { "yes" } else { "no" }}}});
        api.post(CONFIG_MAPS, &body).await.expect(201);
    }
    let deleted = api.delete(&format!("{CONFIG_MAPS}?labelSelector=keep%3Dno"), &Value::Null).await.expect(200);
    assert_eq!(names(&deleted), ["a", "b"]);
    assert_eq!(names(&api.get(CONFIG_MAPS).await.expect(200)), ["c"]);
}

#[tokio::test]
async fn a_namespace_waits_for_its_spec_finalizers() {
    let api = Harness::new().await;
    let created = api.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(
        (&created["status"]["phase"], &created["spec"]["finalizers"]),
        (&json!("Active"), &json!(["kubernetes"]))
    );
    let path = "/api/v1/namespaces/n";
    let marked = api.delete(path, &Value::Null).await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = api.post(&format!("{path}/configmaps"), &config_map("a", &json!({}))).await;
    assert_eq!(refused.code, 403);
    let why =
        "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated";
    assert_eq!(refused.message(), why);
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut emptied = marked;
    emptied["spec"]["finalizers"] = json!([]);
    api.put(&format!("{path}/finalize"), &emptied).await.expect(200);
    assert_eq!(api.get(path).await.code, 404);
}

#[tokio::test]
async fn some_namespaces_are_there_for_good() {
    let api = Harness::new().await;
    let refused = api.delete("/api/v1/namespaces/default", &Value::Null).await;
    assert_eq!(refused.message(), "namespaces \"default\" is forbidden: this namespace may not be deleted");
    assert_eq!(refused.code, 403);
}
