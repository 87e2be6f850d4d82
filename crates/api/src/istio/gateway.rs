//! Doors of the mesh.

use serde::Deserialize;

use super::{ServicePort, Spec};
use crate::selector::Labels;

/// What gateway workloads listen for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// The labels of the gateway's pods.
    pub selector: Labels,
    /// What is listened for.
    pub servers: Vec<Server>,
}

impl Spec for Gateway {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "Gateway";
}

/// One port with the hosts that it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Server {
    /// The service's port.
    pub port: ServicePort,
    /// The hosts, each possibly as `NAMESPACE/HOST`.
    pub hosts: Vec<String>,
    /// TLS.
    pub tls: Option<ServerTls>,
}

/// How a gateway's server speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerTls {
    /// `PASSTHROUGH`, `SIMPLE`, `MUTUAL`, `AUTO_PASSTHROUGH`, `ISTIO_MUTUAL` or `OPTIONAL_MUTUAL`.
    pub mode: String,
    /// The file of the certificate chain.
    #[serde(alias = "server_certificate")]
    pub server_certificate: String,
    /// The file of the key.
    #[serde(alias = "private_key")]
    pub private_key: String,
    /// The file of the authorities that clients' certificates must come from.
    #[serde(alias = "ca_certificates")]
    pub ca_certificates: String,
    /// The name of a secret, instead of files.
    #[serde(alias = "credential_name")]
    pub credential_name: String,
    /// Names of which a client's certificate must have one.
    #[serde(alias = "subject_alt_names")]
    pub subject_alt_names: Vec<String>,
}
