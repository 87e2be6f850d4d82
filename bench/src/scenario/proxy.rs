//! The data plane on one core, beside Envoy, nginx and haproxy: what each sort of load costs, how long it takes, and what is
//! held in memory.

mod idle;
mod loads;
mod reload;

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::comparison::{Extent, compare};
use crate::proxy::certificates::{Certificates, Hosts, Keys};
use crate::proxy::{self, Program};
use crate::report::Report;

/// How many routes and servers a large gateway has.
const MANY: usize = 1000;

/// Measures the figures that have `only` in their names.
pub(crate) fn run(binary: &Path, only: &str, extent: Extent) -> anyhow::Result<Report> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    proxy::pin_load()?;
    let programs = Program::all(binary);
    let keys = Certificates::generate(Keys::Ecdsa)?;
    let rsa = Certificates::generate(Keys::Rsa)?;
    let hosts = |count, mutual| Hosts::generate(count, mutual);
    let gateways = [hosts(1, false)?, hosts(MANY, false)?, hosts(1, true)?, hosts(MANY, true)?];
    let mut report = Report::new("proxy");
    for load in loads::all(&keys, &rsa, &gateways)?.into_iter().filter(|load| load.what.contains(only)) {
        let comparison = compare(&load, &programs, extent)?;
        eprintln!("measured: {}", comparison.what);
        report.comparisons.push(comparison);
    }
    report = growth(report);
    report = idle::run(report, &programs, only)?;
    if reload::WHAT.contains(only) {
        report = reload::run(report, &programs)?;
    }
    Ok(report)
}

/// What many routes and servers cost beside one.
fn growth(mut report: Report) -> Report {
    for (many, one) in loads::GROWTH {
        let find = |what: &str| report.comparisons.iter().find(|comparison| comparison.what == what);
        let (Some(many), Some(one)) = (find(many), find(one)) else { continue };
        let ratio = |program: &str| Some(many.line(program)?.median("cpu") / one.line(program)?.median("cpu"));
        let rows: Vec<(String, f64, &str)> = ["isthmus", "envoy", "nginx"]
            .into_iter()
            .filter_map(|program| {
                let target = if program == "isthmus" { "1.1" } else { "" };
                Some((format!("CPU of {} by {}: {program}", many.what, one.what), ratio(program)?, target))
            })
            .collect();
        for (what, ratio, target) in rows {
            report = report.row(what, ratio, "", target);
        }
    }
    report
}
