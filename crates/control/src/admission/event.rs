//! Events and leases.

use api::{ApiError, Cause, name};
use apiserver::{Operation, Review};
use serde_json::Value;

use super::field::Field;
use super::{check_name, verdict};

/// Validation of an Event, in either of its groups.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let group = &*review.resource.group;
    let about = Field::of(review.object, if group.is_empty() { "involvedObject" } else { "regarding" });
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let namespace = about.get("namespace");
    let expected = if namespace.is_empty() { "default" } else { namespace.str() };
    // Events about objects without a namespace live in `default`, those about a namespace's objects with them.
    if review.namespace != expected && !(namespace.is_empty() && review.namespace == "kube-system") {
        causes.push(namespace.invalid("does not match event.namespace"));
    }
    let kind = Field::of(review.object, "type");
    if !kind.is_empty() && kind.one_of(&["Normal", "Warning"]).is_some() && !group.is_empty() {
        causes.push(kind.invalid("has invalid value"));
    }
    verdict(review, group, "Event", causes)
}

/// Validation of a Lease.
pub(super) fn review_lease(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let spec = Field::of(review.object, "spec");
    let mut causes: Vec<Cause> = check_name(review.name, name::check_subdomain).into_iter().collect();
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|n| n <= 0) {
        causes.push(duration.invalid("must be greater than 0"));
    }
    causes.extend(spec.get("leaseTransitions").at_least(0));
    let holder = spec.get("holderIdentity");
    if *holder.value == Value::String(String::new()) {
        causes.push(holder.invalid("must not be empty"));
    }
    verdict(review, "coordination.k8s.io", "Lease", causes)
}
