//! What a proxy needs to know of.

use serde::Deserialize;
use serde_json::Value;

use super::{OutboundTrafficPolicy, PortNumber, Spec, WorkloadSelector};

/// Narrows what the proxies of a namespace, or of what is selected, are told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Sidecar {
    /// The workloads; absent is the namespace, or in the root namespace the mesh.
    #[serde(alias = "workload_selector")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Listeners for what comes in, instead of those for the workload's services.
    pub ingress: Vec<Value>,
    /// What may be called; empty is everything.
    pub egress: Vec<EgressListener>,
    /// What happens to calls of other hosts, if not what the mesh says.
    #[serde(alias = "outbound_traffic_policy")]
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

impl Spec for Sidecar {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "Sidecar";
}

/// Hosts that may be called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EgressListener {
    /// The port of which alone this speaks.
    pub port: Option<PortNumber>,
    /// The address that it binds.
    pub bind: String,
    /// How traffic gets there.
    #[serde(alias = "capture_mode")]
    pub capture_mode: String,
    /// `NAMESPACE/HOST`, where the namespace is `*` for any, `.` for the object's and `~` for none.
    pub hosts: Vec<String>,
}
