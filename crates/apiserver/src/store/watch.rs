//! Watches: a place in one resource's history.

use std::pin::pin;
use std::sync::Arc;

use api::GroupResource;
use tokio::sync::Notify;

use super::{Event, Expired, Revision, SharedMemory};

/// How many changes one batch holds at most, so that a slow watcher keeps few events alive.
const BATCH: usize = 256;

/// The changes of one resource after a revision, in order, without gaps.
pub struct Watch {
    memory: SharedMemory,
    resource: GroupResource,
    changed: Arc<Notify>,
    /// The revision of the last change that was handed out, or where the watch began.
    seen: Revision,
}

impl Watch {
    pub(super) fn new(memory: SharedMemory, resource: &GroupResource, since: Revision) -> Result<Watch, Expired> {
        memory.read().changes(resource, since, 0)?;
        let changed = memory.write().changed(resource);
        Ok(Watch { memory, resource: resource.clone(), changed, seen: since })
    }

    /// The next batch of changes, at least one; waits for it. `Err` when the watcher fell out of the history.
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before looking, so that a change in between wakes it.
            changed.as_mut().enable();
            let events = self.memory.read().changes(&self.resource, self.seen, BATCH)?;
            if let Some(last) = events.last() {
                self.seen = last.revision;
                return Ok(events);
            }
            changed.await;
        }
    }

    /// The store-wide revision up to which this watch has seen everything (for bookmarks).
    pub fn seen(&self) -> Revision {
        self.memory.read().seen(&self.resource, self.seen)
    }
}
