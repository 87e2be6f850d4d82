//! `update`, and the loop that every change of a stored object goes through.

use api::ApiError;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::{self, Draft, Ownership};
use super::call::{Call, Outcome};
use super::create::{match_namespace, write_error};
use super::object::{meta, metadata_mut};
use super::{Body, answer, decode};
use crate::store::{Write, WriteError};

/// How often a change is computed anew when others write at the same time.
const ATTEMPTS: usize = 5;

/// Replaces an object, or its status, by a body.
pub(super) async fn replace(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut draft = Draft::new(call)?;
    let mut value = draft.decode(decode::encoding(&call.headers)?, &body)?;
    match_namespace(call, &mut value)?;
    match_name(call, &value)?;
    let version = meta(&value, "resourceVersion");
    if version.is_empty() && !call.kind.builtin {
        let cause = api::Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(admission::invalid(&call.kind, &call.path.name, &[cause]));
    }
    let outcome = change(&mut draft, &call.path.subresource, Ownership::Tracked, |_| Ok(value.clone())).await?;
    let mut response = call.show(200, &outcome);
    answer::warn(&mut response, &draft.warnings);
    Ok(response)
}

/// The object's name is the path's.
pub(super) fn match_name(call: &Call, value: &Value) -> Result<(), ApiError> {
    match meta(value, "name") {
        "" => Err(ApiError::bad_request("name must be provided")),
        name if name == call.path.name => Ok(()),
        name => {
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", call.path.name);
            Err(ApiError::bad_request(message))
        }
    }
}

/// Computes a new state from the stored one and stores it, again if somebody else was faster. A state with another
/// `resourceVersion` than the stored one was computed from something older: 409.
pub(super) async fn change(
    draft: &mut Draft<'_>,
    subresource: &str,
    ownership: Ownership,
    compute: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Outcome, ApiError> {
    let call = draft.call;
    let key = call.key();
    let warned = draft.warnings.len();
    for _ in 0..ATTEMPTS {
        draft.warnings.truncate(warned);
        let stored = call.object()?;
        let old = call.kind.show(&stored);
        let new = compute(&old)?;
        check_preconditions(call, &old, &new)?;
        let admitted = draft.admit_update(&old, new, subresource, ownership)?;
        let mut shown = admitted.clone();
        call.kind.from_storage(&mut shown);
        if admission::is_no_op(&old, &shown) {
            return Ok(Outcome::Stored(stored));
        }
        let done = admission::completes_deletion(&admitted);
        if draft.dry_run {
            return Ok(Outcome::Shown(shown));
        }
        let write = if done {
            Write::Delete { key: key.clone(), expected: stored.revision }
        } else {
            Write::Update { key: key.clone(), value: admitted, expected: stored.revision }
        };
        match call.server.commit(write).await {
            Ok(object) if done => {
                call.server.definition_removed(&call.kind, &object);
                return Ok(Outcome::Shown(shown));
            }
            Ok(object) => {
                return call.server.definition_written(&call.kind, &object).await.map(|()| Outcome::Stored(object));
            }
            Err(WriteError::Conflict) => {}
            Err(error) => return Err(write_error(error, &key)),
        }
    }
    Err(ApiError::modified(&call.path.group, &call.path.resource, &call.path.name))
}

fn check_preconditions(call: &Call, old: &Value, new: &Value) -> Result<(), ApiError> {
    let (group, resource, name) = (&call.path.group, &call.path.resource, &call.path.name);
    let (uid, version) = (meta(new, "uid"), meta(new, "resourceVersion"));
    if !uid.is_empty() && uid != meta(old, "uid") {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta(old, "uid"));
        return Err(ApiError::conflict(group, resource, name, &why));
    }
    if version.is_empty() || version == "0" || version == meta(old, "resourceVersion") {
        return Ok(());
    }
    if version.parse::<u64>().is_err() {
        let cause = api::Cause::invalid("metadata.resourceVersion", &json!(version), "must be a valid integer");
        return Err(admission::invalid(&call.kind, name, &[cause]));
    }
    Err(ApiError::modified(group, resource, name))
}

/// Drops the version that a computed state was based on, so that it is stored whatever has happened since.
pub(super) fn unconditional(mut value: Value) -> Value {
    metadata_mut(&mut value).remove("resourceVersion");
    value
}
