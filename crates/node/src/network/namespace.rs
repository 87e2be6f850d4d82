//! Threads that live in a network namespace.
//!
//! A process inside a user namespace cannot come back to the host's network namespace once it has left it, so no
//! thread of the runtime ever leaves. What must be made elsewhere is made on a thread that never returns; sockets keep
//! the namespace they were made in and can then be used from anywhere.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};

type Work = Box<dyn FnOnce() + Send>;

/// A thread in another network namespace. It ends, and with it its hold on the namespace, when this is dropped.
pub(super) struct Namespace {
    work: mpsc::Sender<Work>,
    thread: Pid,
}

impl Namespace {
    /// Enters an existing namespace, given as an open `/proc/PID/ns/net`.
    pub(super) fn enter(namespace: impl Into<OwnedFd>) -> io::Result<Namespace> {
        let namespace = namespace.into();
        Namespace::spawn(move || setns(namespace, CloneFlags::CLONE_NEWNET))
    }

    /// Makes a new, empty namespace.
    pub(super) fn create() -> io::Result<Namespace> {
        Namespace::spawn(|| unshare(CloneFlags::CLONE_NEWNET))
    }

    fn spawn(enter: impl FnOnce() -> nix::Result<()> + Send + 'static) -> io::Result<Namespace> {
        let (work, queue) = mpsc::channel::<Work>();
        let (entered, outcome) = mpsc::sync_channel(1);
        thread::Builder::new().name("namespace".to_owned()).spawn(move || {
            let result = enter().map(|()| gettid());
            let inside = result.is_ok();
            if entered.send(result).is_ok() && inside {
                queue.into_iter().for_each(|work| work());
            }
        })?;
        let thread = outcome.recv().map_err(|_| gone())??;
        Ok(Namespace { work, thread })
    }

    /// The kernel's number of the thread, whose `/proc/PID/task/TID/ns/net` is the namespace.
    pub(super) fn thread(&self) -> Pid {
        self.thread
    }

    /// Runs something in the namespace and waits for it: making a socket, writing a setting, nothing that takes long.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (done, result) = mpsc::sync_channel(1);
        let work = move || {
            // Nobody waits for the result any more only if the caller's own thread has died.
            drop(done.send(work()));
        };
        self.work.send(Box::new(work)).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// Writes settings below `/proc/sys/net`, each as (name, value).
    ///
    /// A setting that this kernel does not have (it was built without IPv6) is passed over.
    pub(super) fn configure(&self, settings: &'static [(&'static str, &'static str)]) -> io::Result<()> {
        self.run(move || settings.iter().try_for_each(|(name, value)| write_setting(name, value)))?
    }
}

fn write_setting(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net").join(name);
    match fs::write(&path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write {value} to {}: {error}", path.display()))),
        Ok(()) => Ok(()),
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that lives in the network namespace has ended")
}
