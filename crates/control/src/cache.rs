//! The current objects of one kind, shared by all controllers and kept up by one watch.
//!
//! A controller also puts the results of its own writes here ([`Cache::wrote`]), so that it never decides on a
//! state older than its own actions: no pod is created twice because the first is yet to arrive by the watch.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::NamespacedName;
use kube::api::Api;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::feed::{self, Step, revision};

/// A change of one object: `old` is absent for a new object, `new` for one that is gone.
pub(crate) struct Change<'a, K> {
    pub(crate) old: Option<&'a K>,
    pub(crate) new: Option<&'a K>,
}

impl<'a, K> Change<'a, K> {
    /// Both states, as far as they exist.
    pub(crate) fn states(&self) -> impl Iterator<Item = &'a K> + use<'a, K> {
        self.old.into_iter().chain(self.new)
    }

    /// The object as it is or last was.
    pub(crate) fn latest(&self) -> Option<&'a K> {
        self.new.or(self.old)
    }
}

type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

struct State<K> {
    objects: BTreeMap<NamespacedName, Arc<K>>,
    /// The latest revision that the watch has delivered.
    seen: u64,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    listeners: Mutex<Arc<Vec<Listener<K>>>>,
    listed: watch::Sender<bool>,
}

/// The objects of one kind. Cheap to clone.
pub(crate) struct Cache<K>(Arc<Shared<K>>);

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Cache<K> {
        Cache(self.0.clone())
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Cache<K> {
        let state = Mutex::new(State { objects: BTreeMap::new(), seen: 0 });
        Cache(Arc::new(Shared { state, listeners: Mutex::default(), listed: watch::Sender::new(false) }))
    }
}

impl<K: Resource + Clone + Debug + DeserializeOwned> Cache<K> {
    /// Follows the objects of `api` for ever, and tells `listeners` of every change.
    pub(crate) async fn keep(&self, api: Api<K>, listeners: Vec<Listener<K>>) {
        let _attached = Attached::new(&self.0, listeners);
        feed::follow(api, "", |step| match step {
            Step::Listed(objects, revision) => self.replace(objects, revision),
            Step::Applied(object) => self.applied(object),
            Step::Deleted(object) => self.deleted(&object),
        })
        .await;
    }
}

impl<K: Resource + Clone> Cache<K> {
    /// Waits until the first list has arrived.
    pub(crate) async fn ready(&self) {
        let mut listed = self.0.listed.subscribe();
        let waited = listed.wait_for(|listed| *listed).await;
        assert!(waited.is_ok(), "the sender lives as long as the cache");
    }

    pub(crate) fn get(&self, key: &NamespacedName) -> Option<Arc<K>> {
        self.state().objects.get(key).cloned()
    }

    /// Every object.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.state().objects.values().cloned().collect()
    }

    /// The objects of one namespace that `wanted` picks.
    pub(crate) fn pick(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let first = NamespacedName::new(namespace, "");
        let state = self.state();
        let here = state.objects.range(first..).take_while(|(key, _)| key.namespace == namespace);
        here.map(|(_, object)| object).filter(|object| wanted(object)).cloned().collect()
    }

    /// Records what the API server answered to a write, unless the watch has been there already.
    pub(crate) fn wrote(&self, object: K) {
        self.put(object, |state, version| version > state.seen);
    }

    /// Records that a write removed the object, which is its last state, unless the watch has been there already.
    pub(crate) fn removed(&self, object: &K) {
        let mut state = self.state();
        if revision_of(object) <= state.seen {
            return;
        }
        let old = state.objects.remove(&key_of(object));
        drop(state);
        if old.is_some() {
            self.tell(old.as_deref(), None);
        }
    }

    fn applied(&self, object: K) {
        self.put(object, |state, version| {
            state.seen = version;
            true
        });
    }

    /// Stores the object if `accept` and if it is newer than the one held.
    fn put(&self, mut object: K, accept: impl FnOnce(&mut State<K>, u64) -> bool) {
        object.meta_mut().managed_fields = None;
        let (key, version) = (key_of(&object), revision_of(&object));
        let object = Arc::new(object);
        let mut state = self.state();
        let newer = state.objects.get(&key).is_none_or(|held| revision_of(&**held) < version);
        if !accept(&mut state, version) || !newer {
            return;
        }
        let old = state.objects.insert(key, object.clone());
        drop(state);
        self.tell(old.as_deref(), Some(&object));
    }

    fn deleted(&self, object: &K) {
        let mut state = self.state();
        state.seen = revision_of(object);
        let old = state.objects.remove(&key_of(object));
        drop(state);
        self.tell(old.as_deref().or(Some(object)), None);
    }

    fn replace(&self, objects: Vec<K>, listed: u64) {
        let fresh = objects.into_iter().map(|mut object| {
            object.meta_mut().managed_fields = None;
            (key_of(&object), Arc::new(object))
        });
        let fresh: BTreeMap<_, _> = fresh.collect();
        let mut state = self.state();
        state.seen = listed;
        let mut before = std::mem::replace(&mut state.objects, fresh.clone());
        // Own writes after the list are still to come by the watch.
        let newer = |o: &Arc<K>| revision_of(&**o) > listed;
        let pending: Vec<_> = before.iter().filter(|(_, o)| newer(o)).map(|(k, o)| (k.clone(), o.clone())).collect();
        state.objects.extend(pending.iter().cloned());
        drop(state);
        for (key, object) in &fresh {
            self.tell(before.remove(key).as_deref(), Some(object));
        }
        for (key, object) in before.iter().filter(|(key, _)| pending.iter().all(|(kept, _)| kept != *key)) {
            tracing::debug!(%key, "gone while the watch was interrupted");
            self.tell(Some(object), None);
        }
        self.0.listed.send_replace(true);
    }

    fn tell(&self, old: Option<&K>, new: Option<&K>) {
        let change = Change { old, new };
        let listeners = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listeners.iter().for_each(|listener| listener(&change));
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listeners for as long as the cache is kept. They hold what they wake, and that holds the cache again, so they must
/// not outlive the watch.
struct Attached<'a, K>(&'a Shared<K>);

impl<'a, K> Attached<'a, K> {
    fn new(shared: &'a Shared<K>, listeners: Vec<Listener<K>>) -> Attached<'a, K> {
        *shared.listeners.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(listeners);
        Attached(shared)
    }
}

impl<K> Drop for Attached<'_, K> {
    fn drop(&mut self) {
        *self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }
}

fn revision_of<K: Resource>(object: &K) -> u64 {
    revision(object.meta().resource_version.as_deref().unwrap_or_default())
}

/// Where an object is.
pub(crate) fn key_of<K: Resource>(object: &K) -> NamespacedName {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(name: &str, version: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".to_owned());
        object.metadata.name = Some(name.to_owned());
        object.metadata.resource_version = Some(version.to_string());
        object
    }

    fn versions(cache: &Cache<ConfigMap>) -> Vec<String> {
        cache.all().iter().map(|o| format!("{}@{}", o.name_any(), o.resource_version().unwrap())).collect()
    }

    #[test]
    fn own_writes_show_at_once_and_never_turn_back_time() {
        let cache = Cache::default();
        cache.replace(vec![object("a", 3)], 5);
        cache.wrote(object("b", 7));
        assert_eq!(versions(&cache), ["a@3", "b@7"]);
        cache.applied(object("b", 6));
        assert_eq!(versions(&cache), ["a@3", "b@7"], "the watch lags behind");
        cache.applied(object("b", 7));
        cache.deleted(&object("b", 8));
        cache.wrote(object("b", 7));
        assert_eq!(versions(&cache), ["a@3"], "an answer that comes after the deletion is no news");
    }

    #[test]
    fn a_new_list_drops_what_is_gone_and_keeps_what_is_newer() {
        let cache = Cache::default();
        cache.replace(vec![object("a", 1), object("b", 2)], 2);
        cache.wrote(object("c", 9));
        cache.replace(vec![object("b", 2)], 8);
        assert_eq!(versions(&cache), ["b@2", "c@9"]);
    }

    #[test]
    fn objects_are_picked_within_one_namespace() {
        let cache = Cache::default();
        let mut other = object("a", 1);
        other.metadata.namespace = Some("ns2".to_owned());
        cache.replace(vec![object("a", 1), object("b", 2), other], 2);
        assert_eq!(cache.pick("ns", |o| o.name_any() == "a").len(), 1);
        assert_eq!(cache.pick("n", |_| true).len(), 0);
    }
}
