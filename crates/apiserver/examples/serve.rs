//! Serves an empty cluster's API, without controllers or a node, and prints where its kubeconfig is:
//!
//! ```text
//! cargo run -p apiserver --example serve -- /tmp/api 16443
//! KUBECONFIG=/tmp/api/kubeconfig kubectl get namespaces
//! ```

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, Config, Extensions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: serve DIRECTORY [PORT]")?);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;

    let authority = pki::Authority::generate("example-ca")?;
    let certificate = authority.issue_server(&["localhost"], &[Ipv4Addr::LOCALHOST.into()])?;
    let tls = pki::server_config(&certificate, authority.certificate_pem())?;
    let storage = directory.join("store");
    let token_key = Arc::new(pki::TokenKey::generate()?);
    let server = ApiServer::open(Config { storage, token_key, extensions: Extensions::default() })?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let kubeconfig = directory.join("kubeconfig");
    std::fs::write(&kubeconfig, config(&authority, listener.local_addr()?.port())?)?;
    println!("{}", kubeconfig.display());

    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    Ok(server.serve(listener, tls, stop).await?)
}

/// A kubeconfig for an administrator.
fn config(authority: &pki::Authority, port: u16) -> Result<String, Box<dyn Error>> {
    let admin = authority.issue_client("kubernetes-admin", &["system:masters"])?;
    let key = admin.key_pem.ok_or("a new certificate has a key")?;
    let [ca, certificate, key] = [authority.certificate_pem(), &admin.chain_pem, &key].map(|pem| STANDARD.encode(pem));
    Ok(serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "example",
        "clusters": [{"name": "example", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca}}],
        "users": [{"name": "admin", "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": "example", "context": {"cluster": "example", "user": "admin"}}],
    })
    .to_string())
}
