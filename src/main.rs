//! The door: parses the command line, calls the crates, prints.
//!
//! Nothing here may start a thread before [`cli::Command::dispatch`] has decided which process this is: entering a
//! user or network namespace needs a single-threaded process.

mod analyze;
mod cli;
mod cluster;
mod data_plane;
mod demo;
mod describe;
mod down;
mod explain;
mod federation;
mod gateway;
mod image;
mod input;
mod kube_inject;
mod kubeconfig;
mod memory;
mod objects;
mod output;
mod pilot_agent;
mod pod;
mod proxy;
mod proxy_config;
mod proxy_status;
mod ready;
mod run;
mod status;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
