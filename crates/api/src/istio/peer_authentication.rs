//! Whether a workload takes mutual TLS, plaintext, or both.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Spec, WorkloadSelector};

/// Says what workloads accept: of the mesh in the root namespace, of a namespace, or of what is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PeerAuthentication {
    /// The workloads; absent or empty is the whole scope.
    pub selector: Option<WorkloadSelector>,
    /// The mode.
    pub mtls: MutualTls,
    /// The mode of single ports of the workload; only with a selector.
    #[serde(alias = "port_level_mtls")]
    pub port_level_mtls: BTreeMap<u16, MutualTls>,
}

impl Spec for PeerAuthentication {
    const GROUP: &'static str = "security.istio.io";
    const KIND: &'static str = "PeerAuthentication";
}

/// A mode, wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MutualTls {
    /// The mode.
    pub mode: MutualTlsMode,
}

/// What is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// What the next wider scope says; PERMISSIVE in the end.
    #[default]
    Unset,
    /// Only plaintext, or TLS that the application itself terminates.
    Disable,
    /// Both.
    Permissive,
    /// Only mutual TLS.
    Strict,
}
