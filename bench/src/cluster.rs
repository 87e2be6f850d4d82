//! The clusters that are measured.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use http::Method;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::unistd::Pid;
use serde_json::json;
use testkit::{Account, Federation};

use crate::connection::{Connection, Server};

pub(crate) const NAMESPACE: &str = "bench";

/// One cluster, and a namespace in it.
pub(crate) fn one(binary: &Path, runtime: &tokio::runtime::Runtime) -> anyhow::Result<(Federation, Server)> {
    let federation = Federation::up(binary, Account::current(), &["c1"]);
    let server = runtime.block_on(async {
        let server = server(&federation, "c1").await?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        server.connect().await?.request(Method::POST, "/api/v1/namespaces", namespace.to_string()).await?;
        anyhow::Ok(server)
    })?;
    Ok((federation, server))
}

/// The API server of `cluster`, as its administrator.
pub(crate) async fn server(federation: &Federation, cluster: &str) -> anyhow::Result<Server> {
    let kubeconfig = Kubeconfig::read_from(federation.kubeconfig())?;
    let options = KubeConfigOptions { context: Some(cluster.to_owned()), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    let host = config.cluster_url.host().context("the server has no host")?.to_owned();
    let port = config.cluster_url.port_u16().context("the server has no port")?;
    Ok(Server { host, port, tls: Some(Arc::new(config.rustls_client_config()?)) })
}

/// Where the ConfigMaps of the measurements are.
pub(crate) fn config_maps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

/// A ConfigMap with a kilobyte of data.
pub(crate) fn config_map(name: &str) -> String {
    let data = json!({"payload": "x".repeat(1024)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

/// Creates `count` ConfigMaps, named by their numbers.
pub(crate) async fn fill(connection: &mut Connection, count: usize) -> anyhow::Result<()> {
    for n in 0..count {
        connection.request(Method::POST, &config_maps(), config_map(&n.to_string())).await?;
    }
    Ok(())
}

/// The process that serves the cluster.
pub(crate) fn process(federation: &Federation) -> anyhow::Result<Pid> {
    federation.cluster_process("c1").map(Pid::from_raw).context("the cluster process is not there")
}
