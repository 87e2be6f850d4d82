//! `isthmus demo`: three clusters that share bookinfo and echo servers through private gateways, step by step.

mod cluster;
mod report;
mod stage;
mod story;

use std::process::ExitCode;

use clap::Args;
use nix::sys::signal::SigSet;

use crate::cli::{HomeArg, OutputArg};
use crate::data_plane::{DataPlane, DataPlaneArgs};
use crate::federation::Home;
use crate::output::{self, say};
use crate::{down, up};
use report::Report;

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Take everything down at the end, and exit with 0 if every step went as it should, with 1 if one did not
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    data_plane: DataPlaneArgs,
    #[command(flatten)]
    output: OutputArg,
    #[command(flatten)]
    home: HomeArg,
}

/// `isthmus demo`. Without `--home` the federation is a fresh one, removed afterwards.
pub(crate) fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let DemoArgs { once, data_plane, output, home } = args;
    let data_plane = data_plane.chosen()?;
    let scratch = match &home.home {
        None => Some(tempfile::Builder::new().prefix("isthmus-demo-").tempdir()?),
        Some(_) => None,
    };
    let home = match &scratch {
        Some(dir) => Home::new(dir.path().to_owned()),
        None => home.resolve()?,
    };
    // Signals are blocked before anything is started, so that none of them can leave half a federation behind.
    let signals = up::block_signals()?;
    let outcome = play(&home, data_plane, signals, once, output);
    if home.path().exists() {
        down::stop(&home)?;
    }
    outcome
}

fn play(
    home: &Home,
    data_plane: Option<DataPlane>,
    signals: SigSet,
    once: bool,
    output: OutputArg,
) -> anyhow::Result<ExitCode> {
    let mut report = Report::begin(home);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let interrupted = runtime.block_on(async {
        tokio::select! {
            () = story::tell(home, data_plane, &mut report) => None,
            signal = story::interruption() => Some(signal),
        }
    });
    // What still runs in the background must not keep this process.
    runtime.shutdown_background();
    if let Some(signal) = interrupted {
        return Ok(up::ended_by(signal));
    }
    report.print(output.output)?;
    if once {
        return Ok(output::verdict(report.is_good()));
    }
    let path = home.path().display();
    say(format_args!(
        "\nlook around:\n  export ISTHMUS_HOME={path} KUBECONFIG={}\n  kubectl --context c1 get pods -A\n  \
         isthmus proxy-config routes deploy/istio-private-egressgateway -n istio-private-gateways",
        home.kubeconfig().display()
    ));
    up::wait(signals)
}
