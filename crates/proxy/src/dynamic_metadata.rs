//! What filters note of a request, for those that follow: the claims of a token, the answer of an authorization server.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

/// What filters noted, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DynamicMetadata(BTreeMap<String, Struct>);

impl DynamicMetadata {
    /// Adds facts to those of a filter; a fact that is there already is replaced.
    pub fn add(&mut self, filter: &str, facts: Struct) {
        match self.0.get_mut(filter) {
            Some(known) => known.fields.extend(facts.fields),
            None => {
                self.0.insert(filter.to_owned(), facts);
            }
        }
    }

    /// The facts of a filter.
    pub fn of(&self, filter: &str) -> Option<&Struct> {
        self.0.get(filter)
    }

    /// The value at the end of a path of keys through the facts of a filter.
    pub fn get<'k>(&self, filter: &str, path: impl IntoIterator<Item = &'k str>) -> Option<&Value> {
        let mut path = path.into_iter();
        let first = self.0.get(filter)?.fields.get(path.next()?)?;
        path.try_fold(first, |value, key| match value.kind.as_ref()? {
            Kind::StructValue(inner) => inner.fields.get(key),
            _ => None,
        })
    }
}

/// Facts in JSON.
pub(crate) fn json(facts: &Struct) -> Json {
    Json::Object(facts.fields.iter().map(|(key, value)| (key.clone(), json_value(value))).collect())
}

/// A fact in JSON. A whole number has no point.
pub(crate) fn json_value(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(truth)) => Json::Bool(*truth),
        // Beyond 2^53 not every whole number is there.
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(*number as i64),
        Some(Kind::NumberValue(number)) => Json::from(*number),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::StructValue(facts)) => json(facts),
        Some(Kind::ListValue(ListValue { values })) => Json::Array(values.iter().map(json_value).collect()),
    }
}
