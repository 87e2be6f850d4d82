//! The published schemas: those of k8s-openapi with the marks of merging added, and those of custom resources.

use std::sync::Arc;

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Status};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::super::{Kind, Source, Verbs};
use super::{definition_name, group_version_kind, list_definition_name, reference};
use crate::schema::{self, AtomicObject, Generate, PatchStrategy, Topology};

pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Every schema that the kinds' paths refer to, by name.
pub(super) fn schemas(kinds: &[Arc<Kind>]) -> Map<String, Value> {
    let mut schemas = Map::new();
    for (name, source) in schema::definitions_of(generators(kinds)) {
        let published = published(&name, source);
        schemas.insert(name, published);
    }
    schemas.insert(PATCH.to_owned(), json!({ "description": "A patch to an object.", "type": "object" }));
    for kind in kinds {
        if let Source::Custom { schema, .. } = &kind.source {
            schemas.insert(definition_name(kind), custom(kind, schema));
        }
        if let Some(own) = schemas.get_mut(&definition_name(kind)) {
            own["x-kubernetes-group-version-kind"] = json!([group_version_kind(&kind.version, &kind.names.kind)]);
        }
        if kind.verbs == Verbs::All {
            schemas.insert(list_definition_name(kind), list(kind));
        }
    }
    schemas
}

fn generators(kinds: &[Arc<Kind>]) -> Vec<Generate> {
    let mut generators: Vec<Generate> = vec![|generator: &mut SchemaGenerator| {
        generator.subschema_for::<ObjectMeta>();
        generator.subschema_for::<ListMeta>();
        generator.subschema_for::<DeleteOptions>();
        generator.subschema_for::<Status>();
    }];
    if kinds.iter().any(|k| k.scale.is_some()) {
        generators.push(|generator| {
            generator.subschema_for::<Scale>();
        });
    }
    generators.extend(kinds.iter().filter_map(|kind| match kind.source {
        Source::Builtin { generate, .. } => Some(generate),
        Source::Custom { .. } => None,
    }));
    generators
}

/// A definition of Kubernetes as kube-apiserver publishes it.
fn published(name: &str, mut source: Value) -> Value {
    let alternatives = match name.rsplit('.').next() {
        Some("Quantity") => Some(json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })),
        Some("IntOrString") => {
            Some(json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }))
        }
        _ => None,
    };
    if let Some(mut alternatives) = alternatives {
        alternatives["description"] = source["description"].take();
        return alternatives;
    }
    for (field, property) in source.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        mark(name, field, property);
        wrap(property);
    }
    if schema::atomic_object("", "", name) == AtomicObject::Yes {
        source["x-kubernetes-map-type"] = "atomic".into();
    }
    // k8s-openapi requires metadata, which Kubernetes does not.
    if let Some(required) = source.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
    }
    for alternative in source.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        wrap(alternative);
    }
    source
}

/// Adds how patches and server-side apply merge a field.
fn mark(definition: &str, field: &str, property: &mut Value) {
    if property["type"] == "array" {
        let rule = schema::list_rule(definition, field);
        let (patch, topology) = rule.map(|r| (r.patch(), r.topology())).unwrap_or_default();
        let (strategy, key) = match patch {
            PatchStrategy::Replace => (None, None),
            PatchStrategy::MergeSet => (Some("merge"), None),
            PatchStrategy::MergeByKey(key) => (Some("merge"), Some(key)),
            PatchStrategy::RetainKeys { merge_key } => (Some("merge,retainKeys"), merge_key),
        };
        if let Some(strategy) = strategy {
            property["x-kubernetes-patch-strategy"] = strategy.into();
        }
        if let Some(key) = key {
            property["x-kubernetes-patch-merge-key"] = key.into();
        }
        let (kind, keys) = match topology {
            Topology::ListMap(keys) => ("map", keys),
            Topology::Set => ("set", Vec::new()),
            Topology::Atomic | Topology::Granular => ("atomic", Vec::new()),
        };
        property["x-kubernetes-list-type"] = kind.into();
        if !keys.is_empty() {
            property["x-kubernetes-list-map-keys"] = keys.into();
        }
        return;
    }
    match schema::atomic_object(definition, field, "") {
        AtomicObject::No => {}
        AtomicObject::Yes => property["x-kubernetes-map-type"] = "atomic".into(),
        AtomicObject::RetainKeys => property["x-kubernetes-patch-strategy"] = "retainKeys".into(),
    }
}

/// Moves references, also those of items and of maps, to where the document has its schemas. A reference that has
/// neighbours, such as a description, stands in an `allOf`, since it may not have any.
fn wrap(schema: &mut Value) {
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            wrap(&mut schema[inner]);
        }
    }
    let Some(fields) = schema.as_object_mut() else { return };
    fields.retain(|_, value| !value.is_null());
    let Some(target) = fields.remove("$ref") else { return };
    let target = target.as_str().and_then(|t| t.strip_prefix("#/$defs/")).unwrap_or_default();
    if fields.is_empty() {
        *schema = reference(target);
        return;
    }
    fields.insert("allOf".to_owned(), json!([reference(target)]));
}

fn list(kind: &Kind) -> Value {
    let described = format!("{} is a list of {}", kind.names.list_kind, kind.names.kind);
    json!({
        "description": described,
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": api_version(),
            "items": { "type": "array", "description": "The objects.", "items": reference(&definition_name(kind)) },
            "kind": kind_property(),
            "metadata": { "description": "Standard list metadata.", "allOf": [reference(LIST_META)] },
        },
        "x-kubernetes-group-version-kind": [group_version_kind(&kind.version, &kind.names.list_kind)],
    })
}

fn api_version() -> Value {
    json!({ "type": "string", "description": "The group and version of the object's schema." })
}

fn kind_property() -> Value {
    json!({ "type": "string", "description": "The kind of the object, in CamelCase." })
}

/// A custom resource's schema with what every object has.
fn custom(kind: &Kind, schema: &[u8]) -> Value {
    // The bytes were encoded here from a JSON value; an empty schema is a version without one.
    let mut published: Value = serde_json::from_slice(schema).unwrap_or_else(|_| json!({}));
    if !published.is_object() {
        published = json!({});
    }
    published["type"] = "object".into();
    if published["description"].is_null() {
        published["description"] = format!("{} of {}", kind.names.kind, kind.version).into();
    }
    let mut properties = match published["properties"].take() {
        Value::Object(properties) => properties,
        _ => Map::new(),
    };
    let metadata = json!({ "description": "Standard object's metadata.", "allOf": [reference(OBJECT_META)] });
    for (name, property) in [("apiVersion", api_version()), ("kind", kind_property()), ("metadata", metadata)] {
        properties.insert(name.to_owned(), property);
    }
    published["properties"] = properties.into();
    published
}
