//! `isthmus describe`: what applies to a pod or to a service.

mod text;

use std::process::ExitCode;

use anyhow::bail;
use api::NamespacedName;
use clap::Args;
use xds::{Mesh, description};

use crate::cli::{HomeArg, OutputArg};
use crate::output::{self, Format};
use crate::{objects, pod};

#[derive(Args)]
pub(crate) struct DescribeArgs {
    /// What to describe: POD, deploy/NAME, svc/NAME, or as KIND NAME; each possibly with .NAMESPACE
    #[arg(required = true, num_args = 1..=2, value_names = ["POD|SERVICE", "NAME"])]
    subject: Vec<String>,
    /// The namespace of what is named without one [default: the context's]
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

/// `isthmus describe`: 0, or 3 if there is nothing of that name.
pub(crate) fn describe(args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let DescribeArgs { subject, namespace, context, home, output } = args;
    let (found, default) = objects::of_cluster(&home.resolve()?, context.as_deref())?;
    let namespace = namespace.unwrap_or(default);
    let mut objects = xds::Objects::default();
    found.into_iter().for_each(|object| objects.insert(object));
    let mesh = Mesh::new(&objects);
    let subject = subject.join("/");
    let (text, document) = match service_name(&subject) {
        Some(name) => of_services(&mesh, name, &namespace)?,
        None => match of_pod(&mesh, &subject, &namespace) {
            // A bare name may be that of a service.
            Err(error) if !subject.contains('/') => of_services(&mesh, &subject, &namespace).map_err(|_| error)?,
            described => described?,
        },
    };
    match output.output {
        Format::Table => output::write_stdout(text.as_bytes())?,
        format => output::document(format, &document)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The name, if it is said to be a service's.
fn service_name(subject: &str) -> Option<&str> {
    let (kind, name) = subject.split_once('/')?;
    ["svc", "service", "services"].contains(&kind).then_some(name)
}

/// A description as text, and for programs.
type Described = (String, serde_json::Value);

fn of_pod(mesh: &Mesh, subject: &str, namespace: &str) -> anyhow::Result<Described> {
    let pods = mesh.objects().pods.iter().map(AsRef::as_ref);
    let pod = pod::choose(pods, subject, namespace).map_err(anyhow::Error::msg)?;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let name = NamespacedName::new(part(&pod.metadata.namespace), part(&pod.metadata.name));
    match description::pod(mesh, &name) {
        Some(pod) => Ok((text::pod(&pod), serde_json::to_value(&pod)?)),
        None => bail!("the pod {name} takes no part in the mesh"),
    }
}

fn of_services(mesh: &Mesh, name: &str, namespace: &str) -> anyhow::Result<Described> {
    let here = description::services(mesh, &NamespacedName::new(namespace, name));
    let elsewhere = || {
        let (name, namespace) = name.split_once('.')?;
        let namespace = namespace.trim_end_matches(".svc.cluster.local").trim_end_matches(".svc");
        Some(description::services(mesh, &NamespacedName::new(namespace, name)))
    };
    let found = if here.is_empty() { elsewhere().unwrap_or_default() } else { here };
    if found.is_empty() {
        bail!("there is no service {name:?} in namespace {namespace:?}");
    }
    Ok((found.iter().map(text::service).collect(), serde_json::to_value(&found)?))
}
