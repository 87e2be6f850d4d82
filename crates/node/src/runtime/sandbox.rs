//! A pod's namespaces and the process that holds them, as seen from the cluster process.
//!
//! A pod's directory holds `lock` (held by the live pod process), `socket` (where it takes requests), `pod.log` (its
//! own complaints) and `containers/` (records and logs).

mod children;
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod protocol;
pub(crate) mod record;
mod sockets;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::protocol::{Exit, Failure, Reply, Request, Resize, receive, send, short_path};

const LOCK: &str = "lock";
const SOCKET: &str = "socket";
const READY: &str = "ready\n";
/// A pod process that does not answer for this long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lock on a whole file.
fn whole_file() -> libc::flock {
    libc::flock { l_type: libc::F_WRLCK as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// The process that holds a pod's directory, if one does.
fn holder(directory: &Path) -> io::Result<Option<Pid>> {
    let file = match File::options().write(true).open(directory.join(LOCK)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as i16).then(|| Pid::from_raw(lock.l_pid)))
}

/// Whether a process, and with it everything in its PID namespace, has ended. A zombie has, but for a process with
/// threads only when the last of them is gone: that is the one that ends the namespace.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let zombie = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    stat.map_or(true, |stat| zombie(stat) && threads() <= 1)
}

/// Kills the process that holds a pod's directory, and everything in the pod. Blocks until all of it is gone.
pub(crate) fn kill_pod(directory: &Path) -> io::Result<()> {
    let Some(pid) = holder(directory)? else { return Ok(()) };
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(e) => return Err(e.into()),
    }
    let start = Instant::now();
    while !has_ended(pid) {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("process {pid} does not end although it was killed")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A live pod process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sandbox {
    directory: Arc<Path>,
}

impl Sandbox {
    /// Starts a pod process; `title` is how it shows in process lists. Returns its network namespace too.
    pub(crate) async fn start(
        directory: &Path,
        executable: PathBuf,
        hostname: &str,
        title: String,
    ) -> Result<(Sandbox, OwnedFd), Failure> {
        let sandbox = Sandbox { directory: directory.into() };
        let (directory, hostname) = (directory.to_owned(), hostname.to_owned());
        blocking(move || spawn_process(&directory, &executable, &hostname, &title)).await?;
        let network = sandbox.hello().await?;
        Ok((sandbox, network))
    }

    /// The live pod process of a directory, if there is one.
    pub(crate) async fn find(directory: &Path) -> Option<Sandbox> {
        let sandbox = Sandbox { directory: directory.into() };
        let path = sandbox.directory.clone();
        let held = blocking(move || holder(&path).map_err(Failure::new)).await.ok()??;
        match sandbox.hello().await {
            Ok(_) => Some(sandbox),
            Err(failure) => {
                tracing::warn!(pid = held.as_raw(), %failure, "a pod process holds its directory but does not answer");
                None
            }
        }
    }

    /// The pod's network namespace.
    pub(crate) async fn hello(&self) -> Result<OwnedFd, Failure> {
        let (_, _, descriptors) = self.open(Request::Hello, Vec::new()).await?;
        descriptors.into_iter().next().ok_or_else(|| Failure::new("the pod process sent no network namespace"))
    }

    /// Makes a request that is answered once.
    pub(crate) async fn request(&self, request: Request) -> Result<(), Failure> {
        self.open(request, Vec::new()).await.map(drop)
    }

    /// Makes a request and keeps the connection for what follows the first answer.
    pub(crate) async fn connect(&self, request: Request, streams: Vec<OwnedFd>) -> Result<Connection, Failure> {
        let (socket, _, _) = self.open(request, streams).await?;
        socket.set_nonblocking(true).map_err(Failure::new)?;
        Ok(Connection { socket: tokio::net::UnixStream::from_std(socket).map_err(Failure::new)? })
    }

    async fn open(
        &self,
        request: Request,
        streams: Vec<OwnedFd>,
    ) -> Result<(UnixStream, Reply, Vec<OwnedFd>), Failure> {
        let directory = self.directory.clone();
        blocking(move || {
            let handle = File::open(&directory).map_err(Failure::new)?;
            let gone = |e: io::Error| Failure::new(format!("the pod process is gone: {e}"));
            let socket = UnixStream::connect(short_path(&handle, SOCKET)).map_err(gone)?;
            socket.set_read_timeout(Some(PATIENCE)).map_err(Failure::new)?;
            socket.set_write_timeout(Some(PATIENCE)).map_err(Failure::new)?;
            send(&socket, &request, &streams.iter().collect::<Vec<_>>()).map_err(gone)?;
            let answer = receive::<Reply>(&socket).map_err(gone)?;
            match answer.ok_or_else(|| gone(io::ErrorKind::UnexpectedEof.into()))? {
                (Reply::Failed(failure), _) => Err(failure),
                (reply, descriptors) => Ok((socket, reply, descriptors)),
            }
        })
        .await
    }

    /// Ends the pod and everything in it; returns when it is gone.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        let directory = self.directory.clone();
        blocking(move || kill_pod(&directory).map_err(Failure::new)).await
    }
}

/// A connection to a pod process that lasts: watch, exec or attach.
pub(crate) struct Connection {
    socket: tokio::net::UnixStream,
}

impl Connection {
    /// The next message; an error when the pod process is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Reply> {
        read_message(&mut self.socket).await
    }

    /// Splits off the half that changes the terminal's size, so that both can be used at once.
    pub(crate) fn split(self) -> (Exits, Resizes) {
        let (read, write) = self.socket.into_split();
        (Exits(read), Resizes(write))
    }
}

/// The half of an exec or attach connection that tells how the command ended.
pub(crate) struct Exits(tokio::net::unix::OwnedReadHalf);

impl Exits {
    /// How the command ended; an error when the pod process is gone.
    pub(crate) async fn wait(&mut self) -> io::Result<Exit> {
        loop {
            if let Reply::Exited(exit) = read_message(&mut self.0).await? {
                return Ok(exit);
            }
        }
    }
}

/// The half of an exec or attach connection that changes the terminal's size. The command is hung up on when both
/// halves are dropped.
pub(crate) struct Resizes(tokio::net::unix::OwnedWriteHalf);

impl Resizes {
    pub(crate) async fn send(&mut self, size: Resize) -> io::Result<()> {
        let body = serde_json::to_vec(&size)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.0.write_all(&[&length.to_le_bytes()[..], &body].concat()).await
    }
}

async fn read_message<T: DeserializeOwned>(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<T> {
    let length = socket.read_u32_le().await?;
    if length > protocol::LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// Runs what blocks off the runtime's threads.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(run).await.map_err(Failure::new)?
}

fn spawn_process(directory: &Path, executable: &Path, hostname: &str, title: &str) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::new(format!("starting the pod process: {e}"));
    let log_path = directory.join("pod.log");
    let log = File::options().create(true).append(true).open(&log_path).map_err(failed)?;
    let mut command = Command::new(executable);
    command.arg0("isthmus").args(["internal", "pod", "new"]).arg(directory).args([hostname, title]);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
    }
    child.wait().map_err(failed)?;
    if line == READY {
        return Ok(());
    }
    let said = std::fs::read_to_string(&log_path).map_err(failed)?;
    Err(Failure::new(said.lines().last().unwrap_or("the pod process ended at once, without a word")))
}

#[cfg(test)]
mod tests;
