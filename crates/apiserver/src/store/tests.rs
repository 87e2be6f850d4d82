//! What the store promises its callers; `faults` has what it promises against crashes and bad disks.

mod faults;
mod history;

use std::future::Future;
use std::task::Poll;

use api::GroupResource;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{EventKind, Key, Revision, Store, Write, WriteError};

pub(super) fn config_maps() -> GroupResource {
    GroupResource::new("", "configmaps")
}

pub(super) fn key(namespace: &str, name: &str) -> Key {
    Key { resource: config_maps(), namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(super) fn config_map(name: &str, text: &str) -> Value {
    json!({
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"text": text},
        "metadata": {"name": name, "labels": {"of": name}},
    })
}

pub(super) fn create(name: &str, text: &str) -> Write {
    Write::Create { key: key("default", name), value: config_map(name, text) }
}

pub(super) fn update(name: &str, text: &str, expected: Revision) -> Write {
    Write::Update { key: key("default", name), value: config_map(name, text), expected }
}

pub(super) fn delete(name: &str, expected: Revision) -> Write {
    Write::Delete { key: key("default", name), expected }
}

pub(super) fn open(directory: &TempDir) -> Store {
    Store::open(directory.path()).unwrap()
}

/// The future's value, if it is ready at once.
pub(super) async fn ready<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_new_store_is_empty_at_revision_one() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let (revision, objects) = store.list(&config_maps(), None);
    assert_eq!((revision, objects.len(), store.resources()), (Revision(1), 0, vec![]));
    assert!(store.get(&key("default", "a")).is_none());
}

#[tokio::test]
async fn an_object_is_stored_with_its_revision_and_labels() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut value = config_map("a", "one");
    value["metadata"]["resourceVersion"] = json!("77");
    let created = store.commit(Write::Create { key: key("default", "a"), value }).await.unwrap();
    assert_eq!(created.revision, Revision(2));
    assert_eq!(
        created.json,
        concat!(
            r#"{"apiVersion":"v1","kind":"ConfigMap","#,
            r#""metadata":{"resourceVersion":"2","labels":{"of":"a"},"name":"a"},"data":{"text":"one"}}"#
        )
    );
    assert_eq!(created.value()["metadata"]["resourceVersion"], "2");
    assert_eq!(created.labels["of"], "a");
    assert_eq!(store.get(&key("default", "a")).unwrap().json, created.json);
    assert_eq!(store.resources(), [config_maps()]);
}

#[tokio::test]
async fn objects_of_the_barest_form_are_stored() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bare = |name, value| store.commit(Write::Create { key: key("", name), value });
    assert_eq!(bare("a", json!({"metadata": {}})).await.unwrap().json, r#"{"metadata":{"resourceVersion":"2"}}"#);
    let labelled = json!({"metadata": {"labels": null}, "\"odd\"": [1.5, "ü\n"]});
    assert_eq!(bare("b", labelled.clone()).await.unwrap().value()["\"odd\""], labelled["\"odd\""]);
    for refused in [json!({}), json!([]), json!({"metadata": "a"}), Value::Null] {
        assert!(matches!(bare("c", refused).await, Err(WriteError::Storage(_))));
    }
    drop(store);
    assert_eq!(open(&directory).list(&config_maps(), Some("")).1.len(), 2);
}

#[tokio::test]
async fn writes_that_rest_on_another_state_are_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let missing = Err(WriteError::Missing);
    assert_eq!(store.commit(update("a", "x", Revision(1))).await.map(|_| ()), missing);
    assert_eq!(store.commit(delete("a", Revision(1))).await.map(|_| ()), missing);
    let first = store.commit(create("a", "one")).await.unwrap().revision;
    assert_eq!(store.commit(create("a", "x")).await.map(|_| ()), Err(WriteError::Exists));
    let second = store.commit(update("a", "two", first)).await.unwrap().revision;
    for expected in [first, Revision(0), Revision(second.0 + 1)] {
        assert_eq!(store.commit(update("a", "x", expected)).await.map(|_| ()), Err(WriteError::Conflict));
        assert_eq!(store.commit(delete("a", expected)).await.map(|_| ()), Err(WriteError::Conflict));
    }
    assert_eq!(store.get(&key("default", "a")).unwrap().value()["data"]["text"], "two");
    assert_eq!(store.revision(), second, "a refused write takes no revision");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_writes_to_one_object_one_wins() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut last = store.commit(create("a", "")).await.unwrap().revision;
    for round in 0..20 {
        let mut writes = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let store = store.clone();
            writes.spawn(async move { store.commit(update("a", &format!("{round}/{writer}"), last)).await });
        }
        let results = writes.join_all().await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(results.iter().filter(|result| matches!(result, Err(WriteError::Conflict))).count(), 15);
        assert_eq!(won[0].revision, Revision(last.0 + 1));
        last = won[0].revision;
    }
}

#[tokio::test]
async fn lists_are_ordered_and_can_be_limited_to_a_namespace() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for (namespace, name) in [("b", "a"), ("a-b", "c"), ("a", "z"), ("a", "b")] {
        let write = Write::Create { key: key(namespace, name), value: config_map(name, "") };
        store.commit(write).await.unwrap();
    }
    let other = Key { resource: GroupResource::new("apps", "configmaps"), ..key("a", "b") };
    store.commit(Write::Create { key: other, value: config_map("b", "") }).await.unwrap();
    let names = |namespace| -> Vec<String> {
        let (_, objects) = store.list(&config_maps(), namespace);
        objects.iter().map(|object| format!("{}/{}", object.key.namespace, object.key.name)).collect()
    };
    assert_eq!(names(None), ["a/b", "a/z", "a-b/c", "b/a"]);
    assert_eq!(names(Some("a")), ["a/b", "a/z"]);
    assert!(names(Some("none")).is_empty());
}

#[tokio::test]
async fn a_resource_without_objects_is_not_named() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let created = store.commit(create("a", "")).await.unwrap();
    let deleted = store.commit(delete("a", created.revision)).await.unwrap();
    assert_eq!((deleted.revision, deleted.value()["metadata"]["resourceVersion"].as_str()), (Revision(3), Some("3")));
    assert!(store.resources().is_empty());
    assert!(store.list(&config_maps(), Some("default")).1.is_empty());
}

#[tokio::test]
async fn everything_survives_reopening() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let kept = store.commit(create("kept", "one")).await.unwrap();
    let gone = store.commit(create("gone", "")).await.unwrap();
    let kept = store.commit(update("kept", "two", kept.revision)).await.unwrap();
    let last = store.commit(delete("gone", gone.revision)).await.unwrap().revision;
    drop(store);
    let store = open(&directory);
    let (revision, objects) = store.list(&config_maps(), None);
    assert_eq!((revision, objects.len()), (last, 1));
    assert_eq!((&objects[0].json, &objects[0].labels), (&kept.json, &kept.labels));
    assert_eq!(objects[0].revision, kept.revision);
    let next = store.commit(create("next", "")).await.unwrap();
    assert_eq!(next.revision, Revision(last.0 + 1));
}

#[tokio::test]
async fn dropping_the_store_commits_what_is_queued() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for name in ["a", "b", "c"] {
        // Polled once, which queues the write; nobody waits for the answer.
        ready(store.commit(create(name, ""))).await;
    }
    drop(store);
    assert_eq!(open(&directory).list(&config_maps(), None).1.len(), 3);
}

#[tokio::test]
async fn events_carry_their_line_and_what_was_before() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut watch = store.watch(&config_maps(), store.revision()).unwrap();
    let created = store.commit(create("a", "one")).await.unwrap();
    let updated = store.commit(update("a", "two", created.revision)).await.unwrap();
    let deleted = store.commit(delete("a", updated.revision)).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 3 {
        events.extend(watch.next().await.unwrap());
    }
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Added, EventKind::Modified, EventKind::Deleted]);
    for (event, object) in events.iter().zip([created, updated, deleted]) {
        assert_eq!((event.revision, &event.object.json), (object.revision, &object.json));
        let line = event.line();
        assert_eq!(line, super::watch_line(event.kind, &object.json));
        assert_eq!(line.last(), Some(&b'\n'));
        let parsed: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(parsed, json!({"type": event.kind.as_str(), "object": object.value()}));
    }
    let before: Vec<_> = events.iter().map(|event| event.previous.as_ref().map(|object| object.revision)).collect();
    assert_eq!(before, [None, Some(Revision(2)), Some(Revision(3))]);
    assert_eq!(events[2].object.value()["data"]["text"], "two");
}
