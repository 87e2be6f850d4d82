//! Reads by 16 clients.

use std::path::Path;

use bytes::Bytes;
use http::Method;
use tokio::runtime::Runtime;

use crate::cluster::{config_maps, fill, one};
use crate::load::load;
use crate::report::Report;
use crate::statistics::{milliseconds, percentile};

const OBJECTS: usize = 1000;

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let (_federation, server) = one(binary, runtime)?;
    let reads = runtime.block_on(async {
        fill(&mut server.connect().await?, OBJECTS).await?;
        load(&server, |client, n| {
            let path = format!("{}/{}", config_maps(), (client * 61 + n * 7) % OBJECTS);
            (Method::GET, path, Bytes::new())
        })
        .await
    })?;
    let report = Report::new("reads").row("gets over HTTPS", reads.per_second, "/s", "20000/s");
    Ok(report.row("gets over HTTPS, p99", milliseconds(percentile(&reads.times, 99.0)), "ms", ""))
}
