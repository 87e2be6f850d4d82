//! The four patch types and the ownership of fields.
//! CONTRACT STUB: signatures are what the others build on.

use api::ApiError;
use serde_json::Value;

use crate::schema::Schema;

/// `application/json-patch+json` (RFC 6902); a failed `test` or a bad path is 422, as in Kubernetes.
pub(crate) fn json(live: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let _ = (live, patch);
    unimplemented!()
}

/// `application/merge-patch+json` (RFC 7386).
pub(crate) fn merge(live: &Value, patch: &Value) -> Value {
    let _ = (live, patch);
    unimplemented!()
}

/// `application/strategic-merge-patch+json`.
pub(crate) fn strategic(live: &Value, patch: &Value, schema: &Schema) -> Result<Value, ApiError> {
    let _ = (live, patch, schema);
    unimplemented!()
}

/// Whose fields a write changes.
pub(crate) struct Manager<'a> {
    /// `fieldManager`, or the user agent's first word.
    pub(crate) name: &'a str,
    /// `status`, `scale` or empty.
    pub(crate) subresource: &'a str,
    /// The `apiVersion` of the request.
    pub(crate) api_version: &'a str,
    /// RFC 3339, seconds.
    pub(crate) now: &'a str,
}

/// `application/apply-patch+yaml`: merges `applied` (without managedFields) into `live`, recording ownership in
/// `metadata.managedFields` of the result. Conflicts are 409 `Apply failed with N conflicts: …` with causes
/// `FieldManagerConflict`, unless `force`.
pub(crate) fn apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApiError> {
    let _ = (live, applied, schema, manager, force);
    unimplemented!()
}

/// Records in `new.metadata.managedFields` what a create, replace or other patch changed.
pub(crate) fn track(live: Option<&Value>, new: &mut Value, schema: &Schema, manager: &Manager<'_>) {
    let _ = (live, new, schema, manager);
    unimplemented!()
}
