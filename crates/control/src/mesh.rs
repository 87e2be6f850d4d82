//! The mesh: every sidecar's configuration, from the objects of the cluster, and every workload's certificate ([`ca`]).
//!
//! Watches keep the objects up ([`declared`], and the caches that the controllers have too). A change wakes the
//! [`builder`], which makes what has changed anew and hands each connected proxy its snapshot; a task for each stream
//! ([`stream`]) says what of it the proxy does not have yet.

mod access;
mod ads;
mod builder;
mod ca;
mod credentials;
mod debug;
mod declared;
mod encode;
mod identity;
mod metrics;
mod monitoring;
mod peer;
mod proxies;
mod responses;
mod server;
mod status;
mod stream;
mod warnings;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use apiserver::Admission;
use k8s_openapi::api::core::v1::{Pod, Secret};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::engine::Engine;
use crate::feed::Step;
use access::Access;
use builder::World;
use ca::CertificateAuthority;
use credentials::Credentials;
use declared::Declared;
use metrics::Metrics;
use proxies::Proxies;

/// The resources of these names that Secrets of a namespace are, as its gateways get them.
pub fn credentials(
    secrets: Vec<Secret>,
    namespace: &str,
    names: &BTreeSet<String>,
) -> BTreeMap<String, envoy::envoy::extensions::transport_sockets::tls::v3::Secret> {
    let mut credentials = Credentials::default();
    credentials.take(Step::Listed(secrets, 0));
    credentials.of(namespace, names).collect()
}

/// The mesh's control plane of one cluster. Cheap to clone.
#[derive(Clone, Default)]
pub struct ControlPlane(Arc<Shared>);

#[derive(Default)]
struct Shared {
    authority: CertificateAuthority,
    pods: Cache<Pod>,
    declared: Mutex<Declared>,
    credentials: Mutex<Credentials>,
    access: Access,
    proxies: Proxies,
    /// What was built last, and whether anything has been.
    world: RwLock<Arc<World>>,
    built: watch::Sender<bool>,
    metrics: Metrics,
    /// Told whenever an object that the mesh is made of has changed.
    changed: Signal,
}

impl ControlPlane {
    /// A control plane that knows nothing until [`crate::run`] is given it.
    pub fn new() -> ControlPlane {
        ControlPlane::default()
    }

    /// Serves workloads on a listener in the pods' network until `stop`, with a certificate of the mesh's CA.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        server::serve(self, listener, stop).await
    }

    /// The mesh's CA.
    pub(crate) fn authority(&self) -> &CertificateAuthority {
        &self.0.authority
    }

    /// Serves metrics, and what the control plane knows, until `stop`.
    pub async fn serve_monitoring(&self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        monitoring::serve(self, listener, stop).await
    }

    /// What is answered at the port of [`ControlPlane::serve_monitoring`].
    pub fn page(&self, method: &http::Method, path: &str, query: &str) -> http::Response<String> {
        monitoring::answer(self, method, path, query)
    }

    /// Warns whoever applies an object of Istio's of what it says without effect.
    pub fn admission(&self) -> Admission {
        warnings::admission(self)
    }

    /// The pods, for the controllers too.
    pub(crate) fn pods(&self) -> Cache<Pod> {
        self.0.pods.clone()
    }

    /// Tells of a change of an object that the controllers watch, too.
    pub(crate) fn wake(&self) {
        self.0.changed.tell();
    }

    /// A pod is gone: its proxy's streams end.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.proxies.end(uid);
    }

    /// Starts the watches of Istio's objects, and the builder.
    pub(crate) fn start(&self, engine: &Engine, tasks: &mut JoinSet<()>) {
        self.0.authority.start(engine, tasks);
        watches::start(self, engine, tasks);
        access::start(self, engine, tasks);
        tasks.spawn(builder::run(self.clone(), engine.clone()));
        tasks.spawn(status::run(self.clone(), engine.client.clone()));
    }

    fn world(&self) -> Arc<World> {
        self.0.world.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn declared(&self) -> MutexGuard<'_, Declared> {
        self.0.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> MutexGuard<'_, Credentials> {
        self.0.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that many may tell and many may wait for.
struct Signal(watch::Sender<()>);

impl Default for Signal {
    fn default() -> Signal {
        Signal(watch::Sender::new(()))
    }
}

impl Signal {
    fn tell(&self) {
        self.0.send_replace(());
    }

    /// Waits for what is told from now on.
    fn hear(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}
