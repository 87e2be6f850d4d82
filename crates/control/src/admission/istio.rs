//! Istio's objects: what Istio's webhook refuses, in its words.

use api::ApiError;
use apiserver::Admission;

/// Validation of Istio's kinds.
pub(super) fn admission() -> Vec<Admission> {
    Vec::new()
}

/// A refusal as a webhook's comes to the client.
pub(super) fn denied(webhook: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(400, "", format!("admission webhook {webhook:?} denied the request: {why}"))
}
