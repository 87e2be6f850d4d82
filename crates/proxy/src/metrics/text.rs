//! Numbers as text, for Prometheus and as Envoy's `/stats` has them.

use std::fmt::Write;
use std::sync::Arc;

use super::{HttpFilterName, Kind, Sample, Scope, histogram};

/// The label that names a connection manager.
const MANAGER: &str = "envoy_http_conn_manager_prefix";

/// The exposition in Prometheus' text format: by metric, each with its type.
pub fn prometheus_text(samples: &[Sample]) -> String {
    let mut lines: Vec<(String, String, Kind, u64)> = samples
        .iter()
        .map(|s| (prometheus_name(&s.scope, s.name), prometheus_labels(&s.scope), s.kind, s.shown()))
        .collect();
    lines.sort();
    let mut text = String::new();
    let mut last = "";
    for (name, labels, kind, value) in &lines {
        if name != last {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Bucket(_) | Kind::Sum | Kind::Count => "histogram",
            };
            text.push_str(&format!("# TYPE {name} {kind}\n"));
        }
        text.push_str(&match kind {
            Kind::Counter | Kind::Gauge => format!("{name}{{{labels}}} {value}\n"),
            Kind::Bucket(number) => {
                format!("{name}_bucket{{{labels},le=\"{}\"}} {value}\n", histogram::bound(*number))
            }
            Kind::Sum => format!("{name}_sum{{{labels}}} {value}\n"),
            // All values are below infinity.
            Kind::Count => {
                format!("{name}_bucket{{{labels},le=\"+Inf\"}} {value}\n{name}_count{{{labels}}} {value}\n")
            }
        });
        last = name;
    }
    text
}

/// Envoy's `/stats`: a line for each number that is not part of a histogram, in the order of their names.
pub fn envoy_text(samples: &[Sample]) -> String {
    let counted = samples.iter().filter(|s| !s.kind.is_of_histogram());
    let mut lines: Vec<String> = counted.map(|s| format!("{}: {}\n", s.full_name(), s.shown())).collect();
    lines.sort();
    lines.concat()
}

impl Sample {
    /// Its value as it is shown: a gauge that was read while a connection changed hands may be below zero for a moment.
    pub fn shown(&self) -> u64 {
        if self.value > i64::MAX.cast_unsigned() { 0 } else { self.value }
    }

    /// Its whole name, as Envoy's `/stats` has it.
    pub fn full_name(&self) -> String {
        envoy_name(&self.scope, self.name)
    }
}

impl HttpFilterName {
    /// What goes before the names of a filter's numbers.
    fn beginning(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}.", self.prefix) }
    }
}

fn prometheus_name(scope: &Scope, name: &str) -> String {
    let name = match scope {
        Scope::Server => format!("envoy_{name}"),
        Scope::Listener(_) => format!("envoy_listener_{name}"),
        Scope::Cluster(_) => format!("envoy_cluster_{name}"),
        Scope::Tcp(_) => format!("envoy_tcp_{name}"),
        Scope::Http(_) => format!("envoy_http_{name}"),
        Scope::JwtAuthn(filter) => format!("envoy_http_jwt_authn_{}{name}", filter.beginning()),
        Scope::ExtAuthz(_) => format!("envoy_http_ext_authz_{name}"),
        Scope::Rbac(prefix) => format!("envoy_{prefix}rbac_{name}"),
        Scope::Istio(_) => name.to_owned(),
    };
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn prometheus_labels(scope: &Scope) -> String {
    let one = |name: &str, value: &Arc<str>| format!("{name}=\"{}\"", escaped(value));
    match scope {
        Scope::Server | Scope::Rbac(_) => String::new(),
        Scope::Listener(address) => one("envoy_listener_address", address),
        Scope::Cluster(name) => one("envoy_cluster_name", name),
        Scope::Tcp(prefix) => one("envoy_tcp_prefix", prefix),
        Scope::Http(prefix) => one(MANAGER, prefix),
        Scope::JwtAuthn(filter) => one(MANAGER, &filter.manager),
        Scope::ExtAuthz(HttpFilterName { manager, prefix }) if prefix.is_empty() => one(MANAGER, manager),
        Scope::ExtAuthz(HttpFilterName { manager, prefix }) => {
            format!("{},{}", one("envoy_ext_authz_prefix", prefix), one(MANAGER, manager))
        }
        Scope::Istio(labels) => {
            let mut text = String::new();
            labels.visit(&mut |name, value| {
                let comma = if text.is_empty() { "" } else { "," };
                write!(text, "{comma}{name}=\"{}\"", escaped(value)).expect("a buffer in memory takes all");
            });
            text
        }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn envoy_name(scope: &Scope, name: &str) -> String {
    // Envoy replaces colons, because lines are split at them.
    let subject = |subject: &Arc<str>| subject.replace(':', "_");
    match scope {
        Scope::Server => name.to_owned(),
        Scope::Listener(address) => format!("listener.{}.{name}", subject(address)),
        Scope::Cluster(cluster) => format!("cluster.{}.{name}", subject(cluster)),
        Scope::Tcp(prefix) => format!("tcp.{}.{name}", subject(prefix)),
        Scope::Http(prefix) => format!("http.{}.{name}", subject(prefix)),
        Scope::JwtAuthn(filter) => {
            format!("http.{}.jwt_authn.{}{name}", subject(&filter.manager), filter.beginning().replace(':', "_"))
        }
        Scope::ExtAuthz(filter) => {
            format!("http.{}.ext_authz.{}{name}", subject(&filter.manager), filter.beginning().replace(':', "_"))
        }
        Scope::Rbac(prefix) => format!("{}rbac.{name}", subject(prefix)),
        Scope::Istio(labels) => {
            let mut text = format!("istiocustom.{name}");
            labels.visit(&mut |label, value| {
                write!(text, ".{label}.{}", value.replace(':', "_")).expect("a buffer in memory takes all");
            });
            text
        }
    }
}
