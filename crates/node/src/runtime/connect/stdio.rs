//! Our ends of a command's standard streams: pipes, or a terminal.

use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::Query;
use crate::runtime::terminal;

/// End of transmission: what ends input on a terminal.
const END_OF_TRANSMISSION: u8 = 4;

/// Which streams a client asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    pub(super) fn of(query: &Query) -> Wanted {
        let flag = |name| query.flag(name);
        Wanted { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") }
    }
}

/// Our ends; a stream that is not wanted is absent.
pub(super) struct Stdio {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
}

/// What the command reads.
pub(super) struct Input {
    sender: pipe::Sender,
    terminal: bool,
}

/// What the command writes.
pub(super) struct Output(pipe::Receiver);

impl Stdio {
    /// Opens the streams; the second value is the command's ends of standard input, output and error.
    pub(super) fn open(wanted: Wanted) -> io::Result<(Stdio, Vec<OwnedFd>)> {
        if wanted.tty {
            return Stdio::open_terminal(wanted);
        }
        let null = || std::fs::File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let output = |wanted: bool| -> io::Result<(Option<Output>, OwnedFd)> {
            if !wanted {
                return Ok((None, null()?));
            }
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            Ok((Some(Output(pipe::Receiver::from_owned_fd(ours)?)), theirs))
        };
        let (stdin, their_stdin) = if wanted.stdin {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            (Some(Input { sender: pipe::Sender::from_owned_fd(ours)?, terminal: false }), theirs)
        } else {
            (None, null()?)
        };
        let (stdout, their_stdout) = output(wanted.stdout)?;
        let (stderr, their_stderr) = output(wanted.stderr)?;
        Ok((Stdio { stdin, stdout, stderr }, vec![their_stdin, their_stdout, their_stderr]))
    }

    fn open_terminal(wanted: Wanted) -> io::Result<(Stdio, Vec<OwnedFd>)> {
        let (ours, theirs) = terminal::open()?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        // A terminal is read and written like a pipe; only its two directions share one descriptor.
        let sender = pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?;
        let stdio = Stdio {
            stdin: wanted.stdin.then_some(Input { sender, terminal: true }),
            stdout: Some(Output(pipe::Receiver::from_owned_fd_unchecked(ours)?)),
            stderr: None,
        };
        Ok((stdio, vec![theirs.try_clone()?, theirs.try_clone()?, theirs]))
    }
}

impl Input {
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sender.write_all(bytes).await
    }

    /// Says that there is no more.
    pub(super) async fn close(mut self) -> io::Result<()> {
        if self.terminal { self.write_all(&[END_OF_TRANSMISSION]).await } else { Ok(()) }
    }
}

impl Output {
    /// Reads some bytes; 0 when the last writer is gone.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await {
            // How a terminal says that its other end is closed.
            Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => Ok(0),
            other => other,
        }
    }
}
