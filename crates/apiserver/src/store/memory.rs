//! The committed state in memory, and the recent changes that watches resume from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api::GroupResource;
use tokio::sync::Notify;

use super::{Event, EventKind, Expired, Key, Object, Revision};

/// What the history of all resources together may keep alive beyond the objects that are stored anyway.
const HISTORY_BYTES: usize = 8 << 20;

/// What an event costs apart from JSON: itself, an object with its key and labels, its places in the queues.
const EVENT_BYTES: usize = 512;

pub(super) struct Memory {
    revision: Revision,
    /// The revision found on disk: there is no history before it.
    opened: Revision,
    resources: BTreeMap<GroupResource, Collection>,
    /// The resources of the events in all histories, by revision: the front is the next to be forgotten.
    order: VecDeque<GroupResource>,
    history_bytes: usize,
}

/// One resource's objects and history.
struct Collection {
    /// By namespace, then name; no namespace is empty.
    objects: BTreeMap<String, BTreeMap<String, Arc<Object>>>,
    events: VecDeque<Arc<Event>>,
    /// The newest revision whose changes are forgotten: a watch may start after it, not before.
    forgotten: Revision,
    changed: Arc<Notify>,
}

/// What a publication leaves to do without the lock: waking is for the caller, freeing happens on drop.
pub(super) struct Published {
    pub(super) changed: Vec<Arc<Notify>>,
    _replaced: Vec<Arc<Object>>,
    _forgotten: Vec<Arc<Event>>,
}

impl Memory {
    pub(super) fn new(revision: Revision, objects: Vec<Object>) -> Memory {
        let mut memory =
            Memory { revision, opened: revision, resources: BTreeMap::new(), order: VecDeque::new(), history_bytes: 0 };
        for object in objects {
            memory.collection(&object.key.resource).insert(Arc::new(object));
        }
        memory
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.resources.get(&key.resource)?.objects.get(&key.namespace)?.get(&key.name).cloned()
    }

    pub(super) fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let Some(collection) = self.resources.get(resource) else { return Vec::new() };
        match namespace {
            Some(namespace) => {
                collection.objects.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
            }
            None => collection.objects.values().flat_map(BTreeMap::values).cloned().collect(),
        }
    }

    pub(super) fn resources(&self) -> Vec<GroupResource> {
        let used = |(resource, collection): (&GroupResource, &Collection)| {
            (!collection.objects.is_empty()).then(|| resource.clone())
        };
        self.resources.iter().filter_map(used).collect()
    }

    /// Makes committed changes visible, all at once. They continue the store's revision without gaps.
    pub(super) fn publish(&mut self, events: &[Arc<Event>]) -> Published {
        let mut published = Published { changed: Vec::new(), _replaced: Vec::new(), _forgotten: Vec::new() };
        for event in events {
            debug_assert_eq!(event.revision.0, self.revision.0 + 1);
            self.revision = event.revision;
            self.history_bytes += retained_bytes(event);
            self.order.push_back(event.object.key.resource.clone());
            let collection = self.collection(&event.object.key.resource);
            published._replaced.extend(match event.kind {
                EventKind::Added | EventKind::Modified => collection.insert(event.object.clone()),
                EventKind::Deleted => collection.remove(&event.object.key),
            });
            collection.events.push_back(event.clone());
            if !published.changed.iter().any(|changed| Arc::ptr_eq(changed, &collection.changed)) {
                published.changed.push(collection.changed.clone());
            }
        }
        while self.history_bytes > HISTORY_BYTES {
            let Some(event) = self.forget_oldest() else { break };
            published._forgotten.push(event);
        }
        published
    }

    /// What a watch of `resource` waits on.
    pub(super) fn changed(&mut self, resource: &GroupResource) -> Arc<Notify> {
        self.collection(resource).changed.clone()
    }

    /// Up to `limit` changes of `resource` after `seen`, oldest first.
    pub(super) fn changes(
        &self,
        resource: &GroupResource,
        seen: Revision,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, Expired> {
        let Some(collection) = self.resources.get(resource) else {
            return if seen < self.opened { Err(Expired { oldest: self.opened }) } else { Ok(Vec::new()) };
        };
        if seen < collection.forgotten {
            return Err(Expired { oldest: collection.forgotten });
        }
        let start = collection.events.partition_point(|event| event.revision <= seen);
        Ok(collection.events.range(start..).take(limit).cloned().collect())
    }

    /// The revision up to which somebody has seen all of `resource` who has seen its changes up to `seen`.
    pub(super) fn seen(&self, resource: &GroupResource, seen: Revision) -> Revision {
        let newest = self.resources.get(resource).map_or(self.opened, Collection::newest);
        if newest <= seen { seen.max(self.revision) } else { seen }
    }

    fn collection(&mut self, resource: &GroupResource) -> &mut Collection {
        if !self.resources.contains_key(resource) {
            self.resources.insert(resource.clone(), Collection::new(self.opened));
        }
        self.resources.get_mut(resource).expect("it was just inserted")
    }

    fn forget_oldest(&mut self) -> Option<Arc<Event>> {
        let resource = self.order.pop_front()?;
        let collection = self.resources.get_mut(&resource)?;
        let event = collection.events.pop_front()?;
        collection.forgotten = event.revision;
        self.history_bytes -= retained_bytes(&event);
        Some(event)
    }
}

impl Collection {
    fn new(opened: Revision) -> Collection {
        Collection { objects: BTreeMap::new(), events: VecDeque::new(), forgotten: opened, changed: Arc::default() }
    }

    fn insert(&mut self, object: Arc<Object>) -> Option<Arc<Object>> {
        match self.objects.get_mut(&object.key.namespace) {
            Some(names) => names.insert(object.key.name.clone(), object),
            None => {
                let names = BTreeMap::from([(object.key.name.clone(), object.clone())]);
                self.objects.insert(object.key.namespace.clone(), names);
                None
            }
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let removed = names.remove(&key.name);
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        removed
    }

    fn newest(&self) -> Revision {
        self.events.back().map_or(self.forgotten, |event| event.revision)
    }
}

/// What forgetting the event may free: the state it replaced and, of a delete, its own stamped copy. The new state of
/// any other change is stored, or is what a later event replaced.
fn retained_bytes(event: &Event) -> usize {
    let replaced = event.previous.as_ref().map_or(0, |object| object.json.len());
    let own = if event.kind == EventKind::Deleted { event.object.json.len() } else { 0 };
    EVENT_BYTES + replaced + own
}
