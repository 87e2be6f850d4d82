//! What runs pods.

mod catalog;
mod connect;
mod container;
mod kernel;
mod kubelet;
mod sandbox;
mod terminal;
mod volume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use api::{AddressPlan, ApiError, ClusterIndex};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::Value;

pub use self::catalog::{Catalog, CatalogError, Image, Origin};
use self::connect::Body;
use self::kubelet::Kubelet;
use crate::network::ClusterNetwork;

/// Why a node could not be started, or a pod not be ended; names what it was about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(pub String);

/// Which cluster's node, and where its pods are kept.
pub struct NodeConfig {
    /// The federation's home, an absolute path; pods live in `home/<cluster>/pods/<uid>`.
    pub home: PathBuf,
    /// The program that has the node's own processes as `internal NAME`; pods see it as `/usr/local/bin/isthmus`.
    pub executable: PathBuf,
    /// Other programs of the host, by absolute path. Pods see them where they are, even in directories that are kept from
    /// them, such as `/tmp`.
    pub programs: Vec<PathBuf>,
    /// The cluster's name; the node is `<cluster>-node`.
    pub cluster: String,
    /// The federation's addresses.
    pub plan: AddressPlan,
    /// Which of them are this cluster's.
    pub index: ClusterIndex,
}

/// The cluster's node: one kubelet. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    kubelet: Arc<Kubelet>,
}

impl Node {
    /// Adopts pods that survived and ends those that were deleted meanwhile, then watches pods bound to this node until
    /// the process ends.
    pub async fn start(config: NodeConfig, network: ClusterNetwork, client: kube::Client) -> Result<Node, NodeError> {
        let kubelet = Kubelet::start(config, network, client).await.map_err(NodeError)?;
        Ok(Node { kubelet })
    }

    /// Serves `pods/log` for a stored pod.
    pub async fn logs(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        self.kubelet.logs(pod, request).await
    }

    /// Serves `pods/exec` for a stored pod, over WebSocket.
    pub async fn exec(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        self.kubelet.exec(pod, request).await
    }

    /// Serves `pods/attach` for a stored pod, over WebSocket.
    pub async fn attach(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        self.kubelet.attach(pod, request).await
    }

    /// Answers `pods/portforward` with what to use instead.
    pub async fn port_forward(&self, _: Arc<Value>, _: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        Err(connect::refuse_port_forward())
    }

    /// Ends every pod of a cluster whose cluster process is gone (`isthmus down`), and removes their directories.
    pub fn kill_pods(home: &Path, cluster: &str) -> Result<(), NodeError> {
        let pods = kubelet::pods_directory(home, cluster);
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |e: std::io::Error| NodeError(format!("ending the pod of {path}: {e}"))
        };
        let entries = match std::fs::read_dir(&pods) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed(&pods))?,
        };
        for entry in entries {
            let path = entry.map_err(failed(&pods))?.path();
            kubelet::remove_pod(&path).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Runs `internal pod`, `internal container` and `internal exec`.
pub(crate) fn internal(name: &str, args: &[String]) -> ExitCode {
    match name {
        "pod" => sandbox::process::internal(args),
        "container" | "exec" => container::internal(),
        _ => {
            eprintln!("there is no internal process {name:?}");
            ExitCode::from(2)
        }
    }
}
