//! A federation under test.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Account, Done, Session, Shell, process, until};

/// How long the kernel may take to remove what a process held.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// A running federation. Dropping it takes it down, and checks that nothing is left of it.
pub struct Federation {
    binary: PathBuf,
    home: PathBuf,
    shell: Shell,
    // Last, because it is removed when it is dropped.
    _directory: TempDir,
}

impl Federation {
    /// Brings `clusters` up with `binary`, as `account`.
    ///
    /// # Panics
    /// When they do not come up.
    #[track_caller]
    pub fn up(binary: &Path, account: Account, clusters: &[&str]) -> Federation {
        let federation = Federation::prepare(binary, account);
        federation.isthmus(&format!("up {} --detach", clusters.join(" "))).ok();
        federation.fetch_kubeconfig();
        federation
    }

    /// Writes the kubeconfig of a federation that is up to where its shell looks for it.
    #[track_caller]
    pub fn fetch_kubeconfig(&self) {
        let kubeconfig = self.isthmus("kubeconfig -o json").ok();
        self.write("kubeconfig", &kubeconfig);
    }

    /// A home for a federation, with nothing in it yet.
    pub fn prepare(binary: &Path, account: Account) -> Federation {
        let directory = tempfile::Builder::new().prefix("isthmus-").tempdir().expect("a directory can be made");
        let root = directory.path().to_owned();
        let mut executable = binary.to_owned();
        if !account.is_current() {
            // The build directory need not be open to others.
            executable = root.join("isthmus");
            // By a program of its own: what another test starts while this process has the file open for writing would
            // have it open too, and what is open for writing cannot be run.
            let copied = Command::new("cp").arg(binary).arg(&executable).status().expect("cp can be run");
            assert!(copied.success(), "the binary can be copied");
            chown(&root, Some(account.uid), Some(account.gid)).expect("root may give a directory away");
        }
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("the directory is ours");
        // Where the program looks by itself: the shell's home directory is the root.
        let home = root.join(".isthmus");
        let kubeconfig = root.join("kubeconfig");
        let shell = Shell::new(account, root).with("ISTHMUS", &executable);
        let shell = shell.with("KUBECONFIG", &kubeconfig);
        Federation { binary: executable, home, shell, _directory: directory }
    }

    /// Runs `isthmus WORDS --home HOME`; of `WORDS`, those before `--` are split at spaces and the rest is one shell line.
    #[track_caller]
    pub fn isthmus(&self, words: &str) -> Done {
        self.shell.sh(&self.command(words))
    }

    /// The command line that [`Federation::isthmus`] runs.
    pub fn command(&self, words: &str) -> String {
        let binary = self.binary.display();
        let home = self.home.display();
        match words.split_once(" -- ") {
            Some((before, after)) => format!("{binary} {before} --home {home} -- {after}"),
            None => format!("{binary} {words} --home {home}"),
        }
    }

    /// The program that runs this federation, as whoever runs it finds it.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The directory that holds everything of this federation.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The file with a context for each cluster.
    pub fn kubeconfig(&self) -> PathBuf {
        self.shell.directory.join("kubeconfig")
    }

    /// A shell where `kubectl` finds every cluster of this federation.
    pub fn shell(&self) -> &Shell {
        &self.shell
    }

    /// A shell in a new namespace of `cluster`, named after the test that asks.
    #[track_caller]
    pub fn session<'a>(&'a self, cluster: &str) -> Session<'a> {
        Session::open(self, cluster)
    }

    /// The pid of the process that serves `cluster`, found by its command line.
    pub fn cluster_process(&self, cluster: &str) -> Option<i32> {
        let home = self.home.to_string_lossy();
        let wanted = |command: &str| {
            command.contains(home.as_ref())
                && command.contains("internal cluster")
                && command.split(' ').any(|word| word == cluster)
        };
        process::of(&self.home).into_iter().find(|process| wanted(&process.command)).map(|process| process.pid())
    }

    /// How many processes belong to this federation.
    pub fn processes(&self) -> Vec<String> {
        process::of(&self.home).into_iter().map(|process| process.command).collect()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.shell.directory.join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        let Account { uid, gid } = self.shell.account;
        chown(&path, Some(uid), Some(gid)).expect("root may give a file away");
    }

    /// The host's link to the outer network, as a directory of sysfs. Only a federation of root has one.
    pub fn host_link(&self) -> Option<PathBuf> {
        if self.shell.account.uid != 0 {
            return None;
        }
        let lock: Value = serde_json::from_slice(&std::fs::read(self.home.join("outer.lock")).ok()?).ok()?;
        let link = PathBuf::from(format!("/sys/class/net/isthmus{}", lock.get("slot")?));
        link.exists().then_some(link)
    }

    /// The end of what its processes have logged.
    fn logs(&self) -> String {
        let mut text = String::new();
        for folder in [self.home.clone()].into_iter().chain(folders(&self.home)) {
            for file in files(&folder).filter(|file| file.extension().is_some_and(|end| end == "log")) {
                let lines = std::fs::read_to_string(&file).unwrap_or_default();
                let lines: Vec<_> = lines.lines().collect();
                let last = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
                text += &format!("--- {}\n{}\n", file.display(), last.join("\n"));
            }
        }
        text
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        let processes = process::of(&self.home);
        let link = self.host_link();
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}", self.logs());
        }
        let down = self.isthmus("down");
        if failed {
            return;
        }
        down.ok();
        until("every process has ended", CLEAN_UP, || {
            let left = process::alive(&processes);
            let new = process::of(&self.home);
            (left.is_empty() && new.is_empty()).then_some(())
        });
        until("the host's link is gone", CLEAN_UP, || link.as_ref().is_none_or(|link| !link.exists()).then_some(()));
    }
}

/// A federation that the tests of a module use together: the first brings it up, the last takes it down.
pub struct Shared(Mutex<Weak<Federation>>);

impl Shared {
    /// None yet.
    pub const fn new() -> Shared {
        Shared(Mutex::new(Weak::new()))
    }

    /// The federation, brought up by `up` if no other test uses it at the moment.
    pub fn get(&self, up: impl FnOnce() -> Federation) -> Arc<Federation> {
        // A test that failed to bring it up does not keep the others from trying.
        let mut current = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(federation) = current.upgrade() {
            return federation;
        }
        let federation = Arc::new(up());
        *current = Arc::downgrade(&federation);
        federation
    }
}

impl Default for Shared {
    fn default() -> Shared {
        Shared::new()
    }
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> {
    files(of).filter(|path| path.is_dir())
}

fn files(of: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path())
}
