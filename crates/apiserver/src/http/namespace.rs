//! Namespaces: what the API itself has to know of them.
//!
//! A namespace is held by its `spec.finalizers` until its content is gone; whoever empties it says so through the
//! `finalize` subresource.

use api::ApiError;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::{Draft, Ownership};
use super::call::Call;
use super::object::field_mut;
use super::update::{self, match_name};
use super::{Body, decode};
use crate::kind::Kind;

/// Namespaces that every cluster has.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];
const FINALIZER: &str = "kubernetes";

fn is_namespace(kind: &Kind) -> bool {
    kind.version.group.is_empty() && kind.names.plural == "namespaces"
}

/// Completes a namespace that is being created.
pub(super) fn prepare_new(kind: &Kind, value: &mut Value) {
    if is_namespace(kind) {
        field_mut(value, "spec").insert("finalizers".to_owned(), json!([FINALIZER]));
        field_mut(value, "status").insert("phase".to_owned(), "Active".into());
    }
}

/// Refuses to delete what every cluster has.
pub(super) fn check_delete(kind: &Kind, name: &str) -> Result<(), ApiError> {
    if is_namespace(kind) && PERMANENT.contains(&name) {
        return Err(ApiError::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Shows that a namespace is on its way out.
pub(super) fn terminate(kind: &Kind, value: &mut Value) {
    if is_namespace(kind) {
        field_mut(value, "status").insert("phase".to_owned(), "Terminating".into());
    }
}

/// Whether a namespace still has finalizers of its own.
pub(super) fn is_held(value: &Value) -> bool {
    value["kind"] == "Namespace"
        && value["apiVersion"] == "v1"
        && value["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// `PUT …/finalize`: replaces the finalizers in the spec, and with the last one gone ends the deletion.
pub(super) async fn finalize(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut draft = Draft::new(call)?;
    let value = draft.decode(decode::encoding(&call.headers)?, &body)?;
    match_name(call, &value)?;
    let compute = |old: &Value| {
        let mut new = old.clone();
        field_mut(&mut new, "spec").insert("finalizers".to_owned(), value["spec"]["finalizers"].clone());
        if let Some(version) = value["metadata"].get("resourceVersion") {
            new["metadata"]["resourceVersion"] = version.clone();
        }
        if new["spec"]["finalizers"].is_null() {
            field_mut(&mut new, "spec").remove("finalizers");
        }
        Ok(new)
    };
    let outcome = update::change(&mut draft, "finalize", Ownership::Tracked, compute).await?;
    Ok(call.show(200, &outcome))
}
