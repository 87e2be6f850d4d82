//! Durable writes by 16 clients, beside etcd.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::cluster::{config_map, config_maps, one};
use crate::etcd::Etcd;
use crate::load::{Load, load};
use crate::report::Report;
use crate::statistics::{milliseconds, percentile};

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let ours = {
        let (_federation, server) = one(binary, runtime)?;
        runtime.block_on(load(&server, |client, n| {
            (Method::POST, config_maps(), config_map(&format!("{client}-{n}")).into())
        }))?
    };
    let report = rows(Report::new("writes"), "creates over HTTPS", &ours, "2000/s");
    let Some(etcd) = Etcd::start()? else {
        eprintln!("etcd is not installed (apt-get install etcd-server): no comparison");
        return Ok(report);
    };
    let theirs = runtime.block_on(load(&etcd.server, |client, n| {
        let name = format!("{client}-{n}");
        let put = json!({"key": STANDARD.encode(&name), "value": STANDARD.encode(config_map(&name))});
        (Method::POST, "/v3/kv/put".to_owned(), put.to_string().into())
    }))?;
    Ok(rows(report, "etcd, puts over HTTP", &theirs, ""))
}

fn rows(report: Report, what: &str, load: &Load, target: &str) -> Report {
    let report = report.row(what, load.per_second, "/s", target);
    report.row(format!("{what}, p99"), milliseconds(percentile(&load.times, 99.0)), "ms", "")
}
