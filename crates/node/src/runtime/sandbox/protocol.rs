//! What the cluster process and a pod process say to each other: length-prefixed JSON over a Unix socket, with
//! descriptors where a message needs them.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use jiff::Timestamp;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::runtime::container;
use crate::runtime::kernel;

/// No message is longer; an environment of several megabytes still fits.
pub(super) const LONGEST: u32 = 16 << 20;

/// What the cluster process asks of a pod process. Each connection carries one request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answered with [`Reply::Containers`] and a descriptor of the pod's network namespace.
    Hello,
    /// Mounts memory-backed storage of so many bytes at a directory, once; every container started later sees it.
    Tmpfs { directory: PathBuf, size: Option<u64> },
    /// Answered once the program runs, or with why it does not.
    Start(Box<container::Spec>),
    /// Sends a signal to a container's first process; SIGKILL ends all of its processes.
    Signal { id: String, signal: i32 },
    /// Answered with [`Reply::Containers`] at once and after each change.
    Watch,
    /// Runs a command in a container, with three descriptors for its streams: [`Reply::Done`], then [`Reply::Exited`].
    /// [`Resize`] may follow; the command is ended when the connection is closed.
    Exec(Box<container::Command>),
    /// Joins three descriptors to a container's streams until it ends: [`Reply::Done`], then [`Reply::Exited`].
    Attach { id: String },
    /// Ends the pod process, and with it everything in the pod.
    Stop,
}

/// What a pod process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Containers(Vec<Record>),
    Exited(Exit),
    /// With a descriptor at which the new process's sockets are asked for.
    Sockets,
    Failed(Failure),
}

/// A new size for the terminal of an exec or attach connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Resize {
    #[serde(rename = "Width")]
    pub(crate) columns: u16,
    #[serde(rename = "Height")]
    pub(crate) rows: u16,
}

/// What became of one attempt to run a container; kept on disk beside its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The container's own ID: 64 hexadecimal digits.
    pub(crate) id: String,
    /// The container's name in its pod.
    pub(crate) name: String,
    /// 0 for the first, counted up by each restart.
    pub(crate) attempt: u32,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended: Option<Ended>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) at: Timestamp,
    pub(crate) exit: Exit,
    /// Set when the program never ran.
    pub(crate) failure: Option<String>,
    /// What the container wrote to its termination message file, or the end of its log where it asked for that.
    pub(crate) message: String,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The exit code as shells and Kubernetes count it: 128 is added to a signal's number.
    pub(crate) fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Why something could not be done, worded for the pod's status.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(message: impl std::fmt::Display) -> Failure {
        Failure { message: message.to_string() }
    }
}

/// Sends one message with its descriptors.
pub(crate) fn send<T: Serialize>(socket: &UnixStream, message: &T, descriptors: &[&OwnedFd]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"))?;
    let header = length.to_le_bytes();
    let raw: Vec<RawFd> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(&header), IoSlice::new(&body)];
    // MSG_NOSIGNAL: the other end may be gone, and SIGPIPE would end a process that restored its default.
    let sent = sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut rest = sent;
    for part in [&header[..], &body[..]] {
        let skip = rest.min(part.len());
        rest -= skip;
        let mut socket = socket;
        socket.write_all(part.get(skip..).unwrap_or_default())?;
    }
    Ok(())
}

/// Receives one message with its descriptors; `None` when the other end has closed the connection.
pub(crate) fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let (mut read, descriptors) = kernel::receive(socket.as_fd(), &mut header)?;
    if read == 0 {
        return Ok(None);
    }
    let mut socket = socket;
    while let Some(rest) = header.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match socket.read(rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    let body = read_body(socket, u32::from_le_bytes(header))?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

fn read_body(mut socket: &UnixStream, length: u32) -> io::Result<Vec<u8>> {
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body)?;
    Ok(body)
}

/// Opens a descriptor-relative path, because the path of a Unix socket may have at most 108 bytes.
pub(crate) fn short_path(directory: &std::fs::File, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let long = "x".repeat(1 << 20);
        let sent = long.clone();
        let sender = std::thread::spawn(move || {
            send(&ours, &sent, &[&write]).unwrap();
            send(&ours, &Exit::Signal(9), &[]).unwrap();
        });
        let (text, mut descriptors) = receive::<String>(&theirs).unwrap().unwrap();
        assert_eq!(text, long);
        File::from(descriptors.pop().unwrap()).write_all(b"through").unwrap();
        let (exit, none) = receive::<Exit>(&theirs).unwrap().unwrap();
        assert_eq!((exit.code(), none.len()), (137, 0));
        sender.join().unwrap();
        assert!(receive::<Exit>(&theirs).unwrap().is_none());
        let mut got = String::new();
        File::from(read).read_to_string(&mut got).unwrap();
        assert_eq!(got, "through");
    }
}
