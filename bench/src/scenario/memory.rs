//! Resident memory of a cluster process with 1,000 objects.

use std::path::Path;

use tokio::runtime::Runtime;

use crate::cluster::{fill, one, process};
use crate::process::resident;
use crate::report::Report;

const OBJECTS: usize = 1000;

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let (federation, server) = one(binary, runtime)?;
    let process = process(&federation)?;
    let empty = resident(process)?;
    runtime.block_on(async { fill(&mut server.connect().await?, OBJECTS).await })?;
    let full = resident(process)?;
    let report = Report::new("memory").row("resident, a new cluster", empty, "MB", "");
    Ok(report.row(format!("resident, {OBJECTS} ConfigMaps of 1 KB"), full, "MB", "40 MB"))
}
