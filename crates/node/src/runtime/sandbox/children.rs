//! Starting and reaping processes as PID 1 of a pod.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::protocol::{Exit, Failure, Reply, receive, send};
use super::{process, sockets};
use crate::runtime::container::Launch;

/// The children of the pod process, and who waits for them.
#[derive(Default)]
pub(super) struct Children {
    waiting: Mutex<HashMap<Pid, Sender<Exit>>>,
    started: Condvar,
}

/// A started program.
pub(super) struct Child {
    pub(super) pid: Pid,
    /// Tells once how the program ended.
    pub(super) exit: Receiver<Exit>,
    /// The container's mount namespace, when the child made one.
    pub(super) namespace: Option<OwnedFd>,
}

impl Children {
    /// Takes a lock whose data a panic elsewhere cannot have left inconsistent: every change is a single insertion or removal.
    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts `internal NAME` and waits until it has become the program.
    pub(super) fn launch(&self, name: &str, launch: &Launch, streams: &[&OwnedFd]) -> Result<Child, Failure> {
        let (ours, theirs) = UnixStream::pair().map_err(Failure::new)?;
        let (pid, exit) = self.spawn(name, theirs).map_err(|e| Failure::new(format!("starting a process: {e}")))?;
        let lost = |e: io::Error| Failure::new(format!("talking to the new process: {e}"));
        send(&ours, launch, streams).map_err(lost)?;
        let mut child = Child { pid, exit, namespace: None };
        while let Some((reply, descriptors)) = receive::<Reply>(&ours).map_err(lost)? {
            match reply {
                Reply::Failed(failure) => return Err(failure),
                Reply::Sockets => {
                    let user = launch.program.identity.emulated.zip(descriptors.into_iter().next());
                    let served = user.map_or(Ok(()), |(user, listener)| make_sockets(listener, user));
                    if let Err(failure) = served {
                        // A process that has ended by itself is as good.
                        let _ = kill(pid, Signal::SIGKILL);
                        return Err(failure);
                    }
                }
                Reply::Done | Reply::Containers(_) | Reply::Exited(_) => {
                    child.namespace = descriptors.into_iter().next();
                }
            }
        }
        Ok(child)
    }

    fn spawn(&self, name: &str, socket: UnixStream) -> io::Result<(Pid, Receiver<Exit>)> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("isthmus").args(["internal", name]).env_clear();
        command.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::null());
        // Held over the start, so that the reaper cannot miss a child that ends at once.
        let mut waiting = self.lock();
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sender, exit) = channel();
        waiting.insert(pid, sender);
        self.started.notify_all();
        Ok((pid, exit))
    }

    /// Reaps children and orphans for as long as the process lives.
    pub(super) fn reap(&self) {
        loop {
            let (pid, exit) = match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => {
                    // There is no child, and orphans only come from children.
                    let idle = self.lock();
                    if idle.is_empty() {
                        drop(self.started.wait(idle));
                    }
                    continue;
                }
            };
            if let Some(waiter) = self.lock().remove(&pid) {
                // Whoever started the child may have stopped caring.
                let _ = waiter.send(exit);
            }
        }
    }
}

/// Makes the sockets of a new process, and of all that it starts, in its place.
fn make_sockets(listener: OwnedFd, user: u32) -> Result<(), Failure> {
    process::spawn("sockets", move || {
        if let Err(error) = sockets::serve(listener, user) {
            process::complain(format_args!("making sockets of user {user}: {error}"));
        }
    })
}

/// Kills every process in a mount namespace, which is every process of a container, until none is left.
pub(super) fn kill_namespace(namespace: &OwnedFd) -> io::Result<()> {
    let wanted = File::from(namespace.try_clone()?).metadata()?.ino();
    loop {
        let mut found = false;
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // The link of a zombie cannot be followed; the reaper takes it.
            let member = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|m| m.ino() == wanted);
            if member && pid != 1 {
                found = true;
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        if !found {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
