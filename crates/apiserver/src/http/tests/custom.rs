use super::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}}, "schema": {
        "openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1, "maximum": 9}}},
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        }}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}

fn widget(name: &str, size: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

impl Harness {
    async fn define(&self) {
        self.post(DEFINITIONS, &definition()).await.expect(201);
    }

    async fn until_gone(&self, path: &str) {
        let polled = async {
            while self.get(path).await.code != 404 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), polled).await.expect("it goes");
    }
}

#[tokio::test]
async fn a_definition_adds_a_kind_at_once() {
    let api = Harness::new().await;
    assert_eq!(api.get(WIDGETS).await.code, 404);
    api.define().await;
    let stored = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    let conditions = stored["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"), "{stored}");
    let created = api.post(WIDGETS, &widget("a", Value::Null)).await.expect(201);
    assert_eq!((&created["spec"]["size"], &created["metadata"]["generation"]), (&json!(1), &json!(1)));
    assert_eq!(api.post(WIDGETS, &widget("b", json!(10))).await.code, 422);
    assert_eq!(api.post(WIDGETS, &widget("b", json!("x"))).await.code, 422);
    let discovered = api.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(discovered["resources"][0]["name"], "widgets");
}

#[tokio::test]
async fn another_version_shows_the_same_object() {
    let api = Harness::new().await;
    api.define().await;
    api.post(WIDGETS, &widget("a", json!(2))).await.expect(201);
    let beta = WIDGETS.replace("v1", "v1beta1");
    let shown = api.get(&format!("{beta}/a")).await.expect(200);
    assert_eq!((&shown["apiVersion"], &shown["spec"]["size"]), (&json!("example.com/v1beta1"), &json!(2)));
    let list = api.get(&beta).await.expect(200);
    assert_eq!(list["items"][0]["apiVersion"], "example.com/v1beta1");
    let mut changed = shown;
    changed["spec"]["size"] = 3.into();
    assert_eq!(api.put(&format!("{beta}/a"), &changed).await.expect(200)["apiVersion"], "example.com/v1beta1");
    let stored = api.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!((&stored["apiVersion"], &stored["spec"]["size"]), (&json!("example.com/v1"), &json!(3)));
}

#[tokio::test]
async fn custom_resources_are_stricter_than_built_in_kinds() {
    let api = Harness::new().await;
    api.define().await;
    let created = api.post(WIDGETS, &widget("a", json!(2))).await.expect(201);
    let path = format!("{WIDGETS}/a");
    assert_eq!(api.put(&path, &widget("a", json!(3))).await.code, 422, "an update needs a version");
    assert_eq!(api.patch(&path, "strategic-merge-patch+json", &json!({})).await.code, 415);
    assert_eq!(api.post(WIDGETS, &json!({"metadata": {"name": "b"}})).await.code, 400, "the kind is required");
    let mut next = created;
    next["spec"]["size"] = 4.into();
    assert_eq!(api.put(&path, &next).await.expect(200)["metadata"]["generation"], 2);
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let mut unknown = widget("b", json!(1));
    unknown["spec"]["bogus"] = 1.into();
    let refused = api.post(&strict, &unknown).await;
    assert!(refused.message().contains("unknown field \"spec.bogus\""), "{}", refused.message());
    let pruned = api.post(WIDGETS, &unknown).await;
    assert_eq!(pruned.warnings(), ["299 - \"unknown field \\\"spec.bogus\\\"\""]);
    assert_eq!(pruned.expect(201)["spec"], json!({"size": 1}));
}

#[tokio::test]
async fn deleting_a_definition_deletes_its_instances_first() {
    let api = Harness::new().await;
    api.define().await;
    let mut held = widget("held", json!(1));
    held["metadata"]["finalizers"] = json!(["x.io/hold"]);
    api.post(WIDGETS, &held).await.expect(201);
    api.post(WIDGETS, &widget("free", json!(1))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let marked = api.delete(&path, &Value::Null).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.post(WIDGETS, &widget("late", json!(1))).await.code, 405);
    api.until_gone(&format!("{WIDGETS}/free")).await;
    assert_eq!(api.get(&path).await.code, 200, "an instance is still held");
    let release = json!({"metadata": {"finalizers": null}});
    api.patch(&format!("{WIDGETS}/held"), "merge-patch+json", &release).await.expect(200);
    api.until_gone(&path).await;
    assert_eq!(api.get(WIDGETS).await.code, 404);
}

#[tokio::test]
async fn definitions_are_served_again_after_a_restart() {
    let api = Harness::new().await;
    api.define().await;
    api.post(WIDGETS, &widget("a", json!(2))).await.expect(201);
    let Harness { api: server, directory, token_key, .. } = api;
    drop(server);
    let again = Harness::open(directory, token_key, Extensions::default());
    assert_eq!(names(&again.get(WIDGETS).await.expect(200)), ["a"]);
}

#[tokio::test]
async fn a_dry_run_defines_nothing() {
    let api = Harness::new().await;
    api.post(&format!("{DEFINITIONS}?dryRun=All"), &definition()).await.expect(201);
    assert_eq!(api.get(WIDGETS).await.code, 404);
    let mut bad = definition();
    bad["metadata"]["name"] = "other.example.com".into();
    assert_eq!(api.post(DEFINITIONS, &bad).await.code, 422);
}
