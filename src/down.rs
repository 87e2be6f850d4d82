//! Stopping a federation: cluster processes, pods, networks, in this order.

use std::panic::resume_unwind;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use node::{ClusterNetwork, Node, OuterNetwork};

use crate::cli::HomeArg;
use crate::federation::{Home, cluster_lock, end_holder};
use crate::output::say;

#[derive(Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    home: HomeArg,
    /// Also remove the home: objects, keys and logs
    #[arg(long)]
    delete: bool,
}

/// `isthmus down`: idempotent; nothing that the federation started is left running.
pub(crate) fn down(args: DownArgs) -> anyhow::Result<ExitCode> {
    let home = args.home.resolve()?;
    if !home.path().exists() {
        say(format_args!("there is no federation in {}", home.path().display()));
        return Ok(ExitCode::SUCCESS);
    }
    stop(&home)?;
    if args.delete {
        delete(&home)?;
    }
    say(format_args!("the federation in {} is down", home.path().display()));
    Ok(ExitCode::SUCCESS)
}

/// Ends every process of the home. Every part is tried; the first failure is told at the end.
pub(crate) fn stop(home: &Home) -> anyhow::Result<()> {
    let _lock = home.lock()?;
    let mut failures = Vec::new();
    // The directories, not federation.json, say which clusters there are, so that a damaged file leaks nothing.
    let clusters = clusters_on_disk(home)?;
    // All at once: a cluster whose logs are being followed takes its time to say goodbye.
    std::thread::scope(|scope| {
        let endings: Vec<_> =
            clusters.iter().map(|cluster| scope.spawn(|| end_holder(&cluster_lock(home, cluster)))).collect();
        let ended = endings.into_iter().map(|ending| ending.join().unwrap_or_else(|panic| resume_unwind(panic)));
        failures.extend(ended.filter_map(Result::err));
    });
    for cluster in &clusters {
        failures.extend(Node::kill_pods(home.path(), cluster).err().map(anyhow::Error::from));
        failures.extend(ClusterNetwork::close(home.path(), cluster).err().map(anyhow::Error::from));
    }
    if let Some(outer) = OuterNetwork::find(home.path()) {
        failures.extend(outer.close().err().map(anyhow::Error::from));
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Removes the home. It must hold a federation, so that a mistyped `--home` cannot remove anything else.
pub(crate) fn delete(home: &Home) -> anyhow::Result<()> {
    let is_home = home.path().join("federation.json").exists() || home.path().join("lock").exists();
    anyhow::ensure!(is_home, "{} holds no federation; nothing was removed", home.path().display());
    std::fs::remove_dir_all(home.path()).with_context(|| format!("cannot remove {}", home.path().display()))
}

fn clusters_on_disk(home: &Home) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(home.path())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}
