//! What the pod process does for each connection of the cluster process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lifetime::Container;
use super::{complain, during, spawn};
use crate::runtime::container::{Command, Launch, Program};
use crate::runtime::kernel;
use crate::runtime::sandbox::children::{Children, kill_namespace};
use crate::runtime::sandbox::protocol::{Failure, Record, Reply, Request, Resize, receive, send};

/// How long a command may take to end by itself after its client is gone.
const HANG_UP_PATIENCE: Duration = Duration::from_secs(2);

/// The state of a pod process.
pub(super) struct Pod {
    pub(super) children: Children,
    containers: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By the container's ID.
    all: BTreeMap<String, Arc<Container>>,
    /// Counts changes, for those who watch.
    revision: u64,
    /// Names of containers whose start is under way.
    starting: BTreeSet<String>,
    /// Directories that have their memory-backed storage.
    memory: BTreeSet<PathBuf>,
}

impl Pod {
    pub(super) fn new() -> Pod {
        Pod { children: Children::default(), containers: Mutex::default(), changed: Condvar::new() }
    }

    /// No invariant spans two statements under this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, container: Arc<Container>) {
        let mut state = self.state();
        // Earlier attempts have ended and their records are on disk.
        state.all.retain(|_, other| other.name() != container.name());
        state.all.insert(container.id(), container);
        drop(state);
        self.note_change();
    }

    pub(super) fn note_change(&self) {
        self.state().revision += 1;
        self.changed.notify_all();
    }

    /// A container is started once, even when the cluster process that asked for it died and its successor asks again.
    fn claim(&self, name: &str) -> Result<(), Failure> {
        let mut state = self.state();
        let runs = state.all.values().any(|c| c.name() == name && c.running().is_some());
        if runs || !state.starting.insert(name.to_owned()) {
            return Err(Failure::new(format!("container {name:?} is already running")));
        }
        Ok(())
    }

    /// Passes a signal that was sent to PID 1 from inside the pod on to the container it came from: there, PID 1 is
    /// taken for the container's own first process. A sender that is gone already can only be told in a pod with one
    /// container.
    pub(super) fn forward(&self, signal: Signal, sender: i32) {
        let origin = std::fs::metadata(format!("/proc/{sender}/ns/mnt")).ok().map(|found| found.ino());
        let mut targets: Vec<(Pid, Option<u64>)> = Vec::new();
        for container in self.state().all.values() {
            let own = container.namespace().and_then(|fd| nix::sys::stat::fstat(fd).ok()).map(|found| found.st_ino);
            targets.extend(container.running().map(|pid| (pid, own)));
        }
        let meant = match (targets.as_slice(), origin) {
            ([(only, _)], None) => Some(*only),
            (_, Some(origin)) => targets.iter().find(|(_, own)| *own == Some(origin)).map(|(pid, _)| *pid),
            _ => None,
        };
        if let Some(Err(error)) = meant.map(|pid| kill(pid, signal)) {
            complain(format_args!("passing on {signal}: {error}"));
        }
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, Failure> {
        let found = self.state().all.get(id).cloned();
        found.ok_or_else(|| Failure::new(format!("container {id:?} is not running")))
    }

    /// Serves one connection. The cluster process may go away at any time, which is nothing to report.
    pub(super) fn serve(self: &Arc<Pod>, connection: &UnixStream) {
        let Ok(Some((request, descriptors))) = receive::<Request>(connection) else { return };
        if let Err(failure) = self.answer(request, descriptors, connection) {
            let _ = send(connection, &Reply::Failed(failure), &[]);
        }
    }

    fn answer(
        self: &Arc<Pod>,
        request: Request,
        descriptors: Vec<OwnedFd>,
        connection: &UnixStream,
    ) -> Result<(), Failure> {
        let reply = |reply: &Reply| send(connection, reply, &[]).map_err(Failure::new);
        match request {
            Request::Hello => {
                let network = File::open("/proc/self/ns/net").map_err(during("opening the network namespace"))?;
                let containers = Reply::Containers(self.records().0);
                send(connection, &containers, &[&network.into()]).map_err(Failure::new)
            }
            Request::Tmpfs { directory, size } => {
                let mut state = self.state();
                if !state.memory.contains(&directory) {
                    mount_memory(&directory, size)?;
                    state.memory.insert(directory);
                }
                drop(state);
                reply(&Reply::Done)
            }
            Request::Start(spec) => {
                let name = spec.name.clone();
                self.claim(&name)?;
                let started = Container::start(self, *spec);
                self.state().starting.remove(&name);
                started?;
                reply(&Reply::Done)
            }
            Request::Signal { id, signal } => {
                self.signal(&id, signal)?;
                reply(&Reply::Done)
            }
            Request::Watch => {
                self.watch(connection);
                Ok(())
            }
            Request::Exec(command) => self.exec(*command, descriptors, connection),
            Request::Attach { id } => self.container(&id)?.attach(descriptors, connection),
            // The kernel ends everything in a PID namespace with its first process.
            Request::Stop => std::process::exit(0),
        }
    }

    fn records(&self) -> (Vec<Record>, u64) {
        let state = self.state();
        (state.all.values().map(|container| container.record()).collect(), state.revision)
    }

    fn signal(&self, id: &str, signal: i32) -> Result<(), Failure> {
        let container = self.container(id)?;
        let signal = Signal::try_from(signal).map_err(Failure::new)?;
        let Some(pid) = container.running() else { return Ok(()) };
        if signal == Signal::SIGKILL
            && let Some(namespace) = container.namespace()
        {
            return kill_namespace(namespace).map_err(Failure::new);
        }
        match kill(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(Failure::new(e)),
        }
    }

    fn watch(&self, connection: &UnixStream) {
        loop {
            let (records, revision) = self.records();
            if send(connection, &Reply::Containers(records), &[]).is_err() {
                return;
            }
            let mut state = self.state();
            while state.revision == revision {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn exec(&self, command: Command, streams: Vec<OwnedFd>, connection: &UnixStream) -> Result<(), Failure> {
        let container = self.container(&command.container)?;
        let ended = || Failure::new(format!("container {:?} is not running", container.name()));
        container.running().ok_or_else(ended)?;
        let namespace = container.namespace().ok_or_else(ended)?;
        let mut program = Program { argv: command.argv, ..container.program().clone() };
        program.environment.extend(command.environment);
        let launch = Launch { program, tty: command.tty, root: None };
        let passed: Vec<&OwnedFd> = streams.iter().chain([namespace]).collect();
        let child = self.children.launch("exec", &launch, &passed)?;
        send(connection, &Reply::Done, &[]).map_err(Failure::new)?;
        let control = connection.try_clone().map_err(Failure::new)?;
        let (pid, tty) = (child.pid, command.tty);
        let ended = Arc::new(AtomicBool::new(false));
        let watched = ended.clone();
        spawn("exec", move || {
            follow_client(&control, tty.then_some(streams));
            if !watched.load(Ordering::Acquire) {
                hang_up(pid);
            }
        })?;
        if let Ok(exit) = child.exit.recv() {
            ended.store(true, Ordering::Release);
            send(connection, &Reply::Exited(exit), &[]).map_err(Failure::new)?;
        }
        // Wakes the thread that follows the client.
        connection.shutdown(std::net::Shutdown::Both).map_err(Failure::new)
    }
}

/// Applies the client's changes of the terminal's size until the connection ends.
fn follow_client(control: &UnixStream, terminal: Option<Vec<OwnedFd>>) {
    let terminal = terminal.and_then(|streams| streams.into_iter().next());
    while let Ok(Some((size, _))) = receive::<Resize>(control) {
        if let Some(Err(error)) = terminal.as_ref().map(|t| kernel::resize_terminal(t, size.rows, size.columns)) {
            complain(format_args!("resizing a terminal: {error}"));
        }
    }
}

/// Ends a command whose client is gone: as a closed terminal does it, then by force.
fn hang_up(pid: Pid) {
    // The process leads its session, and its group has its number.
    let group = Pid::from_raw(-pid.as_raw());
    for signal in [Signal::SIGHUP, Signal::SIGCONT] {
        if kill(group, signal).is_err() {
            return;
        }
    }
    std::thread::sleep(HANG_UP_PATIENCE);
    // A process that ignores the hang-up would stay for ever; ESRCH says that it did not.
    let _ = kill(group, Signal::SIGKILL);
}

fn mount_memory(directory: &Path, size: Option<u64>) -> Result<(), Failure> {
    let options = size.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounted = mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options.as_str()));
    mounted.map_err(during("mounting memory-backed storage"))
}
