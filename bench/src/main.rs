//! How fast the local clusters are, in numbers.

mod cluster;
mod connection;
mod etcd;
mod load;
mod mesh;
mod process;
mod proxy;
mod report;
mod scenario;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures the local clusters. The table goes to stderr, the same as JSON to stdout.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  cargo build --release\n  cargo run --release -p bench -- writes\n  cargo run --release -p bench -- all > results.json"
)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// The binary to measure; by default the one beside this program.
    #[arg(long, global = true)]
    binary: Option<PathBuf>,
}

#[derive(Subcommand, Clone, PartialEq)]
enum Scenario {
    /// From the command to three clusters that serve.
    Start,
    /// From applying a Deployment to its Pod being ready.
    Apply,
    /// Durable writes by 16 clients, beside etcd if it is installed.
    Writes,
    /// Reads by 16 clients.
    Reads,
    /// From a change to 1,000 watches having it.
    Watches,
    /// Resident memory of a cluster process with 1,000 objects.
    Memory,
    /// The data plane's processor time and memory, beside Envoy if there is one ($ENVOY or in PATH).
    Proxy {
        /// Only the figures that have this in their names.
        #[arg(default_value = "")]
        figure: String,
    },
    /// The mesh's control plane with 1,000 services and 200 connected proxies.
    Mesh,
    /// Connections that fail while certificates that live for a minute are renewed; not part of `all`.
    Rotation {
        /// For how long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// All of these.
    All,
}

fn main() -> anyhow::Result<()> {
    let Arguments { scenario, binary } = Arguments::parse();
    let binary = match binary {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("isthmus"),
    };
    let binary =
        binary.canonicalize().with_context(|| format!("{} is not there; cargo build --release", binary.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scenarios = match scenario {
        Scenario::All => vec![
            Scenario::Start,
            Scenario::Apply,
            Scenario::Writes,
            Scenario::Reads,
            Scenario::Watches,
            Scenario::Memory,
            Scenario::Proxy { figure: String::new() },
            Scenario::Mesh,
        ],
        one => vec![one],
    };
    let mut reports = Vec::new();
    for scenario in scenarios {
        let report = match scenario {
            Scenario::Start => scenario::start::run(&binary, &runtime),
            Scenario::Apply => scenario::apply::run(&binary, &runtime),
            Scenario::Writes => scenario::writes::run(&binary, &runtime),
            Scenario::Reads => scenario::reads::run(&binary, &runtime),
            Scenario::Watches => scenario::watches::run(&binary, &runtime),
            Scenario::Memory => scenario::memory::run(&binary, &runtime),
            Scenario::Proxy { figure } => scenario::proxy::run(&binary, &figure),
            Scenario::Mesh => scenario::mesh::run(&binary, &runtime),
            Scenario::Rotation { minutes } => scenario::rotation::run(&binary, minutes),
            Scenario::All => continue,
        }?;
        eprintln!("{report}");
        reports.push(report);
    }
    println!("{}", serde_json::to_string_pretty(&reports)?);
    Ok(())
}
