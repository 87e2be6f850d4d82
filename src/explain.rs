//! `isthmus explain`: what becomes of a connection from one pod, hop by hop, and which object decides it.
//!
//! The objects are read from the cluster once. From them come the resources that the control plane would give both
//! sidecars, and the proxy's own matcher says what becomes of the connection; no packet is sent.

mod explanation;
mod path;
mod question;
mod sidecar;
#[cfg(test)]
mod tests;
mod text;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{HomeArg, OutputArg};
use crate::objects;
use crate::output::{self, Format};
use explanation::Verdict;
use path::Question;

/// Exit code when the question names something that is not there, as when clap refuses it.
const NOT_FOUND: u8 = 2;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// Who connects: POD, POD.NAMESPACE or deploy/NAME
    #[arg(value_name = "FROM")]
    from: String,
    /// Whom to: a host as the pod would write it, an address, POD, or deploy/NAME
    #[arg(long, value_name = "TO")]
    to: String,
    /// The port that is called
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The cluster, by its kubeconfig context [default: the current one]
    #[arg(long, short, visible_alias = "cluster", value_name = "CLUSTER")]
    context: Option<String>,
    /// The namespace of what is named without one [default: the context's]
    #[arg(long, short)]
    namespace: Option<String>,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    output: OutputArg,
}

/// `isthmus explain`: 0 if the connection is let through, 1 if it is not.
pub(crate) fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let home = args.home.resolve()?;
    let (found, default_namespace) = objects::of_cluster(&home, args.context.as_deref(), objects::FOR_CONNECTIONS)?;
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let mut objects = xds::Objects::default();
    found.into_iter().for_each(|object| objects.insert(object));
    let question = match ask(&objects, &args, &namespace) {
        Ok(question) => question,
        Err(question::NotFound(reason)) => {
            output::error(&anyhow::anyhow!(reason));
            return Ok(ExitCode::from(NOT_FOUND));
        }
    };
    let explanation = path::explain(&objects, &question)?;
    match args.output.output {
        Format::Table => output::write_stdout(explanation.to_string().as_bytes())?,
        format => output::document(format, &explanation)?,
    }
    Ok(output::verdict(explanation.verdict == Verdict::Allowed))
}

fn ask<'a>(objects: &'a xds::Objects, args: &ExplainArgs, namespace: &str) -> Result<Question<'a>, question::NotFound> {
    let from = question::pod(objects, &args.from, namespace)?;
    let own = from.metadata.namespace.as_deref().unwrap_or(namespace);
    let address = question::address(objects, &args.to, args.port, own, namespace)?;
    Ok(Question { from, asked: args.to.clone(), to: SocketAddr::new(address, args.port) })
}
