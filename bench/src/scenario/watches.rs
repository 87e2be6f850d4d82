//! From a change to 1,000 watches having it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http::Method;
use http_body_util::BodyExt;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::cluster::{config_maps, fill, one};
use crate::connection::Server;
use crate::report::Report;
use crate::statistics::{milliseconds, percentile};

const WATCHES: usize = 1000;
const CHANGES: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (_federation, server) = one(binary, runtime)?;
    let mut delays = runtime.block_on(measure(&server))?;
    delays.sort();
    let row = |percent| milliseconds(percentile(&delays, percent));
    let report = Report::new("watches").row("a change reaches a watch, p50", row(50.0), "ms", "");
    let report = report.row("a change reaches a watch, p99", row(99.0), "ms", "");
    Ok(report.row("a change reaches the last of 1,000 watches", row(100.0), "ms", "50 ms"))
}

async fn measure(server: &Server) -> anyhow::Result<Vec<Duration>> {
    let mut writer = server.connect().await?;
    fill(&mut writer, 1).await?;
    let (arrived, mut arrivals) = unbounded_channel();
    for _ in 0..WATCHES {
        tokio::spawn(watch(server.clone(), arrived.clone()));
    }
    // What a watch begins with counts as its first arrival.
    for _ in 0..WATCHES {
        tokio::time::timeout(LIMIT, arrivals.recv()).await?.context("no watch is left")??;
    }
    let mut delays = Vec::new();
    for n in 0..CHANGES {
        let patch = json!({"data": {"n": n.to_string()}}).to_string();
        let sent = Instant::now();
        writer.request(Method::PATCH, &format!("{}/0", config_maps()), patch).await?;
        for _ in 0..WATCHES {
            let at = tokio::time::timeout(LIMIT, arrivals.recv()).await?.context("no watch is left")??;
            delays.push(at - sent);
        }
    }
    ensure!(arrivals.is_empty(), "a watch was told more than once");
    Ok(delays)
}

/// Says when each event has arrived, until something goes wrong.
async fn watch(server: Server, arrived: UnboundedSender<anyhow::Result<Instant>>) {
    if let Err(error) = follow(&server, &arrived).await {
        // When nobody listens any more, the measurement is over.
        drop(arrived.send(Err(error)));
    }
}

async fn follow(server: &Server, arrived: &UnboundedSender<anyhow::Result<Instant>>) -> anyhow::Result<()> {
    let mut connection = server.connect().await?;
    let mut events = connection
        .open(Method::GET, &format!("{}?watch=true&fieldSelector=metadata.name%3D0", config_maps()), "")
        .await?;
    while let Some(frame) = events.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        for _ in data.iter().filter(|byte| **byte == b'\n') {
            arrived.send(Ok(Instant::now()))?;
        }
    }
    bail!("the watch ended")
}
