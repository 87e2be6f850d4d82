//! Lines on their way to where logs go.
//!
//! Workers collect lines and hand them on in batches; one thread writes them, so that a slow disk or a full pipe delays
//! no connection. What cannot be written for long is dropped, and that is said.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Entry, Format};
use crate::config::Sink;

/// How long a line may wait for others.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How much is collected before it is handed on at once, in bytes.
const BATCH: usize = 64 << 10;
/// How much may wait to be written before lines are dropped, in bytes.
const BACKLOG: usize = 16 << 20;

/// Lines of one worker for one sink.
struct Batch {
    sink: Sink,
    text: String,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct LogWriter {
    batches: Option<Sender<Batch>>,
    backlog: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    pub(crate) fn start() -> io::Result<LogWriter> {
        let (batches, incoming) = channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let waiting = backlog.clone();
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_all(&incoming, &waiting))?;
        Ok(LogWriter { batches: Some(batches), backlog, thread: Some(thread) })
    }

    /// What a worker writes to.
    pub(crate) fn lines(&self) -> Lines {
        Lines {
            batches: self.batches.clone().expect("the sender is there until the writer is dropped"),
            backlog: self.backlog.clone(),
            collected: RefCell::default(),
        }
    }
}

impl Drop for LogWriter {
    /// Waits until everything is written that workers have handed on.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes access logs has failed");
        }
    }
}

/// The lines of one worker.
#[derive(Debug)]
pub(crate) struct Lines {
    batches: Sender<Batch>,
    backlog: Arc<AtomicUsize>,
    collected: RefCell<HashMap<Sink, String>>,
}

impl Lines {
    /// Collects a line. Returns whether it is the first since the last [flush](Self::flush), which must then come.
    pub(crate) fn add(&self, sink: &Sink, format: &Format, entry: &Entry<'_>) -> bool {
        let mut collected = self.collected.borrow_mut();
        let first = collected.values().all(String::is_empty);
        if !collected.contains_key(sink) {
            collected.insert(sink.clone(), String::new());
        }
        let Some(text) = collected.get_mut(sink) else { return first };
        format.render(entry, text);
        if text.len() >= BATCH {
            self.hand_on(sink, text);
        }
        first
    }

    pub(crate) fn flush(&self) {
        for (sink, text) in self.collected.borrow_mut().iter_mut().filter(|(_, text)| !text.is_empty()) {
            self.hand_on(sink, text);
        }
    }

    fn hand_on(&self, sink: &Sink, text: &mut String) {
        let text = std::mem::take(text);
        if self.backlog.load(Ordering::Relaxed) + text.len() > BACKLOG {
            tracing::warn!(?sink, lines = text.lines().count(), "access logs are written too slowly: lines are lost");
            return;
        }
        self.backlog.fetch_add(text.len(), Ordering::Relaxed);
        if let Err(lost) = self.batches.send(Batch { sink: sink.clone(), text }) {
            tracing::error!(sink = ?lost.0.sink, "access log lines are lost: nobody writes them");
        }
    }
}

fn write_all(incoming: &Receiver<Batch>, backlog: &AtomicUsize) {
    let mut files = HashMap::new();
    for Batch { sink, text } in incoming {
        let written = match &sink {
            Sink::Stdout => io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            Sink::Stderr => io::stderr().lock().write_all(text.as_bytes()),
            Sink::File(path) => append(&mut files, path, text.as_bytes()),
        };
        backlog.fetch_sub(text.len(), Ordering::Relaxed);
        if let Err(e) = written {
            tracing::warn!(?sink, error = %e, "the access log cannot be written");
        }
    }
}

fn append(files: &mut HashMap<PathBuf, File>, path: &PathBuf, text: &[u8]) -> io::Result<()> {
    if !files.contains_key(path) {
        files.insert(path.clone(), OpenOptions::new().create(true).append(true).open(path)?);
    }
    files.get_mut(path).map_or(Ok(()), |file| file.write_all(text))
}
