use super::*;

#[tokio::test]
async fn every_patch_type_changes_an_object() {
    let api = Harness::new().await;
    api.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let merged = api.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 2}})).await.expect(200);
    assert_eq!(merged["spec"]["replicas"], 2);
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    assert_eq!(api.patch(&path, "json-patch+json", &operations).await.expect(200)["spec"]["replicas"], 3);
    let container = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "curl"}]}}}});
    let strategic = api.patch(&path, "strategic-merge-patch+json", &container).await.expect(200);
    let containers = strategic["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2, "containers merge by name");
    assert_eq!(strategic["metadata"]["generation"], 4);
}

#[tokio::test]
async fn patches_are_refused_with_the_words_of_kubernetes() {
    let api = Harness::new().await;
    let created = api.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    api.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 2}})).await.expect(200);
    for (kind, body, code, message) in [
        ("json", json!({}), 415, "accepted media types include: application/json-patch+json"),
        ("merge-patch+json", json!([]), 400, "error decoding patch"),
        ("merge-patch+json", json!({"metadata": {"name": "x"}}), 400, "does not match the name on the URL"),
        ("merge-patch+json", json!({"spec": {"replicas": "x"}}), 400, "cannot unmarshal string"),
        ("merge-patch+json", json!({"metadata": created["metadata"].clone()}), 409, "the object has been modified"),
        ("json-patch+json", json!([{"op": "test", "path": "/spec/replicas", "value": 9}]), 422, ""),
    ] {
        let reply = api.patch(&path, kind, &body).await;
        assert_eq!(reply.code, code, "{kind} {body}: {}", reply.message());
        assert!(reply.message().contains(message), "{}", reply.message());
    }
    assert_eq!(api.patch(&format!("{path}x"), "merge-patch+json", &json!({})).await.code, 404);
    let strict = format!("{path}?fieldValidation=Strict");
    let unknown = api.patch(&strict, "merge-patch+json", &json!({"spec": {"bogus": 1}})).await;
    assert_eq!(unknown.code, 400);
    assert!(unknown.message().contains("strict decoding error: unknown field \"spec.bogus\""), "{}", unknown.message());
    let forced = api.patch(&format!("{path}?force=true"), "merge-patch+json", &json!({})).await;
    assert_eq!(forced.code, 422);
}

#[tokio::test]
async fn apply_creates_owns_conflicts_and_forces() {
    let api = Harness::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let apply = |manager: &str, data: Value, more: &str| {
        let path = format!("{path}?fieldManager={manager}{more}");
        let api = &api;
        async move { api.patch(&path, "apply-patch+yaml", &config_map("a", &data)).await }
    };
    let created = apply("one", json!({"k": "1", "l": "1"}), "").await.expect(201);
    assert_eq!(created["metadata"]["managedFields"][0]["operation"], "Apply");
    let again = apply("one", json!({"k": "1", "l": "1"}), "").await.expect(200);
    assert_eq!(version(&again), version(&created), "applying the same again changes nothing");
    let conflict = apply("two", json!({"k": "2"}), "").await;
    assert_eq!(conflict.code, 409);
    assert_eq!(conflict.json()["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(apply("two", json!({"k": "2"}), "&force=true").await.expect(200)["data"], json!({"k": "2", "l": "1"}));
    assert_eq!(apply("one", json!({}), "").await.expect(200)["data"], json!({"k": "2"}), "what one gave up is gone");
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {k: v}\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let reply = api.send("PATCH", &format!("{CONFIG_MAPS}/y?fieldManager=m"), &headers, yaml).await;
    assert_eq!(reply.expect(201)["data"]["k"], "v");
}

#[tokio::test]
async fn apply_needs_a_manager_and_a_kind() {
    let api = Harness::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let anonymous = api.patch(&path, "apply-patch+yaml", &config_map("a", &json!({}))).await;
    assert_eq!(anonymous.code, 422);
    assert!(anonymous.message().contains("fieldManager: Required value: is required for apply patch"));
    let with = format!("{path}?fieldManager=m");
    assert_eq!(api.patch(&with, "apply-patch+yaml", &json!({"metadata": {"name": "a"}})).await.code, 400);
    assert_eq!(api.patch(&with, "apply-patch+yaml", &config_map("b", &json!({}))).await.code, 400);
    let mut managed = config_map("a", &json!({}));
    for given in [json!([{}]), json!([])] {
        managed["metadata"]["managedFields"] = given;
        let refused = api.patch(&with, "apply-patch+yaml", &managed).await;
        assert_eq!((refused.code, refused.message()), (400, "metadata.managedFields must be nil".to_owned()));
    }
}

#[tokio::test]
async fn an_apply_owns_only_what_its_path_writes() {
    let api = Harness::new().await;
    let mut web = deployment("web");
    web["status"] = json!({"replicas": 7});
    let path = format!("{DEPLOYMENTS}/web");
    let applied = api.patch(&format!("{path}?fieldManager=m"), "apply-patch+yaml", &web).await.expect(201);
    assert_eq!(applied["metadata"]["managedFields"][0]["fieldsV1"].get("f:status"), None);
    assert_ne!(applied["status"]["replicas"], 7);
    web["spec"]["replicas"] = json!(9);
    let applied = api.patch(&format!("{path}/status?fieldManager=s"), "apply-patch+yaml", &web).await.expect(200);
    assert_eq!((&applied["spec"]["replicas"], &applied["status"]["replicas"]), (&json!(1), &json!(7)));
    let entries = applied["metadata"]["managedFields"].as_array().unwrap();
    let own = entries.iter().find(|entry| entry["manager"] == "s").unwrap();
    assert!(own["fieldsV1"].get("f:status").is_some() && own["fieldsV1"].get("f:spec").is_none(), "{own}");
}

#[tokio::test]
async fn a_status_patch_leaves_the_spec_alone() {
    let api = Harness::new().await;
    api.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let body = json!({"spec": {"replicas": 9}, "status": {"replicas": 1}});
    let path = format!("{DEPLOYMENTS}/web/status");
    let patched = api.patch(&path, "merge-patch+json", &body).await.expect(200);
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(1), &json!(1)));
    let managers = patched["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|entry| entry["subresource"] == "status"), "{managers:?}");
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    let path = format!("{CONFIG_MAPS}/a");
    let patches = (0..4).map(|i| {
        let body = json!({"data": {format!("k{i}"): "v"}});
        let (api, path) = (&api, &path);
        async move { api.patch(path, "merge-patch+json", &body).await.expect(200) }
    });
    futures::future::join_all(patches).await;
    let data = api.get(&path).await.expect(200)["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 4, "{data}");
}
