//! Lists in strategic merge patches.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Object, PATCH, Refusal, cleaned, object, printed_list, printed_object, unknown_directive};
use crate::schema::{PatchStrategy, Schema};

/// What tells the items of a merged list apart.
#[derive(Debug, Clone, Copy)]
enum Identity<'s> {
    /// The value of this field.
    Key(&'s str),
    /// The item itself, a scalar.
    Whole,
}

impl Identity<'_> {
    /// The identity of an item, as text that can be looked up.
    fn of(self, item: &Value) -> Option<String> {
        match self {
            Identity::Key(key) => item.get(key).map(Value::to_string),
            Identity::Whole => Some(item.to_string()),
        }
    }

    /// The first place of each identity.
    fn places(self, items: &[Value]) -> HashMap<String, usize> {
        let mut places = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if let Some(identity) = self.of(item) {
                places.entry(identity).or_insert(at);
            }
        }
        places
    }
}

/// How a list merges; `None` if it is replaced.
fn identity(schema: Option<&Schema>) -> Option<Identity<'_>> {
    match schema?.patch_strategy() {
        PatchStrategy::MergeByKey(key) | PatchStrategy::RetainKeys { merge_key: Some(key) } => Some(Identity::Key(key)),
        PatchStrategy::MergeSet => Some(Identity::Whole),
        PatchStrategy::Replace | PatchStrategy::RetainKeys { merge_key: None } => None,
    }
}

/// Merges a list without a given order.
pub(super) fn merge(live: Vec<Value>, patch: &[Value], schema: Option<&Schema>) -> Result<Vec<Value>, Refusal> {
    match identity(schema) {
        None => Ok(patch.iter().filter_map(cleaned).collect()),
        Some(Identity::Key(key)) => merge_objects(live, patch, key, schema),
        Some(Identity::Whole) => merge_scalars(live, patch),
    }
}

/// Merges a list and puts it in the order that `$setElementOrder` gives. Items that only the live list has keep their
/// place among the others as well as they can. `None` if there is no list.
pub(super) fn merge_in_order(
    live: Option<Vec<Value>>,
    patch: Option<&[Value]>,
    order: &[Value],
    schema: Option<&Schema>,
) -> Result<Option<Vec<Value>>, Refusal> {
    let identity = identity(schema).unwrap_or(Identity::Whole);
    check_order(patch.unwrap_or_default(), order, identity)?;
    let server_order = live.as_ref().map(|live| identity.places(live)).unwrap_or_default();
    let merged = match (live, patch) {
        (Some(live), Some(patch)) => merge(live, patch, schema)?,
        (None, Some(patch)) => patch.iter().filter_map(cleaned).collect(),
        (Some(live), None) => live,
        (None, None) => return Ok(None),
    };
    Ok(Some(in_order(merged, &identity.places(order), &server_order, identity)))
}

/// The items of a patch that are not directives must stand in the order that it gives.
fn check_order(patch: &[Value], order: &[Value], identity: Identity<'_>) -> Result<(), Refusal> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let sought = identity.of(item).ok_or_else(|| no_merge_key(item, identity))?;
        if !rest.any(|other| identity.of(other).as_ref() == Some(&sought)) {
            return Err(Refusal::OutOfOrder { patch: printed_list(patch), order: printed_list(order) });
        }
    }
    Ok(())
}

fn no_merge_key(item: &Value, identity: Identity<'_>) -> Refusal {
    let key = if let Identity::Key(key) = identity { key.to_owned() } else { String::new() };
    Refusal::NoMergeKey { item: super::printed(item), key }
}

fn merge_objects(
    mut live: Vec<Value>,
    patch: &[Value],
    key: &str,
    schema: Option<&Schema>,
) -> Result<Vec<Value>, Refusal> {
    let identity = Identity::Key(key);
    let items = same_type(&live, patch)?;
    let mut changes: Vec<&Object> = Vec::with_capacity(items.len());
    let (mut deleted, mut replaces) = (HashSet::new(), false);
    for item in items {
        let identity_of = || item.get(key).map(Value::to_string);
        match item.get(PATCH).map(|directive| (directive, directive.as_str())) {
            None => changes.push(item),
            Some((_, Some("delete"))) => {
                let missing = || Refusal::NoMergeKey { item: printed_object(item), key: key.to_owned() };
                deleted.insert(identity_of().ok_or_else(missing)?);
            }
            Some((_, Some("replace"))) => replaces = true,
            Some((_, Some("merge"))) => return Err(Refusal::MergeDirective),
            Some((directive, _)) => return Err(unknown_directive(directive, item)),
        }
    }
    if replaces {
        return Ok(changes.into_iter().map(|item| Value::Object(super::cleaned_fields(item))).collect());
    }
    live.retain(|item| identity.of(item).is_none_or(|i| !deleted.contains(&i)));
    let server_order = identity.places(&live);
    let mut order = HashMap::with_capacity(changes.len());
    let mut places = server_order.clone();
    let schema = schema.and_then(Schema::items);
    for item in changes {
        let Some(id) = item.get(key).map(Value::to_string) else {
            return Err(Refusal::NoMergeKey { item: printed_object(item), key: key.to_owned() });
        };
        let next = order.len();
        order.entry(id.clone()).or_insert(next);
        match places.get(&id).and_then(|at| live.get_mut(*at)) {
            Some(Value::Object(found)) => {
                let merged = object(std::mem::take(found), item, schema.as_deref())?;
                *found = merged;
            }
            _ => {
                places.insert(id, live.len());
                live.push(Value::Object(super::cleaned_fields(item)));
            }
        }
    }
    Ok(in_order(live, &order, &server_order, identity))
}

/// The patch's items as objects; the live list's must be objects too.
fn same_type<'p>(live: &[Value], patch: &'p [Value]) -> Result<Vec<&'p Object>, Refusal> {
    if patch.iter().chain(live).any(Value::is_array) {
        return Err(Refusal::ListOfLists);
    }
    let objects: Option<Vec<&Object>> = patch.iter().map(Value::as_object).collect();
    let objects = objects.filter(|_| live.iter().all(Value::is_object));
    objects.ok_or_else(|| Refusal::MixedTypes(format!("[{} {}]", printed_list(live), printed_list(patch))))
}

fn merge_scalars(mut live: Vec<Value>, patch: &[Value]) -> Result<Vec<Value>, Refusal> {
    if patch.iter().chain(&live).any(Value::is_array) {
        return Err(Refusal::ListOfLists);
    }
    if patch.iter().any(Value::is_object) {
        return Err(Refusal::MixedTypes(format!("[{} {}]", printed_list(&live), printed_list(patch))));
    }
    let identity = Identity::Whole;
    let server_order = identity.places(&live);
    live.extend(patch.iter().cloned());
    let mut seen = HashSet::new();
    live.retain(|item| seen.insert(item.to_string()));
    Ok(in_order(live, &identity.places(patch), &server_order, identity))
}

/// Puts the items that `order` has in its order, the others in the order of the live list, and weaves both together:
/// an item that only the server has comes before the first other one that it stood before.
fn in_order(
    items: Vec<Value>,
    order: &HashMap<String, usize>,
    server_order: &HashMap<String, usize>,
    identity: Identity<'_>,
) -> Vec<Value> {
    struct Placed {
        item: Value,
        patch: Option<usize>,
        server: Option<usize>,
    }
    let placed = items.into_iter().map(|item| {
        let id = identity.of(&item).unwrap_or_default();
        Placed { patch: order.get(&id).copied(), server: server_order.get(&id).copied(), item }
    });
    let (mut ordered, mut others): (Vec<Placed>, Vec<Placed>) = placed.partition(|p| p.patch.is_some());
    ordered.sort_by_key(|p| p.patch);
    others.sort_by_key(|p| p.server.unwrap_or(usize::MAX));
    let mut woven = Vec::with_capacity(ordered.len() + others.len());
    let mut others = others.into_iter().peekable();
    for next in ordered {
        let stood_before = |other: &Placed| other.server.zip(next.server).is_some_and(|(other, next)| other < next);
        while let Some(other) = others.next_if(stood_before) {
            woven.push(other.item);
        }
        woven.push(next.item);
    }
    woven.extend(others.map(|p| p.item));
    woven
}
