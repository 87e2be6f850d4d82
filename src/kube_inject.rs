//! Sidecars for manifests, before they are applied.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::{input, output};

#[derive(Args)]
pub(crate) struct KubeInjectArgs {
    /// The manifest; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    filename: PathBuf,
}

/// Prints the manifest with a sidecar in every workload. No cluster is asked: what a sidecar has to know of its cluster
/// is added there.
pub(crate) fn kube_inject(args: KubeInjectArgs) -> anyhow::Result<ExitCode> {
    let KubeInjectArgs { filename } = args;
    let (shown, text) = input::read(&filename)?;
    let injected = control::inject_manifest(&text).context(shown)?;
    output::write_stdout(injected.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
