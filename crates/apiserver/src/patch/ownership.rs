//! Which fields an applied object claims, and which fields differ between two objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{FieldSet, field, printed};
use super::shape::{Keys, Shape, is_empty, is_named, item_element, shape, unique_elements};
use crate::schema::Schema;

/// The fields of an applied object: its leaves, the items of its lists, and objects that are empty. An error is the path
/// of a list whose items cannot be told apart, and why.
pub(super) fn claimed(value: &Value, schema: Option<&Schema>) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    match (shape(schema, value), value) {
        (Shape::Fields, Value::Object(object)) => {
            for (name, value) in object {
                let child = schema.and_then(|s| s.field(name));
                let child = child.as_deref();
                let element = field(name);
                let below = claimed(value, child).map_err(|why| within(&element, &why))?;
                let whole = shape(child, value) == Shape::Leaf || value.as_object().is_some_and(Map::is_empty);
                set.add(&element, whole || !is_named(schema, child), below);
            }
        }
        (Shape::Items(keys), Value::Array(list)) => {
            let items = schema.and_then(Schema::items);
            for (element, item) in unique_elements(keys, items.as_deref(), list)?.into_iter().zip(list) {
                let below = claimed(item, items.as_deref()).map_err(|why| within(&element, &why))?;
                set.add(&element, true, below);
            }
        }
        _ => {}
    }
    Ok(set)
}

fn within(element: &str, why: &str) -> String {
    format!("{}{why}", printed(element))
}

/// How one object differs from another.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Fields that are new or have another value.
    pub(super) changed: FieldSet,
    /// Fields that are gone.
    pub(super) removed: FieldSet,
}

/// Compares two objects of a schema.
pub(super) fn compare(old: &Value, new: &Value, schema: &Schema) -> Changes {
    let difference = differ(old, new, Some(schema));
    Changes { changed: difference.changed.1, removed: difference.removed.1 }
}

/// What differs at a path (whether the path itself does, and what below it does).
#[derive(Default)]
struct Difference {
    changed: (bool, FieldSet),
    removed: (bool, FieldSet),
}

impl Difference {
    fn leaf() -> Difference {
        Difference { changed: (true, FieldSet::default()), ..Difference::default() }
    }

    fn added(value: &Value, schema: Option<&Schema>) -> Difference {
        Difference { changed: (true, everything(value, schema)), ..Difference::default() }
    }

    fn gone(value: &Value, schema: Option<&Schema>) -> Difference {
        Difference { removed: (true, everything(value, schema)), ..Difference::default() }
    }

    fn between(old: Option<&Value>, new: Option<&Value>, schema: Option<&Schema>) -> Difference {
        match (old, new) {
            (Some(old), Some(new)) => differ(old, new, schema),
            (None, Some(new)) => Difference::added(new, schema),
            (Some(old), None) => Difference::gone(old, schema),
            (None, None) => Difference::default(),
        }
    }

    fn add(&mut self, element: &str, below: Difference) {
        self.changed.1.add(element, below.changed.0, below.changed.1);
        self.removed.1.add(element, below.removed.0, below.removed.1);
    }
}

fn differ(old: &Value, new: &Value, schema: Option<&Schema>) -> Difference {
    match (shape(schema, old), shape(schema, new), old, new) {
        _ if is_empty(old) && is_empty(new) => Difference::leaf(),
        (Shape::Fields, Shape::Fields, Value::Object(old), Value::Object(new)) => differ_by_field(old, new, schema),
        (Shape::Items(keys), Shape::Items(_), Value::Array(old), Value::Array(new)) => {
            let items = schema.and_then(Schema::items);
            differ_by_item(old, new, keys, items.as_deref()).unwrap_or_else(Difference::leaf)
        }
        (Shape::Leaf, Shape::Leaf, ..) => Difference::leaf(),
        // A null takes the shape of what it is compared with, so that it is not a change of the whole.
        (Shape::Leaf, _, Value::Null, _) => {
            Difference { changed: (false, everything(new, schema)), ..Difference::default() }
        }
        (_, Shape::Leaf, _, Value::Null) => {
            Difference { removed: (false, everything(old, schema)), ..Difference::default() }
        }
        _ => Difference { changed: (true, everything(new, schema)), removed: (false, everything(old, schema)) },
    }
}

fn differ_by_field(old: &Map<String, Value>, new: &Map<String, Value>, schema: Option<&Schema>) -> Difference {
    let mut difference = Difference::default();
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(name, value)| (name, Some(value), None));
    let kept = new.iter().map(|(name, value)| (name, old.get(name), Some(value)));
    for (name, old, new) in gone.chain(kept).filter(|(_, old, new)| old != new) {
        let child = schema.and_then(|s| s.field(name));
        difference.add(&field(name), Difference::between(old, new, child.as_deref()));
    }
    difference
}

/// `None` if an item of either list has no element, which makes the list one value.
fn differ_by_item(old: &[Value], new: &[Value], keys: Keys<'_>, items: Option<&Schema>) -> Option<Difference> {
    let mut pairs: BTreeMap<String, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old {
        pairs.entry(item_element(keys, items, item).ok()?).or_default().0.push(item);
    }
    for item in new {
        pairs.entry(item_element(keys, items, item).ok()?).or_default().1.push(item);
    }
    let mut difference = Difference::default();
    for (element, (old, new)) in pairs {
        difference.add(&element, differ_by_duplicates(&old, &new, items));
    }
    Some(difference)
}

/// Items that share an element are owned as one.
fn differ_by_duplicates(old: &[&Value], new: &[&Value], items: Option<&Schema>) -> Difference {
    match (old, new) {
        _ if old == new => Difference::default(),
        ([] | [_], [] | [_]) => Difference::between(old.first().copied(), new.first().copied(), items),
        ([_, _, ..], [_, _, ..]) => Difference::leaf(),
        ([_, _, ..], _) => {
            let mut difference = Difference::between(None, new.first().copied(), items);
            difference.removed.0 = new.is_empty();
            difference
        }
        _ => {
            let mut difference = Difference::between(old.first().copied(), None, items);
            difference.removed.0 = false;
            difference.changed.0 = true;
            difference
        }
    }
}

/// Every path below a value's own.
fn everything(value: &Value, schema: Option<&Schema>) -> FieldSet {
    let mut set = FieldSet::default();
    match (shape(schema, value), value) {
        (Shape::Fields, Value::Object(object)) => {
            for (name, value) in object {
                let child = schema.and_then(|s| s.field(name));
                set.add(&field(name), true, everything(value, child.as_deref()));
            }
        }
        (Shape::Items(keys), Value::Array(list)) => {
            let items = schema.and_then(Schema::items);
            let elements: Result<Vec<String>, String> =
                list.iter().map(|item| item_element(keys, items.as_deref(), item)).collect();
            for (element, item) in elements.unwrap_or_default().iter().zip(list) {
                set.add(element, true, everything(item, items.as_deref()));
            }
        }
        _ => {}
    }
    set
}
