//! A container: a program with a root of its own, in its pod's namespaces.
//!
//! `internal container` and `internal exec` are started by the pod process with a socket as standard input. They
//! receive what to run, become it, and report what stops them; the socket closes when the program runs.

pub(crate) mod identity;
mod program;
pub(crate) mod root;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use self::identity::Identity;
use self::root::RootSpec;
use crate::runtime::sandbox::protocol::{Failure, Reply, receive, send};

/// One attempt to run a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) program: Program,
    pub(crate) root: RootSpec,
    /// Keep standard input open for attach.
    pub(crate) stdin: bool,
    /// Close standard input when the first attached client goes.
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    pub(crate) termination: Termination,
}

/// Where a container's last words are found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Termination {
    /// The file on the host that is mounted at `terminationMessagePath`.
    pub(crate) file: PathBuf,
    /// `FallbackToLogsOnError`.
    pub(crate) fall_back_to_logs: bool,
}

/// A program and what it sees of the world, apart from its root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: String,
    pub(crate) identity: Identity,
}

/// A command to run in a container that runs already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The container's own ID.
    pub(crate) container: String,
    pub(crate) argv: Vec<String>,
    /// On top of the container's own.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) tty: bool,
}

/// What the pod process sends to `internal container`, with descriptors for the three streams.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) tty: bool,
    /// What to mount; absent for exec, which joins the mount namespace whose descriptor comes fourth.
    pub(crate) root: Option<RootSpec>,
}

/// Runs `internal container` and `internal exec`: both return only when the program could not be started.
pub(crate) fn internal() -> ExitCode {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let socket = UnixStream::from(socket);
    let failure = match launch(&socket) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // The pod process reads the reason from the socket; if it is gone, so is everything that could use it.
    match send(&socket, &Reply::Failed(failure), &[]) {
        Ok(()) | Err(_) => ExitCode::from(128),
    }
}

fn launch(socket: &UnixStream) -> Result<std::convert::Infallible, Failure> {
    let message = receive::<Launch>(socket).map_err(Failure::new)?;
    let (launch, descriptors) = message.ok_or_else(|| Failure::new("the pod process went away"))?;
    let mut descriptors = descriptors.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next(), descriptors.next()) else {
        return Err(Failure::new("the pod process sent no streams"));
    };
    match &launch.root {
        Some(root) => {
            root.enter(&launch.program.directory).map_err(Failure::new)?;
            let namespace = mount_namespace().map_err(Failure::new)?;
            send(socket, &Reply::Done, &[&namespace]).map_err(Failure::new)?;
        }
        None => {
            let namespace = descriptors.next().ok_or_else(|| Failure::new("the container has ended"))?;
            setns(namespace, CloneFlags::CLONE_NEWNS).map_err(Failure::new)?;
        }
    }
    program::become_program(&launch.program, launch.tty, [stdin, stdout, stderr], socket)
}

fn mount_namespace() -> std::io::Result<OwnedFd> {
    std::fs::File::open("/proc/self/ns/mnt").map(OwnedFd::from)
}
