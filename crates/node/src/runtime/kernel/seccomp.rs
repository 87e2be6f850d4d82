//! Calls of `socket` that another process answers (seccomp's user notification, Linux 5.14).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{self, c_ulong, sock_filter, sock_fprog};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// As `linux/audit.h` numbers the machines that have one way only to call `socket`.
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xc000_00b7;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// Where `struct seccomp_data` has what is asked for; of the arguments, the lower halves on a little-endian machine.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const DOMAIN: u32 = 16;
const KIND: u32 = 24;
/// The bits of a socket's type that are no flags.
const KIND_BITS: u32 = 0xf;

const fn step(code: u32, value: u32, if_equal: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: if_equal, jf: otherwise, k: value }
}

/// Defers stream and datagram sockets of IPv4 and IPv6. Raw sockets stay the caller's own, for whom the kernel checks
/// capabilities. A call by the numbers of another architecture (i386, x32) is not deferred either.
const PROGRAM: [sock_filter; 13] = [
    step(LOAD, ARCHITECTURE, 0, 0),
    step(IF_EQUAL, MACHINE, 0, 9),
    step(LOAD, NUMBER, 0, 0),
    step(IF_EQUAL, libc::SYS_socket as u32, 0, 7),
    step(LOAD, DOMAIN, 0, 0),
    step(IF_EQUAL, libc::AF_INET as u32, 1, 0),
    step(IF_EQUAL, libc::AF_INET6 as u32, 0, 4),
    step(LOAD, KIND, 0, 0),
    step(AND, KIND_BITS, 0, 0),
    step(IF_EQUAL, libc::SOCK_STREAM as u32, 2, 0),
    step(IF_EQUAL, libc::SOCK_DGRAM as u32, 1, 0),
    step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
];

/// Makes this process, and whatever it becomes and starts, wait for the answer of a [`Listener`] when it calls
/// `socket`. The process must have `CAP_SYS_ADMIN` in its user namespace, or `no_new_privs` set.
pub(crate) fn defer_sockets() -> io::Result<OwnedFd> {
    // A call that has been received is not broken off by signals, which some programs send themselves all the time.
    // Linux before 5.19 does not know this, and restarts the call.
    match install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        other => other,
    }
}

fn install(flags: c_ulong) -> io::Result<OwnedFd> {
    let mut steps = PROGRAM;
    let program = sock_fprog { len: PROGRAM.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: `program` describes exactly the array `steps`; both outlive the call and the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) };
    let descriptor = i32::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: with NEW_LISTENER the kernel returns a descriptor that it has just made and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A call of `socket` that waits for its answer.
pub(crate) struct Call {
    id: u64,
    /// The calling thread, in the PID namespace of the listener.
    pub(crate) thread: u32,
    pub(crate) domain: i32,
    pub(crate) kind: i32,
    pub(crate) protocol: i32,
}

/// Where deferred calls are answered. When it is dropped, they fail with `ENOSYS`.
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// `descriptor` comes from [`defer_sockets`].
    pub(crate) fn new(descriptor: OwnedFd) -> Listener {
        Listener(descriptor)
    }

    /// Waits for the next call; `None` when no process is left that could make one.
    pub(crate) fn next(&self) -> io::Result<Option<Call>> {
        loop {
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let [ready] = ready;
            if !ready.revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
                return Ok(None);
            }
            match self.receive() {
                // The caller was killed meanwhile.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                other => return Ok(Some(other?)),
            }
        }
    }

    fn receive(&self) -> nix::Result<Call> {
        let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut call = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the request's number contains the size of the structure, so that the kernel writes no more than that
        // into `call`, which outlives the call and is zeroed as the kernel wants it.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, std::ptr::from_mut(&mut call)) };
        Errno::result(result)?;
        // The kernel takes the lower halves of the registers.
        let [domain, kind, protocol, ..] = call.data.args.map(|argument| argument as i32);
        Ok(Call { id: call.id, thread: call.pid, domain, kind, protocol })
    }

    /// Gives the caller a copy of a descriptor, which its call returns.
    pub(crate) fn give(&self, call: &Call, descriptor: BorrowedFd<'_>) -> nix::Result<()> {
        let given = libc::seccomp_notif_addfd {
            id: call.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: descriptor.as_raw_fd().cast_unsigned(),
            newfd: 0,
            newfd_flags: (call.kind & libc::SOCK_CLOEXEC).cast_unsigned(),
        };
        // SAFETY: the request's number contains the size of the structure; `given` outlives the call and the kernel
        // only reads it. The descriptor that it names is open for the time of the call.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, std::ptr::from_ref(&given)) };
        Errno::result(result).map(drop)
    }

    /// Has the call fail.
    pub(crate) fn refuse(&self, call: &Call, error: Errno) -> nix::Result<()> {
        self.answer(libc::seccomp_notif_resp { id: call.id, val: 0, error: -(error as i32), flags: 0 })
    }

    /// Lets the kernel carry out the call as if it had not been deferred.
    pub(crate) fn pass(&self, call: &Call) -> nix::Result<()> {
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        self.answer(libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags })
    }

    fn answer(&self, answer: libc::seccomp_notif_resp) -> nix::Result<()> {
        // SAFETY: the request's number contains the size of the structure; `answer` outlives the call and the kernel
        // only reads it.
        let result =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, std::ptr::from_ref(&answer)) };
        Errno::result(result).map(drop)
    }
}
