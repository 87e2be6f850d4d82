//! What runs pods.
//! CONTRACT STUB: signatures are what the others build on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::{AddressPlan, ClusterIndex};

use crate::network::ClusterNetwork;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(pub String);

pub struct NodeConfig {
    /// The federation's home; pods live in `home/<cluster>/pods/<uid>`.
    pub home: PathBuf,
    pub executable: PathBuf,
    pub cluster: String,
    pub plan: AddressPlan,
    pub index: ClusterIndex,
}

/// The cluster's node: one kubelet. Cheap to clone.
#[derive(Clone)]
pub struct Node {}

impl Node {
    /// Adopts pods that survived, then watches pods bound to this node until the process ends.
    pub async fn start(config: NodeConfig, network: ClusterNetwork, client: kube::Client) -> Result<Node, NodeError> {
        let _ = (config, network, client);
        unimplemented!()
    }

    // Connection subresources; each takes the stored pod and the (upgradable) request and answers it:
    //   pub async fn logs(&self, pod: &Value, request: http::Request<Incoming>) -> Result<http::Response<Body>, ApiError>
    //   pub async fn exec(&self, ...same...)     also serves attach
    //   pub async fn port_forward(&self, ...)    a clear error

    /// Ends every pod of a cluster whose cluster process is gone (`isthmus down`), and removes their directories.
    pub fn kill_pods(home: &Path, cluster: &str) -> Result<(), NodeError> {
        let _ = (home, cluster);
        unimplemented!()
    }
}

/// Image patterns and the local commands they stand for: the built-in ones and those of `home/images.yaml`.
pub struct Catalog {}

pub(crate) fn internal(name: &str, args: &[String]) -> ExitCode {
    let _ = (name, args);
    unimplemented!()
}
