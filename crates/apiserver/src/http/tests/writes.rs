use super::*;

#[tokio::test]
async fn a_created_object_has_an_identity_and_can_be_read_back() {
    let api = Harness::new().await;
    let created = api.config_map("a", &json!({"k": "v"})).await;
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["creationTimestamp"].as_str().unwrap().len(), "2026-11-21T10:00:00Z".len());
    assert!(metadata.get("generation").is_none(), "config maps have no generation");
    let entry = &metadata["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("test"), &json!("Update")));
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.expect(200), created);
}

#[tokio::test]
async fn creation_is_refused_with_the_words_of_kubernetes() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    for (path, body, code, message) in [
        (CONFIG_MAPS, config_map("a", &json!({})), 409, "configmaps \"a\" already exists"),
        (CONFIG_MAPS, config_map("A_", &json!({})), 422, "ConfigMap \"A_\" is invalid: metadata.name: Invalid value"),
        (
            CONFIG_MAPS,
            config_map("", &json!({})),
            422,
            "metadata.name: Required value: name or generateName is required",
        ),
        ("/api/v1/namespaces/no/configmaps", config_map("a", &json!({})), 404, "namespaces \"no\" not found"),
        ("/api/v1/configmaps", config_map("a", &json!({})), 405, "does not allow this method"),
        ("/api/v1/namespaces/default/bogus", config_map("a", &json!({})), 404, "could not find the requested resource"),
        (
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "resourceVersion": "1"}}),
            400,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            CONFIG_MAPS,
            json!({"apiVersion": "v1", "kind": "Secret"}),
            400,
            "Secret in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (
            CONFIG_MAPS,
            json!({"apiVersion": "v2", "kind": "ConfigMap"}),
            400,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (CONFIG_MAPS, json!([]), 400, "(must be of type ConfigMap)"),
        (
            DEPLOYMENTS,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": "x"}}),
            400,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            CONFIG_MAPS,
            json!({"metadata": {"name": "l", "labels": {"a b": "c"}}}),
            422,
            "metadata.labels: Invalid value: \"a b\"",
        ),
    ] {
        let reply = api.post(path, &body).await;
        assert_eq!(reply.code, code, "{body}: {}", reply.message());
        assert!(reply.message().contains(message), "{}", reply.message());
    }
}

#[tokio::test]
async fn a_generated_name_is_the_prefix_and_five_characters() {
    let api = Harness::new().await;
    let body = json!({"metadata": {"generateName": "web-"}});
    let (a, b) = (api.post(CONFIG_MAPS, &body).await.expect(201), api.post(CONFIG_MAPS, &body).await.expect(201));
    let name = a["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    assert_ne!(a["metadata"]["name"], b["metadata"]["name"]);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_reported_as_asked() {
    let api = Harness::new().await;
    let body = br#"{"metadata":{"name":"a"},"data":{"k":"1","k":"2"},"bogus":1}"#;
    let send = |mode: &str| {
        let path = format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={mode}");
        let api = &api;
        async move { api.send("POST", &path, &[], body).await }
    };
    let strict = send("Strict").await;
    assert_eq!(strict.code, 400);
    let expected = "strict decoding error: unknown field \"bogus\", duplicate field \"data.k\"";
    assert!(strict.message().ends_with(expected), "{}", strict.message());
    let warned = send("Warn").await;
    assert_eq!(
        warned.warnings(),
        ["299 - \"unknown field \\\"bogus\\\"\"", "299 - \"duplicate field \\\"data.k\\\"\""]
    );
    assert_eq!(warned.expect(201)["data"], json!({"k": "2"}));
    assert!(send("Ignore").await.warnings().is_empty());
    assert_eq!(send("Bogus").await.code, 422);
}

#[tokio::test]
async fn yaml_and_bodies_without_a_type_are_understood_and_others_are_not() {
    let api = Harness::new().await;
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  k: v\n";
    let reply = api.send("POST", CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(reply.expect(201)["data"]["k"], "v");
    assert_eq!(api.send("POST", CONFIG_MAPS, &[("content-type", "text/html")], b"{}").await.code, 415);
    let shown = api.get_as(&format!("{CONFIG_MAPS}/y"), "application/yaml").await;
    assert!(String::from_utf8(shown.body.to_vec()).unwrap().contains("kind: ConfigMap"));
    assert_eq!(api.get_as(&format!("{CONFIG_MAPS}/y"), "text/html").await.code, 406);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let api = Harness::new().await;
    let body = config_map("big", &json!({"k": "x".repeat(4 << 20)}));
    assert_eq!(api.post(CONFIG_MAPS, &body).await.code, 413);
    let body = config_map("big", &json!({"k": "x".repeat(2 << 20)}));
    let reply = api.post(CONFIG_MAPS, &body).await;
    assert_eq!((reply.code, reply.message().as_str()), (413, "etcdserver: request is too large"));
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let api = Harness::new().await;
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let shown = api.post(&path, &config_map("a", &json!({}))).await.expect(201);
    assert!(shown["metadata"]["uid"].is_string() && shown["metadata"].get("resourceVersion").is_none());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
    let stored = api.config_map("a", &json!({"k": "1"})).await;
    assert_eq!(api.post(&path, &config_map("a", &json!({}))).await.code, 409);
    let put = api.put(&format!("{CONFIG_MAPS}/a?dryRun=All"), &config_map("a", &json!({"k": "2"}))).await;
    assert_eq!(put.expect(200)["data"]["k"], "2");
    assert_eq!(api.delete(&format!("{CONFIG_MAPS}/a?dryRun=All"), &Value::Null).await.code, 200);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.expect(200), stored);
}

#[tokio::test]
async fn an_update_of_a_stale_version_conflicts_and_one_without_a_version_wins() {
    let api = Harness::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let first = api.config_map("a", &json!({"k": "1"})).await;
    let mut next = first.clone();
    next["data"]["k"] = "2".into();
    let second = api.put(&path, &next).await.expect(200);
    assert!(version(&second) > version(&first));
    let stale = api.put(&path, &next).await;
    assert_eq!(stale.code, 409);
    assert!(stale.message().contains("the object has been modified; please apply your changes"), "{}", stale.message());
    let unconditional = api.put(&path, &config_map("a", &json!({"k": "3"}))).await.expect(200);
    assert_eq!(unconditional["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(unconditional["data"]["k"], "3");
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let api = Harness::new().await;
    let first = api.config_map("a", &json!({"k": "1"})).await;
    let again = api.put(&format!("{CONFIG_MAPS}/a"), &config_map("a", &json!({"k": "1"}))).await.expect(200);
    assert_eq!(again, first);
    let patched = api.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"k": "1"}})).await;
    assert_eq!(patched.expect(200), first);
}

#[tokio::test]
async fn updates_of_what_cannot_change_are_refused() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    let path = format!("{CONFIG_MAPS}/a");
    for (metadata, code, message) in [
        (json!({"name": "b"}), 400, "the name of the object (b) does not match the name on the URL (a)"),
        (json!({}), 400, "name must be provided"),
        (json!({"name": "a", "namespace": "x"}), 400, "does not match the namespace sent on the request"),
        (json!({"name": "a", "uid": "other"}), 409, "Precondition failed: UID in precondition: other"),
        (
            json!({"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}),
            422,
            "metadata.creationTimestamp: Invalid value",
        ),
        (json!({"name": "a", "resourceVersion": "x"}), 422, "metadata.resourceVersion: Invalid value: \"x\""),
    ] {
        let reply = api.put(&path, &json!({"metadata": metadata})).await;
        assert_eq!(reply.code, code, "{metadata}: {}", reply.message());
        assert!(reply.message().contains(message), "{}", reply.message());
    }
    assert_eq!(api.put(&format!("{CONFIG_MAPS}/none"), &config_map("none", &json!({}))).await.code, 404);
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_the_spec_counts_generations() {
    let api = Harness::new().await;
    let mut object = deployment("web");
    object["status"] = json!({"replicas": 7});
    let created = api.post(DEPLOYMENTS, &object).await.expect(201);
    assert!(created["status"].get("replicas").is_none(), "a new object's status is the server's");
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/web");
    let mut both = created.clone();
    both["spec"]["replicas"] = 3.into();
    both["status"] = json!({"replicas": 7});
    let spec_only = api.put(&path, &both).await.expect(200);
    assert_eq!((&spec_only["spec"]["replicas"], &spec_only["metadata"]["generation"]), (&json!(3), &json!(2)));
    assert!(spec_only["status"].get("replicas").is_none());
    let mut status = spec_only.clone();
    status["spec"]["replicas"] = 9.into();
    status["status"] = json!({"replicas": 3});
    let status_only = api.put(&format!("{path}/status"), &status).await.expect(200);
    assert_eq!(status_only["spec"]["replicas"], 3);
    assert_eq!(status_only["status"]["replicas"], 3);
    assert_eq!(status_only["metadata"]["generation"], 2);
    let labelled = api.patch(&path, "merge-patch+json", &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 2, "metadata does not count");
    assert_eq!(labelled["status"]["replicas"], 3);
}

#[tokio::test]
async fn scale_is_a_view_of_the_replicas() {
    let api = Harness::new().await;
    api.post(DEPLOYMENTS, &deployment("web")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = api.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    assert_eq!(scale["status"]["selector"], "app=web");
    let patched = api.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": 3}})).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 3);
    let mut stale = scale.clone();
    stale["spec"]["replicas"] = 5.into();
    assert_eq!(api.put(&path, &stale).await.code, 409);
    let mut fresh = patched.clone();
    fresh["spec"]["replicas"] = 5.into();
    assert_eq!(api.put(&path, &fresh).await.expect(200)["spec"]["replicas"], 5);
    assert_eq!(api.get(&format!("{DEPLOYMENTS}/web")).await.expect(200)["spec"]["replicas"], 5);
    assert_eq!(api.patch(&path, "merge-patch+json", &json!({"spec": {"replicas": -1}})).await.code, 422);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a/scale")).await.code, 404);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = Harness::new().await;
    api.post(PODS, &pod("p")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.post(&format!("{PODS}/p/binding"), &binding).await.expect(201);
    let bound = api.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let again = api.post(&format!("{PODS}/p/binding"), &binding).await;
    assert_eq!(again.code, 409);
    assert!(again.message().contains("pod p is already assigned to node \"n\""), "{}", again.message());
}

#[tokio::test]
async fn admission_changes_refuses_and_warns() {
    use crate::extension::{Admission, Operation, Phase};
    let review = Admission {
        resources: vec![api::GroupResource::new("", "configmaps")],
        phase: Phase::Mutating,
        review: Arc::new(|review| {
            if review.name == "bad" && review.operation == Operation::Create {
                return Err(api::ApiError::forbidden("", "configmaps", review.name, "no"));
            }
            review.object["data"]["seen"] = json!(format!("{:?}", review.operation));
            review.warnings.push("careful".to_owned());
            Ok(())
        }),
    };
    let validation = Admission {
        resources: Vec::new(),
        phase: Phase::Validating,
        review: Arc::new(|review| match review.object["data"]["k"].as_str() {
            Some("odd") => Err(api::ApiError::bad_request("odd")),
            _ => Ok(()),
        }),
    };
    let api = Harness::with(Extensions { admission: vec![review, validation], ..Extensions::default() }).await;
    let reply = api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).await;
    assert_eq!(reply.warnings(), ["299 - \"careful\""]);
    assert_eq!(api.post(CONFIG_MAPS, &config_map("b", &json!({"k": "odd"}))).await.message(), "odd");
    let invalid = api.post(CONFIG_MAPS, &config_map("B", &json!({"k": "odd"}))).await;
    assert_eq!(invalid.code, 422, "the schema and the name come before validation: {}", invalid.message());
    assert_eq!(reply.expect(201)["data"]["seen"], "Create");
    let patched = api.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"k": "w"}})).await;
    assert_eq!(patched.expect(200)["data"]["seen"], "Update");
    let refused = api.post(CONFIG_MAPS, &config_map("bad", &json!({}))).await;
    assert_eq!((refused.code, refused.message().as_str()), (403, "configmaps \"bad\" is forbidden: no"));
    api.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.expect(200);
}

#[tokio::test]
async fn acknowledged_objects_are_there_after_a_restart() {
    let api = Harness::new().await;
    let created = api.config_map("a", &json!({"k": "v"})).await;
    let Harness { api: server, directory, token_key, .. } = api;
    drop(server);
    let again = Harness::open(directory, token_key, Extensions::default());
    assert_eq!(again.get(&format!("{CONFIG_MAPS}/a")).await.expect(200), created);
}

#[tokio::test]
async fn methods_that_make_no_sense_are_405_and_head_has_no_body() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    for (method, path) in [("PUT", CONFIG_MAPS), ("OPTIONS", CONFIG_MAPS), ("PATCH", CONFIG_MAPS), ("POST", "/version")]
    {
        assert_eq!(api.send(method, path, &[], b"{}").await.code, 405, "{method} {path}");
    }
    let head = api.send("HEAD", &format!("{CONFIG_MAPS}/a"), &[], b"").await;
    assert_eq!((head.code, head.body.len()), (200, 0));
}
