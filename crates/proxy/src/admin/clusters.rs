//! `/clusters`: where connections may go, and how that went.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::listeners::socket;
use super::{Answer, Query};
use crate::config::{Cluster, Discovery, Health, Limits};
use crate::data_plane::EndpointState;
use crate::{Proxy, Snapshot};

/// The endpoints of each cluster.
type Endpoints = BTreeMap<Arc<str>, Vec<EndpointState>>;

pub(super) fn answer(proxy: &Proxy, query: &Query<'_>) -> Answer {
    let filter = match query.regex("filter") {
        Ok(filter) => filter,
        Err(answer) => return answer,
    };
    let snapshot = proxy.snapshot();
    let endpoints = proxy.data_plane().endpoints();
    let clusters = chosen(&snapshot, filter.as_ref());
    if query.get("format") == Some("json") {
        let statuses = clusters.map(|cluster| status(cluster, of(cluster, &endpoints)));
        return Answer::json(&json!({ "cluster_statuses": statuses.collect::<Vec<Value>>() }));
    }
    let mut text = String::new();
    for cluster in clusters {
        write_cluster(&mut text, cluster, of(cluster, &endpoints)).expect("a string takes all");
    }
    Answer::text(text)
}

fn chosen<'a>(snapshot: &'a Snapshot, filter: Option<&'a Regex>) -> impl Iterator<Item = &'a Cluster> {
    let clusters = snapshot.clusters().into_values().map(|loaded| &*loaded.config);
    clusters.filter(move |cluster| filter.is_none_or(|filter| filter.is_match(&cluster.name)))
}

fn of<'a>(cluster: &Cluster, endpoints: &'a Endpoints) -> &'a [EndpointState] {
    endpoints.get(&cluster.name).map(Vec::as_slice).unwrap_or_default()
}

fn thresholds(limits: &Limits) -> [(&'static str, u32); 4] {
    // A budget has no place in this list, in Envoy either.
    let Limits { max_connections, max_pending, max_requests, max_retries, retry_budget: _ } = *limits;
    [
        ("max_connections", max_connections),
        ("max_pending_requests", max_pending),
        ("max_requests", max_requests),
        ("max_retries", max_retries),
    ]
}

fn health(endpoint: &EndpointState) -> &'static str {
    match endpoint.health {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
    }
}

fn health_flags(endpoint: &EndpointState) -> String {
    let eds = match endpoint.health {
        Health::Healthy => None,
        Health::Degraded => Some("/degraded_eds_health"),
        Health::Unhealthy => Some("/failed_eds_health"),
    };
    let failed = endpoint.failed_check.then_some("/failed_active_hc");
    let ejected = endpoint.ejected.then_some("/failed_outlier_check");
    let flags: String = failed.into_iter().chain(ejected).chain(eds).collect();
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

fn write_cluster(text: &mut String, cluster: &Cluster, endpoints: &[EndpointState]) -> std::fmt::Result {
    let name = &cluster.name;
    writeln!(text, "{name}::observability_name::{}", cluster.stat_name)?;
    for (limit, value) in thresholds(&cluster.limits) {
        writeln!(text, "{name}::default_priority::{limit}::{value}")?;
    }
    writeln!(text, "{name}::added_via_api::true")?;
    if let Discovery::Eds(service) = &cluster.discovery {
        writeln!(text, "{name}::eds_service_name::{service}")?;
    }
    for endpoint in endpoints {
        let EndpointState { address, hostname, weight, priority, locality, active, total, failed, .. } = endpoint;
        let at = format!("{name}::{address}");
        writeln!(text, "{at}::cx_active::{active}")?;
        writeln!(text, "{at}::cx_connect_fail::{failed}")?;
        writeln!(text, "{at}::cx_total::{total}")?;
        writeln!(text, "{at}::hostname::{hostname}")?;
        writeln!(text, "{at}::health_flags::{}", health_flags(endpoint))?;
        writeln!(text, "{at}::weight::{weight}")?;
        writeln!(text, "{at}::region::{}", locality.region)?;
        writeln!(text, "{at}::zone::{}", locality.zone)?;
        writeln!(text, "{at}::sub_zone::{}", locality.sub_zone)?;
        writeln!(text, "{at}::priority::{priority}")?;
    }
    Ok(())
}

/// A cluster as `envoy.admin.v3.ClusterStatus`.
fn status(cluster: &Cluster, endpoints: &[EndpointState]) -> Value {
    let limits = thresholds(&cluster.limits).map(|(name, value)| (name.to_owned(), value.into()));
    let mut fields = json!({
        "name": &*cluster.name,
        "added_via_api": true,
        "observability_name": &*cluster.stat_name,
        "circuit_breakers": {"thresholds": [Map::from_iter(limits)]},
        "host_statuses": endpoints.iter().map(host).collect::<Vec<Value>>(),
    });
    if let Discovery::Eds(service) = &cluster.discovery {
        fields["eds_service_name"] = (**service).into();
    }
    fields
}

/// An endpoint as `envoy.admin.v3.HostStatus`.
fn host(endpoint: &EndpointState) -> Value {
    let EndpointState {
        address,
        hostname,
        weight,
        priority,
        locality,
        failed_check,
        ejected,
        active,
        total,
        failed,
        ..
    } = endpoint;
    let metric = |kind: &str, name: &str, value: &u64| json!({"type": kind, "name": name, "value": value.to_string()});
    json!({
        "address": socket(*address),
        "hostname": &**hostname,
        "weight": weight,
        "priority": priority,
        "locality": {
            "region": &*locality.region,
            "zone": &*locality.zone,
            "sub_zone": &*locality.sub_zone,
        },
        "health_status": {"eds_health_status": health(endpoint), "failed_active_health_check": failed_check, "failed_outlier_check": ejected},
        "stats": [
            metric("COUNTER", "cx_connect_fail", failed),
            metric("COUNTER", "cx_total", total),
            metric("GAUGE", "cx_active", active),
        ],
    })
}
