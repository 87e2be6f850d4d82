//! The durable store: objects by key, one revision per cluster, watches.
//!
//! Everything is in memory and, before a write is acknowledged, on disk. One thread writes: it takes what is queued,
//! checks each write against the state that the ones before it leave, commits the lot in one transaction, and only then
//! shows it to readers and watchers. Readers therefore never wait for the disk and see committed state alone.

mod disk;
mod draft;
mod memory;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use api::GroupResource;
use bytes::Bytes;
use serde_json::Value;

use disk::Disk;
use draft::Draft;
use memory::Memory;
pub use watch::Watch;
use writer::{Change, Writer};

/// The cluster's clock: increases by one with every committed write. A new store is at revision 1, so that 0 keeps the
/// meaning Kubernetes gives it ("any").
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
    /// Parses the object.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("only encoded values are committed, and loading checks them")
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

/// Why a store cannot be opened: names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// The `type` of a Kubernetes watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
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
    /// The watch line; `object.json` is a part of the same allocation.
    line: Bytes,
}

impl Event {
    /// The change as a line of a JSON watch, `{"type":"ADDED","object":{…}}\n`, in the storage version.
    ///
    /// It was encoded once, with the object: any number of watchers share it without copying.
    pub fn line(&self) -> Bytes {
        self.line.clone()
    }
}

/// A line of a JSON watch for a change that a watcher sees otherwise than it was committed, such as an object that
/// enters or leaves the watcher's selector. `object` is encoded JSON.
pub fn watch_line(kind: EventKind, object: &[u8]) -> Bytes {
    draft::line(kind, &[object])
}

/// The revision asked for is no longer in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The oldest revision that a watch can start after.
    pub oldest: Revision,
}

/// Cheap to clone. Dropping the last clone commits what is queued and closes the file.
#[derive(Clone)]
pub struct Store {
    memory: SharedMemory,
    writer: Arc<Writer>,
}

impl Store {
    /// Opens or creates the store in the directory `path`. Waits up to a second for a process that is just ending
    /// to let go of it.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let (disk, contents) = Disk::open(path)?;
        let memory = SharedMemory::new(Memory::new(contents.revision, contents.objects));
        let writer = Writer::start(disk, memory.clone())
            .map_err(|error| StoreError(format!("cannot start the store's writer thread: {error}")))?;
        Ok(Store { memory, writer: Arc::new(writer) })
    }

    /// The newest committed revision.
    pub fn revision(&self) -> Revision {
        self.memory.read().revision()
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.memory.read().get(key)
    }

    /// A consistent snapshot, ordered by namespace and name, with the revision it is of.
    pub fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> (Revision, Vec<Arc<Object>>) {
        let memory = self.memory.read();
        (memory.revision(), memory.list(resource, namespace))
    }

    /// Every resource that has objects (for namespace deletion and garbage collection).
    pub fn resources(&self) -> Vec<GroupResource> {
        self.memory.read().resources()
    }

    /// Returns when the write is on disk. For a delete, the object as it last was, at the delete's revision.
    ///
    /// A write whose future is dropped may or may not be committed.
    pub async fn commit(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        let (key, change) = match write {
            Write::Create { key, value } => (key, Change::Create(Draft::new(value)?)),
            Write::Update { key, value, expected } => (key, Change::Update(Draft::new(value)?, expected)),
            Write::Delete { key, expected } => {
                let last = self.get(&key).ok_or(WriteError::Missing)?;
                if last.revision != expected {
                    return Err(WriteError::Conflict);
                }
                (key, Change::Delete(Draft::new(last.value())?, expected))
            }
        };
        self.writer.commit(key, change).await
    }

    /// Changes of `resource` after `since`. A `since` that is yet to come waits for the changes after it.
    pub fn watch(&self, resource: &GroupResource, since: Revision) -> Result<Watch, Expired> {
        Watch::new(self.memory.clone(), resource, since)
    }
}

/// The state that readers share with the writer thread. Locks are held for lookups and pointer copies, never for I/O.
#[derive(Clone)]
struct SharedMemory(Arc<RwLock<Memory>>);

impl SharedMemory {
    fn new(memory: Memory) -> SharedMemory {
        SharedMemory(Arc::new(RwLock::new(memory)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
