//! `/stats`: what has been counted.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Query, server};
use crate::Proxy;
use crate::data_plane::Breakers;
use crate::metrics::{Kind, Sample, Scope, envoy_text, prometheus_text};
use crate::proxy::sample;

pub(super) fn answer(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let samples = match chosen(proxy, query) {
        Ok(samples) => samples,
        Err(answer) => return answer,
    };
    match query.get("format") {
        None | Some("" | "text") => Answer::text(envoy_text(&samples)),
        Some("prometheus") => Answer::text(prometheus_text(&samples)),
        Some("json") => {
            let stats = samples
                .iter()
                .filter(|s| !s.kind.is_of_histogram())
                .map(|s| json!({"name": s.full_name(), "value": s.shown()}));
            Answer::json(&json!({ "stats": stats.collect::<Vec<Value>>() }))
        }
        Some(_) => Answer::error(StatusCode::BAD_REQUEST, "usage: /stats?format=(json|prometheus|text)\n\n"),
    }
}

pub(super) fn prometheus(proxy: &Proxy, query: &Query<'_>) -> Answer {
    match chosen(proxy, query) {
        Ok(samples) => Answer::text(prometheus_text(&samples)),
        Err(answer) => answer,
    }
}

pub(super) fn reset(proxy: &Proxy, _: &Query<'_>) -> Answer {
    let counted = proxy.counted();
    proxy.state().reset_counters(&counted);
    Answer::text("OK\n")
}

/// The numbers that the query asks for. Of a counter one can tell whether it has been used, of a gauge only whether it
/// is in use.
fn chosen(proxy: &Proxy, query: &Query<'_>) -> Result<Vec<Sample>, Answer> {
    let filter = query.regex("filter")?;
    let used_only = query.get("usedonly").is_some();
    let counted = proxy.counted();
    let mut samples = proxy.state().since_reset(counted);
    samples.extend(of_server(proxy));
    samples.extend(proxy.data_plane().breakers().into_iter().flat_map(of_cluster));
    samples.retain(|s| !used_only || s.shown() > 0);
    if let Some(filter) = filter {
        samples.retain(|s| filter.is_match(&s.full_name()));
    }
    Ok(samples)
}

/// What of a cluster is read and not counted.
fn of_cluster(breakers: Breakers) -> [Sample; 6] {
    let Breakers { cluster, connections, pending, requests, retries, members: (all, healthy) } = breakers;
    let gauge = |(name, value)| Sample { scope: Scope::Cluster(cluster.clone()), name, kind: Kind::Gauge, value };
    [
        ("circuit_breakers.default.cx_open", connections.into()),
        ("circuit_breakers.default.rq_open", requests.into()),
        ("circuit_breakers.default.rq_pending_open", pending.into()),
        ("circuit_breakers.default.rq_retry_open", retries.into()),
        ("membership_healthy", healthy),
        ("membership_total", all),
    ]
    .map(gauge)
}

/// The numbers of the proxy as a whole that are read and not counted.
fn of_server(proxy: &Proxy) -> Vec<Sample> {
    let live = u64::from(proxy.state().name() == "LIVE");
    let mut samples = vec![
        sample("server.concurrency", Kind::Gauge, proxy.concurrency() as u64),
        sample("server.live", Kind::Gauge, live),
        sample("server.uptime", Kind::Gauge, proxy.uptime().as_secs()),
    ];
    samples.extend(server::resident_bytes().map(|bytes| sample("server.memory_physical_size", Kind::Gauge, bytes)));
    samples
}
