//! `isthmus internal pilot-agent`: what the image `istio/proxyv2` is, under the names and options that Istio's own
//! program of that image has.

pub(crate) mod istio_iptables;
mod proxy;
mod request;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "pilot-agent",
    about = "Runs a sidecar or a gateway, and what belongs to it",
    arg_required_else_help = true
)]
struct PilotAgent {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lead the pod's TCP connections to its sidecar
    IstioIptables(istio_iptables::Args),
    /// Run the proxy
    Proxy(proxy::Args),
    /// Ask the sidecar's admin interface
    Request(request::Args),
    /// Wait until the sidecar is ready
    Wait(wait::Args),
}

pub(crate) fn main(args: &[String]) -> anyhow::Result<ExitCode> {
    let name = "pilot-agent".to_owned();
    match PilotAgent::parse_from(std::iter::once(&name).chain(args)).command {
        Command::IstioIptables(args) => istio_iptables::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Request(args) => request::run(&args),
        Command::Wait(args) => wait::run(&args),
    }
}
