//! Namespaces and nodes.

use api::{ApiError, name};
use apiserver::{Operation, Review};

use super::field::{Field, default, object_at, set};
use super::{check_name, verdict};

/// The label by which namespaces are selected by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Validation of a Namespace, whose label with its own name can be neither changed nor removed.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
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
