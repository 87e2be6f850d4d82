//! Reading and changing objects whose shape is only partly known.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::store::{Key, Object};

/// What the server looks at in a stored object without parsing the rest.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) metadata: HeadMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HeadMetadata {
    #[serde(default)]
    pub(super) uid: String,
    pub(super) deletion_timestamp: Option<String>,
}

impl Head {
    pub(super) fn of(object: &Object) -> Head {
        serde_json::from_slice(&object.json).unwrap_or_else(|e| {
            tracing::error!(key = ?object.key, error = %e, "a stored object has no readable metadata");
            Head::default()
        })
    }
}

impl Kind {
    pub(super) fn key(&self, namespace: &str, name: &str) -> Key {
        Key { resource: self.resource(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The stored object as this version shows it.
    pub(super) fn show(&self, object: &Object) -> Value {
        let mut value = object.value();
        self.from_storage(&mut value);
        value
    }

    /// Whether stored bytes can be shown as they are.
    pub(super) fn shows_as_stored(&self) -> bool {
        self.version == self.storage_version
    }

    /// The `kind` of its lists.
    pub(super) fn list_kind(&self) -> &str {
        &self.names.list_kind
    }
}

/// The string at `metadata.{field}`, or nothing.
pub(super) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The object's metadata, made if it is missing or no object.
pub(super) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    field_mut(object, "metadata")
}

/// A field that is an object, made if it is missing or something else.
pub(super) fn field_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(fields) = object else { unreachable!("it was just made an object") };
    let slot = fields.entry(field).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("it was just made an object")
}

/// Sets a field, or removes it if `value` is `None`.
pub(super) fn put(object: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
}

/// The strings of a list; whatever else it holds is passed over.
pub(super) fn list_of_strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether the object is on its way out.
pub(super) fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// A field by its dotted path.
pub(super) fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(object, |value, step| value.get(step))
}

/// Sets a field by its dotted path, making objects on the way.
pub(super) fn set_path(object: &mut Value, path: &str, value: Value) {
    let mut steps = path.split('.').filter(|step| !step.is_empty()).peekable();
    let mut place = object;
    while let Some(step) = steps.next() {
        if steps.peek().is_none() {
            if let Some(fields) = place.as_object_mut() {
                fields.insert(step.to_owned(), value);
            }
            return;
        }
        field_mut(place, step);
        let Some(next) = place.get_mut(step) else { return };
        place = next;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_and_written() {
        let mut object = json!({"spec": {"a": {"b": 1}}, "status": 3});
        assert_eq!(at_path(&object, ".spec.a.b"), Some(&json!(1)));
        assert_eq!(at_path(&object, "spec.x"), None);
        set_path(&mut object, "spec.a.b", json!(2));
        set_path(&mut object, "status.replicas", json!(1));
        assert_eq!(object, json!({"spec": {"a": {"b": 2}}, "status": {"replicas": 1}}));
    }
}
