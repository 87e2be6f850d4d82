//! Validation of custom resources against their schemas.
//!
//! The wording is that of kube-openapi's validator as kube-apiserver 1.33 reports it.

use std::collections::HashSet;

use api::Cause;
use serde_json::{Map, Value};

use super::format::Format;
use super::prune::{at_index, within};
use super::{Bounds, Rules, Schema, Shape};

impl Schema {
    /// Types, enums, patterns, bounds, required fields of a custom resource. Built-in kinds state no rules: their
    /// types are checked by [`Schema::decode_error`], their values on admission.
    pub fn check(&self, value: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        check(self, value, &mut String::new(), &mut causes);
        causes
    }
}

fn check(schema: &Schema, value: &Value, path: &mut String, causes: &mut Vec<Cause>) {
    if matches!(schema.shape, Shape::Definition(_)) || value.is_null() && schema.nullable {
        return;
    }
    if let Some(expected) = expected_type(schema, value) {
        causes.push(type_error(path, expected, value));
        return;
    }
    if let Some(rules) = &schema.rules {
        check_rules(rules, value, path, causes);
    }
    match (&schema.shape, value) {
        (Shape::Object(_), Value::Object(fields)) => {
            for (name, child) in fields {
                let Some(known) = schema.child(name) else { continue };
                within(path, name, |path| check(known, child, path, causes));
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                at_index(path, index, |path| check(items, item, path, causes));
            }
        }
        _ => {}
    }
}

/// The type that `value` should have had, if it has another.
fn expected_type(schema: &Schema, value: &Value) -> Option<&'static str> {
    if !schema.typed {
        return None;
    }
    let (expected, holds) = match &schema.shape {
        Shape::Any | Shape::Definition(_) => return None,
        Shape::Text(_) => ("string", value.is_string()),
        Shape::Integer(_) => ("integer", is_integer(value)),
        Shape::Number => ("number", value.is_number()),
        Shape::Boolean => ("boolean", value.is_boolean()),
        Shape::IntOrString | Shape::Quantity => ("integer,string", is_integer(value) || value.is_string()),
        Shape::List(_) => ("array", value.is_array()),
        Shape::Object(_) => ("object", value.is_object()),
    };
    (!holds).then_some(expected)
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

fn type_error(path: &str, expected: &str, value: &Value) -> Cause {
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        number @ Value::Number(_) if is_integer(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let why = format!("{} must be of type {expected}: {actual:?}", body(path));
    Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(field(path), &actual.into(), why) }
}

/// How a message names the value at `path`.
fn body(path: &str) -> String {
    if path.is_empty() { "value in body".to_owned() } else { format!("{path} in body") }
}

/// The root of an object has no path, which Kubernetes prints as Go does.
fn field(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

fn check_rules(rules: &Rules, value: &Value, path: &mut String, causes: &mut Vec<Cause>) {
    match value {
        Value::String(text) => check_text(rules, text, path, causes),
        Value::Number(number) => check_number(rules, number.as_f64().unwrap_or_default(), value, path, causes),
        Value::Array(list) => check_list(rules, list, path, causes),
        Value::Object(fields) => check_object(rules, fields, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
    if let Some(format) = rules.format.filter(|format| !format.holds(value)) {
        causes.push(format_error(format, value, path));
    }
    if let Some(allowed) = rules.allowed.as_ref().filter(|allowed| !allowed.iter().any(|a| same(a, value))) {
        let names: Vec<String> =
            allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        causes.push(Cause::unsupported(field(path), value, &names));
    }
    check_combinations(rules, value, path, causes);
}

/// JSON equality in which `1` and `1.0` are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn format_error(format: Format, value: &Value, path: &str) -> Cause {
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let why = format!("{} must be of type {}: {shown:?}", body(path), format.name());
    Cause { reason: "FieldValueTypeInvalid", ..Cause::invalid(field(path), value, why) }
}

fn check_text(rules: &Rules, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(most) = rules.length.most.filter(|most| length > *most) {
        let message = format!("Too long: may not be more than {most} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", message, field: field(path).to_owned() });
    }
    if let Some(least) = rules.length.least.filter(|least| length < *least) {
        let why = format!("{} should be at least {least} chars long", body(path));
        causes.push(Cause::invalid(field(path), &text.into(), why));
    }
    if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        let why = format!("{} should match '{}'", body(path), pattern.source);
        causes.push(Cause::invalid(field(path), &text.into(), why));
    }
}

fn check_number(rules: &Rules, number: f64, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut refuse =
        |why: String| causes.push(Cause::invalid(field(path), value, format!("{} should be {why}", body(path))));
    match rules.minimum {
        Some((least, true)) if number <= least => refuse(format!("greater than {}", go_number(least))),
        Some((least, false)) if number < least => refuse(format!("greater than or equal to {}", go_number(least))),
        _ => {}
    }
    match rules.maximum {
        Some((most, true)) if number >= most => refuse(format!("less than {}", go_number(most))),
        Some((most, false)) if number > most => refuse(format!("less than or equal to {}", go_number(most))),
        _ => {}
    }
    if let Some(step) = rules.multiple_of.filter(|step| (number / step).fract() != 0.0) {
        refuse(format!("a multiple of {}", go_number(step)));
    }
}

/// A number as Go prints it: with an exponent from a million on.
fn go_number(number: f64) -> String {
    if number == 0.0 || (1e-4..1e6).contains(&number.abs()) {
        return number.to_string();
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |e| ("-", e));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn check_list(rules: &Rules, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    check_size(rules.items, list.len(), "items", path, causes);
    if rules.unique && has_duplicates(list) {
        let why = format!("{} shouldn't contain duplicates", body(path));
        causes.push(Cause::invalid(field(path), &Value::Array(list.to_vec()), why));
    }
}

fn has_duplicates(list: &[Value]) -> bool {
    // The encoded form is hashable, and unique because maps are ordered.
    let mut seen = HashSet::new();
    !list.iter().all(|item| seen.insert(item.to_string()))
}

fn check_size(bounds: Bounds, size: usize, what: &str, path: &str, causes: &mut Vec<Cause>) {
    let size = size as u64;
    if let Some(least) = bounds.least.filter(|least| size < *least) {
        let why = format!("{} should have at least {least} {what}", body(path));
        causes.push(Cause::invalid(field(path), &size.into(), why));
    }
    if let Some(most) = bounds.most.filter(|most| size > *most) {
        let message = format!("Too many: {size}: must have at most {most} items");
        causes.push(Cause { reason: "FieldValueTooMany", message, field: field(path).to_owned() });
    }
}

fn check_object(rules: &Rules, fields: &Map<String, Value>, path: &mut String, causes: &mut Vec<Cause>) {
    check_size(rules.properties, fields.len(), "properties", path, causes);
    let required = rules.required.iter().map(String::as_str);
    let embedded = if rules.embedded { ["apiVersion", "kind"].as_slice() } else { &[] };
    for name in required.chain(embedded.iter().copied()) {
        if !fields.contains_key(name) {
            within(path, name, |path| causes.push(Cause::required(path.as_str(), "")));
        }
    }
}

fn check_combinations(rules: &Rules, value: &Value, path: &mut String, causes: &mut Vec<Cause>) {
    let mut fails = |schema: &Schema| {
        let mut found = Vec::new();
        check(schema, value, path, &mut found);
        found
    };
    let all: Vec<Vec<Cause>> = rules.all_of.iter().map(&mut fails).collect();
    let any: Vec<Vec<Cause>> = rules.any_of.iter().map(&mut fails).collect();
    let one: Vec<Vec<Cause>> = rules.one_of.iter().map(&mut fails).collect();
    let not = rules.not.as_ref().is_some_and(|schema| fails(schema).is_empty());
    let mut refuse = |why: String| causes.push(Cause::invalid("<nil>", &"".into(), format!("{path:?} must {why}")));
    if all.iter().any(|found| !found.is_empty()) {
        refuse("validate all the schemas (allOf)".to_owned());
    }
    if !any.is_empty() && any.iter().all(|found| !found.is_empty()) {
        refuse("validate at least one schema (anyOf)".to_owned());
    }
    let valid = one.iter().filter(|found| found.is_empty()).count();
    if !one.is_empty() && valid != 1 {
        let found =
            if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
        refuse(format!("validate one and only one schema (oneOf). {found}"));
    }
    if not {
        refuse("not validate the schema (not)".to_owned());
    }
    causes.extend(all.into_iter().flatten());
    // Of alternatives that all fail, the one that comes closest tells most.
    for alternatives in [any, one] {
        if alternatives.iter().all(|found| !found.is_empty()) {
            causes.extend(alternatives.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
}
