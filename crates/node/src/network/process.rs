//! Processes that outlive the one that started them: each holds a lock file that says who it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::NetworkError;

/// How long a process may take to say who it is, or to end when asked to.
const PATIENCE_MILLISECONDS: u16 = 5000;
const PATIENCE: Duration = Duration::from_millis(PATIENCE_MILLISECONDS as u64);
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Serialize, Deserialize)]
struct Record<T> {
    pid: i32,
    #[serde(flatten)]
    state: T,
}

/// The lock that a process holds for as long as it lives.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, or fails when another process has it.
    pub(super) fn take(path: PathBuf) -> Result<Lock, NetworkError> {
        let context = |e| NetworkError::system(format!("cannot open {}", path.display()), e);
        // Not truncated on opening: until the lock is taken, the content is another process's.
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(context)?;
        let patience = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Whoever looks for a living holder takes the lock for a moment, too.
                Err(TryLockError::WouldBlock) if Instant::now() < patience && !held_exclusively(&file) => {
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(NetworkError::Held(path)),
                Err(TryLockError::Error(e)) => return Err(context(e)),
            }
        }
        file.set_len(0).map_err(context)?;
        Ok(Lock { file, path })
    }

    /// Says who holds the lock; only then is the process found by others.
    pub(super) fn publish(&mut self, state: impl Serialize) -> Result<(), NetworkError> {
        let record = Record { pid: nix::unistd::getpid().as_raw(), state };
        let context = |e| NetworkError::system(format!("cannot write {}", self.path.display()), e);
        let text = serde_json::to_vec(&record).map_err(|e| context(e.into()))?;
        self.file.rewind().and_then(|()| self.file.write_all(&text)).map_err(context)
    }
}

/// Whether a process holds the lock as its own rather than to look.
fn held_exclusively(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // An unlock of a lock that is ours cannot fail; the next attempt would say so.
            drop(file.unlock());
            false
        }
        Err(_) => true,
    }
}

/// A living process that holds a lock.
pub(super) struct Living<T> {
    pid: i32,
    process: OwnedFd,
    pub(super) state: T,
}

/// The process that holds a lock, if one does. A process that has the lock but has not said who it is is waited for.
pub(super) fn find<T: DeserializeOwned>(path: &Path) -> Option<Living<T>> {
    let file = File::open(path).ok()?;
    let patience = Instant::now() + PATIENCE;
    while held_exclusively(&file) {
        // The process is opened between two looks at the lock: the number cannot have gone to another process.
        if let Some(living) = open_holder(path)
            && held_exclusively(&file)
        {
            return Some(living);
        }
        if Instant::now() > patience {
            tracing::warn!(path = %path.display(), "a process holds this lock and does not say who it is");
            return None;
        }
        thread::sleep(PAUSE);
    }
    None
}

fn open_holder<T: DeserializeOwned>(path: &Path) -> Option<Living<T>> {
    let text = fs::read(path).ok()?;
    let Record { pid, state } = serde_json::from_slice(&text).ok()?;
    let process = pidfd_open(rustix::process::Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
    Some(Living { pid, process, state })
}

impl<T> Living<T> {
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the process has ended.
    pub(super) fn wait(&self) -> Result<(), NetworkError> {
        while !self.ended(PollTimeout::NONE)? {}
        Ok(())
    }

    /// Asks the process to end, makes it end if it does not, and waits until it is gone.
    pub(super) fn end(self) -> Result<(), NetworkError> {
        for signal in [Signal::TERM, Signal::KILL] {
            match pidfd_send_signal(&self.process, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(NetworkError::system(format!("cannot end process {}", self.pid), e.into())),
            }
            if self.ended(PollTimeout::from(PATIENCE_MILLISECONDS))? {
                self.reap();
                return Ok(());
            }
        }
        let late = io::Error::from(io::ErrorKind::TimedOut);
        Err(NetworkError::system(format!("process {} does not end", self.pid), late))
    }

    fn ended(&self, timeout: PollTimeout) -> Result<bool, NetworkError> {
        match poll(&mut [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(e) => Err(NetworkError::system(format!("cannot wait for process {}", self.pid), e.into())),
        }
    }

    /// Takes the process off the process table when it was this process that started it.
    pub(super) fn reap(&self) {
        match waitpid(nix::unistd::Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(_) | Err(Errno::ECHILD) => {}
            Err(error) => tracing::warn!(pid = self.pid, %error, "cannot reap"),
        }
    }
}

/// A process that is to be started: `executable internal NAME ARGS…`.
pub(super) struct Start<'a> {
    pub(super) executable: &'a Path,
    pub(super) name: &'static str,
    pub(super) args: &'a [String],
    /// Where the end of its standard error goes.
    pub(super) log: &'a Path,
    /// The lock that it takes.
    pub(super) lock: &'a Path,
}

impl Start<'_> {
    /// Starts the process and waits until it is ready or says why it cannot be.
    pub(super) fn start<T: DeserializeOwned>(self) -> Result<Living<T>, NetworkError> {
        let started = self.run();
        match find(self.lock) {
            // Also when this one was refused because somebody else has just started the same.
            Some(living) => Ok(living),
            None => Err(started.err().unwrap_or_else(|| self.silent())),
        }
    }

    fn run(&self) -> Result<(), NetworkError> {
        let open = OpenOptions::new().append(true).create(true).open(self.log);
        let log = open.map_err(|e| NetworkError::system(format!("cannot open {}", self.log.display()), e))?;
        let mut command = Command::new(self.executable);
        command.arg("internal").arg(self.name).args(self.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let cannot = |e| NetworkError::system(format!("cannot start {}", self.executable.display()), e);
        let child = command.spawn().map_err(cannot)?;
        let mut said = String::new();
        let mut stdout = child.stdout.ok_or_else(|| cannot(io::ErrorKind::BrokenPipe.into()))?;
        stdout.read_to_string(&mut said).map_err(cannot)?;
        match said.trim_end() {
            READY => Ok(()),
            "" => Err(self.silent()),
            reason => Err(NetworkError::Refused(reason.to_owned())),
        }
    }

    fn silent(&self) -> NetworkError {
        NetworkError::Silent { process: self.name, log: self.log.to_owned() }
    }
}

const READY: &str = "ready";

/// The main function of such a process: leaves its starter's session and directory, runs, and tells its starter what became of it.
pub(super) fn main(run: impl FnOnce(Ready) -> Result<(), NetworkError>) -> ExitCode {
    // Fails only for a process that leads a session already, which is as good.
    let _ = nix::unistd::setsid();
    let outcome = std::env::set_current_dir("/").map_err(|e| NetworkError::system("cannot change to /", e));
    match outcome.and_then(|()| run(Ready(()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended");
            // Heard by the starter unless the process has been ready, after which nobody reads here.
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The promise to tell the starter that the process is ready.
pub(super) struct Ready(());

impl Ready {
    pub(super) fn tell(self) -> Result<(), NetworkError> {
        println!("{READY}");
        let nowhere = OpenOptions::new().write(true).open("/dev/null");
        let away = nowhere.and_then(|null| Ok(nix::unistd::dup2_stdout(null)?));
        away.map_err(|e| NetworkError::system("cannot let go of the standard output", e))
    }
}
