//! Which objects of a resource a list, a watch or a deletecollection is about.

use api::{ApiError, FieldSelector, LabelSelector};
use serde_json::json;

use super::call::Call;
use crate::kind::Kind;
use crate::store::Object;

/// A namespace, labels and fields to select by.
pub(super) struct Filter {
    /// `None` for all namespaces.
    pub(super) namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whether the fields can be read off the key, so that objects need not be parsed.
    fields_in_key: bool,
}

impl Filter {
    /// Reads the selectors of a request; a field that the kind cannot be selected by is 400.
    pub(super) fn of(call: &Call) -> Result<Filter, ApiError> {
        let (labels, fields) = (call.query.labels()?, call.query.fields()?);
        if let Some(path) = fields.paths().find(|path| !selectable(&call.kind, path)) {
            let message = if call.kind.selectable_fields.is_empty() {
                format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {path}")
            };
            return Err(ApiError::bad_request(message));
        }
        let fields_in_key = fields.paths().all(in_key);
        let namespace = Some(call.path.namespace.clone()).filter(|n| call.kind.namespaced && !n.is_empty());
        Ok(Filter { namespace, labels, fields, fields_in_key })
    }

    /// Whether every object of the namespace passes.
    pub(super) fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can pass, if there is only one.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == object.key.namespace)
            && self.labels.matches(&object.labels)
            && (self.fields.is_empty() || self.fields_match(object))
    }

    fn fields_match(&self, object: &Object) -> bool {
        if self.name().is_some_and(|name| name != object.key.name) {
            return false;
        }
        if self.fields_in_key {
            let key = &object.key;
            return self.fields.matches(&json!({ "metadata": { "name": key.name, "namespace": key.namespace } }));
        }
        self.fields.matches(&object.value())
    }
}

fn in_key(path: &str) -> bool {
    matches!(path, "metadata.name" | "metadata.namespace")
}

fn selectable(kind: &Kind, path: &str) -> bool {
    in_key(path) || kind.selectable_fields.iter().any(|field| field == path)
}
