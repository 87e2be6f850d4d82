//! The engine: controllers that turn stored objects into what they ask for, and admission for the core kinds.
//!
//! A controller has a queue of keys and a function that makes one key right, from caches that all controllers share
//! and that one watch per kind keeps up. Decisions are pure functions from a snapshot to a plan.
#![forbid(unsafe_code)]

mod admission;
mod bootstrap;
mod cache;
mod controller;
mod engine;
mod feed;
mod gateway;
mod injection;
mod labels;
mod mesh;
mod ownership;
mod queue;
mod random;
mod recorder;
mod resources;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use api::{AddressPlan, ClusterIndex};

pub use admission::{admission, validate};
pub use gateway::{
    Cpu, Gateway, GatewayError, GatewayPort, GatewaySettings, SecretVolume, ServiceType, gateways_of_values,
};
pub use injection::{ManifestError, inject_manifest};
pub use mesh::{ControlPlane, credentials};

/// What the controllers of one cluster need to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// The federation's addresses.
    pub plan: AddressPlan,
    /// Which cluster of the federation this is.
    pub index: ClusterIndex,
    /// PEM of the cluster's CA, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Where pods reach the API server (the pod gateway) behind `kubernetes.default`.
    pub api_endpoint: (Ipv4Addr, u16),
    /// What sidecars and gateways run.
    pub data_plane: DataPlane,
}

/// A proxy that speaks xDS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DataPlane {
    /// The one of this program.
    #[default]
    Native,
    /// Envoy: the program at this path.
    Envoy(PathBuf),
}

/// Creates what every cluster has: namespaces, `kubernetes` and `kube-dns` services, bootstrap roles, Istio's kinds. To
/// be awaited before anybody is told that the cluster serves, so that nobody misses a kind.
pub async fn bootstrap(config: &Config, client: &kube::Client) -> Result<(), kube::Error> {
    bootstrap::run(config, client).await
}

/// Runs every controller and `mesh` until the process ends.
pub async fn run(config: Config, client: kube::Client, mesh: ControlPlane) {
    let (recorder, write) = recorder::Recorder::new(client.clone());
    let engine = engine::Engine::new(config, client.clone(), recorder, mesh);
    let mut tasks = controller::start(&engine).await;
    tasks.spawn(write);
    tasks.spawn(recorder::expire(client));
    // Controllers never return; one that ends has panicked, and a cluster without it would be a lie.
    if let Some(Err(error)) = tasks.join_next().await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
