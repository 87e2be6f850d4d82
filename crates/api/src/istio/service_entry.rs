//! Services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Spec, WorkloadSelector};
use crate::selector::Labels;

/// A service outside of Kubernetes, or another name for workloads inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Its names.
    pub hosts: Vec<String>,
    /// Its virtual addresses, or CIDRs.
    pub addresses: Vec<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether it is part of the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its endpoints.
    pub endpoints: Vec<WorkloadEntry>,
    /// Instead of endpoints: the pods and workload entries of the namespace that it consists of.
    #[serde(alias = "workload_selector")]
    pub workload_selector: Option<WorkloadSelector>,
    /// The namespaces that see it.
    #[serde(alias = "export_to")]
    pub export_to: Vec<String>,
    /// The names of which a server's certificate must have one.
    #[serde(alias = "subject_alt_names")]
    pub subject_alt_names: Vec<String>,
}

impl Spec for ServiceEntry {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "ServiceEntry";
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// The number.
    pub number: u16,
    /// What is spoken there: `HTTP`, `TLS`, `TCP`, …
    pub protocol: String,
    /// The name, by which endpoints refer to it.
    pub name: String,
    /// The endpoints' port, if it is another; 0 is unset.
    #[serde(alias = "target_port")]
    pub target_port: u16,
}

/// Where a service is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// Outside of the mesh.
    #[default]
    MeshExternal,
    /// Part of the mesh.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The connection goes where the caller addressed it.
    #[default]
    None,
    /// They are given as addresses.
    Static,
    /// They are given as names, or the host itself is one; all addresses are used.
    Dns,
    /// The same; the first address is used.
    DnsRoundRobin,
}

/// A workload, as an object or as an endpoint of a service entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// An address, a DNS name, or `unix://` and a path.
    pub address: String,
    /// Its ports, by the name of the service's port.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: Labels,
    /// Its network.
    pub network: String,
    /// Its place: `region/zone/subzone`.
    pub locality: String,
    /// Its share relative to others; 0 is unset.
    pub weight: u32,
    /// Its service account in the object's namespace.
    #[serde(alias = "service_account")]
    pub service_account: String,
}

impl Spec for WorkloadEntry {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "WorkloadEntry";
}
