//! The cluster's network.
//! CONTRACT STUB: signatures are what the others build on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::{AddressPlan, ClusterIndex};

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// The federation's outer network: one namespace that holds a bridge to every cluster's node and, as root, to the host.
/// Kept alive by a process of its own (`internal outer`), which also holds the user namespace when not root.
pub struct OuterNetwork {}

impl OuterNetwork {
    /// Finds the live outer process of this home or starts it (detached). Blocking; call before threads exist.
    pub fn open(home: &Path, executable: &Path, plan: AddressPlan) -> Result<OuterNetwork, NetworkError> {
        let _ = (home, executable, plan);
        unimplemented!()
    }

    /// The live outer process of this home, if there is one.
    pub fn find(home: &Path) -> Option<OuterNetwork> {
        let _ = home;
        unimplemented!()
    }

    /// Enters the federation's user namespace (a no-op as root). The process must be single-threaded.
    pub fn enter_user_namespace(&self) -> Result<(), NetworkError> {
        unimplemented!()
    }

    /// Enters user and network namespace, for `isthmus run -- CMD`. The process must be single-threaded.
    pub fn enter(&self) -> Result<(), NetworkError> {
        unimplemented!()
    }

    /// Ends the outer process; its namespaces go with it.
    pub fn close(self) -> Result<(), NetworkError> {
        unimplemented!()
    }
}

pub struct NetworkConfig {
    /// The federation's home.
    pub home: PathBuf,
    pub executable: PathBuf,
    pub cluster: String,
    pub plan: AddressPlan,
    pub index: ClusterIndex,
    /// The loopback port of the cluster's API server (DNS watches it).
    pub api_port: u16,
}

/// A cluster's network, as seen from the cluster process. The namespace itself, the nftables rules and cluster DNS
/// live on in a process of their own (`internal network`) when the cluster process dies.
/// Cheap to clone.
#[derive(Clone)]
pub struct ClusterNetwork {}

impl ClusterNetwork {
    /// Finds or starts the network process, idempotently: bridge, uplink to the outer network, base rules.
    pub async fn open(config: NetworkConfig) -> Result<ClusterNetwork, NetworkError> {
        let _ = config;
        unimplemented!()
    }

    /// A listener in the node's namespace (pods reach it at the pod gateway's address). SO_REUSEADDR, non-blocking.
    pub fn listen_for_pods(&self, port: u16) -> std::io::Result<TcpListener> {
        let _ = port;
        unimplemented!()
    }

    /// A listener on 127.0.0.1 of the outer network's namespace, so that `isthmus run -- kubectl` works there.
    pub fn listen_on_outer_loopback(&self, port: u16) -> std::io::Result<TcpListener> {
        let _ = port;
        unimplemented!()
    }

    /// Gives a pod's namespace its `lo`, its `eth0` with `address`/32 and its default route.
    pub async fn attach(&self, pod: BorrowedFd<'_>, address: Ipv4Addr) -> Result<(), NetworkError> {
        let _ = (pod, address);
        unimplemented!()
    }

    /// A TCP connection made from the node's namespace (for probes).
    pub async fn connect(&self, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        let _ = to;
        unimplemented!()
    }

    /// Watches Services and EndpointSlices for as long as the process lives: programs ClusterIPs, NodePorts and
    /// load-balancer addresses, and, when not root, loopback forwards (kept in `home/<cluster>/forwards.json`).
    pub async fn serve_services(&self, client: kube::Client) -> Result<(), NetworkError> {
        let _ = client;
        unimplemented!()
    }

    /// Ends the network process; its namespace goes with it.
    pub fn close(home: &Path, cluster: &str) -> Result<(), NetworkError> {
        let _ = (home, cluster);
        unimplemented!()
    }
}

pub(crate) fn internal(name: &str, args: &[String]) -> ExitCode {
    let _ = (name, args);
    unimplemented!()
}
