//! A real Envoy as the data plane: the agent holds its key, starts it, and ends with it.

mod bootstrap;

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::settings::Settings;
use crate::{ADMIN_PORT, AgentError, Logging, Role};

/// How often a draining Envoy is asked how many connections are left.
const LOOK: Duration = Duration::from_millis(100);
/// How long Envoy may take to answer its own agent.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const LARGEST_ANSWER: u64 = 1 << 20;

/// A started Envoy.
pub(crate) struct Envoy(Child);

impl Envoy {
    /// Writes the bootstrap and starts `program` with it. Its output is the agent's.
    pub(crate) fn start(
        program: &Path,
        settings: &Settings,
        logging: &Logging,
        bootstrap: &Path,
        sds_socket: &Path,
    ) -> Result<Envoy, AgentError> {
        let text = bootstrap::bootstrap(settings, sds_socket).to_string();
        let wrong = |path: &Path, cause| AgentError::File { path: path.to_owned(), cause };
        if let Some(dir) = bootstrap.parent() {
            std::fs::create_dir_all(dir).map_err(|e| wrong(dir, e))?;
        }
        std::fs::write(bootstrap, text).map_err(|e| wrong(bootstrap, e))?;
        let child = Command::new(program)
            .arg("-c")
            .arg(bootstrap)
            .args(["--drain-strategy", "immediate", "--local-address-ip-version", "v4"])
            .args(["--file-flush-interval-msec", "1000", "--disable-hot-restart"])
            .args(["-l", &logging.level, "--component-log-level", &logging.components])
            .args(["--concurrency", &settings.workers.to_string()])
            .args(["--drain-time-s", &settings.drain.as_secs().max(1).to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(|cause| AgentError::Envoy { program: program.to_owned(), cause })?;
        Ok(Envoy(child))
    }

    /// How it ended.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Stops to accept, lets connections end for a while, then ends it.
    pub(crate) async fn stop(mut self, settings: &Settings) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + settings.drain;
        // A sidecar goes on with what its application calls; everything that a gateway carries comes from outside.
        let drain = match settings.role {
            Role::Sidecar => "/drain_listeners?graceful&inboundonly",
            Role::Router => "/drain_listeners?graceful",
        };
        if let Err(error) = ask("POST", drain).await {
            tracing::warn!(%error, "Envoy does not drain");
        }
        let emptied = async {
            while connections().await.is_none_or(|open| open > 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = emptied => {}
            () = tokio::time::sleep_until(deadline) => {}
            status = self.0.wait() => return status,
        }
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may end by itself at this moment.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        self.0.wait().await
    }
}

/// The connections from applications that are open.
async fn connections() -> Option<u64> {
    let answer = ask("GET", "/stats?usedonly&filter=^listener\\..*downstream_cx_active$").await.ok()?;
    let listeners = answer.lines().filter(|line| !is_own(line));
    listeners.map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok()).sum()
}

/// Whether a statistic is of a listener that the agent has made, for health and metrics, or of the admin interface.
fn is_own(line: &str) -> bool {
    [crate::STATUS_PORT, crate::METRICS_PORT].iter().any(|port| line.contains(&format!("_{port}.")))
        || line.contains(".admin.")
}

/// The body of an answer of the admin interface.
async fn ask(method: &str, path: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", ADMIN_PORT)).await?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(LARGEST_ANSWER).read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(body.to_owned())
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}
