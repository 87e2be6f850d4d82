//! `patch`, in its four types.

use api::{ApiError, Cause};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::{self, Draft, Ownership};
use super::call::{Call, Outcome};
use super::create::{self, match_namespace};
use super::decode::{self, Decoded, Encoding};
use super::object::{meta, metadata_mut};
use super::query::options_error;
use super::update::{self, match_name};
use super::{Body, answer};
use crate::kind::Kind;
use crate::patch;

/// A patch as it came, of one of the types that compute a new state from the old one.
pub(super) enum Patch {
    Json(Bytes),
    Merge(Value),
    Strategic(Value),
}

/// A patch with the paths that it gave more than once.
pub(super) struct Parsed {
    pub(super) patch: Patch,
    pub(super) duplicates: Vec<String>,
}

const APPLY: [&str; 2] = ["application/apply-patch+yaml", "application/apply-patch+json"];

/// Patches an object or its status; server-side apply may create it.
pub(super) async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut draft = Draft::new(call)?;
    let (code, outcome) = if is_apply(call) {
        apply(&mut draft, &body).await?
    } else {
        refuse_force(call)?;
        (200, change(&mut draft, parse(call, body)?).await?)
    };
    let mut response = call.show(code, &outcome);
    answer::warn(&mut response, &draft.warnings);
    Ok(response)
}

pub(super) fn is_apply(call: &Call) -> bool {
    APPLY.contains(&decode::content_type(&call.headers).as_str())
}

/// Reads a patch of another type than apply.
pub(super) fn parse(call: &Call, body: Bytes) -> Result<Parsed, ApiError> {
    let object = |body: &[u8]| {
        let decoded = decode::json(body).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
        if decoded.value.is_object() {
            Ok(decoded)
        } else {
            Err(ApiError::bad_request("error decoding patch: the patch is not an object"))
        }
    };
    match decode::content_type(&call.headers).as_str() {
        "application/json-patch+json" => Ok(Parsed { patch: Patch::Json(body), duplicates: Vec::new() }),
        "application/merge-patch+json" => {
            let Decoded { value, duplicates } = object(&body)?;
            Ok(Parsed { patch: Patch::Merge(value), duplicates })
        }
        "application/strategic-merge-patch+json" if call.kind.builtin => {
            let Decoded { value, duplicates } = object(&body)?;
            Ok(Parsed { patch: Patch::Strategic(value), duplicates })
        }
        _ => {
            let mut accepted = vec!["application/json-patch+json", "application/merge-patch+json"];
            accepted.extend(call.kind.builtin.then_some("application/strategic-merge-patch+json"));
            accepted.push(APPLY[0]);
            let message = "the body of the request was in an unknown format - accepted media types include: ";
            Err(ApiError::unsupported_media_type(format!("{message}{}", accepted.join(", "))))
        }
    }
}

impl Patch {
    /// The state after the patch.
    pub(super) fn of(&self, old: &Value, kind: &Kind) -> Result<Value, ApiError> {
        match self {
            Patch::Json(operations) => patch::json(old, operations),
            Patch::Merge(patch) => Ok(patch::merge(old, patch)),
            Patch::Strategic(patch) => patch::strategic(old, patch, &kind.schema),
        }
    }
}

fn refuse_force(call: &Call) -> Result<(), ApiError> {
    if call.query.get("force").is_none() {
        return Ok(());
    }
    let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
    Err(options_error("PatchOptions", &[cause]))
}

async fn change(draft: &mut Draft<'_>, parsed: Parsed) -> Result<Outcome, ApiError> {
    let call = draft.call;
    let Parsed { patch, duplicates } = parsed;
    // Once before the loop, so that the complaints are made once and before anything is written.
    let mut trial = patch.of(&call.kind.show(&*call.object()?), &call.kind)?;
    let unknown = call.kind.schema.prune(&mut trial);
    draft.complain(&unknown, &duplicates)?;
    let compute = |old: &Value| {
        let mut new = patch.of(old, &call.kind)?;
        check_identity(call, &mut new)?;
        admission::check_types(&call.kind, &new)?;
        call.kind.schema.prune(&mut new);
        call.kind.schema.default(&mut new);
        Ok(new)
    };
    update::change(draft, &call.path.subresource, Ownership::Tracked, compute).await
}

/// A patch does not turn an object into another one.
fn check_identity(call: &Call, new: &mut Value) -> Result<(), ApiError> {
    admission::expect_kind(&call.kind, new)?;
    match_name(call, new)?;
    match_namespace(call, new)
}

/// Server-side apply.
async fn apply(draft: &mut Draft<'_>, body: &[u8]) -> Result<(u16, Outcome), ApiError> {
    let call = draft.call;
    if call.query.get("fieldManager").is_none() {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        return Err(options_error("PatchOptions", &[cause]));
    }
    let applied = applied(draft, body)?;
    let force = call.query.flag("force");
    let subresource = call.path.subresource.as_str();
    let manager = draft.manager(subresource);
    let merge = |live: Option<&Value>| {
        let mut new = patch::apply(live, &applied, &call.kind.schema, &manager.view(), force)?;
        call.kind.schema.default(&mut new);
        Ok(new)
    };
    match update::change(draft, subresource, Ownership::Applied, |old| merge(Some(old))).await {
        Err(error) if error.code == 404 && subresource.is_empty() && call.object().is_err() => {
            if !meta(&applied, "uid").is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    meta(&applied, "uid")
                );
                return Err(ApiError::conflict(&call.path.group, &call.path.resource, &call.path.name, &why));
            }
            let new = update::unconditional(merge(None)?);
            create::insert(draft, new, Ownership::Applied).await.map(|outcome| (201, outcome))
        }
        changed => changed.map(|outcome| (200, outcome)),
    }
}

/// The intent in the body: JSON or YAML, without what only the server writes.
fn applied(draft: &mut Draft<'_>, body: &[u8]) -> Result<Value, ApiError> {
    let call = draft.call;
    let text = body.trim_ascii_start();
    let encoding = if text.starts_with(b"{") { Encoding::Json } else { Encoding::Yaml };
    let Decoded { value: mut applied, duplicates } = decode::decode(encoding, body, &call.kind.names.kind)?;
    for field in ["apiVersion", "kind"] {
        if applied[field].as_str().is_none_or(str::is_empty) {
            let message = format!("the {field} of the applied object is missing");
            return Err(ApiError::bad_request(message));
        }
    }
    if meta(&applied, "name").is_empty() {
        metadata_mut(&mut applied).insert("name".to_owned(), json!(call.path.name));
    }
    check_identity(call, &mut applied)?;
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    metadata_mut(&mut applied).remove("managedFields");
    admission::check_types(&call.kind, &applied)?;
    let unknown = call.kind.schema.prune(&mut applied);
    draft.complain(&unknown, &duplicates)?;
    reset(call, &mut applied);
    Ok(applied)
}

/// Drops what this path does not write, so that nobody comes to own it: the status of a kind whose status is a
/// subresource, and everything but the status of what is applied there.
fn reset(call: &Call, applied: &mut Value) {
    let Some(fields) = applied.as_object_mut() else { return };
    if call.path.subresource == "status" {
        fields.retain(|field, _| ["apiVersion", "kind", "metadata", "status"].contains(&field.as_str()));
    } else if call.kind.has_status {
        fields.remove("status");
    }
}
