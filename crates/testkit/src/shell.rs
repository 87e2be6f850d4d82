//! Command lines, run by `sh` with an environment of their own and for a bounded time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Account, until};

/// How long a command may take. Far more than any needs; it ends what hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Where and as whom command lines run. The environment holds what is listed here and nothing else.
#[derive(Debug, Clone)]
pub struct Shell {
    pub(crate) account: Account,
    pub(crate) directory: PathBuf,
    pub(crate) environment: BTreeMap<String, OsString>,
}

impl Shell {
    pub(crate) fn new(account: Account, directory: PathBuf) -> Shell {
        let mut environment = BTreeMap::new();
        environment.insert("PATH".to_owned(), std::env::var_os("PATH").unwrap_or_default());
        environment.insert("HOME".to_owned(), directory.clone().into());
        environment.insert("TMPDIR".to_owned(), directory.clone().into());
        environment.insert("RUST_BACKTRACE".to_owned(), "1".into());
        Shell { account, directory, environment }
    }

    /// The same shell with one more variable.
    pub fn with(&self, name: &str, value: impl Into<OsString>) -> Shell {
        let mut shell = self.clone();
        shell.environment.insert(name.to_owned(), value.into());
        shell
    }

    /// Runs a command line to its end, without input.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Done {
        self.sh_with_input(line, b"")
    }

    /// Runs a command line to its end; `input` is what it reads.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn sh_with_input(&self, line: &str, input: &[u8]) -> Done {
        let mut child = self.spawn(line, Stdio::piped());
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_owned();
        // A command that ends before it has read its input is not at fault.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let mut stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let stdout = std::thread::spawn(move || read_all(&mut stdout));
        let stderr = std::thread::spawn(move || read_all(&mut stderr));
        let group = Group(child);
        let status = group.wait(line);
        writer.join().expect("the writer does not panic");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let text = |reader: JoinHandle<Vec<u8>>| reader.join().expect("the reader does not panic");
        Done { line: line.to_owned(), code, bytes: text(stdout), stderr: lossy(text(stderr)) }
    }

    /// Starts a command line that is to run beside the test; it is killed when the result is dropped.
    pub fn start(&self, line: &str) -> Running {
        let mut child = self.spawn(line, Stdio::null());
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("stdout is piped"), lines.clone());
        collect(child.stderr.take().expect("stderr is piped"), lines.clone());
        Running { line: line.to_owned(), group: Group(child), lines }
    }

    pub(crate) fn spawn(&self, line: &str, stdin: Stdio) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.directory).env_clear().envs(&self.environment);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if !self.account.is_current() {
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command.spawn().unwrap_or_else(|error| panic!("sh cannot be started: {error}"))
    }
}

/// A command line that has ended.
#[derive(Debug)]
pub struct Done {
    pub(crate) line: String,
    /// The exit code; 128 and the signal's number for a command that a signal ended.
    pub code: i32,
    /// What it wrote to stdout.
    pub bytes: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Done {
    /// What a command that succeeded wrote to stdout, without the last line end.
    ///
    /// # Panics
    /// When it did not succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{}", self.transcript());
        self.stdout()
    }

    /// What a command that failed wrote, both streams together.
    ///
    /// # Panics
    /// When it succeeded.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(self.code != 0, "this should have failed: {}", self.transcript());
        format!("{}\n{}", self.stdout(), self.stderr.trim_end())
    }

    /// What it wrote to stdout, without the last line end.
    pub fn stdout(&self) -> String {
        lossy(self.bytes.clone()).trim_end_matches('\n').to_owned()
    }

    /// The command, its exit code and all that it wrote.
    pub fn transcript(&self) -> String {
        format!("$ {}\n{}\n{}\nexit code {}", self.line, self.stdout(), self.stderr.trim_end(), self.code)
    }
}

/// A command line that runs beside the test.
pub struct Running {
    line: String,
    group: Group,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// The lines it has written so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panics").clone()
    }

    /// Waits until it has written a line that contains `text`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn line_with(&self, text: &str) -> String {
        let found = || self.lines().into_iter().find(|line| line.contains(text));
        until(&format!("{text:?} from {:?}", self.line), LIMIT, found)
    }

    /// Waits for its end; gives the exit code.
    #[track_caller]
    pub fn wait(self) -> i32 {
        let status = self.group.wait(&self.line);
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Sends `signal` to it and to everything that it started.
    pub fn signal(&self, signal: Signal) {
        self.group.signal(signal);
    }
}

/// A process with all that it started, which end with it.
pub(crate) struct Group(pub(crate) Child);

impl Group {
    #[track_caller]
    fn wait(mut self, line: &str) -> std::process::ExitStatus {
        until(&format!("the end of {line:?}"), LIMIT, || self.0.try_wait().expect("a child can be waited for"))
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).expect("process ids are positive"));
        // It may have ended by itself.
        let _ = killpg(group, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            drop(self.0.wait());
        }
    }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

pub(crate) fn collect(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let line = lossy(line.expect("a pipe can be read"));
            lines.lock().expect("no reader panics").push(line);
        }
    });
}

pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Shell {
        Shell::new(Account::current(), std::env::temp_dir())
    }

    #[test]
    fn output_and_exit_code_are_kept_apart() {
        let done = shell().with("WORD", "hi").sh_with_input("cat; echo $WORD; echo oops >&2; exit 3", b"in ");
        assert_eq!((done.code, done.stdout().as_str(), done.stderr.as_str()), (3, "in hi", "oops\n"));
    }

    #[test]
    fn what_runs_beside_the_test_ends_with_it() {
        let running = shell().start("echo started; sleep 600");
        assert_eq!(running.line_with("start"), "started");
        running.signal(Signal::SIGTERM);
        assert_eq!(running.wait(), 128 + 15);
    }
}
