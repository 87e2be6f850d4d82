//! JSON patches (RFC 6902), with the limits that Kubernetes sets.

use api::{ApiError, Cause};
use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

/// Kubernetes' `maxJSONPatchOperations`.
const MAX_OPERATIONS: usize = 10_000;
/// How much `copy` operations may add together, in bytes of JSON: Kubernetes' `MaxJSONPatchCopyBytes`.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// How deep an object may become; bodies are parsed to 128 levels.
const MAX_DEPTH: usize = 256;

/// `application/json-patch+json`.
///
/// A patch that is not well-formed is 400, one with too many operations 413. An operation that cannot be carried out,
/// a failed `test` included, is 422 with Kubernetes' message; the cause says which operation and why.
pub(crate) fn json(live: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch: Patch =
        serde_json::from_slice(patch).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MAX_OPERATIONS {
        let count = patch.0.len();
        let message = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(ApiError::new(413, "RequestEntityTooLarge", message));
    }
    let mut patched = live.clone();
    let mut growth = Growth { depth: depth(live), copied: 0 };
    for (at, operation) in patch.0.iter().enumerate() {
        growth.admit(&patched, operation).map_err(|why| rejected(at, operation, why))?;
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation))
            .map_err(|e| rejected(at, operation, e.kind.to_string()))?;
    }
    Ok(patched)
}

fn rejected(at: usize, operation: &PatchOperation, why: impl std::fmt::Display) -> ApiError {
    let name = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    let message = "the server rejected our request due to an error in our request";
    let mut error = ApiError::new(422, "Invalid", message);
    let cause = Cause {
        reason: "UnexpectedServerResponse",
        message: format!("operation {at} ({name}): {why}"),
        field: operation.path().to_string(),
    };
    error.set_causes(&[cause]);
    error
}

/// What keeps a small patch from making a huge object.
struct Growth {
    /// An upper bound of the object's depth.
    depth: usize,
    copied: usize,
}

impl Growth {
    fn admit(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), String> {
        let deepest = match operation {
            PatchOperation::Add(op) => op.path.count() + depth(&op.value),
            PatchOperation::Replace(op) => op.path.count() + depth(&op.value),
            PatchOperation::Move(op) => self.moved(&op.from, &op.path),
            PatchOperation::Copy(op) => {
                self.copied += object.pointer(op.from.as_str()).map_or(0, |source| source.to_string().len());
                self.moved(&op.from, &op.path)
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
        };
        self.depth = self.depth.max(deepest);
        if self.depth > MAX_DEPTH {
            return Err(format!("the object would be nested deeper than {MAX_DEPTH} levels"));
        }
        if self.copied > MAX_COPIED {
            let copied = self.copied;
            return Err(format!("the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"));
        }
        Ok(())
    }

    fn moved(&self, from: &Pointer, to: &Pointer) -> usize {
        to.count() + self.depth.saturating_sub(from.count())
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(live: Value, patch: Value) -> Result<Value, ApiError> {
        json(&live, patch.to_string().as_bytes())
    }

    #[test]
    fn operations_apply_in_order() {
        let live = json!({ "spec": { "replicas": 1, "ports": [{ "port": 80 }] } });
        let patch = json!([
            { "op": "test", "path": "/spec/replicas", "value": 1 },
            { "op": "replace", "path": "/spec/replicas", "value": 3 },
            { "op": "add", "path": "/spec/ports/-", "value": { "port": 81 } },
            { "op": "add", "path": "/metadata", "value": { "labels": { "a/b": "1" } } },
            { "op": "move", "from": "/metadata/labels/a~1b", "path": "/metadata/labels/c" },
            { "op": "remove", "path": "/spec/ports/0" },
        ]);
        let expected =
            json!({ "metadata": { "labels": { "c": "1" } }, "spec": { "replicas": 3, "ports": [{ "port": 81 }] } });
        assert_eq!(patched(live, patch).unwrap(), expected);
    }

    #[test]
    fn a_failed_operation_is_invalid_and_names_itself() {
        for (operation, why) in [
            (json!({ "op": "test", "path": "/a", "value": 2 }), "operation 0 (test): value did not match"),
            (json!({ "op": "remove", "path": "/b" }), "operation 0 (remove): path is invalid"),
            (json!({ "op": "add", "path": "/b/c", "value": 1 }), "operation 0 (add): path is invalid"),
        ] {
            let error = patched(json!({ "a": 1 }), json!([operation])).unwrap_err();
            assert_eq!((error.code, error.reason), (422, "Invalid"));
            assert_eq!(error.message, "the server rejected our request due to an error in our request");
            assert_eq!(error.details.unwrap()["causes"][0]["message"], why);
        }
    }

    #[test]
    fn a_patch_that_is_none_is_a_bad_request() {
        for patch in ["", "{}", "[1]", r#"[{"op":"add"}]"#, r#"[{"op":"burn","path":"/a"}]"#] {
            assert_eq!(json(&json!({}), patch.as_bytes()).unwrap_err().code, 400, "{patch}");
        }
    }

    #[test]
    fn the_number_of_operations_is_limited() {
        let operation = json!({ "op": "add", "path": "/a", "value": 1 });
        let patch = Value::Array(vec![operation; MAX_OPERATIONS + 1]);
        let error = patched(json!({}), patch).unwrap_err();
        assert_eq!(error.code, 413);
        assert_eq!(error.message, "The allowed maximum operations in a JSON patch is 10000, got 10001");
    }

    #[test]
    fn copies_cannot_blow_an_object_up() {
        let copy = json!({ "op": "copy", "from": "/a", "path": "/a/-" });
        let error = patched(json!({ "a": ["x".repeat(1000)] }), Value::Array(vec![copy; 100])).unwrap_err();
        assert_eq!(error.code, 422);
    }

    #[test]
    fn moves_cannot_nest_an_object_without_end() {
        let round = [
            json!({ "op": "add", "path": "/b", "value": {} }),
            json!({ "op": "move", "from": "/a", "path": "/b/a" }),
            json!({ "op": "move", "from": "/b", "path": "/a" }),
        ];
        let patch: Vec<Value> = round.iter().cycle().take(3000).cloned().collect();
        assert_eq!(patched(json!({ "a": {} }), Value::Array(patch)).unwrap_err().code, 422);
        let back_and_forth =
            [json!({ "op": "move", "from": "/a", "path": "/b" }), json!({ "op": "move", "from": "/b", "path": "/a" })];
        let patch: Vec<Value> = back_and_forth.iter().cycle().take(3000).cloned().collect();
        assert_eq!(patched(json!({ "a": { "x": 1 } }), Value::Array(patch)).unwrap(), json!({ "a": { "x": 1 } }));
    }
}
