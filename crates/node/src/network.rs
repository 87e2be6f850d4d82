//! The cluster's network.
//!
//! An outer namespace holds a bridge to every cluster's node; a node's namespace holds a bridge to its pods and the
//! nftables rules that make services of them. Each namespace is held by a process of its own, so that neither the
//! command that started the federation nor a cluster process that dies takes a network with it:
//!
//! ```text
//!  host ── isthmus<slot> (as root) ── outer0 ─┬─ cluster1 ── uplink0 │ node of cluster 1 │ pods0 ── veth… ── eth0 of a pod
//!                                             └─ cluster2 ── uplink0 │ node of cluster 2 │ pods0 ── …
//! ```
//!
//! A pod's address is a /32 and its gateway is the node, so that every packet between pods is routed, and thus seen by
//! the rules in both directions.

mod capture;
mod cluster;
mod conntrack;
mod dns;
mod error;
mod follow;
mod forward;
mod link;
mod namespace;
mod netlink;
mod nft;
mod objects;
mod outer;
mod pod;
mod process;
mod rules;
mod services;
mod table;

pub use capture::{Capture, Selection};
pub use cluster::{ClusterNetwork, NetworkConfig};
pub use error::NetworkError;
pub use outer::OuterNetwork;

use std::process::ExitCode;

/// The processes that hold the namespaces: `outer` and `network`.
pub(crate) fn internal(name: &str, args: &[String]) -> ExitCode {
    process::main(|ready| match name {
        "outer" => outer::hold(args, ready),
        _ => cluster::hold(args, ready),
    })
}

fn arguments<const N: usize>(args: &[String]) -> Result<&[String; N], NetworkError> {
    args.try_into().map_err(|_| NetworkError::Refused(format!("this process takes {N} arguments, not {}", args.len())))
}
