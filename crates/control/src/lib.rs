//! The engine: controllers that turn stored objects into what they ask for, and admission for the core kinds.
//! CONTRACT STUB: signatures are what the others build on.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use api::{AddressPlan, ClusterIndex};

/// What the controllers of one cluster need to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub cluster: String,
    pub plan: AddressPlan,
    pub index: ClusterIndex,
    /// PEM of the cluster's CA, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Where pods reach the API server (the pod gateway) behind `kubernetes.default`.
    pub api_endpoint: (Ipv4Addr, u16),
}

/// Defaults and validation of the core kinds, to be registered with the API server.
pub fn admission(config: &Config) -> Vec<apiserver::Admission> {
    let _ = config;
    unimplemented!()
}

/// Creates what every cluster has (namespaces, `kubernetes` and `kube-dns` services, bootstrap roles), then runs
/// every controller until the process ends.
pub async fn run(config: Config, client: kube::Client) -> Result<(), kube::Error> {
    let _ = (config, client);
    unimplemented!()
}
