//! Pods as processes: namespaces, networks, volumes, exec and logs. Knows nothing of meshes.
//!
//! `network` is the cluster's network (bridge, veth, nftables, DNS, load-balancer addresses, loopback forwards);
//! `runtime` is what runs pods on it (sandboxes, containers, volumes, probes, logs, exec, the image catalog).
#![deny(unsafe_code)]

mod network;
mod runtime;

pub use network::{Capture, ClusterNetwork, NetworkConfig, NetworkError, OuterNetwork, Selection};
pub use runtime::{Catalog, CatalogError, Image, Node, NodeConfig, NodeError, Origin};

use std::process::ExitCode;

/// Runs one of the node's own processes (`isthmus internal NAME …`): `outer`, `network`, `pod`, `container`, `exec`.
/// Must be called before any thread is started, because namespaces are entered per process.
pub fn internal(name: &str, args: &[String]) -> ExitCode {
    match name {
        "outer" | "network" => network::internal(name, args),
        _ => runtime::internal(name, args),
    }
}
