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
use serde_json::Value;
use xds::analysis::Finding;
use xds::{ObjectRef, Severity};

use finding::{Findings, Subject};

/// Validation of Istio's kinds, and of the mesh's configuration.
pub(super) fn admission() -> Vec<Admission> {
    let mut all: Vec<Admission> = validators().into_iter().map(Validator::admission).collect();
    all.push(registration("", "configmaps", review_mesh));
    all
}

/// What Istio's webhook would find in an object; of other kinds nothing.
pub fn validate(object: &Value) -> Vec<Finding> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let (kind, namespace, name) = (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
    let Some(validator) = validators().into_iter().find(|v| (v.group, v.kind) == (group, kind)) else {
        return Vec::new();
    };
    let Findings { errors, warnings } = validator.findings(name, namespace, object);
    let finding = |severity, code, kind_of: &'static str, message: &str, said: String| Finding {
        severity,
        code,
        name: kind_of,
        object: ObjectRef { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() },
        field: field_of(&said).to_owned(),
        message: format!("{message}: {said}"),
        fix: None,
    };
    let errors = errors
        .into_iter()
        .map(|said| finding(Severity::Error, "IST0106", "SchemaValidationError", "Schema validation error", said));
    let warnings = warnings
        .into_iter()
        .map(|said| finding(Severity::Warning, "IST0133", "SchemaWarning", "Schema validation warning", said));
    errors.chain(warnings).collect()
}

/// The field that a message begins with, if it does.
fn field_of(said: &str) -> &str {
    match said.split_once(": ") {
        Some((field, _)) if field.starts_with("spec") && !field.contains(' ') => field,
        _ => "spec",
    }
}

fn validators() -> Vec<Validator> {
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
    ]
}

/// What is checked about a kind.
struct Validator {
    group: &'static str,
    kind: &'static str,
    resource: &'static str,
    check: fn(&Subject<'_>, &mut Findings),
    decode: fn(&Value, &mut Findings),
}

fn registration(
    group: &str,
    resource: &str,
    review: impl Fn(&mut Review<'_>) -> Result<(), ApiError> + Send + Sync + 'static,
) -> Admission {
    let resources = vec![GroupResource::new(group, resource)];
    Admission { resources, phase: Phase::Validating, review: Arc::new(review) }
}

fn validating<S: Spec>(resource: &'static str, check: fn(&Subject<'_>, &mut Findings)) -> Validator {
    Validator { group: S::GROUP, kind: S::KIND, resource, check, decode: decode::<S> }
}

impl Validator {
    fn findings(&self, name: &str, namespace: &str, object: &Value) -> Findings {
        let mut findings = Findings::default();
        (self.check)(&Subject { name, namespace, spec: &object["spec"] }, &mut findings);
        if findings.errors.is_empty() {
            (self.decode)(object, &mut findings);
        }
        findings
    }

    fn admission(self) -> Admission {
        registration(self.group, self.resource, move |review| {
            if review.operation == Operation::Delete || !review.subresource.is_empty() {
                return Ok(());
            }
            let mut findings = self.findings(review.name, review.namespace, review.object);
            review.warnings.append(&mut findings.warnings);
            match findings.verdict() {
                None => Ok(()),
                Some(why) => Err(denied("validation.istio.io", format!("configuration is invalid: {why}"))),
            }
        })
    }
}

/// What the schema does not know: lengths of time, ports of more than 16 bits. Fields that the mesh does not read are
/// told.
fn decode<S: Spec>(object: &Value, findings: &mut Findings) {
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
