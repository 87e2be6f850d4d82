//! Sidecars for manifests, before they are applied.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::output;

#[derive(Args)]
pub(crate) struct KubeInjectArgs {
    /// The manifest; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: String,
}

/// Prints the manifest with a sidecar in every workload. No cluster is asked: what a sidecar has to know of its cluster
/// is added there.
pub(crate) fn kube_inject(args: KubeInjectArgs) -> anyhow::Result<ExitCode> {
    let KubeInjectArgs { filename } = args;
    let shown = if filename == "-" { "standard input" } else { &filename };
    let text = match filename.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        path => std::fs::read_to_string(path),
    };
    let text = text.with_context(|| format!("cannot read {shown}"))?;
    let injected = control::inject_manifest(&text).with_context(|| shown.to_owned())?;
    output::write_stdout(injected.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
