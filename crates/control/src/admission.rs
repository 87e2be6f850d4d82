//! Defaults and validation of the core kinds, worded as kube-apiserver 1.33 words them.
//!
//! One file per kind; [`field`] reads objects with the paths that errors name.

mod account;
mod address;
mod autoscaler;
mod container;
mod data;
mod deployment;
mod endpoints;
mod event;
pub(crate) mod field;
mod istio;
mod job;
mod namespace;
mod pod;
mod pod_defaults;
mod pod_spec;
mod role;
mod selector;
mod service;
mod service_spec;
mod sidecar;
mod unused;
mod volume;

use std::net::IpAddr;
use std::sync::Arc;

use api::{ApiError, Cause, GroupResource};
use apiserver::{Admission, Phase, Review};
use field::Field;
pub use istio::validate;
use serde_json::json;

use crate::Config;

/// Defaults and validation of the core kinds, to be registered with the API server.
pub fn admission(config: &Config) -> Vec<Admission> {
    let services = service::Reviewer::new(config);
    let injector = sidecar::Injector::new(config);
    let mut all = vec![
        on("", &["pods"], move |review| injector.review(review)),
        on("", &["pods"], pod::review),
        on("", &["serviceaccounts"], account::review),
        on("", &["services"], move |review| services.review(review)),
        on("", &["endpoints"], endpoints::review),
        on("discovery.k8s.io", &["endpointslices"], endpoints::review_slice),
        on("", &["namespaces"], namespace::review),
        on("", &["secrets"], data::review_secret),
        on("", &["configmaps"], data::review_config_map),
        on("", &["nodes"], namespace::review_node),
        on("", &["events"], event::review),
        on("events.k8s.io", &["events"], event::review),
        on("apps", &["deployments"], deployment::review),
        on("apps", &["replicasets"], deployment::review_replica_set),
        on("batch", &["jobs"], job::review),
        on("autoscaling", &["horizontalpodautoscalers"], autoscaler::review),
        on("rbac.authorization.k8s.io", &["roles", "clusterroles"], role::review),
        on("rbac.authorization.k8s.io", &["rolebindings", "clusterrolebindings"], role::review_binding),
        on("coordination.k8s.io", &["leases"], event::review_lease),
        on("", &["resourcequotas"], unused::warn("this cluster counts no usage")),
        on("", &["limitranges"], unused::warn("pods of this cluster are ordinary processes without limits")),
        on("policy", &["poddisruptionbudgets"], unused::warn("this cluster's node is never drained by itself")),
        on("scheduling.k8s.io", &["priorityclasses"], unused::warn("this cluster's node takes every pod")),
    ];
    all.extend(istio::admission());
    all
}

type Reviewed = Result<(), ApiError>;

fn on(
    group: &str,
    resources: &[&str],
    review: impl Fn(&mut Review<'_>) -> Reviewed + Send + Sync + 'static,
) -> Admission {
    let resources = resources.iter().map(|resource| GroupResource::new(group, resource)).collect();
    Admission { resources, phase: Phase::Mutating, review: Arc::new(review) }
}

/// Refuses the write if anything is wrong with its object.
fn verdict(review: &Review<'_>, group: &str, kind: &str, causes: Vec<Cause>) -> Reviewed {
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(group, kind, review.name, &causes)) }
}

/// A cause unless the object's name follows its kind's rule.
fn check_name(name: &str, rule: fn(&str) -> Result<(), String>) -> Option<Cause> {
    rule(name).err().map(|why| Cause::invalid("metadata.name", &json!(name), why))
}

/// A cause unless the field is an IP address.
fn check_ip(field: &Field<'_>) -> Option<Cause> {
    let valid = field.str().parse::<IpAddr>().is_ok();
    (!valid).then(|| field.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
}

/// The rule for keys of Secrets and ConfigMaps.
fn check_config_key(key: &str) -> Result<(), String> {
    const RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
        'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    if key.len() > 253 {
        return Err("must be no more than 253 characters".to_owned());
    }
    if key == "." || key == ".." {
        return Err(format!("must not be '{key}'"));
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !key.is_empty() && key.bytes().all(legal) { Ok(()) } else { Err(RULE.to_owned()) }
}
