//! `isthmus proxy-config`: what a sidecar has been told, as its own admin page shows it, or a dump of that page.

mod dump;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::{HomeArg, OutputArg};
use crate::federation::Home;
use crate::output::{self, Format};
use crate::{objects, pod};
use table::Filter;

pub(crate) use dump::{Dump, text};

/// Where a proxy shows its configuration.
pub(crate) const DUMP: &str = "/config_dump?include_eds";

#[derive(Args)]
pub(crate) struct ProxyConfigArgs {
    /// What to show
    #[arg(value_enum, ignore_case = true)]
    part: Part,
    /// Whose: POD, POD.NAMESPACE or deploy/NAME
    #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "POD")]
    pod: Option<String>,
    /// A file that holds what /config_dump?include_eds answered, or `-`
    #[arg(long, short)]
    file: Option<PathBuf>,
    /// Show what has this port alone
    #[arg(long)]
    port: Option<u16>,
    /// Show clusters of this host alone
    #[arg(long)]
    fqdn: Option<String>,
    /// Show clusters of this subset alone
    #[arg(long)]
    subset: Option<String>,
    /// Show clusters of this direction alone: inbound or outbound
    #[arg(long)]
    direction: Option<String>,
    /// Show the route configuration, or the endpoints of the cluster, with this name alone
    #[arg(long, visible_alias = "cluster-name")]
    name: Option<String>,
    /// The namespace of the pod [default: the context's]
    #[arg(long, short)]
    namespace: Option<String>,
    /// The cluster, by its kubeconfig context [default: the current one]
    #[arg(long, short, visible_alias = "cluster", value_name = "CLUSTER")]
    context: Option<String>,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    output: OutputArg,
}

/// A part of what a proxy is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    #[value(alias = "listener", alias = "l")]
    Listeners,
    #[value(alias = "route", alias = "r")]
    Routes,
    #[value(alias = "cluster", alias = "c")]
    Clusters,
    #[value(alias = "endpoint", alias = "ep")]
    Endpoints,
    #[value(alias = "secret", alias = "s")]
    Secrets,
    #[value(alias = "b")]
    Bootstrap,
    All,
}

impl Part {
    /// The parts that have a table.
    const TABLES: [Part; 5] = [Part::Clusters, Part::Listeners, Part::Routes, Part::Endpoints, Part::Secrets];
}

/// `isthmus proxy-config`: 0, or 3 if the proxy cannot be asked.
pub(crate) fn proxy_config(args: ProxyConfigArgs) -> anyhow::Result<ExitCode> {
    let ProxyConfigArgs { part, pod, file, port, fqdn, subset, direction, name, namespace, context, home, output } =
        args;
    let text = match (file, pod) {
        (Some(file), _) => read(&file)?,
        (None, Some(pod)) => ask(&home.resolve()?, context.as_deref(), &pod, namespace)?,
        (None, None) => bail!("say which pod, or which file"),
    };
    let dump = Dump::parse(&text).context("this is not what /config_dump answers")?;
    let filter = Filter { port, fqdn, subset, direction, name };
    match output.output {
        // Istio's tool, too, has no table for it.
        Format::Table if part == Part::Bootstrap => output::document(Format::Json, &dump.bootstrap())?,
        Format::Table if part == Part::All => {
            for (index, part) in Part::TABLES.into_iter().enumerate() {
                if index > 0 {
                    output::write_stdout(b"\n")?;
                }
                print(&dump, part, &filter)?;
            }
        }
        Format::Table => print(&dump, part, &filter)?,
        format => output::document(format, &document(&dump, part, &filter))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(dump: &Dump, part: Part, filter: &Filter) -> anyhow::Result<()> {
    let (headers, rows) = table::of(dump, part, filter);
    output::table(headers, rows)
}

fn document(dump: &Dump, part: Part, filter: &Filter) -> Value {
    match part {
        Part::All => dump.whole().clone(),
        Part::Bootstrap => dump.bootstrap(),
        part => dump.of(part).into_iter().filter(|value| filter.keeps(part, value)).cloned().collect(),
    }
}

fn read(file: &std::path::Path) -> anyhow::Result<String> {
    if file == std::path::Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("cannot read standard input");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Asks the proxy of a pod.
fn ask(home: &Home, context: Option<&str>, text: &str, namespace: Option<String>) -> anyhow::Result<String> {
    home.expect()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, default_namespace) = objects::connect(home, context).await?;
        let pod = pod::find(&client, text, &namespace.unwrap_or(default_namespace)).await?;
        pod::admin_page(&client, &pod, DUMP).await
    })
}

#[cfg(test)]
mod tests;
