use super::*;

async fn three() -> Harness {
    let api = Harness::new().await;
    for (name, tier) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let body = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
        api.post(CONFIG_MAPS, &body).await.expect(201);
    }
    api
}

#[tokio::test]
async fn lists_select_by_label_and_field() {
    let api = three().await;
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=tier%3Dweb", vec!["a", "c"]),
        ("labelSelector=tier+in+(db)", vec!["b"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name!%3Db", vec!["a", "c"]),
        ("fieldSelector=metadata.name%3Dx", vec![]),
        ("fieldSelector=metadata.namespace%3Ddefault", vec!["a", "b", "c"]),
    ] {
        let list = api.get(&format!("{CONFIG_MAPS}?{query}")).await.expect(200);
        assert_eq!(list["kind"], "ConfigMapList");
        assert_eq!(names(&list), expected, "{query}");
    }
    assert_eq!(names(&api.get("/api/v1/configmaps").await.expect(200)), ["a", "b", "c"]);
    let unknown = api.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3D1")).await;
    assert_eq!(unknown.code, 400);
    assert!(unknown.message().contains("spec.x"), "{}", unknown.message());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}?labelSelector=a+like+b")).await.code, 400);
}

#[tokio::test]
async fn pages_are_of_one_revision_whatever_happens_in_between() {
    let api = three().await;
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    api.config_map("bb", &json!({})).await;
    api.patch(&format!("{CONFIG_MAPS}/c"), "merge-patch+json", &json!({"data": {"new": "1"}})).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c"]);
    assert!(second["items"][0].get("data").is_none(), "the page is of the first page's revision");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"].get("continue").is_none());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}?continue=bogus")).await.code, 400);
}

#[tokio::test]
async fn a_list_is_of_the_revision_that_is_asked_for() {
    let api = three().await;
    let then = version(&api.get(CONFIG_MAPS).await.expect(200));
    api.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.expect(200);
    let exact = format!("{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    assert_eq!(names(&api.get(&exact).await.expect(200)), ["a", "b", "c"]);
    let newer = format!("{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&api.get(&newer).await.expect(200)), ["b", "c"]);
    let future = api.get(&format!("{CONFIG_MAPS}?resourceVersion=999999")).await;
    assert_eq!(future.code, 504);
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn tables_have_columns_and_rows() {
    let api = three().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = api.get_as(CONFIG_MAPS, accept).await.expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    let one = api.get_as(&format!("{CONFIG_MAPS}/b?includeObject=Object"), accept).await.expect(200);
    assert_eq!(one["rows"][0]["object"]["kind"], "ConfigMap");
    assert_eq!(api.get_as(&format!("{CONFIG_MAPS}?includeObject=x"), accept).await.code, 422);
}

#[tokio::test]
async fn metadata_alone_can_be_asked_for() {
    let api = three().await;
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.get_as(CONFIG_MAPS, accept).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(names(&list), ["a", "b", "c"]);
}

#[tokio::test]
async fn pretty_answers_are_indented() {
    let api = three().await;
    let pretty = api.get(&format!("{CONFIG_MAPS}/a?pretty=true")).await;
    assert!(pretty.body.starts_with(b"{\n  \""), "{pretty:?}");
}
