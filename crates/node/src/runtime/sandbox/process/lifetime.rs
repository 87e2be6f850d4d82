//! One attempt to run a container, from its start to its record.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use super::serve::Pod;
use super::{complain, during};
use crate::runtime::container::{Launch, Program, Spec, Termination};
use crate::runtime::sandbox::children::{Child, kill_namespace};
use crate::runtime::sandbox::output::{Output, Stream};
use crate::runtime::sandbox::protocol::{Ended, Exit, Failure, Record};
use crate::runtime::sandbox::record;
use crate::runtime::terminal;

/// Kubernetes keeps at most this much of a termination message.
const LONGEST_MESSAGE: u64 = 4096;
/// … and of a log that stands in for it, at most this much and this many lines.
const LONGEST_LOG_MESSAGE: u64 = 2048;
const MOST_LOG_LINES: usize = 80;

/// A container that runs, or has ended and not been replaced.
pub(super) struct Container {
    pid: Pid,
    program: Program,
    namespace: Option<OwnedFd>,
    pub(super) output: Arc<Output>,
    /// What attached clients write to.
    pub(super) input: Mutex<Option<File>>,
    pub(super) stdin_once: bool,
    /// The pod process's end of the container's terminal.
    pub(super) terminal: Option<OwnedFd>,
    record: Mutex<Record>,
}

/// Both ends of a container's streams.
struct Streams {
    theirs: [OwnedFd; 3],
    stdout: OwnedFd,
    /// A terminal has no separate standard error.
    stderr: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

impl Container {
    /// Starts a container; when its program cannot be started, that is its recorded end.
    pub(super) fn start(pod: &Arc<Pod>, spec: Spec) -> Result<(), Failure> {
        let paths = record::Paths::new(Path::new("."), &spec.name, spec.attempt);
        paths.create().map_err(during("making the container's directory"))?;
        let output = Arc::new(Output::create(&paths.log()).map_err(during("opening the container's log"))?);
        let streams = Streams::open(&spec).map_err(during("making the container's streams"))?;
        let mut entry = Record {
            id: spec.id,
            name: spec.name,
            attempt: spec.attempt,
            image: spec.image,
            image_id: spec.image_id,
            started_at: Timestamp::now(),
            ended: None,
        };
        let launch = Launch { program: spec.program, tty: spec.tty, root: Some(spec.root) };
        let [stdin, stdout, stderr] = &streams.theirs;
        let launched = pod.children.launch("container", &launch, &[stdin, stdout, stderr]);
        let child = match launched {
            Ok(child) => child,
            Err(failure) => {
                entry.ended = Some(Ended::unstarted(&failure));
                paths.save(&entry).map_err(during("recording the container's end"))?;
                return Err(failure);
            }
        };
        paths.save(&entry).map_err(during("recording the container's start"))?;
        let Child { pid, exit, namespace } = child;
        let container = Arc::new(Container {
            pid,
            program: launch.program,
            namespace,
            output,
            input: Mutex::new(streams.stdin.map(File::from)),
            stdin_once: spec.stdin_once,
            terminal: streams.terminal,
            record: Mutex::new(entry),
        });
        pod.add(container.clone());
        // The container holds the only other copies, so that its end closes the streams.
        drop(streams.theirs);
        let pumps = container.pump(streams.stdout, streams.stderr)?;
        let pod = pod.clone();
        let termination = spec.termination;
        super::spawn("container", move || {
            // The sender lives in the reaper until the exit is known.
            let exit = exit.recv().unwrap_or(Exit::Signal(9));
            container.end(exit, pumps, &paths, &termination);
            pod.note_change();
        })
    }

    fn pump(&self, stdout: OwnedFd, stderr: Option<OwnedFd>) -> Result<Vec<std::sync::mpsc::Receiver<()>>, Failure> {
        let mut pumps = Vec::new();
        for (source, stream) in [(Some(stdout), Stream::Stdout), (stderr, Stream::Stderr)] {
            let Some(source) = source else { continue };
            let (done, finished) = std::sync::mpsc::channel();
            let output = self.output.clone();
            super::spawn(stream.name(), move || {
                output.pump(File::from(source), stream);
                drop(done);
            })?;
            pumps.push(finished);
        }
        Ok(pumps)
    }

    /// Ends what the program left behind, waits for the last output, and records the end.
    fn end(
        &self,
        exit: Exit,
        pumps: Vec<std::sync::mpsc::Receiver<()>>,
        paths: &record::Paths,
        termination: &Termination,
    ) {
        if let Some(Err(error)) = self.namespace.as_ref().map(kill_namespace) {
            complain(format_args!("ending the container's processes: {error}"));
        }
        for pump in pumps {
            // Never sent to: the channel closes when the stream has been read to its end.
            let _ = pump.recv();
        }
        self.output.close();
        let mut entry = self.entry();
        let message = termination.message(exit, &paths.log());
        entry.ended = Some(Ended { at: Timestamp::now(), exit, failure: None, message });
        if let Err(error) = paths.save(&entry) {
            complain(format_args!("recording the container's end: {error}"));
        }
    }

    /// The record is replaced as a whole, so a panic elsewhere cannot have left half of it.
    fn entry(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> String {
        self.entry().id.clone()
    }

    pub(super) fn name(&self) -> String {
        self.entry().name.clone()
    }

    pub(super) fn record(&self) -> Record {
        self.entry().clone()
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn namespace(&self) -> Option<&OwnedFd> {
        self.namespace.as_ref()
    }

    /// The first process, while the container runs.
    pub(super) fn running(&self) -> Option<Pid> {
        self.entry().ended.is_none().then_some(self.pid)
    }
}

impl Ended {
    /// A program that never ran ends as containerd has it: with exit code 128.
    fn unstarted(failure: &Failure) -> Ended {
        let message = failure.message.clone();
        Ended { at: Timestamp::now(), exit: Exit::Code(128), failure: Some(message), message: String::new() }
    }
}

impl Streams {
    fn open(spec: &Spec) -> io::Result<Streams> {
        if spec.tty {
            let (ours, slave) = terminal::open()?;
            let theirs = [slave.try_clone()?, slave.try_clone()?, slave];
            let stdin = spec.stdin.then(|| ours.try_clone()).transpose()?;
            let terminal = Some(ours.try_clone()?);
            return Ok(Streams { theirs, stdout: ours, stderr: None, stdin, terminal });
        }
        let (stdout, their_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, their_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (their_stdin, stdin) = if spec.stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (read, Some(write))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let theirs = [their_stdin, their_stdout, their_stderr];
        Ok(Streams { theirs, stdout, stderr: Some(stderr), stdin, terminal: None })
    }
}

impl Termination {
    fn message(&self, exit: Exit, log: &Path) -> String {
        let written = tail(&self.file, LONGEST_MESSAGE).unwrap_or_default();
        if !written.is_empty() || !self.fall_back_to_logs || exit == Exit::Code(0) {
            return written;
        }
        let log = tail(log, LONGEST_LOG_MESSAGE + 4096).unwrap_or_default();
        let texts: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        let first = texts.len().saturating_sub(MOST_LOG_LINES);
        let text: String = texts.get(first..).unwrap_or_default().iter().flat_map(|line| [*line, "\n"]).collect();
        let mut start = text.len().saturating_sub(LONGEST_LOG_MESSAGE as usize);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        text.get(start..).unwrap_or_default().to_owned()
    }
}

/// The last bytes of a file as text.
fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
