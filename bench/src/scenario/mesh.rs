//! The mesh's control plane with 1,000 services and 200 connected proxies: from an edit to the last acknowledgement.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use envoy::TypeUrl;
use futures::future::try_join_all;
use testkit::Federation;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::cluster::{one, process};
use crate::connection::{Connection, Server};
use crate::mesh::sidecar::{self, Acknowledged, ControlPlane, Events};
use crate::mesh::{self, Edited, PROXIES, Workload};
use crate::process::{cpu_ever, resident};
use crate::report::Report;

const EDITS: usize = 20;
const IDLE: Duration = Duration::from_secs(10);
/// How long nothing may be heard until all is said, and how long anything may take.
const QUIET: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let report = Report::new("mesh");
    let (federation, server) = one(binary, runtime)?;
    let Some(link) = federation.host_link() else {
        eprintln!("only root's clusters can be reached from here: the control plane is not measured");
        return Ok(report);
    };
    runtime.block_on(measure(report, &federation, &server, link))
}

async fn measure(report: Report, federation: &Federation, server: &Server, link: PathBuf) -> anyhow::Result<Report> {
    let process = process(federation)?;
    let report = report.row("resident, a new cluster", resident(process)?, "MB", "");
    let workloads = mesh::furnish(server).await?;
    let restricted = workloads.iter().position(mesh::is_restricted).context("nobody is restricted")?;
    let report = report.row("resident, 1,000 services", resident(process)?, "MB", "");
    let (events, acknowledged) = unbounded_channel();
    let begin = Instant::now();
    connect(server, workloads, &events).await?;
    let mut watch = Watch { connection: server.connect().await?, acknowledged, link };
    watch.settle().await?;
    let mut report = report.row("until 200 proxies have everything", begin.elapsed().as_secs_f64(), "s", "");
    let (one, all) = (vec![restricted], (0..PROXIES).collect());
    let edits = [
        ("policy of one workload", mesh::policy_of_one(), TypeUrl::Listener, &one),
        ("policy of all", mesh::policy_of_all(), TypeUrl::Listener, &all),
        ("endpoint", mesh::endpoint(), TypeUrl::Endpoint, &all),
    ];
    for (what, edited, type_url, concerned) in edits {
        report = watch.edit(report, what, &edited, type_url, concerned).await?;
    }
    let before = cpu_ever(process)?;
    tokio::time::sleep(IDLE).await;
    let idle = (cpu_ever(process)? - before).as_secs_f64() / IDLE.as_secs_f64();
    let report = report.row("idle, of one core", idle * 100.0, "%", "near zero");
    Ok(report.row("resident, 1,000 services, 200 proxies", resident(process)?, "MB", "120 MB"))
}

/// Connects the proxies of all workloads, each with a certificate of its own.
async fn connect(server: &Server, workloads: Vec<Workload>, events: &Events) -> anyhow::Result<()> {
    let mut connection = server.connect().await?;
    let (address, roots) = (mesh::publish(&mut connection).await?, mesh::roots(&mut connection).await?);
    let plane = ControlPlane { address, roots };
    let authority = plane.connect(None).await?;
    let mut tokens = Vec::new();
    for workload in &workloads {
        tokens.push(mesh::token(&mut connection, workload).await?);
    }
    let connecting = workloads.iter().zip(&tokens).map(async |(workload, token)| {
        let certificate = sidecar::certify(&authority, workload, token).await?;
        plane.connect(Some(&certificate)).await
    });
    let channels = try_join_all(connecting).await?;
    for (number, (workload, channel)) in workloads.into_iter().zip(channels).enumerate() {
        tokio::spawn(sidecar::run(number, workload, channel, events.clone()));
    }
    Ok(())
}

/// Edits, and sees what comes of it.
struct Watch {
    connection: Connection,
    acknowledged: UnboundedReceiver<anyhow::Result<Acknowledged>>,
    link: PathBuf,
}

impl Watch {
    /// Waits until every proxy has endpoints, and no more is said.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let mut without = PROXIES;
        while without > 0 {
            let news = self.next().await?;
            without -= usize::from(news.type_url == TypeUrl::Endpoint);
        }
        while let Ok(news) = timeout(QUIET, self.acknowledged.recv()).await {
            news.context("no proxy is left")??;
        }
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<Acknowledged> {
        timeout(LIMIT, self.acknowledged.recv()).await?.context("no proxy is left")?
    }

    /// Edits an object again and again, each time until the last of those whom it concerns has accepted it.
    async fn edit(
        &mut self,
        report: Report,
        what: &str,
        edited: &Edited,
        type_url: TypeUrl,
        concerned: &[usize],
    ) -> anyhow::Result<Report> {
        let (mut times, before) = (Vec::new(), self.carried()?);
        for n in 0..EDITS {
            let begin = Instant::now();
            edited.edit(&mut self.connection, n + 1).await?;
            let mut last = begin;
            let mut told = Vec::new();
            while told.len() < concerned.len() {
                let news = self.next().await?;
                ensure!(news.type_url == type_url, "{what}: the proxies were told of {}", news.type_url);
                told.push(news.proxy);
                last = last.max(news.at);
            }
            told.sort_unstable();
            ensure!(told == *concerned, "{what}: others were told than those whom it concerns");
            times.push(last - begin);
        }
        let bytes = (self.carried()? - before) / EDITS as f64;
        ensure!(timeout(QUIET, self.next()).await.is_err(), "{what}: a proxy was told more than once");
        let report = report.times(&format!("{what}, edit to last ACK"), &mut times, "50 ms");
        Ok(report.row(format!("{what}, on the wire"), bytes / 1024.0, "KB", "1000 KB"))
    }

    /// The bytes that the host's link has carried, in both directions, headers and all. Nothing else goes over it: the API
    /// server is reached without.
    fn carried(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for file in ["statistics/rx_bytes", "statistics/tx_bytes"] {
            sum += std::fs::read_to_string(self.link.join(file))?.trim().parse::<f64>()?;
        }
        Ok(sum)
    }
}
