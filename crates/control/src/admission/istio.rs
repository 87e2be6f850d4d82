//! Istio's objects: what Istio's webhook refuses, in its words.
//!
//! One file per kind. They read the object as it was written, since what is left out and what is empty differ here; that
//! its fields have their types, the kind's schema has made sure of.

mod authorization_policy;
mod destination_rule;
mod envoy_filter;
mod finding;
mod gateway;
mod host;
mod legacy_authentication;
mod legacy_rbac;
mod peer_authentication;
mod request_authentication;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;

use std::sync::Arc;

use api::istio::{self, MeshConfig, Object, Spec};
use api::{ApiError, Cause, GroupResource};
use apiserver::{Admission, Operation, Phase, Review};

use finding::{Findings, Subject};

/// Validation of Istio's kinds, and of the mesh's configuration.
pub(super) fn admission() -> Vec<Admission> {
    vec![
        validating::<istio::AuthorizationPolicy>("authorizationpolicies", authorization_policy::check),
        validating::<istio::DestinationRule>("destinationrules", destination_rule::check),
        validating::<istio::EnvoyFilter>("envoyfilters", envoy_filter::check),
        validating::<istio::Gateway>("gateways", gateway::check),
        validating::<istio::PeerAuthentication>("peerauthentications", peer_authentication::check),
        validating::<istio::RequestAuthentication>("requestauthentications", request_authentication::check),
        validating::<istio::ServiceEntry>("serviceentries", service_entry::check),
        validating::<istio::Sidecar>("sidecars", sidecar::check),
        validating::<istio::VirtualService>("virtualservices", virtual_service::check),
        validating::<istio::WorkloadEntry>("workloadentries", service_entry::check_workload),
        validating::<istio::Telemetry>("telemetries", telemetry::check),
        validating::<istio::ServiceRole>("serviceroles", legacy_rbac::check_role),
        validating::<istio::ServiceRoleBinding>("servicerolebindings", legacy_rbac::check_binding),
        validating::<istio::RbacConfig>("rbacconfigs", legacy_rbac::check_config),
        validating::<istio::ClusterRbacConfig>("clusterrbacconfigs", legacy_rbac::check_cluster_config),
        validating::<istio::Policy>("policies", legacy_authentication::check),
        validating::<istio::MeshPolicy>("meshpolicies", legacy_authentication::check_mesh),
        registration("", "configmaps", review_mesh),
    ]
}

fn registration(
    group: &str,
    resource: &str,
    review: impl Fn(&mut Review<'_>) -> Result<(), ApiError> + Send + Sync + 'static,
) -> Admission {
    let resources = vec![GroupResource::new(group, resource)];
    Admission { resources, phase: Phase::Validating, review: Arc::new(review) }
}

fn validating<S: Spec>(resource: &str, check: fn(&Subject<'_>, &mut Findings)) -> Admission {
    registration(S::GROUP, resource, move |review| {
        if review.operation == Operation::Delete || !review.subresource.is_empty() {
            return Ok(());
        }
        let spec = &review.object["spec"];
        let subject = Subject { name: review.name, namespace: review.namespace, spec };
        let mut findings = Findings::default();
        check(&subject, &mut findings);
        if findings.errors.is_empty() {
            decode::<S>(review.object, &mut findings);
        }
        review.warnings.append(&mut findings.warnings);
        match findings.verdict() {
            None => Ok(()),
            Some(why) => Err(denied("validation.istio.io", format!("configuration is invalid: {why}"))),
        }
    })
}

/// What the schema does not know: lengths of time, ports of more than 16 bits. Fields that the mesh does not read are
/// told.
fn decode<S: Spec>(object: &serde_json::Value, findings: &mut Findings) {
    match Object::<S>::decode(object.clone()) {
        Ok(decoded) => {
            let unread =
                decoded.unknown.iter().map(|path| format!("{path}: has no effect: this mesh does not read it"));
            findings.warnings.extend(unread);
        }
        Err(error) => findings.refuse(error),
    }
}

/// A refusal as a webhook's comes to the client.
pub(super) fn denied(webhook: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(400, "", format!("admission webhook {webhook:?} denied the request: {why}"))
}

/// Refuses a configuration of the mesh that nobody could read.
fn review_mesh(review: &mut Review<'_>) -> Result<(), ApiError> {
    if (review.namespace, review.name) != ("istio-system", "istio") || review.operation == Operation::Delete {
        return Ok(());
    }
    let Some(text) = review.object["data"]["mesh"].as_str() else { return Ok(()) };
    let field = |path: &str| if path.is_empty() { "data[mesh]".to_owned() } else { format!("data[mesh].{path}") };
    match MeshConfig::from_yaml(text) {
        Ok((_, unread)) => {
            let unread =
                unread.iter().map(|path| format!("{}: has no effect: this mesh does not read it", field(path)));
            review.warnings.extend(unread);
            Ok(())
        }
        Err(error) => {
            let message = format!("Invalid value: {}", error.reason);
            let cause = Cause { reason: "FieldValueInvalid", message, field: field(&error.path) };
            Err(ApiError::invalid("", "ConfigMap", review.name, &[cause]))
        }
    }
}

#[cfg(test)]
mod tests;
