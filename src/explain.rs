//! `isthmus explain`: what becomes of a connection or a request from one pod, hop by hop, and which object decides it.
//!
//! The objects are read from the clusters once. From them come the resources that the control planes would give the
//! proxies on the way, and the proxy's own matchers say what becomes of the connection; no packet is sent.

mod certificate;
mod explanation;
mod flow;
mod judgement;
mod named;
mod notes;
mod passage;
mod path;
mod question;
mod request;
mod sidecar;
#[cfg(test)]
mod tests;
mod text;
mod world;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::cli::{HomeArg, OutputArg};
use crate::objects::{self, Everything};
use crate::output::{self, Format};
use explanation::Verdict;
use path::{Asked, Question};
use question::NotFound;
use world::World;

/// Exit code when the question names something that is not there, as when clap refuses it.
const NOT_FOUND: u8 = 2;

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// Who calls: POD, POD.NAMESPACE, deploy/NAME, svc/NAME, NAMESPACE/NAME or CLUSTER/NAMESPACE/NAME
    #[arg(value_name = "FROM")]
    from: String,
    /// The method of a request, and its URL as the pod would write it: [METHOD] URL
    #[arg(value_name = "REQUEST", num_args = 0..=2, conflicts_with_all = ["to", "port"],
        required_unless_present_any = ["to", "port"])]
    request: Vec<String>,
    /// A header of the request, as 'NAME: VALUE'
    #[arg(long = "header", short = 'H', value_name = "HEADER", conflicts_with_all = ["to", "port"])]
    headers: Vec<String>,
    /// Whom a connection is to: a host as the pod would write it, an address, POD, or deploy/NAME
    #[arg(long, value_name = "TO", requires = "port")]
    to: Option<String>,
    /// The port that is called
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), requires = "to")]
    port: Option<u16>,
    /// The cluster, by its kubeconfig context [default: that of FROM, or the current one]
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

/// `isthmus explain`: 0 if it reaches a workload, 1 if it does not.
pub(crate) fn explain(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let home = args.home.resolve()?;
    let (cluster, from) = question::cluster(&args.from);
    let known = home.expect()?.clusters;
    if let Some(missing) = cluster.filter(|name| !known.contains_key(*name)) {
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        return Ok(not_found(&format!("there is no cluster {missing:?}: there are {}", known.join(", "))));
    }
    if let (Some(named), Some(other)) = (cluster, &args.context)
        && named != other
    {
        return Ok(not_found(&format!("FROM names the cluster {named:?}, and --context {other:?}")));
    }
    let found = objects::of_all_clusters(&home, cluster.or(args.context.as_deref()))?;
    let namespace = args.namespace.clone().unwrap_or_else(|| found.namespace.clone());
    let world = World::new(readable(found))?;
    let question = match ask(&world, &args, from, &namespace) {
        Ok(question) => question,
        Err(NotFound(reason)) => return Ok(not_found(&reason)),
    };
    let explanation = path::explain(&world, &question)?;
    match args.output.output {
        Format::Table => output::write_stdout(explanation.to_string().as_bytes())?,
        format => output::document(format, &explanation)?,
    }
    Ok(output::verdict(explanation.verdict == Verdict::Allowed))
}

fn not_found(reason: &str) -> ExitCode {
    output::error(&anyhow::anyhow!("{reason}"));
    ExitCode::from(NOT_FOUND)
}

/// The clusters that can be read; of the others it is said that they are left out.
fn readable(found: Everything) -> Vec<(String, Vec<Value>)> {
    let readable = |(name, objects): (String, anyhow::Result<Vec<Value>>)| match objects {
        Ok(objects) => Some((name, objects)),
        Err(error) => {
            output::say(format_args!("warning: what {name} has is not known: {error:#}"));
            None
        }
    };
    found.clusters.into_iter().filter_map(readable).collect()
}

fn ask<'w>(world: &'w World, args: &ExplainArgs, from: &str, namespace: &str) -> Result<Question<'w>, NotFound> {
    let objects = &world.own().objects;
    let from = question::pod(objects, from, namespace)?;
    let own = from.metadata.namespace.as_deref().unwrap_or(namespace);
    let (asked, port, request): (String, u16, Option<Asked>) = match (&args.to, args.port, args.request.as_slice()) {
        (Some(to), Some(port), _) => (to.clone(), port, None),
        (_, _, [url]) => named(request::read("GET", url, &args.headers)?),
        (_, _, [method, url]) => named(request::read(method, url, &args.headers)?),
        _ => return Err(NotFound("what is asked? Write METHOD URL, or --to TO --port PORT".to_owned())),
    };
    let address = question::address(objects, &asked, port, own, namespace)?;
    Ok(Question { from, asked, to: SocketAddr::new(address, port), request })
}

fn named(sent: request::Sent) -> (String, u16, Option<Asked>) {
    (sent.host, sent.port, Some(sent.asked))
}
