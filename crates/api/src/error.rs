//! Errors of the Kubernetes API, as values that print as `Status` objects.
//!
//! The wording, `reason` and `code` of each are those of kube-apiserver 1.33
//! (`k8s.io/apimachinery/pkg/api/errors`), because clients compare them.

use serde_json::{Value, json};

/// One offending field of an invalid object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict`, ….
    pub reason: &'static str,
    /// What is wrong, without the field's path.
    pub message: String,
    /// The path of the field, such as `spec.ports[0].port`.
    pub field: String,
}

impl Cause {
    /// `field: Invalid value: value: why`.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl std::fmt::Display) -> Cause {
        let reason = "FieldValueInvalid";
        Cause { reason, message: format!("Invalid value: {value}: {why}"), field: field.into() }
    }

    /// `field: Required value: why`; `why` may be empty.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let message = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Cause { reason: "FieldValueRequired", message, field: field.into() }
    }

    /// `field: Unsupported value: value: supported values: …`.
    pub fn unsupported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Cause {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        Cause { reason: "FieldValueNotSupported", message, field: field.into() }
    }

    /// `field: Forbidden: why`.
    pub fn forbidden(field: impl Into<String>, why: impl std::fmt::Display) -> Cause {
        Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.into() }
    }

    /// `field: Duplicate value: value`.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause { reason: "FieldValueDuplicate", message: format!("Duplicate value: {value}"), field: field.into() }
    }
}

/// What a request is refused with; [`ApiError::to_status`] is its wire form.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`.
    pub reason: &'static str,
    /// The sentence that kubectl prints.
    pub message: String,
    /// The object concerned: `name`, `group`, `kind`, `uid`, `causes`, `retryAfterSeconds`.
    pub details: Option<Value>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, group: &str, resource: &str, name: &str) -> ApiError {
        let mut details = json!({ "name": name, "kind": resource });
        if !group.is_empty() {
            details["group"] = group.into();
        }
        self.details = Some(details);
        self
    }

    /// 404: `pods "x" not found`; `resource` is plural, `group` may be empty.
    pub fn not_found(group: &str, resource: &str, name: &str) -> ApiError {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        ApiError::new(404, "NotFound", message).about(group, resource, name)
    }

    /// 404 for a path that no resource serves. Its details are empty, by which clients tell it from a missing object.
    pub fn no_such_path() -> ApiError {
        let error = ApiError::new(404, "NotFound", "the server could not find the requested resource");
        ApiError { details: Some(json!({})), ..error }
    }

    /// 409: `pods "x" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> ApiError {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        ApiError::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409 for a stale `resourceVersion` or a failed precondition.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        ApiError::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409 with the reason that clients expect after a concurrent write.
    pub fn modified(group: &str, resource: &str, name: &str) -> ApiError {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(group, resource, name, why)
    }

    /// 422: `Deployment.apps "x" is invalid: spec.replicas: Invalid value: …`.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> ApiError {
        let lines: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let text = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {text}", qualified(group, kind));
        let mut error = ApiError::new(422, "Invalid", message).about(group, kind, name);
        error.set_causes(causes);
        error
    }

    /// Adds `details.causes`.
    pub fn set_causes(&mut self, causes: &[Cause]) {
        let list: Vec<Value> =
            causes.iter().map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field })).collect();
        let details = self.details.get_or_insert_with(|| json!({}));
        details["causes"] = list.into();
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> ApiError {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 for an object, with the reason after the colon.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(group, resource));
        ApiError::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 405.
    pub fn method_not_allowed() -> ApiError {
        let message = "the server does not allow this method on the requested resource";
        ApiError::new(405, "MethodNotAllowed", message)
    }

    /// 406.
    pub fn not_acceptable(types: &str) -> ApiError {
        ApiError::new(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
    }

    /// 410, for a watch or a continue token that is too old.
    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> ApiError {
        let message = format!("Request entity too large: limit is {limit}");
        ApiError::new(413, "RequestEntityTooLarge", message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> ApiError {
        ApiError::new(415, "UnsupportedMediaType", message)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>) -> ApiError {
        ApiError::new(429, "TooManyRequests", message)
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> ApiError {
        ApiError::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(503, "ServiceUnavailable", message)
    }

    /// 507 has no Kubernetes reason, so a full disk is told as an internal error with its remedy.
    pub fn storage(cause: impl std::fmt::Display) -> ApiError {
        ApiError::internal(format!("the cluster's store could not write: {cause}; nothing was changed"))
    }

    /// The `Status` object that goes on the wire.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

/// `deployments.apps`, or `pods` in the core group.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worded_as_kubernetes_words_them() {
        assert_eq!(ApiError::not_found("apps", "deployments", "web").message, "deployments.apps \"web\" not found");
        let cause = Cause::invalid("spec.replicas", &json!(-1), "must be greater than or equal to 0");
        let error = ApiError::invalid("apps", "Deployment", "web", &[cause]);
        assert_eq!(
            error.message,
            "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        assert_eq!(error.to_status()["details"]["causes"][0]["field"], "spec.replicas");
    }
}
