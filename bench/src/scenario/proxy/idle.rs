//! Memory with nothing to do.

use tokio::runtime::Runtime;

use crate::comparison::runtime;
use crate::proxy::bootstrap::services;
use crate::proxy::client::{Client, Kind, request_to_service};
use crate::proxy::hop::{Hop, Requests, Work, path};
use crate::proxy::upstream::{ANSWER, Upstream};
use crate::proxy::{Program, Proxy, free_address};
use crate::report::Report;

const CONNECTIONS: usize = 10_000;
const SERVICES: u32 = 1000;

/// Adds the figures that have `only` in their names.
pub(super) fn run(mut report: Report, programs: &[Program], only: &str) -> anyhow::Result<Report> {
    for program in programs {
        let what = "each of 10,000 idle HTTP connections";
        if what.contains(only)
            && let Some(kilobytes) = connections(program, &runtime()?)?
        {
            let target = if matches!(program, Program::Isthmus(_)) { "6 KB" } else { "" };
            report = report.row(format!("{what}: {}", program.name()), kilobytes, "KB", target);
        }
    }
    for program in programs.iter().filter(|program| matches!(program, Program::Isthmus(_) | Program::Envoy(_))) {
        let what = "resident, 1,000 services";
        if what.contains(only) {
            let megabytes = configured(program, &runtime()?)?;
            report = report.row(format!("{what}: {}", program.name()), megabytes, "MB", "");
        }
    }
    Ok(report)
}

/// Kilobytes that the proxy has for each connection that has had one request.
fn connections(program: &Program, runtime: &Runtime) -> anyhow::Result<Option<f64>> {
    let endpoint = runtime.block_on(Upstream::Answer(0).start())?;
    let work = |features| Work::Requests(Requests { features, ..Requests::USUAL });
    let hop = |features| {
        let hop = Hop { listen: free_address()?, endpoint, terminate: None, originate: None, work: work(features) };
        Proxy::start(program, &hop).map(|proxy| proxy.map(|proxy| (proxy, hop.listen)))
    };
    // What writes no access log is measured without one.
    let Some((proxy, address)) = hop(true)?.map_or_else(|| hop(false), |found| Ok(Some(found)))? else {
        return Ok(None);
    };
    let kind = Kind::Http1 { request: request_to_service(&path(1), 0), body: ANSWER.len() };
    let client = Client::new(address, kind, None);
    let mut one = runtime.block_on(client.lanes(1))?;
    runtime.block_on(client.ask(&mut one[0]))?;
    let before = proxy.resident()?;
    let mut lanes = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut lane = runtime.block_on(client.lanes(1))?;
        runtime.block_on(client.ask(&mut lane[0]))?;
        lanes.extend(lane);
    }
    Ok(Some((proxy.resident()? - before) * 1024.0 / CONNECTIONS as f64))
}

/// Megabytes, with configuration for services that nobody calls.
fn configured(program: &Program, runtime: &Runtime) -> anyhow::Result<f64> {
    let endpoint = runtime.block_on(Upstream::Echo.start())?;
    let listen = free_address()?;
    Proxy::start_with(program, &services(listen, endpoint, SERVICES), listen)?.resident()
}
