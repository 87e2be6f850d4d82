//! How fast it all is, in numbers, and beside others.

mod chart;
mod cluster;
mod comparison;
mod connection;
mod etcd;
mod load;
mod machine;
mod mesh;
mod pace;
mod process;
mod proxy;
mod report;
mod results;
mod scenario;
mod statistics;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::comparison::Extent;
use crate::machine::Machine;
use crate::report::Report;
use crate::results::Results;

/// Measures the local clusters, the data plane beside Envoy, nginx and haproxy, and the control plane of the mesh.
///
/// The table goes to stderr, the same as JSON to stdout. No network is needed. docs/benchmarks.md says what each row means.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  cargo build --release\n  cargo run --release -p bench -- writes\n  cargo run --release -p bench -- proxy HTTP\n  cargo run --release -p bench -- all --out results\n\n\
        Everything takes about an hour: the proxy scenario 40 minutes on its own, the mesh scenario 10."
)]
struct Arguments {
    #[command(subcommand)]
    chosen: Chosen,
    /// The binary to measure; by default the one beside this program.
    #[arg(long, global = true)]
    binary: Option<PathBuf>,
    /// Where results.json, results.txt and charts (SVG) are written, if anywhere.
    #[arg(long, global = true)]
    out: Option<PathBuf>,
    /// How often the programs of a comparison have their turns, there and back.
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// For how many seconds each turn has requests at the fixed rate.
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    seconds: u8,
}

#[derive(Subcommand)]
enum Chosen {
    #[command(flatten)]
    One(Scenario),
    /// All of these.
    All,
}

#[derive(Subcommand)]
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
    /// The data plane's processor time, latency and memory, beside Envoy ($ENVOY or in PATH), nginx and haproxy.
    Proxy {
        /// Only the figures that have this in their names.
        #[arg(default_value = "")]
        figure: String,
    },
    /// The mesh's control plane with 100 to 10,000 services and 50 to 1,000 connected proxies.
    Mesh {
        /// Measures with so many proxies, too, a multiple of 10.
        #[arg(long)]
        proxies: Option<usize>,
    },
    /// Connections that fail while certificates that live for a minute are renewed; not part of `all`.
    Rotation {
        /// For how long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let Arguments { chosen, binary, out, rounds, seconds } = Arguments::parse();
    let binary = match binary {
        Some(binary) => binary,
        None => std::env::current_exe()?.with_file_name("isthmus"),
    };
    let binary =
        binary.canonicalize().with_context(|| format!("{} is not there; cargo build --release", binary.display()))?;
    let extent = Extent { rounds: rounds.into(), time: Duration::from_secs(seconds.into()) };
    let scenarios = match chosen {
        Chosen::All => vec![
            Scenario::Start,
            Scenario::Apply,
            Scenario::Writes,
            Scenario::Reads,
            Scenario::Watches,
            Scenario::Memory,
            Scenario::Mesh { proxies: None },
            Scenario::Proxy { figure: String::new() },
        ],
        Chosen::One(one) => vec![one],
    };
    let mut results = Results::new(Machine::this(&binary)?, out)?;
    for scenario in scenarios {
        results.add(run(scenario, &binary, extent)?)?;
    }
    println!("{}", results.json()?);
    Ok(())
}

fn run(scenario: Scenario, binary: &Path, extent: Extent) -> anyhow::Result<Report> {
    let runtime: Runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match scenario {
        Scenario::Start => scenario::start::run(binary, &runtime),
        Scenario::Apply => scenario::apply::run(binary, &runtime),
        Scenario::Writes => scenario::writes::run(binary, &runtime),
        Scenario::Reads => scenario::reads::run(binary, &runtime),
        Scenario::Watches => scenario::watches::run(binary, &runtime),
        Scenario::Memory => scenario::memory::run(binary, &runtime),
        Scenario::Proxy { figure } => scenario::proxy::run(binary, &figure, extent),
        Scenario::Mesh { proxies } => scenario::mesh::run(binary, &runtime, proxies),
        Scenario::Rotation { minutes } => scenario::rotation::run(binary, minutes),
    }
}
