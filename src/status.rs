//! What runs, and how to reach it.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{HomeArg, OutputArg};
use crate::federation::{Federation, Home, LockFile, cluster_lock};
use crate::output::{self, Format};
use crate::ready;

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    home: HomeArg,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    home: String,
    kubeconfig: String,
    clusters: Vec<ClusterStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatus {
    name: String,
    /// `Serving`, `Starting` (its process lives but does not answer) or `Down`.
    state: &'static str,
    pid: Option<i32>,
    server: String,
    node_address: IpAddr,
    pod_range: String,
    service_range: String,
    /// Loopback ports that stand for load-balancer addresses and node ports where the host cannot reach those.
    forwards: Value,
}

/// `isthmus status`: 0 if every cluster serves, 1 if one does not.
pub(crate) fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let home = args.home.resolve()?;
    let clusters = clusters(&home, &home.expect()?);
    let serving = clusters.iter().all(|c| c.state == "Serving");
    let kubeconfig = home.kubeconfig().display().to_string();
    let status = Status { home: home.path().display().to_string(), kubeconfig, clusters };
    match args.output.output {
        Format::Table => table(&status)?,
        format => output::document(format, &status)?,
    }
    Ok(output::verdict(serving))
}

fn clusters(home: &Home, federation: &Federation) -> Vec<ClusterStatus> {
    let one = |(name, member): (&String, &crate::federation::Member)| {
        let pid = LockFile::holder(&cluster_lock(home, name));
        let state = match pid {
            None => "Down",
            Some(_) if ready::answers(home, name) => "Serving",
            Some(_) => "Starting",
        };
        let forwards = std::fs::read(home.cluster(name).join("forwards.json")).ok();
        ClusterStatus {
            name: name.clone(),
            state,
            pid: pid.map(nix::unistd::Pid::as_raw),
            server: format!("https://127.0.0.1:{}", member.port),
            node_address: federation.plan.node(member.index).into(),
            pod_range: federation.plan.pods(member.index).to_string(),
            service_range: federation.plan.services(member.index).to_string(),
            forwards: forwards.and_then(|f| serde_json::from_slice(&f).ok()).unwrap_or(Value::Array(Vec::new())),
        }
    };
    federation.clusters.iter().map(one).collect()
}

fn table(status: &Status) -> anyhow::Result<()> {
    let row = |c: &ClusterStatus| {
        let pid = c.pid.map_or_else(|| "-".to_owned(), |p| p.to_string());
        vec![c.name.clone(), c.state.to_owned(), c.server.clone(), c.node_address.to_string(), c.pod_range.clone(), pid]
    };
    output::table(&["CLUSTER", "STATUS", "SERVER", "NODE", "PODS", "PID"], status.clusters.iter().map(row))?;
    let forwards: Vec<Vec<String>> = status.clusters.iter().flat_map(forwards).collect();
    if !forwards.is_empty() {
        output::write_stdout(b"\n")?;
        output::table(&["CLUSTER", "SERVICE", "ADDRESS", "FORWARDED FROM"], forwards)?;
    }
    Ok(())
}

fn forwards(cluster: &ClusterStatus) -> Vec<Vec<String>> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let row = |f: &Value| {
        let address = format!("{}:{}", text(&f["address"]), text(&f["port"]));
        vec![cluster.name.clone(), text(&f["service"]), address, format!("127.0.0.1:{}", text(&f["localPort"]))]
    };
    cluster.forwards.as_array().into_iter().flatten().map(row).collect()
}
