//! A pod's side of the mesh: it makes the workload's key, has it certified, and runs the proxy with it.
//!
//! The key never leaves the pod. Our own proxy is in this process ([`native`]); a real Envoy is a child that gets its
//! secrets over a Unix socket ([`envoy`], [`sds`]). Either way the control plane is asked for certificates with the
//! service account's token ([`certification`]), well before the last one ends ([`rotation`]).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod application;
mod certification;
mod control_plane;
mod envoy;
mod files;
mod native;
mod rotation;
mod sds;
mod secret_table;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use files::secret_of_files;

use certification::{Certification, Identity};
use control_plane::ControlPlane;
use secret_table::SecretTable;
use settings::{DataPlane, Settings};

/// The port of the admin interface, for the pod itself.
const ADMIN_PORT: u16 = 15000;
/// The port on which the node asks whether the application is alive and ready.
const PROBES_PORT: u16 = 15020;
/// The port on which everybody may ask whether the proxy is ready.
const STATUS_PORT: u16 = 15021;
/// The port of the numbers for Prometheus.
const METRICS_PORT: u16 = 15090;

/// Where injection mounts what the agent needs.
const ROOTS: &str = "/var/run/secrets/istio/root-cert.pem";
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
const LABELS: &str = "/etc/istio/pod/labels";
/// Where Envoy finds its secrets and its bootstrap.
const SDS_SOCKET: &str = "/var/run/secrets/workload-spiffe-uds/socket";
const BOOTSTRAP: &str = "/etc/istio/proxy/envoy-rev.json";

/// What is logged.
pub struct Logging {
    /// Envoy's level: `trace` to `critical`, or `off`.
    pub level: String,
    /// Levels of Envoy's components, as `misc:error,http:debug`.
    pub components: String,
    /// Hears, as directives such as `info,proxy::admin=debug`, what the admin interface wants logged from now on.
    pub reload: Box<dyn Fn(&str) + Send + Sync>,
}

/// What kind of proxy an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One beside an application.
    Sidecar,
    /// A gateway.
    Router,
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Somebody has to say this.
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    /// Somebody has said something that makes no sense.
    #[error("{name}: {reason}")]
    Wrong {
        /// The variable or field.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A port is taken.
    #[error("cannot listen on port {port}: {cause}")]
    Listen {
        /// The port.
        port: u16,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Envoy cannot be started.
    #[error("cannot start Envoy, {}: {cause}; `isthmus up --data-plane envoy --envoy PATH` says where it is", program.display())]
    Envoy {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The kernel does not give what any program needs.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl AgentError {
    fn wrong(name: &'static str, reason: impl std::fmt::Display) -> AgentError {
        AgentError::Wrong { name, reason: reason.to_string() }
    }
}

/// Runs the proxy that the environment describes, until SIGTERM. `concurrency` is the command line's; `settled` is
/// called whenever a change of our own proxy's configuration is over.
pub fn run(role: Role, concurrency: Option<usize>, logging: Logging, settled: fn()) -> Result<ExitCode, AgentError> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // A pod without labels has an empty file; one that was not injected has none.
    let labels = std::fs::read_to_string(LABELS).unwrap_or_default();
    let settings = Settings::read(role, &environment, &labels, concurrency)?;
    // The agent itself has little to do: connections are carried by the data plane's own threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings, logging, settled))
}

async fn serve(settings: Settings, logging: Logging, settled: fn()) -> Result<ExitCode, AgentError> {
    let terminate = terminate()?;
    let control_plane = ControlPlane { address: settings.control_plane.clone(), roots: ROOTS.into() };
    let certification = Certification {
        control_plane: control_plane.clone(),
        token: TOKEN.into(),
        id: settings.id.clone(),
        lifetime: settings.lifetime,
    };
    let keys = Keys::default();
    let keep = keys.keep(certification, Path::new(ROOTS));
    let probes = Arc::new(settings.application.clone()).serve(listen(Ipv4Addr::UNSPECIFIED, PROBES_PORT).await?);
    tokio::select! {
        never = keep => match never {},
        never = probes => match never {},
        outcome = async {
            match settings.data_plane.clone() {
                DataPlane::Native => {
                    let proxy = native::start(&settings, logging)?;
                    native::run(&proxy, settings, control_plane, keys.clone(), settled, terminate).await
                },
                DataPlane::Envoy(program) => run_envoy(&program, &settings, &keys, &logging, terminate).await,
            }
        } => outcome,
    }
}

async fn listen(address: Ipv4Addr, port: u16) -> Result<TcpListener, AgentError> {
    TcpListener::bind((address, port)).await.map_err(|cause| AgentError::Listen { port, cause })
}

/// What the proxy shows and trusts. Cheap to clone.
#[derive(Clone, Default)]
struct Keys {
    identity: watch::Sender<Option<Arc<Identity>>>,
    table: SecretTable,
}

impl Keys {
    /// Keeps everything valid, for ever.
    async fn keep(&self, certification: Certification, roots: &Path) -> std::convert::Infallible {
        let (changed_roots, rotation_roots) = watch::channel(0);
        tokio::select! {
            never = rotation::run(certification, self.identity.clone(), rotation_roots) => never,
            never = files::follow(&self.table, roots) => never,
            never = self.publish(changed_roots) => never,
        }
    }

    /// Turns what changes into secrets, and tells of new roots.
    async fn publish(&self, changed_roots: watch::Sender<u64>) -> std::convert::Infallible {
        let (mut identity, mut table) = (self.identity.subscribe(), self.table.subscribe());
        loop {
            if let Some(identity) = identity.borrow_and_update().clone() {
                self.table.put(secret_table::certificate(secret_table::OWN, &identity.certificate));
            }
            let version = table.borrow_and_update().get(secret_table::ROOTS).map_or(0, |entry| entry.version);
            // The first version is what the first certificate is obtained with.
            changed_roots.send_if_modified(|known| {
                let newer = version > 1 && *known != version;
                *known = version;
                newer
            });
            tokio::select! {
                _ = identity.changed() => {}
                _ = table.changed() => {}
            }
        }
    }
}

async fn run_envoy(
    program: &Path,
    settings: &Settings,
    keys: &Keys,
    logging: &Logging,
    terminate: impl Future<Output = ()>,
) -> Result<ExitCode, AgentError> {
    let socket = Path::new(SDS_SOCKET);
    let serve = sds::serve(keys.table.clone(), socket);
    let mut envoy = envoy::Envoy::start(program, settings, logging, Path::new(BOOTSTRAP), socket)?;
    let status = tokio::select! {
        served = serve => {
            let cause = served.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            return Err(AgentError::File { path: socket.to_owned(), cause });
        }
        status = envoy.ended() => status?,
        () = terminate => envoy.stop(settings).await?,
    };
    Ok(exit_code(status))
}

/// The exit code of a process, as a shell tells it.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Completes when the pod is to end.
fn terminate() -> io::Result<impl Future<Output = ()>> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// An error with its causes, in one line.
fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
