//! The durable store: objects by key, one revision per cluster, watches.
//! CONTRACT STUB: bodies are filled in by the store's author; signatures are what the others build on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::GroupResource;
use bytes::Bytes;
use serde_json::Value;

/// The cluster's clock: increases by one with every committed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// What an object is stored under. Keys order by resource, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub resource: GroupResource,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub name: String,
}

/// An object as committed; immutable.
#[derive(Debug)]
pub struct Object {
    pub key: Key,
    /// The revision of the write that made it; also in `metadata.resourceVersion` of `json`.
    pub revision: Revision,
    /// The encoded object in its storage version.
    pub json: Bytes,
    /// `metadata.labels`, for selectors.
    pub labels: BTreeMap<String, String>,
}

impl Object {
    /// Parses the object. (Store nothing but the bytes: memory matters.)
    pub fn value(&self) -> Value {
        unimplemented!()
    }
}

/// One write; `Update` and `Delete` state the revision they were computed from.
#[derive(Debug)]
pub enum Write {
    Create {
        key: Key,
        value: Value,
    },
    Update {
        key: Key,
        value: Value,
        expected: Revision,
    },
    /// The deleted object's last state is delivered to watchers with the delete's own revision.
    Delete {
        key: Key,
        expected: Revision,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("the object exists")]
    Exists,
    #[error("the object does not exist")]
    Missing,
    #[error("the object is at another revision")]
    Conflict,
    /// The disk refused; nothing was changed and nothing was acknowledged.
    #[error("{0}")]
    Storage(String),
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// A committed change.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub revision: Revision,
    /// The new state; for `Deleted` the last state, stamped with the delete's revision.
    pub object: Arc<Object>,
    /// The state before, so that a selector can tell entering from leaving.
    pub previous: Option<Arc<Object>>,
}

/// The revision asked for is no longer in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub oldest: Revision,
}

/// The changes of one resource after a revision, in order, without gaps.
pub struct Watch {}

impl Watch {
    /// The next batch of changes, at least one; waits for it. `Err` when the watcher fell out of the history.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        unimplemented!()
    }

    /// The store-wide revision up to which this watch has seen everything (for bookmarks).
    pub fn seen(&self) -> Revision {
        unimplemented!()
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens or creates the store in the directory `path`.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let _ = path;
        unimplemented!()
    }

    pub fn revision(&self) -> Revision {
        unimplemented!()
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let _ = key;
        unimplemented!()
    }

    /// A consistent snapshot, ordered by namespace and name, with the revision it is of.
    pub fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> (Revision, Vec<Arc<Object>>) {
        let _ = (resource, namespace);
        unimplemented!()
    }

    /// Every resource that has objects (for namespace deletion and garbage collection).
    pub fn resources(&self) -> Vec<GroupResource> {
        unimplemented!()
    }

    /// Returns when the write is on disk. For a delete, the object as it last was, at the delete's revision.
    pub async fn commit(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        let _ = write;
        unimplemented!()
    }

    /// Changes of `resource` after `since`.
    pub fn watch(&self, resource: &GroupResource, since: Revision) -> Result<Watch, Expired> {
        let _ = (resource, since);
        unimplemented!()
    }
}
