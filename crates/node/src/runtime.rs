//! What runs pods.

mod container;
mod kernel;
mod sandbox;
mod terminal;

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

    /// Ends every pod of a cluster whose cluster process is gone (`isthmus down`), and removes their directories.
    pub fn kill_pods(home: &Path, cluster: &str) -> Result<(), NodeError> {
        let pods = home.join(cluster).join("pods");
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
            sandbox::kill_pod(&path).map_err(failed(&path))?;
            std::fs::remove_dir_all(&path).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Image patterns and the local commands they stand for: the built-in ones and those of `home/images.yaml`.
pub struct Catalog {}

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
