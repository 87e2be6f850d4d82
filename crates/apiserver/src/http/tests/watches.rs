use std::collections::VecDeque;

use super::*;
use crate::http::Body;

/// An open watch.
struct Open {
    body: Body,
    lines: VecDeque<Value>,
}

impl Open {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        while self.lines.is_empty() {
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.expect("an event")?;
            let data = frame.unwrap().into_data().unwrap();
            let lines = data.split(|b| *b == b'\n').filter(|line| !line.is_empty());
            self.lines.extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
        }
        self.lines.pop_front()
    }

    /// Type and name of the next event's object.
    async fn event(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

impl Harness {
    async fn watch(&self, path: &str, accept: &str) -> Open {
        let request = Request::get(path).header(ACCEPT, accept).body(Full::new(Bytes::new())).unwrap();
        let response = self.api.in_process(self.user.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Open { body: response.into_body(), lines: VecDeque::new() }
    }
}

fn event(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_sees_what_happens_after_its_revision() {
    let api = Harness::new().await;
    let first = api.config_map("a", &json!({})).await;
    api.config_map("b", &json!({})).await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", version(&first));
    let mut watch = api.watch(&path, "application/json").await;
    assert_eq!(watch.event().await, event("ADDED", "b"));
    api.patch(&format!("{CONFIG_MAPS}/a"), "merge-patch+json", &json!({"data": {"k": "v"}})).await.expect(200);
    let modified = watch.next().await.unwrap();
    assert_eq!((&modified["type"], &modified["object"]["data"]["k"]), (&json!("MODIFIED"), &json!("v")));
    api.delete(&format!("{CONFIG_MAPS}/a"), &Value::Null).await.expect(200);
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert!(version(&deleted["object"]) > version(&modified["object"]), "a deletion has a revision of its own");
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_what_exists() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    for query in ["watch=1", "watch=true&resourceVersion=0"] {
        let mut watch = api.watch(&format!("{CONFIG_MAPS}?{query}"), "application/json").await;
        assert_eq!(watch.event().await, event("ADDED", "a"), "{query}");
    }
}

#[tokio::test]
async fn objects_that_enter_and_leave_a_selector_are_added_and_deleted() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=in%3Dyes");
    let mut watch = api.watch(&path, "application/json").await;
    let label = |value: Value| json!({"metadata": {"labels": {"in": value}}});
    let target = format!("{CONFIG_MAPS}/a");
    api.patch(&target, "merge-patch+json", &label(json!("yes"))).await.expect(200);
    assert_eq!(watch.event().await, event("ADDED", "a"));
    let left = api.patch(&target, "merge-patch+json", &label(json!("no"))).await.expect(200);
    let deleted = watch.next().await.unwrap();
    assert_eq!((&deleted["type"], &deleted["object"]["metadata"]["labels"]["in"]), (&json!("DELETED"), &json!("yes")));
    assert_eq!(version(&deleted["object"]), version(&left));
}

#[tokio::test]
async fn a_watch_keeps_to_its_namespace() {
    let api = Harness::new().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await.expect(201);
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true"), "application/json").await;
    api.post("/api/v1/namespaces/other/configmaps", &config_map("theirs", &json!({}))).await.expect(201);
    api.config_map("ours", &json!({})).await;
    assert_eq!(watch.event().await, event("ADDED", "ours"));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let mut watch = api.watch(&path, "application/json").await;
    assert_eq!(watch.event().await, event("ADDED", "a"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let refused = api.get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn a_watch_ends_after_its_time_with_a_last_bookmark() {
    let api = Harness::new().await;
    let revision = api.api.store().revision().0;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}&timeoutSeconds=1&allowWatchBookmarks=true");
    let mut watch = api.watch(&path, "application/json").await;
    let bookmark = watch.next().await.unwrap();
    assert_eq!((&bookmark["type"], version(&bookmark["object"])), (&json!("BOOKMARK"), revision));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_watch_that_is_too_old_says_so_in_its_stream() {
    let api = Harness::new().await;
    let Harness { api: server, directory, token_key, .. } = api;
    drop(server);
    let again = Harness::open(directory, token_key, Extensions::default());
    let mut watch = again.watch("/api/v1/namespaces?watch=true&resourceVersion=1", "application/json").await;
    let error = watch.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(error["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn tables_and_metadata_are_watched_too() {
    let api = Harness::new().await;
    api.config_map("a", &json!({})).await;
    api.config_map("b", &json!({})).await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let mut tables = api.watch(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let (first, second) = (tables.next().await.unwrap(), tables.next().await.unwrap());
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    let mut metadata = api.watch(&path, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    let first = metadata.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "PartialObjectMetadata");
    assert!(first["object"].get("data").is_none());
}
