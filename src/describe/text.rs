//! Descriptions as text, in the manner of `istioctl experimental describe`.

use std::fmt::Write;

use xds::description::{Exposure, Pod, Policy, Routes, Service, ServiceDescription};

const RULE: &str = "--------------------\n";

/// Appends a line. Memory takes all that is written.
macro_rules! line {
    ($text:ident, $($words:tt)*) => {{
        let _ = writeln!($text, $($words)*);
    }};
}

/// A pod.
pub(super) fn pod(pod: &Pod) -> String {
    let Pod { name, namespace, proxy, ports, services, policy, warnings } = pod;
    let mut text = String::new();
    line!(text, "Pod: {name}.{namespace}");
    line!(text, "   Proxy: {}", proxy.unwrap_or("none"));
    let ports: Vec<String> = ports.iter().map(|port| format!("{} ({})", port.port, port.container)).collect();
    line!(text, "   Pod Ports: {}", or_none(&ports));
    for service in services {
        text.push_str(RULE);
        describe(service, "Matching", &mut text);
    }
    text.push_str(RULE);
    effective(policy, &mut text);
    warn(warnings, &mut text);
    text
}

/// A service with what holds at its workloads.
pub(super) fn service(described: &ServiceDescription) -> String {
    let ServiceDescription { service, workloads } = described;
    let mut text = String::new();
    describe(service, "Non-empty", &mut text);
    for workload in workloads {
        text.push_str(RULE);
        line!(text, "Pods: {}", workload.pods.join(", "));
        effective(&workload.policy, &mut text);
    }
    warn(&service.warnings, &mut text);
    text
}

fn describe(service: &Service, matching: &str, text: &mut String) {
    line!(text, "{} ({})", service.object.replacen(' ', ": ", 1), service.host);
    for port in &service.ports {
        let name = if port.name.is_empty() { "<unnamed>" } else { &port.name };
        line!(
            text,
            "   Port: {name} {}/{} targets pod port {}, {} endpoint(s)",
            port.port,
            port.protocol,
            port.target,
            port.endpoints
        );
        line!(text, "      Clients use: {}", port.client_tls);
    }
    if let Some(rule) = &service.destination_rule {
        line!(text, "{}", rule.object.replacen(' ', ": ", 1));
        let named = |wanted: bool| {
            let named = rule.subsets.iter().filter(|subset| subset.matches == wanted);
            named.map(|subset| format!("{} ({})", subset.name, subset.labels.join(","))).collect::<Vec<_>>()
        };
        let (matched, others) = (named(true), named(false));
        if !rule.subsets.is_empty() {
            line!(text, "   {matching} subsets: {}", or_none(&matched));
        }
        if !others.is_empty() {
            line!(text, "      (others: {})", others.join(", "));
        }
        match rule.traffic_policy.as_slice() {
            [] => line!(text, "   No Traffic Policy"),
            said => line!(text, "   Traffic Policy: {}", said.join(", ")),
        }
    }
    if let Some(found) = &service.virtual_service {
        routes(found, text);
    }
    if let Some(roles) = &service.roles {
        let decides = if roles.enforced { "RBAC policies" } else { "RBAC policies (not enforced)" };
        line!(text, "{decides}, by {}: {}", roles.config, or_none(&roles.roles));
    }
    service.exposures.iter().for_each(|exposure| exposed(exposure, text));
}

fn exposed(exposure: &Exposure, text: &mut String) {
    let Exposure { gateway, servers, addresses, routes: found } = exposure;
    line!(text, "Exposed on {gateway} at {}", or_none(addresses));
    line!(text, "   Servers: {}", servers.join(", "));
    match found {
        Some(found) => routes(found, text),
        None => line!(text, "   Connections name the service themselves (AUTO_PASSTHROUGH)"),
    }
}

fn routes(routes: &Routes, text: &mut String) {
    line!(text, "{}", routes.object.replacen(' ', ": ", 1));
    for rule in &routes.rules {
        let matches = if rule.matches.is_empty() { "everything".to_owned() } else { rule.matches.join(" | ") };
        line!(text, "   {} Match: {matches}", rule.protocol);
        rule.to.iter().for_each(|to| line!(text, "      Route to {to}"));
        if !rule.also.is_empty() {
            line!(text, "      With {}", rule.also.join(", "));
        }
    }
}

fn effective(policy: &Policy, text: &mut String) {
    line!(text, "Effective PeerAuthentication:");
    line!(text, "   Workload mTLS mode: {}", policy.mutual_tls);
    for port in &policy.mutual_tls_of_ports {
        line!(text, "   At port {}: {}", port.port, port.mode);
    }
    let lists = [
        ("Applied PeerAuthentication", &policy.peer_authentications),
        ("Applied RequestAuthentication", &policy.request_authentications),
        ("Applied AuthorizationPolicy", &policy.authorization_policies),
        ("Also applied", &policy.others),
    ];
    for (title, objects) in lists.into_iter().filter(|(_, objects)| !objects.is_empty()) {
        line!(text, "{title}:");
        objects.iter().for_each(|object| line!(text, "   {object}"));
    }
}

fn warn(warnings: &[String], text: &mut String) {
    warnings.iter().for_each(|warning| line!(text, "WARNING: {warning}"));
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
