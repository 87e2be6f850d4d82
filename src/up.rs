//! Starting a federation: the outer network first, then every cluster at once.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use node::OuterNetwork;
use serde::{Deserialize, Serialize};

use crate::cli::HomeArg;
use crate::data_plane::{DataPlane, DataPlaneArgs};
use crate::federation::{Federation, Home, cluster_name, lock_slots};
use crate::output::say;
use crate::{down, kubeconfig, ready};

/// What asks a command in the foreground to end.
pub(crate) const INTERRUPTIONS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

#[derive(Args)]
pub(crate) struct UpArgs {
    /// The clusters to start [default: those of the federation, or c1]
    #[arg(value_name = "CLUSTER", value_parser = cluster_name)]
    clusters: Vec<String>,
    /// Return once the clusters serve, and leave them running
    #[arg(long, conflicts_with = "command")]
    detach: bool,
    #[command(flatten)]
    data_plane: DataPlaneArgs,
    #[command(flatten)]
    home: HomeArg,
    /// Run this with KUBECONFIG set, on the outer network; then tear down and exit as it exits.
    /// Without --home the federation is a fresh one, removed afterwards
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What a cluster process tells its starter, as one line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Readiness {
    Ready,
    Failed(String),
}

/// `isthmus up`.
pub(crate) fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let UpArgs { clusters, detach, data_plane, home, command } = args;
    let data_plane = data_plane.chosen()?;
    let scratch = match (&home.home, command.is_empty()) {
        (None, false) => Some(tempfile::Builder::new().prefix("isthmus-").tempdir()?),
        _ => None,
    };
    let home = match &scratch {
        Some(dir) => Home::new(dir.path().to_owned()),
        None => home.resolve()?,
    };
    // Signals are blocked before anything is started, so that none of them can leave half a federation behind.
    let signals = block_signals()?;
    let was_running = OuterNetwork::find(home.path()).is_some();
    match start(&home, &clusters, data_plane) {
        Ok(first) => explain(&home, &first),
        Err(error) => {
            if !was_running && home.path().exists() {
                down::stop(&home)?;
            }
            return Err(error);
        }
    }
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = if command.is_empty() { wait(signals) } else { run(&home, &command, signals) };
    // A federation that ran before this command, ran for somebody else.
    if !was_running || command.is_empty() {
        down::stop(&home)?;
    }
    outcome
}

/// Starts what is not running yet and returns when all of it serves; the first cluster is the current one then.
pub(crate) fn start(home: &Home, names: &[String], data_plane: Option<DataPlane>) -> anyhow::Result<String> {
    let began = Instant::now();
    home.create()?;
    let _lock = home.lock()?;
    let slots = lock_slots()?;
    let mut federation = match home.load()? {
        Some(federation) => federation,
        None => Federation::new()?,
    };
    if OuterNetwork::find(home.path()).is_none() {
        federation.settle()?;
    }
    let names = chosen(&federation, names);
    for name in &names {
        federation.admit(name)?;
    }
    if let Some(data_plane) = data_plane {
        choose(home, &mut federation, data_plane)?;
    }
    home.save(&federation)?;
    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    OuterNetwork::open(home.path(), &executable, federation.plan)?;
    drop(slots);
    let mut starting = Vec::new();
    for name in &names {
        if ready::is_running(home, name)? {
            say(format_args!("{name}: running"));
        } else {
            starting.push(Starting::spawn(home, name, &executable)?);
        }
    }
    let failures: Vec<String> =
        starting.into_iter().filter_map(|s| s.wait(began).err()).map(|e| format!("{e:#}")).collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n       "));
    }
    let first = names.first().context("a federation has a cluster")?;
    kubeconfig::merge(home, &federation, first)?;
    Ok(first.clone())
}

/// Running clusters have told their pods already what to run.
fn choose(home: &Home, federation: &mut Federation, data_plane: DataPlane) -> anyhow::Result<()> {
    if federation.data_plane == data_plane {
        return Ok(());
    }
    for name in federation.clusters.keys() {
        if ready::is_running(home, name)? {
            bail!("{name} runs with another data plane; `isthmus down` stops it, and keeps its objects");
        }
    }
    federation.data_plane = data_plane;
    Ok(())
}

fn chosen(federation: &Federation, names: &[String]) -> Vec<String> {
    if !names.is_empty() {
        let mut seen = std::collections::BTreeSet::new();
        return names.iter().filter(|n| seen.insert(n.as_str())).cloned().collect();
    }
    match federation.clusters.len() {
        0 => vec!["c1".to_owned()],
        _ => federation.clusters.keys().cloned().collect(),
    }
}

fn explain(home: &Home, first: &str) {
    say(format_args!(
        "\nuse it:\n  export KUBECONFIG={}\n  kubectl --context {first} get pods -A\n  isthmus status",
        home.kubeconfig().display()
    ));
}

/// A cluster process on its way to readiness.
struct Starting {
    name: String,
    child: Child,
    answer: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Starting {
    fn spawn(home: &Home, name: &str, executable: &Path) -> anyhow::Result<Starting> {
        let dir = home.cluster(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = dir.join("cluster.log");
        let open = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let stderr = open.with_context(|| format!("cannot write {}", log.display()))?;
        // A process group of its own keeps the terminal's Ctrl-C from reaching the clusters before `down` does.
        let mut child = Command::new(executable)
            .args(["internal", "cluster", name])
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the process of cluster {name}"))?;
        let stdout = child.stdout.take().context("the child's standard output is piped")?;
        Ok(Starting { name: name.to_owned(), child, answer: BufReader::new(stdout), log })
    }

    fn wait(mut self, began: Instant) -> anyhow::Result<()> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Readiness::Ready) => {
                say(format_args!("{}: ready in {:.2} s", self.name, began.elapsed().as_secs_f64()));
                Ok(())
            }
            Ok(Readiness::Failed(why)) => {
                self.child.wait()?;
                bail!("cluster {}: {why}", self.name)
            }
            Err(_) => {
                let status = self.child.wait()?;
                bail!("cluster {} ended before it was ready ({status}); its log is {}", self.name, self.log.display())
            }
        }
    }
}

/// Blocks the signals that [`wait`] waits for.
pub(crate) fn block_signals() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::empty();
    INTERRUPTIONS.iter().for_each(|signal| signals.add(*signal));
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    Ok(signals)
}

/// Waits until somebody ends this command; a cluster that ends by itself is told.
pub(crate) fn wait(signals: SigSet) -> anyhow::Result<ExitCode> {
    say("\nCtrl-C stops it");
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => reap(),
            signal => return Ok(ended_by(signal as i32)),
        }
    }
}

fn reap() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::Exited(pid, code) => {
                say(format_args!("process {pid} ended with {code}; `isthmus up` starts it again"))
            }
            WaitStatus::Signaled(pid, signal, _) => {
                say(format_args!("process {pid} was ended by {signal}; `isthmus up` starts it again"));
            }
            _ => return,
        }
    }
}

/// Runs `command` on the outer network and passes its exit code on, as a shell would.
fn run(home: &Home, command: &[OsString], signals: SigSet) -> anyhow::Result<ExitCode> {
    use std::os::unix::process::ExitStatusExt;
    let executable = std::env::current_exe()?;
    signals.thread_unblock()?;
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGINT);
    let child = Command::new(executable).arg("run").arg("--home").arg(home.path()).arg("--").args(command).spawn();
    // Ctrl-C goes to the whole foreground group: the command decides what it means, then the federation is torn down.
    ignored.thread_block()?;
    let status = child.context("cannot start the command")?.wait()?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(crate::cli::FAILED))),
        None => Ok(ended_by(status.signal().unwrap_or(0))),
    }
}

/// The exit code by which shells tell that a signal ended a command.
pub(crate) fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(crate::cli::FAILED))
}
