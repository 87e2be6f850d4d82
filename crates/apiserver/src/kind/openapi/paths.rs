//! The paths of a group and version, with the marks by which clients find a kind's operations.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::{Kind, Verbs};
use super::schemas::{DELETE_OPTIONS, PATCH, SCALE, STATUS};
use super::{definition_name, group_version_kind, list_definition_name, reference};

pub(super) fn paths(kinds: &[Arc<Kind>]) -> Value {
    let mut paths = Map::new();
    for kind in kinds {
        add(kind, &mut paths);
    }
    Value::Object(paths)
}

/// What an operation says about itself.
struct Operation<'a> {
    action: &'a str,
    parameters: &'a [(&'a str, &'a str)],
    body: Option<Value>,
    /// The definition that a successful answer has.
    answer: &'a str,
}

const DRY_RUN: (&str, &str) = ("dryRun", "string");
const FIELD_MANAGER: (&str, &str) = ("fieldManager", "string");
const FIELD_VALIDATION: (&str, &str) = ("fieldValidation", "string");
const WRITE: &[(&str, &str)] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const APPLY: &[(&str, &str)] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, ("force", "boolean")];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] =
    &[DRY_RUN, ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"), ("propagationPolicy", "string")];

fn add(kind: &Kind, paths: &mut Map<String, Value>) {
    let root = if kind.version.group.is_empty() { "/api" } else { "/apis" };
    let (root, plural) = (format!("{root}/{}", kind.version), &kind.names.plural);
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{plural}");
    if kind.verbs == Verbs::CreateOnly {
        paths.insert(collection, item(kind, false, json!({ "post": create(kind) })));
        return;
    }
    let list = list_definition_name(kind);
    let reading = Operation { action: "list", parameters: LIST, body: None, answer: &list };
    if kind.namespaced {
        let everywhere = json!({ "get": operation(kind, &reading) });
        paths.insert(format!("{root}/{plural}"), everywhere);
    }
    let deleting = Operation { action: "deletecollection", parameters: DELETE, body: None, answer: STATUS };
    let operations = json!({
        "get": operation(kind, &reading), "post": create(kind), "delete": operation(kind, &deleting),
    });
    paths.insert(collection.clone(), item(kind, false, operations));
    let own = definition_name(kind);
    let mut operations = object_operations(kind, &own);
    let delete =
        Operation { action: "delete", parameters: DELETE, body: Some(json_body(DELETE_OPTIONS)), answer: STATUS };
    operations["delete"] = operation(kind, &delete);
    paths.insert(format!("{collection}/{{name}}"), item(kind, true, operations));
    for (name, served, definition) in
        [("status", kind.has_status, own.as_str()), ("scale", kind.scale.is_some(), SCALE)]
    {
        if served {
            let operations = object_operations(kind, definition);
            paths.insert(format!("{collection}/{{name}}/{name}"), item(kind, true, operations));
        }
    }
}

fn create(kind: &Kind) -> Value {
    let own = definition_name(kind);
    operation(kind, &Operation { action: "post", parameters: WRITE, body: Some(json_body(&own)), answer: &own })
}

/// Reading, replacing and patching an object or one of its subresources.
fn object_operations(kind: &Kind, definition: &str) -> Value {
    let get = Operation { action: "get", parameters: &[], body: None, answer: definition };
    let put = Operation { action: "put", parameters: WRITE, body: Some(json_body(definition)), answer: definition };
    let patch = Operation { action: "patch", parameters: APPLY, body: Some(patch_body(kind)), answer: definition };
    let mut operations =
        json!({ "get": operation(kind, &get), "put": operation(kind, &put), "patch": operation(kind, &patch) });
    if definition == SCALE {
        // A scale is a kind of its own.
        let scale = json!({ "group": "autoscaling", "version": "v1", "kind": "Scale" });
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            operation["x-kubernetes-group-version-kind"] = scale.clone();
        }
    }
    operations
}

fn content(media_types: &[&str], definition: &str) -> Value {
    let schema = reference(definition);
    media_types.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect::<Map<_, _>>().into()
}

fn json_body(definition: &str) -> Value {
    json!({ "content": content(&["*/*"], definition), "required": true })
}

/// The patches that a kind takes, which is how kubectl chooses among them.
fn patch_body(kind: &Kind) -> Value {
    let mut media = vec!["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    if kind.builtin {
        media.push("application/strategic-merge-patch+json");
    }
    json!({ "content": content(&media, PATCH), "required": true })
}

fn operation(kind: &Kind, operation: &Operation<'_>) -> Value {
    let Operation { action, parameters, body, answer } = operation;
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|(name, kind)| json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } }))
        .collect();
    let media = ["application/json", "application/yaml"];
    let mut described = json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": content(&media, answer) } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(&kind.version, &kind.names.kind),
    });
    if let Some(body) = body {
        described["requestBody"] = body.clone();
    }
    described
}

/// The operations of a path with the parameters that are in it.
fn item(kind: &Kind, named: bool, mut operations: Value) -> Value {
    let parameter = |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } });
    let mut parameters = Vec::new();
    if named {
        parameters.push(parameter("name"));
    }
    if kind.namespaced {
        parameters.push(parameter("namespace"));
    }
    if !parameters.is_empty() {
        operations["parameters"] = parameters.into();
    }
    operations
}
