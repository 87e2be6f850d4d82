//! Reading an object with the path of each field at hand, and filling in defaults.

use api::Cause;
use serde_json::{Map, Value};

/// A value within an object, and its path as Kubernetes writes it (`spec.ports[0].port`).
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    /// The field `path` of the object itself.
    pub(super) fn of(object: &'a Value, key: &str) -> Field<'a> {
        Field { path: key.to_owned(), value: &object[key] }
    }

    /// The field `key` of this object; null where there is none.
    pub(super) fn get(&self, key: &str) -> Field<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Field { path, value: &self.value[key] }
    }

    /// The items of a list, each with its index in the path.
    pub(super) fn items(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().into_iter().flatten();
        items.enumerate().map(move |(i, value)| Field { path: format!("{path}[{i}]"), value })
    }

    /// The entries of a map, each with its key in the path (`data[key]`).
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), Field { path: format!("{path}[{key}]"), value }))
    }

    /// The text; empty where there is none.
    pub(super) fn str(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The number, if there is one.
    pub(super) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether the value is `true`.
    pub(super) fn is_true(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// Whether the field is absent, or empty text.
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_null() || self.value.as_str() == Some("")
    }

    /// `path: Invalid value: …`.
    pub(super) fn invalid(&self, why: impl std::fmt::Display) -> Cause {
        Cause::invalid(self.path.clone(), self.value, why)
    }

    /// `path: Required value: …`.
    pub(super) fn required(&self, why: &str) -> Cause {
        Cause::required(self.path.clone(), why)
    }

    /// `path: Forbidden: …`.
    pub(super) fn forbidden(&self, why: impl std::fmt::Display) -> Cause {
        Cause::forbidden(self.path.clone(), why)
    }

    /// `path: Duplicate value: …`.
    pub(super) fn duplicate(&self) -> Cause {
        Cause::duplicate(self.path.clone(), self.value)
    }

    /// A cause unless the text is one of `supported`.
    pub(super) fn one_of(&self, supported: &[&str]) -> Option<Cause> {
        let known = supported.contains(&self.str());
        (!known).then(|| Cause::unsupported(self.path.clone(), self.value, supported))
    }

    /// A cause if there is a number below `least`.
    pub(super) fn at_least(&self, least: i64) -> Option<Cause> {
        let why = || format!("must be greater than or equal to {least}");
        self.int().filter(|n| *n < least).map(|_| self.invalid(why()))
    }

    /// A cause unless the text is present and passes `rule`.
    pub(super) fn named(&self, rule: fn(&str) -> Result<(), String>) -> Option<Cause> {
        if self.is_empty() {
            return Some(self.required(""));
        }
        rule(self.str()).err().map(|why| self.invalid(why))
    }

    /// A cause unless the number is a port.
    pub(super) fn port(&self) -> Option<Cause> {
        match self.int() {
            Some(1..=65535) => None,
            Some(_) => Some(self.invalid("must be between 1 and 65535, inclusive")),
            None => Some(self.required("")),
        }
    }

    /// A cause if this differs from the stored value.
    pub(super) fn unchanged(&self, old: &Value) -> Option<Cause> {
        (self.value != old).then(|| self.invalid("field is immutable"))
    }
}

/// Sets `key` of the object `target` where it is absent or null.
pub(crate) fn default(target: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = target.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key.to_owned(), value.into());
    }
}

/// As [`default`], for text, which Kubernetes also treats as absent when it is empty.
pub(super) fn default_text(target: &mut Value, key: &str, value: &str) {
    if target[key].as_str() == Some("") {
        remove(target, key);
    }
    default(target, key, value);
}

/// Sets `key` of the object `target`, which becomes an object if it is null.
pub(crate) fn set(target: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = as_object(target) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes `key` of the object `target`.
pub(crate) fn remove(target: &mut Value, key: &str) {
    if let Some(map) = target.as_object_mut() {
        map.remove(key);
    }
}

/// The object at `path`, made where it is absent; `None` if something else is in the way.
pub(crate) fn object_at<'a>(target: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    let mut here = target;
    for key in path {
        here = as_object(here)?.entry((*key).to_owned()).or_insert_with(|| Value::Object(Map::new()));
    }
    as_object(here).is_some().then_some(here)
}

/// The items of the list `key`, to be changed in place.
pub(crate) fn items_mut<'a>(target: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    target.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn as_object(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_knows_its_path() {
        let object = json!({"spec": {"ports": [{"port": 80}, {"port": 70000}]}});
        let ports = Field::of(&object, "spec").get("ports");
        let causes: Vec<Cause> = ports.items().filter_map(|p| p.get("port").port()).collect();
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, "spec.ports[1].port");
        assert_eq!(causes[0].message, "Invalid value: 70000: must be between 1 and 65535, inclusive");
    }

    #[test]
    fn defaults_fill_gaps_and_never_overwrite_or_panic() {
        let mut object = json!({"a": 1, "b": null, "c": ""});
        default(&mut object, "a", 2);
        default(&mut object, "b", 2);
        default_text(&mut object, "c", "x");
        default(&mut json!([]), "a", 2);
        assert!(object_at(&mut object, &["a", "deep"]).is_none());
        assert_eq!(object, json!({"a": 1, "b": 2, "c": "x"}));
    }
}
