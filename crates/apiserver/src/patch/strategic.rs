//! Strategic merge patches, as `k8s.io/apimachinery/pkg/util/strategicpatch` applies them.

mod list;

use std::collections::HashSet;

use api::ApiError;
use serde_json::{Map, Value};

use crate::schema::Schema;

type Object = Map<String, Value>;

/// Says what to do with the object it stands in: `delete` or `replace`.
const PATCH: &str = "$patch";
/// The fields an object may keep.
const RETAIN_KEYS: &str = "$retainKeys";
/// The order of a list's items.
const SET_ORDER: &str = "$setElementOrder/";
/// Scalars to delete from a list.
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// A patch that cannot be applied, worded as Kubernetes words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("invalid JSON document")]
    NoObject,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetOrder,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OutOfOrder { patch: String, order: String },
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("unknown patch type: {directive} in map: {object}")]
    UnknownDirective { directive: String, object: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("list element types are not identical: {0}")]
    MixedTypes(String),
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::ListOfLists => ApiError::new(422, "Invalid", refusal.to_string()),
            _ => ApiError::bad_request(refusal.to_string()),
        }
    }
}

/// `application/strategic-merge-patch+json`: a merge patch whose lists merge as the schema says, with directives.
pub(crate) fn strategic(live: &Value, patch: &Value, schema: &Schema) -> Result<Value, ApiError> {
    let (Value::Object(live), Value::Object(patch)) = (live, patch) else { return Err(Refusal::NoObject.into()) };
    Ok(Value::Object(object(live.clone(), patch, Some(schema))?))
}

fn object(mut live: Object, patch: &Object, schema: Option<&Schema>) -> Result<Object, Refusal> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(cleaned_fields(patch)),
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, patch)),
        };
    }
    retain_keys(&mut live, patch)?;
    let ordered = ordered_lists(&mut live, patch, schema)?;
    for (name, patch) in patch {
        if let Some(name) = name.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut live, name, patch)?;
        } else if !is_directive(name) && !ordered.contains(name.as_str()) {
            field(&mut live, name, patch, schema)?;
        }
    }
    Ok(live)
}

fn field(live: &mut Object, name: &str, patch: &Value, schema: Option<&Schema>) -> Result<(), Refusal> {
    let child = schema.and_then(|s| s.field(name));
    let value = match (live.remove(name), patch) {
        (_, Value::Null) => None,
        (Some(Value::Object(live)), Value::Object(patch)) => Some(object(live, patch, child.as_deref())?.into()),
        (Some(Value::Array(live)), Value::Array(patch)) => Some(list::merge(live, patch, child.as_deref())?.into()),
        (_, patch) => cleaned(patch),
    };
    if let Some(value) = value {
        live.insert(name.to_owned(), value);
    }
    Ok(())
}

/// Drops the live fields that `$retainKeys` does not list; everything the patch sets must be listed.
fn retain_keys(live: &mut Object, patch: &Object) -> Result<(), Refusal> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = directive.as_array().ok_or(Refusal::RetainKeys)?;
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let mut set = patch.iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    if set.any(|(name, _)| !keys.contains(name.as_str())) {
        return Err(Refusal::RetainKeys);
    }
    live.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

/// Merges the lists whose order the patch gives, and names them.
fn ordered_lists<'p>(
    live: &mut Object,
    patch: &'p Object,
    schema: Option<&Schema>,
) -> Result<HashSet<&'p str>, Refusal> {
    let mut done = HashSet::new();
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix(SET_ORDER) else { continue };
        let order = order.as_array().ok_or(Refusal::SetOrder)?;
        let patch = match patch.get(name) {
            None => None,
            Some(Value::Array(items)) => Some(items.as_slice()),
            Some(_) => return Err(Refusal::SetOrder),
        };
        let items = match live.remove(name) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => return Err(Refusal::SetOrder),
        };
        let child = schema.and_then(|s| s.field(name));
        if let Some(merged) = list::merge_in_order(items, patch, order, child.as_deref())? {
            live.insert(name.to_owned(), merged.into());
        }
        done.insert(name);
    }
    Ok(done)
}

fn delete_from_list(live: &mut Object, name: &str, patch: &Value) -> Result<(), Refusal> {
    let gone = patch.as_array().ok_or(Refusal::PrimitiveList)?;
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    if let Some(Value::Array(items)) = live.get_mut(name) {
        items.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN_KEYS || name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM)
}

fn unknown_directive(directive: &Value, object: &Object) -> Refusal {
    Refusal::UnknownDirective { directive: printed(directive), object: printed_object(object) }
}

/// A value that comes new into an object, without nulls and directives; `None` if it is nothing but a directive.
fn cleaned(value: &Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => Some(Value::Object(cleaned_fields(fields))),
        Value::Array(items) => Some(items.iter().filter_map(cleaned).collect()),
        scalar => Some(scalar.clone()),
    }
}

fn cleaned_fields(fields: &Object) -> Object {
    let kept = fields.iter().filter(|(name, value)| !is_directive(name) && !value.is_null());
    kept.filter_map(|(name, value)| Some((name.clone(), cleaned(value)?))).collect()
}

/// As Go's `%v` prints it: `map[image:x ports:[map[containerPort:80]]]`.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => printed_list(items),
        Value::Object(fields) => printed_object(fields),
        scalar => scalar.to_string(),
    }
}

fn printed_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(printed).collect();
    format!("[{}]", items.join(" "))
}

fn printed_object(fields: &Object) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{}", printed(value))).collect();
    format!("map[{}]", fields.join(" "))
}

#[cfg(test)]
mod tests;
