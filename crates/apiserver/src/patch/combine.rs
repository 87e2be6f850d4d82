//! Merging an applied object into the live one, and pruning what is no longer applied.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::fields::{View, field};
use super::shape::{Keys, Shape, is_empty, is_named, item_element, shape};
use crate::schema::Schema;

/// `live` with everything that `applied` says. Leaves are taken from `applied`; objects and lists merge as the schema
/// tells.
pub(super) fn merged(live: Value, applied: &Value, schema: Option<&Schema>) -> Value {
    match (shape(schema, applied), live, applied) {
        (Shape::Fields, Value::Object(live), Value::Object(applied)) => {
            Value::Object(merged_fields(live, applied, schema))
        }
        (Shape::Items(keys), Value::Array(live), Value::Array(applied)) => {
            merged_items(live, applied, keys, schema.and_then(Schema::items).as_deref())
        }
        (_, live, Value::Null) if shape(schema, &live) != Shape::Leaf => live,
        (_, _, applied) => applied.clone(),
    }
}

fn merged_fields(
    mut live: Map<String, Value>,
    applied: &Map<String, Value>,
    schema: Option<&Schema>,
) -> Map<String, Value> {
    for (name, applied) in applied {
        let value = match live.remove(name) {
            Some(live) => merged(live, applied, schema.and_then(|s| s.field(name)).as_deref()),
            None => applied.clone(),
        };
        live.insert(name.clone(), value);
    }
    live
}

/// Items of both lists merge and stand in the order of `applied`; those only in `live` keep their place among them.
fn merged_items(live: Vec<Value>, applied: &[Value], keys: Keys<'_>, items: Option<&Schema>) -> Value {
    let elements = |list: &[Value]| -> Result<Vec<String>, String> {
        list.iter().map(|item| item_element(keys, items, item)).collect()
    };
    let (Ok(live_elements), Ok(applied_elements)) = (elements(&live), elements(applied)) else {
        return Value::Array(applied.to_vec());
    };
    let places: HashMap<&str, usize> = applied_elements.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
    let mut shared: HashMap<usize, Option<Value>> = HashMap::new();
    let mut queue: Vec<Result<Value, usize>> = Vec::with_capacity(live.len());
    for (item, element) in live.into_iter().zip(&live_elements) {
        match places.get(element.as_str()) {
            None => queue.push(Ok(item)),
            Some(&place) => {
                queue.push(Err(place));
                shared.entry(place).and_modify(|twice| *twice = None).or_insert(Some(item));
            }
        }
    }
    let mut rest = applied.iter().enumerate().peekable();
    let mut shared_places: Vec<usize> = shared.keys().copied().collect();
    shared_places.sort_unstable();
    let mut next_shared = shared_places.into_iter().peekable();
    let mut out = Vec::with_capacity(queue.len() + applied.len());
    let mut take = |at: usize, item: &Value| match shared.remove(&at).flatten() {
        Some(live) => merged(live, item, items),
        None => item.clone(),
    };
    for entry in queue {
        match entry {
            Ok(only_live) => out.push(only_live),
            Err(place) if next_shared.peek() == Some(&place) => {
                next_shared.next();
                while let Some((at, item)) = rest.next_if(|(at, _)| *at <= place) {
                    out.push(take(at, item));
                }
            }
            Err(_) => {}
        }
    }
    out.extend(rest.map(|(at, item)| take(at, item)));
    Value::Array(out)
}

/// Removes what is in `last`, the fields that a manager applied before, and in nobody's set any more. Objects and lists
/// that this empties go too.
pub(super) fn prune(value: &mut Value, schema: Option<&Schema>, last: View<'_>, owned: Option<View<'_>>) {
    match (shape(schema, value), value) {
        (Shape::Fields, Value::Object(object)) => prune_fields(object, schema, last, owned),
        (Shape::Items(keys), Value::Array(list)) => {
            let items = schema.and_then(Schema::items);
            list.retain_mut(|item| match item_element(keys, items.as_deref(), item) {
                Ok(element) => !is_pruned(item, &element, false, items.as_deref(), (last, owned)),
                Err(_) => true,
            });
        }
        _ => {}
    }
}

fn prune_fields(object: &mut Map<String, Value>, schema: Option<&Schema>, last: View<'_>, owned: Option<View<'_>>) {
    let names: Vec<String> = object.keys().filter(|name| last.touches(&field(name))).cloned().collect();
    for name in names {
        let child = schema.and_then(|s| s.field(&name));
        let named = is_named(schema, child.as_deref());
        let Some(value) = object.get_mut(&name) else { continue };
        if is_pruned(value, &field(&name), named, child.as_deref(), (last, owned)) {
            object.remove(&name);
        }
    }
}

/// Prunes the value at `element`; whether it goes itself. A named field is in a set if anything below it is.
fn is_pruned(
    value: &mut Value,
    element: &str,
    named: bool,
    schema: Option<&Schema>,
    (last, owned): (View<'_>, Option<View<'_>>),
) -> bool {
    let Some(last_below) = last.below(element) else { return false };
    let holds = |set: View<'_>| set.has(element) || (named && set.touches(element));
    if holds(last) && !owned.is_some_and(holds) {
        return true;
    }
    let was_empty = is_empty(value);
    prune(value, schema, last_below, owned.and_then(|o| o.below(element)));
    !was_empty && is_empty(value)
}
