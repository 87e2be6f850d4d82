//! Commands on the federation's outer network.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, anyhow};
use clap::Args;
use node::OuterNetwork;

use crate::cli::HomeArg;

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    home: HomeArg,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    home: HomeArg,
}

/// `isthmus run`: replaces this process, so the command's exit code is ours.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    exec(&args.home, args.command)
}

/// `isthmus shell`.
pub(crate) fn shell(args: ShellArgs) -> anyhow::Result<ExitCode> {
    let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty()).unwrap_or_else(|| "/bin/sh".into());
    exec(&args.home, vec![shell])
}

fn exec(home: &HomeArg, command: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let home = home.resolve()?;
    home.expect()?;
    let not_running =
        || anyhow!("the federation in {} is not running; start it with `isthmus up`", home.path().display());
    OuterNetwork::find(home.path()).ok_or_else(not_running)?.enter()?;
    let (program, args) = command.split_first().context("no command was given after --")?;
    let error =
        Command::new(program).args(args).env("KUBECONFIG", home.kubeconfig()).env("ISTHMUS_HOME", home.path()).exec();
    Err(error).with_context(|| format!("cannot run {}", program.to_string_lossy()))
}
