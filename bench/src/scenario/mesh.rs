//! The mesh's control plane with services and connected proxies, in several sizes and both variants of the protocol: how long
//! it takes from an edit to the last acknowledgement, and what it costs.

mod run;

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::cluster::one;
use crate::mesh::Size;
use crate::mesh::sidecar::Variant;
use crate::report::{Report, Slope};

/// The size in which everything is measured, and the number of proxies and services at which slopes are measured, too.
const USUAL: Size = Size { services: 1000, proxies: 200 };
const PROXIES: [usize; 2] = [50, 1000];
const SERVICES: [usize; 2] = [100, 10_000];

/// Measures all sizes, and one with so many proxies if that is asked for.
pub(crate) fn run(binary: &Path, runtime: &Runtime, more: Option<usize>) -> anyhow::Result<Report> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut report = Report::new("mesh");
    let mut points = Vec::new();
    let by_proxies = PROXIES.into_iter().chain(more).map(|proxies| Size { proxies, ..USUAL });
    let by_services = SERVICES.into_iter().map(|services| Size { services, ..USUAL });
    let delta = std::iter::once(USUAL).chain(by_proxies).chain(by_services).map(|size| (size, Variant::Delta));
    for (size, variant) in delta.chain([(USUAL, Variant::StateOfTheWorld)]) {
        let (federation, server) = one(binary, runtime)?;
        let Some(link) = federation.host_link() else {
            eprintln!("only root's clusters can be reached from here: the control plane is not measured");
            return Ok(report);
        };
        let process = crate::cluster::process(&federation)?;
        let mut measured = run::Run { server: &server, process, link, size, variant, values: Vec::new() };
        runtime.block_on(measured.measure())?;
        let of = match variant {
            Variant::Delta => "delta",
            Variant::StateOfTheWorld => "state of the world",
        };
        let place = format!("{} services, {} proxies, {of}", size.services, size.proxies);
        for (what, value, unit, target) in &measured.values {
            // What is asked for is asked for at a size.
            let target = if size.services == USUAL.services { target } else { &"" };
            report = report.row(format!("{place}: {what}"), *value, unit, target);
        }
        if variant == Variant::Delta {
            points.push((size, measured.values));
        }
    }
    report.slopes = slopes(&points);
    Ok(report)
}

/// What is known of a size: what, how much, its unit, and what is asked of it.
pub(crate) type Value = (String, f64, &'static str, &'static str);

fn slopes(points: &[(Size, Vec<Value>)]) -> Vec<Slope> {
    let mut slopes = Vec::new();
    let Some((_, first)) = points.first() else { return slopes };
    for (what, _, unit, _) in first {
        let along = |with: &'static str, of: fn(Size) -> usize, stays: fn(Size) -> bool| {
            let mut found: Vec<(f64, f64)> = points
                .iter()
                .filter(|(size, _)| stays(*size))
                .filter_map(|(size, values)| Some((of(*size) as f64, values.iter().find(|value| value.0 == *what)?.1)))
                .collect();
            found.sort_by(|a, b| a.0.total_cmp(&b.0));
            Slope { what: what.clone(), unit, with, points: found }
        };
        slopes.push(along("proxies", |size| size.proxies, |size| size.services == USUAL.services));
        slopes.push(along("services", |size| size.services, |size| size.proxies == USUAL.proxies));
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_along_what_changes_alone() {
        let at = |services, proxies, value| (Size { services, proxies }, vec![("v".to_owned(), value, "ms", "")]);
        let slopes = slopes(&[at(1000, 200, 3.0), at(1000, 50, 1.0), at(100, 200, 2.0)]);
        assert_eq!(slopes[0].points, [(50.0, 1.0), (200.0, 3.0)]);
        assert_eq!(slopes[1].points, [(100.0, 2.0), (1000.0, 3.0)]);
    }
}
