//! How server-side apply takes values apart: which are owned as one, by field, or by item.

use serde_json::{Map, Value};

use super::fields::printed;
use crate::schema::{Schema, Topology};

/// What a value is owned by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'s> {
    /// Owned as one value.
    Leaf,
    Fields,
    Items(Keys<'s>),
}

/// What tells the items of a list apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys<'s> {
    /// These fields of each.
    Fields(&'s [String]),
    /// Their values.
    Values,
}

/// The shape of a value. A value without a schema is owned by field if it is an object, and as one if it is a list.
pub(super) fn shape<'s>(schema: Option<&'s Schema>, value: &Value) -> Shape<'s> {
    match (value, schema.map(Schema::topology)) {
        (Value::Object(_), None | Some(Topology::Granular)) => Shape::Fields,
        (Value::Array(_), Some(Topology::ListMap(keys))) => Shape::Items(Keys::Fields(keys)),
        (Value::Array(_), Some(Topology::Set)) => Shape::Items(Keys::Values),
        _ => Shape::Leaf,
    }
}

/// Whether a value holds nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Whether a field is one that its object's schema names, rather than a key of the user's choice.
pub(super) fn is_named(object: Option<&Schema>, field: Option<&Schema>) -> bool {
    field.is_some() && object.is_some_and(|schema| !schema.is_map())
}

/// The path element of a list's item, or why it has none.
pub(super) fn item_element(keys: Keys<'_>, items: Option<&Schema>, item: &Value) -> Result<String, String> {
    match keys {
        Keys::Fields(names) => key_element(names, items, item),
        Keys::Values => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(format!("v:{scalar}")),
        },
    }
}

fn key_element(names: &[String], items: Option<&Schema>, item: &Value) -> Result<String, String> {
    let Some(item) = item.as_object() else {
        let what = if item.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut key = Map::new();
    for name in names {
        if let Some(value) = item.get(name) {
            key.insert(name.clone(), value.clone());
        } else if let Some(default) = items.and_then(|s| s.field(name)).and_then(|s| s.default_value().cloned()) {
            key.insert(name.clone(), default);
        }
    }
    if key.is_empty() {
        return Err(format!(
            "associative list with keys has an element that omits all key fields {names:?} (and doesn't have default \
             values for any key fields)"
        ));
    }
    Ok(format!("k:{}", Value::Object(key)))
}

/// The elements of a list, in its order; an error names the item or the duplicate.
pub(super) fn unique_elements(keys: Keys<'_>, items: Option<&Schema>, list: &[Value]) -> Result<Vec<String>, String> {
    let mut elements = Vec::with_capacity(list.len());
    let mut seen = std::collections::HashSet::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        let element = item_element(keys, items, item).map_err(|why| format!(": element {at}: {why}"))?;
        if !seen.insert(element.clone()) {
            return Err(format!(": duplicate entries for key {}", printed(&element)));
        }
        elements.push(element);
    }
    Ok(elements)
}
