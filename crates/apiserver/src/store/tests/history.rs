//! Watches and the history they read.

use std::collections::BTreeMap;

use api::GroupResource;
use tempfile::TempDir;

use super::{config_map, config_maps, create, delete, key, open, ready, update};
use crate::store::{EventKind, Expired, Key, Revision, Store, Watch, Write};

#[tokio::test]
async fn a_watch_starts_after_the_revision_asked_for() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for name in ["a", "b", "c"] {
        store.commit(create(name, "")).await.unwrap();
    }
    let mut watch = store.watch(&config_maps(), Revision(2)).unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [Revision(3), Revision(4)]);
    assert!(ready(watch.next()).await.is_none());
}

#[tokio::test]
async fn a_watch_of_the_future_waits_for_it() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut watch = store.watch(&config_maps(), Revision(3)).unwrap();
    assert_eq!(watch.seen(), Revision(3));
    for name in ["a", "b"] {
        store.commit(create(name, "")).await.unwrap();
        assert!(ready(watch.next()).await.is_none());
    }
    store.commit(create("c", "")).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].object.key.name, "c");
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut watch = store.watch(&config_maps(), store.revision()).unwrap();
    for name in ["a", "b"] {
        assert!(ready(watch.next()).await.is_none());
        store.commit(create(name, "")).await.unwrap();
        assert_eq!(watch.next().await.unwrap()[0].object.key.name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_waiting_watch_wakes() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut watches = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let mut watch = store.watch(&config_maps(), store.revision()).unwrap();
        watches.spawn(async move { watch.next().await.unwrap()[0].line() });
    }
    store.commit(create("a", "")).await.unwrap();
    let lines = watches.join_all().await;
    assert!(lines.iter().all(|line| line.as_ptr() == lines[0].as_ptr()), "one encoding serves all");
}

#[tokio::test]
async fn bookmarks_advance_with_other_resources() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let mut watch = store.watch(&config_maps(), store.revision()).unwrap();
    let other = Key { resource: GroupResource::new("apps", "deployments"), ..key("default", "a") };
    store.commit(Write::Create { key: other, value: config_map("a", "") }).await.unwrap();
    assert_eq!(watch.seen(), Revision(2));
    store.commit(create("a", "")).await.unwrap();
    assert!(watch.seen() < Revision(3), "a change that was not handed out is not seen");
    watch.next().await.unwrap();
    assert_eq!(watch.seen(), Revision(3));
}

#[tokio::test]
async fn after_reopening_only_the_current_revision_resumes() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let first = store.commit(create("a", "")).await.unwrap().revision;
    let last = store.commit(create("b", "")).await.unwrap().revision;
    drop(store);
    let store = open(&directory);
    for resource in [config_maps(), GroupResource::new("", "secrets")] {
        assert_eq!(store.watch(&resource, first).err(), Some(Expired { oldest: last }));
        assert_eq!(store.watch(&resource, Revision(0)).err(), Some(Expired { oldest: last }));
        assert!(store.watch(&resource, last).is_ok());
    }
    let mut watch = store.watch(&config_maps(), last).unwrap();
    store.commit(create("c", "")).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].object.key.name, "c");
}

#[tokio::test]
async fn a_watch_that_falls_out_of_the_history_expires() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let large = "x".repeat(1 << 20);
    let mut slow = store.watch(&config_maps(), store.revision()).unwrap();
    let mut last = store.commit(create("a", &large)).await.unwrap().revision;
    let since = last;
    for _ in 0..12 {
        last = store.commit(update("a", &large, last)).await.unwrap().revision;
    }
    let expired = slow.next().await.unwrap_err();
    assert!(expired.oldest > since && expired.oldest < last, "{expired:?}");
    assert_eq!(store.watch(&config_maps(), since).err(), Some(expired));
    let mut watch = store.watch(&config_maps(), expired.oldest).unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events[0].revision, Revision(expired.oldest.0 + 1));
    assert_eq!(events.last().unwrap().revision, last);
}

#[tokio::test]
async fn the_history_of_a_quiet_resource_outlives_its_events() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let quiet = GroupResource::new("", "secrets");
    let secret = Key { resource: quiet.clone(), ..key("default", "s") };
    let seen = store.commit(Write::Create { key: secret, value: config_map("s", "") }).await.unwrap().revision;
    let large = "x".repeat(1 << 20);
    let mut last = store.commit(create("a", &large)).await.unwrap().revision;
    for _ in 0..12 {
        last = store.commit(update("a", &large, last)).await.unwrap().revision;
    }
    let watch = store.watch(&quiet, seen).unwrap();
    assert_eq!(watch.seen(), last);
    assert_eq!(store.watch(&quiet, Revision(1)).err(), Some(Expired { oldest: seen }));
}

/// A small generator of the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

fn resource(number: u64) -> GroupResource {
    GroupResource::new("example.com", ["as", "bs", "cs"][number as usize % 3])
}

/// Writes at random; conflicts with the other writers are part of it. Gives back the revisions that were acknowledged.
async fn write_at_random(store: Store, mut numbers: Numbers) -> Vec<Revision> {
    let mut acknowledged = Vec::new();
    for step in 0..200 {
        let name = format!("o{}", numbers.below(8));
        let key = Key { resource: resource(numbers.below(3)), ..key(["x", "y"][numbers.below(2) as usize], &name) };
        let value = config_map(&name, &step.to_string());
        let write = match store.get(&key) {
            None => Write::Create { key, value },
            Some(object) if numbers.below(3) == 0 => Write::Delete { key, expected: object.revision },
            Some(object) => Write::Update { key, value, expected: object.revision },
        };
        acknowledged.extend(store.commit(write).await.ok().map(|object| object.revision));
    }
    acknowledged
}

/// Replays a watch up to a revision: the revisions it saw and the objects it ends with.
async fn replay(mut watch: Watch, until: Revision) -> (Vec<Revision>, BTreeMap<Key, String>) {
    let (mut revisions, mut objects) = (Vec::new(), BTreeMap::new());
    while watch.seen() < until {
        for event in watch.next().await.unwrap() {
            let json = String::from_utf8(event.object.json.to_vec()).unwrap();
            let key = event.object.key.clone();
            let before = match event.kind {
                EventKind::Deleted => objects.remove(&key),
                EventKind::Added | EventKind::Modified => objects.insert(key, json),
            };
            assert_eq!(before.is_none(), event.kind == EventKind::Added);
            let previous = event.previous.as_ref().map(|object| object.json.as_ref());
            assert_eq!(before.as_ref().map(String::as_bytes), previous);
            revisions.push(event.revision);
        }
    }
    (revisions, objects)
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_watches_equal_the_final_lists_and_revisions_are_dense() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let watches: Vec<_> = (0..3).map(|number| store.watch(&resource(number), Revision(1)).unwrap()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        writers.spawn(write_at_random(store.clone(), Numbers(writer)));
    }
    let mut acknowledged = writers.join_all().await.concat();
    let last = store.revision();
    let mut revisions = Vec::new();
    for (number, watch) in (0..3).zip(watches) {
        let (seen, objects) = replay(watch, last).await;
        assert!(seen.is_sorted_by(|earlier, later| earlier < later));
        let json = |object: &super::super::Object| String::from_utf8(object.json.to_vec()).unwrap();
        let (_, listed) = store.list(&resource(number), None);
        assert_eq!(objects, listed.iter().map(|object| (object.key.clone(), json(object))).collect());
        revisions.extend(seen);
    }
    revisions.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(revisions, (2..=last.0).map(Revision).collect::<Vec<_>>());
    assert_eq!(acknowledged, revisions);
    drop(store);
    assert_eq!(open(&directory).revision(), last);
}

#[tokio::test]
async fn deletes_are_seen_with_their_own_revision() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let created = store.commit(create("a", "one")).await.unwrap();
    let mut watch = store.watch(&config_maps(), created.revision).unwrap();
    let deleted = store.commit(delete("a", created.revision)).await.unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!((events[0].revision, events[0].object.revision), (Revision(3), Revision(3)));
    assert_eq!(events[0].object.json, deleted.json);
    assert_eq!(deleted.value()["metadata"]["resourceVersion"], "3");
    assert_eq!(created.value()["metadata"]["resourceVersion"], "2");
}
