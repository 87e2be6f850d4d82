//! Namespaces and nodes.

use api::{ApiError, name};
use apiserver::{Operation, Review};
use serde_json::json;

use super::field::{Field, default, object_at, remove, set};
use super::{check_name, verdict};

/// The namespaces a cluster cannot be without.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];

/// The label by which namespaces are selected by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Defaults, validation and protection of a Namespace. Its label with its own name can be neither changed nor removed,
/// and its finalizers only through the subresource for them.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if !review.subresource.is_empty() {
        return Ok(());
    }
    let finalizers = match (review.operation, review.old) {
        (Operation::Delete, _) if PERMANENT.contains(&review.name) => {
            return Err(ApiError::forbidden("", "namespaces", review.name, "this namespace may not be deleted"));
        }
        (Operation::Delete, _) => return Ok(()),
        (_, Some(old)) => old["spec"].get("finalizers").cloned(),
        (_, None) => {
            set(review.object, "status", json!({ "phase": "Active" }));
            Some(json!(["kubernetes"]))
        }
    };
    if let Some(spec) = object_at(review.object, &["spec"]) {
        match finalizers {
            Some(finalizers) => set(spec, "finalizers", finalizers),
            None => remove(spec, "finalizers"),
        }
    }
    if let Some(labels) = object_at(review.object, &["metadata", "labels"]) {
        set(labels, NAME_LABEL, review.name);
    }
    let causes = check_name(review.name, name::check_label).into_iter().collect();
    verdict(review, "", "Namespace", causes)
}

/// Defaults and validation of a Node.
pub(super) fn review_node(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    object_at(review.object, &["spec"]);
    if let Some(labels) = object_at(review.object, &["metadata", "labels"]) {
        default(labels, "kubernetes.io/hostname", review.name);
    }
    let mut causes: Vec<_> = check_name(review.name, name::check_subdomain).into_iter().collect();
    for taint in Field::of(review.object, "spec").get("taints").items() {
        causes.extend(taint.get("key").named(name::check_qualified));
        causes.extend(taint.get("effect").one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"]));
    }
    verdict(review, "", "Node", causes)
}
