//! `internal pod`: the process that holds a pod's namespaces as their PID 1, starts its containers, keeps their logs
//! and remembers how they ended. It outlives the cluster process, and nothing in the pod outlives it.

mod attach;
mod lifetime;
mod serve;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{dup2_stdout, sethostname, setsid};

use self::serve::Pod;
use super::protocol::{Failure, short_path};
use super::{LOCK, READY, SOCKET};

/// Signals that mean a container when its processes send them to PID 1.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Threads of the pod process do little and are many: three per container.
const STACK: usize = 256 << 10;

/// Writes a line into the pod's log. Where it cannot be written, as on a full disk, the pod goes on without.
pub(super) fn complain(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `internal pod new DIRECTORY HOSTNAME TITLE` makes the namespaces and starts `internal pod init TITLE` in them.
pub(crate) fn internal(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["new", directory, hostname, title] => make_namespaces(Path::new(directory), hostname, title),
        ["init", _] => be_init(),
        _ => Err(Failure::new("unknown arguments")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(format_args!("{failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Adds what was being done to an error.
fn during<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Failure + '_ {
    move |error| Failure::new(format!("{what}: {error}"))
}

fn make_namespaces(directory: &Path, hostname: &str, title: &str) -> Result<(), Failure> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(during("making the pod's namespaces"))?;
    sethostname(hostname).map_err(during("setting the host name"))?;
    // The child becomes PID 1; this process ends without waiting, and the child belongs to nobody.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("isthmus").args(["internal", "pod", "init", title]).current_dir(directory).env_clear();
    command.spawn().map_err(during("starting the pod process"))?;
    Ok(())
}

fn be_init() -> Result<(), Failure> {
    setsid().map_err(during("leaving the session"))?;
    // Unmounting on the host reaches the pod, so that pods keep no disk busy; nothing reaches the host.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(during("leaving the host's mounts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).map_err(during("mounting /proc"))?;
    let directory = File::open(".").map_err(during("opening the pod's directory"))?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(LOCK);
    let lock = lock.map_err(during("opening the lock"))?;
    // A record lock, because its holder can be asked for, in the asker's own PID namespace. It lasts until the process ends.
    fcntl(&lock, FcntlArg::F_SETLK(&super::whole_file())).map_err(during("another process holds the pod"))?;
    let socket = short_path(&directory, SOCKET);
    if socket.exists() {
        std::fs::remove_file(&socket).map_err(during("removing an old socket"))?;
    }
    let listener = UnixListener::bind(&socket).map_err(during("binding the pod's socket"))?;
    // Before there are threads, which inherit the mask; programs start with an empty one.
    let mut signals = SigSet::empty();
    FORWARDED.into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().map_err(during("blocking signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(during("receiving signals"))?;
    announce().map_err(during("telling the cluster process"))?;
    let pod = Arc::new(Pod::new());
    {
        let pod = pod.clone();
        spawn("reaper", move || pod.children.reap())?;
    }
    {
        let pod = pod.clone();
        spawn("signals", move || forward_signals(&signals, &pod))?;
    }
    for connection in listener.incoming() {
        let connection = connection.map_err(during("accepting a connection"))?;
        let pod = pod.clone();
        if let Err(failure) = spawn("connection", move || pod.serve(&connection)) {
            complain(format_args!("{failure}"));
        }
    }
    drop(lock);
    Ok(())
}

fn forward_signals(signals: &SignalFd, pod: &Pod) {
    loop {
        match signals.read_signal() {
            Ok(Some(info)) => {
                let (number, sender) = (info.ssi_signo.cast_signed(), info.ssi_pid.cast_signed());
                // A sender outside of the pod shows as 0 and cannot mean a container.
                if let (Ok(signal), 1..) = (Signal::try_from(number), sender) {
                    pod.forward(signal, sender);
                }
            }
            Ok(None) | Err(Errno::EINTR) => {}
            Err(error) => {
                complain(format_args!("receiving signals: {error}"));
                return;
            }
        }
    }
}

/// Tells whoever started the pod that its socket is open, and lets go of the pipe.
fn announce() -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdout(null)?;
    Ok(())
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    builder.spawn(run).map_err(during("starting a thread"))?;
    Ok(())
}
