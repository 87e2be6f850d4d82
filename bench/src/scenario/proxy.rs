//! The data plane on one core, beside Envoy: processor time for each handshake, exchange, request and
//! gigabyte, and memory.
//!
//! Runs are interleaved, and the median of each figure counts: what else the machine does meets both alike.

mod bulk;
mod exchange;
mod handshake;
mod memory;
mod request;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::proxy::bootstrap::Hop;
use crate::proxy::certificates::{Certificates, Keys};
use crate::proxy::{self, Program, Proxy};
use crate::report::Report;

const RUNS: usize = 3;

/// Measures the figures that have `only` in their names.
pub(crate) fn run(binary: &Path, only: &str) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    proxy::pin_load()?;
    let programs = Program::all(binary);
    let (ecdsa, rsa) = (Certificates::generate(Keys::Ecdsa)?, Certificates::generate(Keys::Rsa)?);
    let mut report = Report::new("proxy");
    let figures: [(&str, &str, f64, &Measure<'_>); 12] = [
        ("mTLS handshake, ECDSA", "µs", 0.85, &|p| handshake::run(p, &runtime, &ecdsa)),
        ("mTLS handshake, RSA", "µs", 0.7, &|p| handshake::run(p, &runtime, &rsa)),
        ("exchange over two proxies, mTLS", "µs", 0.7, &|p| exchange::run(p, &runtime, &ecdsa)),
        ("gigabyte over two proxies, mTLS", "s", 0.9, &|p| bulk::over_mtls(p, &runtime, &ecdsa)),
        ("gigabyte, plain", "s", 0.95, &|p| bulk::plain(p, &runtime)),
        ("request, HTTP/1.1", "µs", 0.45, &|p| request::plain(p, &runtime, 1)),
        ("request, HTTP/1.1, 1,000 routes", "µs", 0.4, &|p| request::plain(p, &runtime, 1000)),
        ("request, HTTP/2", "µs", 0.6, &|p| request::multiplexed(p, &runtime)),
        ("request over two proxies, mTLS", "µs", 0.45, &|p| request::over_mtls(p, &runtime, &ecdsa)),
        ("resident, 32 connections with requests", "MB", f64::NAN, &|p| request::resident(p, &runtime)),
        ("resident, idle", "MB", f64::NAN, &|p| memory::run(p, &runtime, 0)),
        ("resident, 1,000 services", "MB", f64::NAN, &|p| memory::run(p, &runtime, 1000)),
    ];
    for (what, unit, target, measure) in figures.into_iter().filter(|(what, ..)| what.contains(only)) {
        report = compare(report, &programs, what, unit, target, measure)?;
    }
    Ok(report)
}

type Measure<'a> = dyn Fn(&Program) -> anyhow::Result<f64> + 'a;

fn compare(
    mut report: Report,
    programs: &[Program],
    what: &str,
    unit: &'static str,
    target: f64,
    measure: &Measure<'_>,
) -> anyhow::Result<Report> {
    let mut values = vec![Vec::new(); programs.len()];
    for _ in 0..RUNS {
        for (program, values) in programs.iter().zip(&mut values) {
            values.push(measure(program)?);
        }
    }
    let medians: Vec<f64> = values.into_iter().map(median).collect();
    for (program, value) in programs.iter().zip(&medians) {
        report = report.row(format!("{what}: {}", program.name()), *value, unit, "");
    }
    if let [ours, theirs] = medians[..] {
        let target = if target.is_nan() { String::new() } else { target.to_string() };
        report = report.row(format!("{what}: ratio"), ours / theirs, "", &target);
    }
    Ok(report)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time of `proxies` while `work` goes on.
fn cpu_during(
    proxies: &[&Proxy],
    runtime: &Runtime,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Duration> {
    let total = || proxies.iter().map(|proxy| proxy.cpu()).sum::<anyhow::Result<Duration>>();
    let before = total()?;
    runtime.block_on(work)?;
    Ok(total()? - before)
}

/// Two proxies with mutual TLS between them, on the way to `endpoint`; and where to begin.
fn pair(
    program: &Program,
    certificates: &Certificates,
    endpoint: SocketAddr,
) -> anyhow::Result<(Proxy, Proxy, SocketAddr)> {
    let (outer, inner) = (proxy::free_address()?, proxy::free_address()?);
    let server = Hop { listen: inner, endpoint, terminate: Some(certificates), originate: None };
    let client = Hop { listen: outer, endpoint: inner, terminate: None, originate: Some(certificates) };
    let server = Proxy::start(program, &server.bootstrap(), inner)?;
    let client = Proxy::start(program, &client.bootstrap(), outer)?;
    Ok((client, server, outer))
}
