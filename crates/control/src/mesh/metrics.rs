//! What the control plane counts, under Istio's names.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envoy::TypeUrl;

use super::ControlPlane;

/// The upper bounds of the times that are told apart, in seconds: Istio's, and finer ones below them.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0];

/// Counters of all streams since the start.
#[derive(Default)]
pub(super) struct Metrics {
    pushes: [AtomicU64; TypeUrl::ALL.len()],
    bytes: [AtomicU64; TypeUrl::ALL.len()],
    rejects: [AtomicU64; TypeUrl::ALL.len()],
    /// How many convergences took no longer than each bound, and how many there were.
    convergences: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Metrics {
    pub(super) fn pushed(&self, type_url: TypeUrl, bytes: usize) {
        self.pushes[index(type_url)].fetch_add(1, Ordering::Relaxed);
        self.bytes[index(type_url)].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn rejected(&self, type_url: TypeUrl) {
        self.rejects[index(type_url)].fetch_add(1, Ordering::Relaxed);
    }

    /// A proxy has been sent a change so long after it was heard of.
    pub(super) fn converged(&self, time: Duration) {
        for (_, count) in BOUNDS.iter().zip(&self.convergences).filter(|(bound, _)| time.as_secs_f64() <= **bound) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(time.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Everything in Prometheus' text format.
pub(super) fn text(plane: &ControlPlane) -> String {
    let metrics = &plane.0.metrics;
    let world = plane.world();
    let objects = world.mesh.objects();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _written = writeln!(text, "{name}{labels} {value}");
        }
    };
    let by_type = |counts: &[AtomicU64; TypeUrl::ALL.len()]| -> Vec<(String, f64)> {
        let types = TypeUrl::ALL.into_iter();
        types.map(|t| (format!("{{type=\"{}\"}}", abbreviation(t)), load(&counts[index(t)]))).collect()
    };
    let one = |value: f64| vec![(String::new(), value)];
    let sum = |counts: &[AtomicU64]| counts.iter().map(load).sum::<f64>();
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    family("pilot_info", "gauge", "The version of the control plane.", &[(version.clone(), 1.0)]);
    let connected = plane.0.proxies.all().len();
    family("pilot_xds", "gauge", "Proxies that are connected.", &[(version, connected as f64)]);
    family("pilot_xds_pushes", "counter", "Responses that were sent.", &by_type(&metrics.pushes));
    family("pilot_xds_push_bytes", "counter", "Their bytes.", &by_type(&metrics.bytes));
    family("pilot_total_xds_rejects", "counter", "Responses that proxies refused.", &one(sum(&metrics.rejects)));
    for t in [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Listener, TypeUrl::Route] {
        let name = format!("pilot_xds_{}_reject", abbreviation(t));
        family(&name, "counter", "Of one type.", &one(load(&metrics.rejects[index(t)])));
    }
    family("pilot_services", "gauge", "Services of Kubernetes.", &one(objects.services.len() as f64));
    family("pilot_virt_services", "gauge", "VirtualServices.", &one(objects.virtual_services.len() as f64));
    let found = world.diagnostics.len() as f64;
    family("pilot_diagnostics", "gauge", "What objects say without effect.", &one(found));
    convergence(metrics, &mut text);
    text
}

fn convergence(metrics: &Metrics, text: &mut String) {
    let name = "pilot_proxy_convergence_time";
    let help = "Seconds from a change to a proxy having been sent it.";
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("# HELP {name} {help}\n# TYPE {name} histogram"));
    for (bound, count) in BOUNDS.iter().zip(&metrics.convergences) {
        line(format!("{name}_bucket{{le=\"{bound}\"}} {}", load(count)));
    }
    line(format!("{name}_bucket{{le=\"+Inf\"}} {}", load(&metrics.count)));
    line(format!("{name}_sum {}", load(&metrics.microseconds) / 1e6));
    line(format!("{name}_count {}", load(&metrics.count)));
}

fn load(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

fn index(type_url: TypeUrl) -> usize {
    type_url as usize
}

/// The name of a type's discovery service, in short.
pub(super) fn abbreviation(type_url: TypeUrl) -> &'static str {
    match type_url {
        TypeUrl::Cluster => "cds",
        TypeUrl::Endpoint => "eds",
        TypeUrl::Secret => "sds",
        TypeUrl::Listener => "lds",
        TypeUrl::Route => "rds",
    }
}
