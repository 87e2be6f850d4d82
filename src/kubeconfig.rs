//! Kubeconfigs: one per user of a cluster, and the federation's own with one context per cluster.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::HomeArg;
use crate::federation::{Federation, Home, write_atomically};
use crate::output::{self, Format};

#[derive(Args)]
pub(crate) struct KubeconfigArgs {
    #[command(flatten)]
    home: HomeArg,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Document,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Document {
    #[default]
    Yaml,
    Json,
}

/// `isthmus kubeconfig`.
pub(crate) fn print(args: KubeconfigArgs) -> anyhow::Result<ExitCode> {
    let home = args.home.resolve()?;
    home.expect()?;
    let format = match args.output {
        Document::Yaml => Format::Yaml,
        Document::Json => Format::Json,
    };
    output::document(format, &read(&home.kubeconfig())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the kubeconfig of one user of one cluster.
pub(crate) fn write(
    path: &Path,
    cluster: &str,
    port: u16,
    ca_pem: &str,
    user: &pki::Certificate,
) -> anyhow::Result<()> {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let key = user.key_pem.as_deref().context("a user's certificate has a key")?;
    let name = format!("{cluster}-admin");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster,
        "preferences": {},
        "clusters": [{ "name": cluster, "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": encode(ca_pem),
        }}],
        "users": [{ "name": name, "user": {
            "client-certificate-data": encode(&user.chain_pem), "client-key-data": encode(key),
        }}],
        "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": name } }],
    });
    write_atomically(path, serde_saphyr::to_string(&config)?.as_bytes())
}

/// Writes the federation's kubeconfig from those of its clusters; the chosen context stays chosen.
pub(crate) fn merge(home: &Home, federation: &Federation, first: &str) -> anyhow::Result<()> {
    let path = home.kubeconfig();
    let chosen = read(&path).ok().and_then(|c| c["current-context"].as_str().map(str::to_owned));
    let chosen = chosen.filter(|c| federation.clusters.contains_key(c)).unwrap_or_else(|| first.to_owned());
    let mut merged = json!({ "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": chosen });
    for name in federation.clusters.keys() {
        let member = home.cluster(name).join("admin.kubeconfig");
        if !member.exists() {
            continue;
        }
        let member = read(&member)?;
        for list in ["clusters", "users", "contexts"] {
            let items = member[list].as_array().cloned().unwrap_or_default();
            match &mut merged[list] {
                Value::Array(all) => all.extend(items),
                slot => *slot = Value::Array(items),
            }
        }
    }
    write_atomically(&path, serde_saphyr::to_string(&merged)?.as_bytes())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not a kubeconfig", path.display()))
}
