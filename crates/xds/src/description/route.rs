//! What virtual services say, rule by rule.

use api::istio::{Destination, HttpMatch, HttpRoute, L4Match, StringMatch, TlsMatch};
use serde::Serialize;

use crate::policy::Route;

/// A VirtualService, as far as it is for the host that is described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Routes {
    /// The object.
    pub object: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// `HTTP`, `TLS` or `TCP`.
    pub protocol: &'static str,
    /// The conditions, of which one must hold; none if it is for everything.
    pub matches: Vec<String>,
    /// Where it leads.
    pub to: Vec<String>,
    /// What else it does.
    pub also: Vec<&'static str>,
}

/// The rules of a virtual service; of those with destinations only the ones that lead to what is wanted.
pub(super) fn describe(route: &Route, wanted: Option<&dyn Fn(&Destination) -> bool>) -> Routes {
    let leads = |mut all: Box<dyn Iterator<Item = &Destination> + '_>| wanted.is_none_or(|wanted| all.any(wanted));
    let http =
        route.http.iter().filter(|http| leads(Box::new(http.destinations()))).map(|http| of_requests(&http.route));
    let tls = route.spec.tls.iter().filter(|rule| leads(Box::new(rule.route.iter().map(|r| &r.destination))));
    let tls = tls.map(|rule| Rule {
        protocol: "TLS",
        matches: rule.matches.iter().map(of_names).collect(),
        to: rule.route.iter().map(|r| weighted(&r.destination, r.weight, rule.route.len())).collect(),
        also: Vec::new(),
    });
    let tcp = route.spec.tcp.iter().filter(|rule| leads(Box::new(rule.route.iter().map(|r| &r.destination))));
    let tcp = tcp.map(|rule| Rule {
        protocol: "TCP",
        matches: rule.matches.iter().map(of_connections).filter(|text| !text.is_empty()).collect(),
        to: rule.route.iter().map(|r| weighted(&r.destination, r.weight, rule.route.len())).collect(),
        also: Vec::new(),
    });
    Routes {
        object: route.object.to_string(),
        hosts: route.spec.hosts.clone(),
        rules: http.chain(tls).chain(tcp).collect(),
    }
}

fn of_requests(route: &HttpRoute) -> Rule {
    let mut to: Vec<String> =
        route.route.iter().map(|r| weighted(&r.destination, r.weight, route.route.len())).collect();
    if let Some(redirect) = &route.redirect {
        to.push(format!("redirect to {}{}", redirect.authority, redirect.uri));
    }
    if let Some(answer) = &route.direct_response {
        to.push(format!("answered with {}", answer.status));
    }
    let delayed = route.fault.as_ref().is_some_and(|fault| fault.delay.is_some());
    let aborted = route.fault.as_ref().is_some_and(|fault| fault.abort.is_some());
    let also = [
        ("fault: delay", delayed),
        ("fault: abort", aborted),
        ("timeout", route.timeout.is_some()),
        ("retries", route.retries.is_some()),
        ("rewrite", route.rewrite.is_some()),
        ("mirror", route.mirror.is_some() || !route.mirrors.is_empty()),
        ("CORS", route.cors_policy.is_some()),
        ("headers", route.headers.is_some()),
    ];
    Rule {
        protocol: "HTTP",
        matches: route.matches.iter().map(conditions).filter(|text| !text.is_empty()).collect(),
        to,
        also: also.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect(),
    }
}

/// `host "reviews" subset "v2" port 9080 with weight 80%`.
fn weighted(to: &Destination, weight: u32, of: usize) -> String {
    let mut text = format!("host {:?}", to.host);
    if !to.subset.is_empty() {
        text.push_str(&format!(" subset {:?}", to.subset));
    }
    if let Some(port) = &to.port {
        text.push_str(&format!(" port {}", port.number));
    }
    // A single destination has everything, whatever its weight.
    let share = if of == 1 { 100 } else { weight };
    format!("{text} with weight {share}%")
}

/// A condition: what of the request must be how. Paths are alone as Istio writes them, `/x` and `/x*`.
fn conditions(m: &HttpMatch) -> String {
    let named = |what: &str, map: &std::collections::BTreeMap<String, StringMatch>| {
        map.iter().map(|(name, value)| format!("{what} {name}{}", compared(value))).collect::<Vec<_>>()
    };
    let single = |what: &str, value: &Option<StringMatch>| value.as_ref().map(|v| format!("{what}{}", compared(v)));
    let mut all: Vec<String> = m.uri.as_ref().map(path).into_iter().collect();
    all.extend(single("scheme", &m.scheme));
    all.extend(single("method", &m.method));
    all.extend(single("authority", &m.authority));
    all.extend(named("header", &m.headers));
    all.extend(named("without header", &m.without_headers));
    all.extend(named("query", &m.query_params));
    all.extend(m.port.map(|port| format!("port {port}")));
    all.extend(m.source_labels.iter().map(|(key, value)| format!("from {key}={value}")));
    all.extend((!m.source_namespace.is_empty()).then(|| format!("from namespace {}", m.source_namespace)));
    all.join(", ")
}

fn path(uri: &StringMatch) -> String {
    match uri {
        StringMatch::Present => "*".to_owned(),
        StringMatch::Exact(path) => path.clone(),
        StringMatch::Prefix(prefix) => format!("{prefix}*"),
        StringMatch::Regex(expression) => format!("regex {expression}"),
    }
}

fn compared(value: &StringMatch) -> String {
    match value {
        StringMatch::Present => " present".to_owned(),
        StringMatch::Exact(text) => format!("={text}"),
        StringMatch::Prefix(prefix) => format!("={prefix}*"),
        StringMatch::Regex(expression) => format!("~{expression}"),
    }
}

fn of_names(m: &TlsMatch) -> String {
    let port = m.port.map(|port| format!(", port {port}")).unwrap_or_default();
    format!("SNI {}{port}", m.sni_hosts.join(" "))
}

fn of_connections(m: &L4Match) -> String {
    let port = m.port.map(|port| format!("port {port}"));
    let subnets = m.destination_subnets.iter().map(|subnet| format!("to {subnet}"));
    let labels = m.source_labels.iter().map(|(key, value)| format!("from {key}={value}"));
    port.into_iter().chain(subnets).chain(labels).collect::<Vec<_>>().join(", ")
}
