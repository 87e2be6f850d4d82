//! Sockets of containers whose user does not exist here.
//!
//! Without root a user namespace maps one user, and a container with any other `runAsUser` runs as its pod's root. What
//! its network can still tell by is the mark of its sockets: the pod process makes them in the container's place and
//! marks them with the user's number.
//!
//! The container needs no privilege for that, and gets none. It is not confined by it either: raw sockets, those that it
//! makes through io_uring or by another architecture's system calls, and those in network namespaces of its own are not
//! marked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::runtime::kernel::seccomp::{Call, Listener};

/// Makes the sockets of a container's processes until the last of them has ended.
pub(super) fn serve(listener: OwnedFd, user: u32) -> io::Result<()> {
    let listener = Listener::new(listener);
    let here = namespace("self")?;
    while let Some(call) = listener.next()? {
        let answered = if namespace(&call.thread.to_string()).is_ok_and(|theirs| theirs != here) {
            listener.pass(&call)
        } else {
            make(&call, user)
                .map_or_else(|error| listener.refuse(&call, error), |socket| give(&listener, &call, &socket))
        };
        match answered {
            // The caller was killed meanwhile.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn make(call: &Call, user: u32) -> Result<Socket, Errno> {
    let (domain, kind) = (Domain::from(call.domain), Type::from(call.kind));
    let made = Socket::new(domain, kind, Some(Protocol::from(call.protocol)));
    let marked = made.and_then(|socket| socket.set_mark(user).map(|()| socket));
    marked.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn give(listener: &Listener, call: &Call, socket: &Socket) -> nix::Result<()> {
    match listener.give(call, socket.as_fd()) {
        // As when the caller may not open any more files.
        Err(error) if error != Errno::ENOENT => listener.refuse(call, error),
        other => other,
    }
}

/// The network namespace of a thread.
fn namespace(thread: &str) -> io::Result<(u64, u64)> {
    let found = std::fs::metadata(format!("/proc/{thread}/ns/net"))?;
    Ok((found.dev(), found.ino()))
}
