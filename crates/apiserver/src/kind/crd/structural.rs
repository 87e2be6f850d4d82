//! The rules that make a schema structural, so that its objects can be pruned, defaulted and merged.
//!
//! Source: the structural schemas of `apiextensions.k8s.io/v1` as Kubernetes 1.33 validates and words them.

use api::Cause;
use regex::Regex;
use serde_json::Value;

use super::check_default;
use crate::schema::translate_pattern;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// What is wrong with the schema of a version, which stands at `path`.
pub(super) fn check(schema: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    match schema["type"].as_str() {
        Some("object") => {}
        Some(other) => causes.push(Cause::invalid(format!("{path}.type"), &other.into(), "must be object at the root")),
        None => causes.push(Cause::required(format!("{path}.type"), "must not be empty at the root")),
    }
    check_metadata(schema, path, &mut causes);
    check_node(schema, path, "", &mut causes);
    causes
}

/// Every object has metadata, so a schema may restrict only what a user names it.
fn check_metadata(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let metadata = &schema["properties"]["metadata"];
    let fields = metadata["properties"].as_object().into_iter().flatten();
    if fields.into_iter().any(|(name, _)| !matches!(name.as_str(), "name" | "generateName")) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(Cause::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

fn truthy(schema: &Value, keyword: &str) -> bool {
    schema[keyword] == true
}

/// `place` says what the node describes, and is empty at the root.
fn check_node(schema: &Value, path: &str, place: &str, causes: &mut Vec<Cause>) {
    let int_or_string = truthy(schema, "x-kubernetes-int-or-string");
    match schema["type"].as_str() {
        Some(_) if int_or_string => {
            let why = "must be empty if x-kubernetes-int-or-string is true";
            causes.push(Cause::invalid(format!("{path}.type"), &schema["type"], why));
        }
        Some(kind) if !TYPES.contains(&kind) => {
            causes.push(Cause::unsupported(format!("{path}.type"), &kind.into(), TYPES));
        }
        Some(_) => {}
        None if place.is_empty() || int_or_string || truthy(schema, "x-kubernetes-preserve-unknown-fields") => {}
        None => {
            causes.push(Cause::required(format!("{path}.type"), &format!("must not be empty for specified {place}")))
        }
    }
    check_keywords(schema, path, causes);
    check_list(schema, path, causes);
    check_value(schema, path, causes);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        check_node(child, &format!("{path}.properties[{name}]"), "object fields", causes);
    }
    if schema["additionalProperties"].is_object() {
        let path = format!("{path}.additionalProperties");
        check_node(&schema["additionalProperties"], &path, "object fields", causes);
    }
    if schema["items"].is_object() {
        check_node(&schema["items"], &format!("{path}.items"), "array items", causes);
    }
    check_combinations(schema, path, int_or_string, causes);
}

fn check_keywords(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut forbid = |keyword: &str, why: &str| causes.push(Cause::forbidden(format!("{path}.{keyword}"), why));
    if schema["$ref"].is_string() {
        forbid("$ref", "$ref is not supported");
    }
    if truthy(schema, "uniqueItems") {
        forbid("uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic");
    }
    match &schema["additionalProperties"] {
        Value::Bool(false) => forbid("additionalProperties", "additionalProperties cannot be set to false"),
        Value::Null => {}
        _ if schema["properties"].as_object().is_some_and(|p| !p.is_empty()) => {
            forbid("additionalProperties", "additionalProperties and properties are mutual exclusive");
        }
        _ => {}
    }
    for keyword in ["definitions", "dependencies", "patternProperties", "id", "$schema", "additionalItems"] {
        if schema.get(keyword).is_some_and(|v| !v.is_null()) {
            forbid(keyword, &format!("{keyword} is not supported"));
        }
    }
}

fn check_list(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if schema["type"] == "array" && !schema["items"].is_object() {
        causes.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    let kind = schema["x-kubernetes-list-type"].as_str();
    if let Some(kind) = kind.filter(|kind| !["atomic", "map", "set"].contains(kind)) {
        let at = format!("{path}.x-kubernetes-list-type");
        causes.push(Cause::unsupported(at, &kind.into(), &["atomic", "map", "set"]));
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if kind != Some("map") {
        return;
    }
    let at = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        causes.push(Cause::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items = &schema["items"];
    for (index, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        let property = &items["properties"][key];
        let required = items["required"].as_array().is_some_and(|r| r.iter().any(|name| name == key));
        let why = match () {
            () if !property.is_object() => "entries must all be names of item properties",
            () if !required && property["default"].is_null() => {
                "must be required or have a default value in the item schema"
            }
            () => continue,
        };
        causes.push(Cause::invalid(format!("{at}[{index}]"), &key.into(), why));
    }
}

fn check_value(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    if let Err(error) = Regex::new(&translate_pattern(pattern)) {
        let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
        let why = format!("must be a valid regular expression, but isn't: {reason}");
        causes.push(Cause::invalid(format!("{path}.pattern"), &pattern.into(), why));
    }
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        for cause in check_default(schema, default) {
            let field = cause.field.trim_start_matches("<nil>");
            let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
            causes.push(Cause { field: format!("{path}.default{dot}{field}"), ..cause });
        }
    }
}

/// Inside combinations only value validations are allowed: the structure stands outside.
fn check_combinations(schema: &Value, path: &str, int_or_string: bool, causes: &mut Vec<Cause>) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (index, branch) in schema[keyword].as_array().into_iter().flatten().enumerate() {
            check_branch(branch, &format!("{path}.{keyword}[{index}]"), int_or_string, causes);
        }
    }
    if schema["not"].is_object() {
        check_branch(&schema["not"], &format!("{path}.not"), int_or_string, causes);
    }
}

fn check_branch(branch: &Value, path: &str, int_or_string: bool, causes: &mut Vec<Cause>) {
    const STRUCTURE: &[&str] = &[
        "description",
        "type",
        "default",
        "additionalProperties",
        "nullable",
        "title",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ];
    for keyword in STRUCTURE {
        // The types of an int-or-string are the one structure that a branch may repeat.
        let allowed = int_or_string && *keyword == "type";
        if !allowed && branch.get(*keyword).is_some_and(|v| !v.is_null() && *v != Value::Bool(false)) {
            causes.push(Cause::forbidden(format!("{path}.{keyword}"), "must be empty to be structural"));
        }
    }
    for (name, child) in branch["properties"].as_object().into_iter().flatten() {
        check_branch(child, &format!("{path}.properties[{name}]"), false, causes);
    }
    if branch["items"].is_object() {
        check_branch(&branch["items"], &format!("{path}.items"), false, causes);
    }
    check_combinations(branch, path, int_or_string, causes);
}

/// Whether any part of the schema has rules in CEL.
pub(super) fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.get("x-kubernetes-validations").is_some_and(|r| r.as_array().is_some_and(|r| !r.is_empty()))
                || fields.values().any(has_rules)
        }
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}
