//! The writer thread: group commit.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::disk::{Disk, States};
use super::draft::{Draft, Stamped};
use super::{Event, EventKind, Key, Object, Revision, SharedMemory, WriteError};

/// How many writes wait for the disk before writers wait to queue.
const QUEUE: usize = 512;
/// One transaction takes at most so many writes and, past its first write, so many bytes.
const BATCH_WRITES: usize = 512;
const BATCH_BYTES: usize = 8 << 20;

/// A write in its encoded form; `Update` and `Delete` with the revision they expect.
#[derive(Debug)]
pub(super) enum Change {
    Create(Draft),
    Update(Draft, Revision),
    Delete(Draft, Revision),
}

impl Change {
    fn draft(&self) -> &Draft {
        match self {
            Change::Create(draft) | Change::Update(draft, _) | Change::Delete(draft, _) => draft,
        }
    }

    fn into_draft(self) -> Draft {
        match self {
            Change::Create(draft) | Change::Update(draft, _) | Change::Delete(draft, _) => draft,
        }
    }
}

type Answer = Result<Arc<Object>, WriteError>;

struct Request {
    key: Key,
    change: Change,
    answer: oneshot::Sender<Answer>,
}

/// The thread's handle; dropping it commits what is queued and waits for the thread.
pub(super) struct Writer {
    /// `None` only while dropping.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(disk: Disk, memory: SharedMemory) -> std::io::Result<Writer> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let committer = Committer { disk, memory, requests: receiver };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || committer.run())?;
        Ok(Writer { requests: Some(requests), thread: Some(thread) })
    }

    pub(super) async fn commit(&self, key: Key, change: Change) -> Answer {
        let stopped = || WriteError::Storage("the store's writer has stopped".to_owned());
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        let (answer, answered) = oneshot::channel();
        requests.send(Request { key, change, answer }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

struct Committer {
    disk: Disk,
    memory: SharedMemory,
    requests: mpsc::Receiver<Request>,
}

impl Committer {
    fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let batch = self.batch(first);
            self.commit(batch);
        }
    }

    /// What is queued, up to a transaction's size. Waiting for more would only delay: while one transaction syncs,
    /// the next gathers.
    fn batch(&mut self, first: Request) -> Vec<Request> {
        let mut bytes = first.change.draft().len();
        let mut batch = vec![first];
        while batch.len() < BATCH_WRITES && bytes < BATCH_BYTES {
            let Ok(request) = self.requests.try_recv() else { break };
            bytes += request.change.draft().len();
            batch.push(request);
        }
        batch
    }

    fn commit(&mut self, batch: Vec<Request>) {
        let mut plan = Plan::new(&self.memory);
        // No answer leaves before the disk has the batch, refusals included: they may rest on a write of the batch.
        let answers: Vec<_> =
            batch.into_iter().map(|request| (request.answer, plan.add(request.key, request.change))).collect();
        if let Err(error) = self.disk.commit(plan.revision, &plan.states, &self.memory) {
            tracing::error!(%error, "a write was refused by the disk");
            for (answer, _) in answers {
                // A caller that has gone needs no answer, here and below.
                let _ = answer.send(Err(WriteError::Storage(error.clone())));
            }
            return;
        }
        let published = self.memory.write().publish(&plan.events);
        for changed in &published.changed {
            changed.notify_waiters();
        }
        for (answer, result) in answers {
            let _ = answer.send(result);
        }
    }
}

/// A batch's effect, not yet committed.
struct Plan<'a> {
    memory: &'a SharedMemory,
    revision: Revision,
    events: Vec<Arc<Event>>,
    states: States,
}

impl Plan<'_> {
    fn new(memory: &SharedMemory) -> Plan<'_> {
        let revision = memory.read().revision();
        Plan { memory, revision, events: Vec::new(), states: States::new() }
    }

    /// Checks a write against the state that the writes before it leave, and adds its effect.
    fn add(&mut self, key: Key, change: Change) -> Answer {
        let previous = match self.states.get(&key) {
            Some(state) => state.clone(),
            None => self.memory.read().get(&key),
        };
        let kind = check(previous.as_deref(), &change)?;
        self.revision = Revision(self.revision.0 + 1);
        let draft = change.into_draft();
        let Stamped { json, line } = draft.stamp(kind, self.revision);
        let object = Arc::new(Object { key: key.clone(), revision: self.revision, json, labels: draft.labels });
        self.states.insert(key, (kind != EventKind::Deleted).then(|| object.clone()));
        self.events.push(Arc::new(Event { kind, revision: self.revision, object: object.clone(), previous, line }));
        Ok(object)
    }
}

fn check(previous: Option<&Object>, change: &Change) -> Result<EventKind, WriteError> {
    match (previous, change) {
        (None, Change::Create(_)) => Ok(EventKind::Added),
        (Some(_), Change::Create(_)) => Err(WriteError::Exists),
        (None, Change::Update(..) | Change::Delete(..)) => Err(WriteError::Missing),
        (Some(object), Change::Update(_, expected)) if object.revision == *expected => Ok(EventKind::Modified),
        (Some(object), Change::Delete(_, expected)) if object.revision == *expected => Ok(EventKind::Deleted),
        (Some(_), Change::Update(..) | Change::Delete(..)) => Err(WriteError::Conflict),
    }
}
