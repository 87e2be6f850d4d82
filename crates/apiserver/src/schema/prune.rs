//! Dropping fields that a schema does not know.

use std::fmt::Write;

use serde_json::Value;

use super::{Object, Rest, Schema, Shape};

impl Schema {
    /// Removes fields that the schema does not know and names them (`spec.bogus`, `spec.ports[0].bogus`).
    pub fn prune(&self, value: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        prune(self, value, &mut String::new(), &mut removed);
        removed
    }
}

fn prune(schema: &Schema, value: &mut Value, path: &mut String, removed: &mut Vec<String>) {
    match (schema.shape(), value) {
        (Shape::Object(object), Value::Object(fields)) => {
            if matches!(object.rest, Rest::Pruned) {
                fields.retain(|name, _| keep(object, schema, name, path, removed));
            }
            for (name, child) in fields {
                let Some(known) = schema.child(name) else { continue };
                within(path, name, |path| prune(known, child, path, removed));
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for (index, item) in list.iter_mut().enumerate() {
                at_index(path, index, |path| prune(items, item, path, removed));
            }
        }
        _ => {}
    }
}

fn keep(object: &Object, schema: &Schema, name: &str, path: &mut String, removed: &mut Vec<String>) -> bool {
    let known = schema.child(name).is_some() || matches!(object.rest, Rest::Preserved);
    if !known {
        within(path, name, |path| removed.push(path.clone()));
    }
    known
}

/// Runs `f` with the path of a field.
pub(super) fn within<T>(path: &mut String, name: &str, f: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
    let result = f(path);
    path.truncate(length);
    result
}

/// Runs `f` with the path of a list's item.
pub(super) fn at_index<T>(path: &mut String, index: usize, f: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    write!(path, "[{index}]").expect("writing to a string does not fail");
    let result = f(path);
    path.truncate(length);
    result
}
