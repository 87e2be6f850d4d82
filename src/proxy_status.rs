//! `isthmus proxy-status`: how far the proxies are with what their control planes have told them, and what one of them holds
//! that is not what it was told.

mod difference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::{HomeArg, OutputArg};
use crate::federation::Home;
use crate::output::{self, Format};
use crate::proxy_config::{DUMP, Dump};
use crate::{objects, pod};
use difference::Difference;

/// The types in the order of their columns. Those that a proxy does not ask for it ignores.
const TYPES: [&str; 5] = ["CDS", "LDS", "EDS", "RDS", "ECDS"];
const IGNORED: &str = "IGNORED";
const REFUSED: &str = "ERROR";

/// Where the API server has the pages of the control plane.
const PAGES: &str = "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/debug";

#[derive(Args)]
pub(crate) struct ProxyStatusArgs {
    /// Whose configuration to compare with what was sent: POD, POD.NAMESPACE or deploy/NAME [default: show all proxies]
    pod: Option<String>,
    /// The namespace of the pod [default: the context's]
    #[arg(long, short)]
    namespace: Option<String>,
    /// The cluster, by its kubeconfig context [default: all; of a pod the current one]
    #[arg(long, short, visible_alias = "cluster", value_name = "CLUSTER")]
    context: Option<String>,
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    output: OutputArg,
}

/// A proxy, as its control plane tells of it at `/debug/syncz`.
#[derive(Debug, Deserialize)]
struct Told {
    proxy: String,
    #[serde(rename = "proxy_version")]
    version: String,
    #[serde(rename = "connected_at")]
    connected: String,
    types: BTreeMap<String, State>,
}

/// How far a proxy is with a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    status: String,
    /// Why it has refused what it was sent last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A proxy of some cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    name: String,
    cluster: String,
    control_plane: String,
    version: String,
    connected_at: String,
    types: BTreeMap<String, State>,
}

/// `isthmus proxy-status`: 0; 1 if something was refused or differs, or if a control plane cannot be asked.
pub(crate) fn proxy_status(args: ProxyStatusArgs) -> anyhow::Result<ExitCode> {
    let ProxyStatusArgs { pod, namespace, context, home, output } = args;
    let home = home.resolve()?;
    let clusters: Vec<String> = home.expect()?.clusters.into_keys().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match pod {
        Some(pod) => {
            let differences = runtime.block_on(compare(&home, context.as_deref(), &pod, namespace))?;
            let equal = differences.iter().all(Difference::is_none);
            match output.output {
                Format::Table => output::write_stdout(difference::text(&differences).as_bytes())?,
                format => output::document(format, &difference::document(&differences))?,
            }
            Ok(output::verdict(equal))
        }
        None => {
            let asked = context.map_or(clusters, |context| vec![context]);
            let (proxies, heard) = runtime.block_on(all(&home, &asked));
            let sound = proxies.iter().flat_map(|proxy| proxy.types.values()).all(|state| state.status != REFUSED);
            match output.output {
                Format::Table => table(&proxies)?,
                format => output::document(format, &proxies)?,
            }
            Ok(output::verdict(sound && heard))
        }
    }
}

/// The proxies of some clusters, and whether all of these could be asked.
async fn all(home: &Home, clusters: &[String]) -> (Vec<Proxy>, bool) {
    let (mut proxies, mut heard) = (Vec::new(), true);
    for cluster in clusters {
        match of_cluster(home, cluster).await {
            Ok(told) => proxies.extend(told.into_iter().map(|told| Proxy::new(told, cluster))),
            Err(error) => {
                heard = false;
                output::error(&error.context(format!("the control plane of {cluster} cannot be asked")));
            }
        }
    }
    proxies.sort_by(|a, b| (&a.name, &a.cluster, &a.connected_at).cmp(&(&b.name, &b.cluster, &b.connected_at)));
    (proxies, heard)
}

async fn of_cluster(home: &Home, cluster: &str) -> anyhow::Result<Vec<Told>> {
    let (client, _) = objects::connect(home, Some(cluster)).await?;
    Ok(serde_json::from_str(&page(&client, "syncz").await?)?)
}

/// A page of the control plane.
async fn page(client: &kube::Client, name: &str) -> anyhow::Result<String> {
    let request = http::Request::get(format!("{PAGES}/{name}")).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

/// What of the configuration that was sent to a pod's proxy it does not hold, and the other way round.
async fn compare(
    home: &Home,
    context: Option<&str>,
    text: &str,
    namespace: Option<String>,
) -> anyhow::Result<Vec<Difference>> {
    let (client, default_namespace) = objects::connect(home, context).await?;
    let pod = pod::find(&client, text, &namespace.unwrap_or(default_namespace)).await?;
    let name = pod::full_name(&pod);
    let sent = page(&client, &format!("config_dump?proxyID={name}")).await;
    let sent = sent.with_context(|| format!("the control plane has sent nothing to {name}"))?;
    let held = pod::admin_page(&client, &pod, DUMP).await?;
    Ok(difference::between(&Dump::parse(&sent)?, &Dump::parse(&held)?))
}

impl Proxy {
    fn new(told: Told, cluster: &str) -> Proxy {
        let Told { proxy, version, connected, types } = told;
        Proxy {
            name: proxy,
            cluster: cluster.to_owned(),
            control_plane: format!("istiod.{cluster}"),
            version,
            connected_at: connected,
            types,
        }
    }

    fn row(&self) -> Vec<String> {
        let state = |name: &&str| self.types.get(*name).map_or(IGNORED, |state| &state.status).to_owned();
        let start = [self.name.clone(), self.cluster.clone()];
        let end = [self.control_plane.clone(), self.version.clone()];
        start.into_iter().chain(TYPES.iter().map(state)).chain(end).collect()
    }

    /// What it has refused, and why.
    fn refusals(&self) -> impl Iterator<Item = Vec<String>> {
        self.types.iter().filter_map(|(name, state)| {
            let reason = state.reason.as_ref()?;
            Some(vec![self.name.clone(), self.cluster.clone(), name.clone(), reason.clone()])
        })
    }
}

fn table(proxies: &[Proxy]) -> anyhow::Result<()> {
    let headers: Vec<&str> = ["NAME", "CLUSTER"].into_iter().chain(TYPES).chain(["ISTIOD", "VERSION"]).collect();
    output::table(&headers, proxies.iter().map(Proxy::row))?;
    let refusals: Vec<Vec<String>> = proxies.iter().flat_map(Proxy::refusals).collect();
    if !refusals.is_empty() {
        output::write_stdout(b"\n")?;
        output::table(&["NAME", "CLUSTER", "TYPE", "REFUSED BECAUSE"], refusals)?;
    }
    Ok(())
}
