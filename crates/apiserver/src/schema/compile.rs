//! From JSON schemas to [`Schema`] trees.

use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::definition::{Definition, Pool};
use super::merging::{self, AtomicObject};
use super::{Bounds, Object, PatchStrategy, Rest, Rules, Schema, Shape, Text, Topology, format, pattern};

/// Compiles a published definition of the built-in kinds.
pub(super) fn definition(name: &str, source: &Value, pool: &mut Pool) -> Schema {
    let shape = match merging::short_name(name) {
        "api.resource.Quantity" => Shape::Quantity,
        "util.intstr.IntOrString" => Shape::IntOrString,
        "meta.v1.Time" => Shape::Text(Text::Time),
        "meta.v1.MicroTime" => Shape::Text(Text::MicroTime),
        "meta.v1.FieldsV1" | "pkg.runtime.RawExtension" | "apiextensions.v1.JSON" => Shape::Any,
        "apiextensions.v1.CustomResourceSubresourceStatus" => Shape::Any,
        _ => return Builtin { pool, name }.definition(source),
    };
    Schema::new(shape)
}

/// Compiles the fields of one built-in definition.
struct Builtin<'a> {
    pool: &'a mut Pool,
    name: &'a str,
}

impl Builtin<'_> {
    fn definition(&mut self, source: &Value) -> Schema {
        let mut schema = if source["oneOf"].is_array() { self.alternatives(source) } else { self.node("", source) };
        if merging::is_atomic_type(self.name) {
            schema.topology = Topology::Atomic;
        }
        schema
    }

    /// A schema or something simpler (a boolean, a list), as JSON schemas nest: only the schema has fields to know.
    fn alternatives(&mut self, source: &Value) -> Schema {
        let object = source["oneOf"].as_array().into_iter().flatten().find(|s| s["$ref"].is_string());
        let mut schema = object.map_or_else(|| Schema::new(Shape::Any), |s| self.node("", s));
        schema.typed = false;
        schema
    }

    fn node(&mut self, field: &str, source: &Value) -> Schema {
        if let Some(target) = source["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            return self.reference(field, target);
        }
        match source["type"].as_str() {
            Some("string") if source["format"] == "byte" => Schema::new(Shape::Text(Text::Bytes)),
            Some("string") => Schema::new(Shape::Text(Text::Plain)),
            Some("integer") => Schema::new(Shape::Integer(if source["format"] == "int32" { 32 } else { 64 })),
            Some("number") => Schema::new(Shape::Number),
            Some("boolean") => Schema::new(Shape::Boolean),
            Some("array") => self.list(field, source),
            _ => self.object(field, source),
        }
    }

    fn reference(&mut self, field: &str, target: &str) -> Schema {
        let mut schema = Schema::new(Shape::Definition(self.pool.named(target)));
        match merging::atomic_object(self.name, field, target) {
            AtomicObject::No => {}
            AtomicObject::Yes => schema.topology = Topology::Atomic,
            AtomicObject::RetainKeys => schema.patch = PatchStrategy::RetainKeys { merge_key: None },
        }
        if is_scalar(target) {
            schema.topology = Topology::Atomic;
        }
        schema
    }

    fn list(&mut self, field: &str, source: &Value) -> Schema {
        let items = self.shared("", &source["items"]);
        let mut schema = Schema::new(Shape::List(items));
        if let Some(rule) = merging::list_rule(self.name, field) {
            schema.topology = rule.topology();
            schema.patch = rule.patch();
        }
        schema
    }

    fn object(&mut self, field: &str, source: &Value) -> Schema {
        let rest = match &source["additionalProperties"] {
            Value::Object(each) => Rest::Each(self.shared("", &Value::Object(each.clone()))),
            _ if source["properties"].is_object() => Rest::Pruned,
            _ => Rest::Preserved,
        };
        let names = source["properties"].as_object().into_iter().flatten();
        let mut fields: Vec<(Box<str>, Arc<Schema>)> =
            names.map(|(name, child)| (name.as_str().into(), self.shared(name, child))).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let go_type = if field.is_empty() { go_type(self.name) } else { "".into() };
        let mut schema = Schema::new(Shape::Object(Object { fields: fields.into(), rest, go_type }));
        if merging::atomic_object(self.name, field, "") == AtomicObject::Yes {
            schema.topology = Topology::Atomic;
        }
        schema
    }

    fn shared(&mut self, field: &str, source: &Value) -> Arc<Schema> {
        let mut schema = self.node(field, source);
        schema.default = merging::key_default(self.name, field).map(Value::from);
        shared(schema)
    }
}

fn is_scalar(definition: &str) -> bool {
    matches!(
        merging::short_name(definition),
        "api.resource.Quantity" | "util.intstr.IntOrString" | "meta.v1.Time" | "meta.v1.MicroTime"
    )
}

/// `v1.PodSpec` for `io.k8s.api.core.v1.PodSpec`, as Go prints the type.
fn go_type(definition: &str) -> Box<str> {
    let at = definition.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
    definition.get(at..).unwrap_or_default().into()
}

/// Plain scalars are most of a schema's nodes, so they are shared.
fn shared(schema: Schema) -> Arc<Schema> {
    static PLAIN: LazyLock<[Arc<Schema>; 5]> = LazyLock::new(|| {
        let shapes = [Shape::Text(Text::Plain), Shape::Boolean, Shape::Integer(32), Shape::Integer(64), Shape::Number];
        shapes.map(|shape| Arc::new(Schema::new(shape)))
    });
    if schema.rules.is_some() || schema.default.is_some() || schema.nullable || !schema.typed {
        return Arc::new(schema);
    }
    let [text, boolean, int32, int64, number] = &*PLAIN;
    match schema.shape {
        Shape::Text(Text::Plain) => Arc::clone(text),
        Shape::Boolean => Arc::clone(boolean),
        Shape::Integer(32) => Arc::clone(int32),
        Shape::Integer(_) => Arc::clone(int64),
        Shape::Number => Arc::clone(number),
        _ => Arc::new(schema),
    }
}

/// Compiles a custom resource's `openAPIV3Schema`; `None` stands for a version without a schema, which keeps
/// everything.
pub(crate) fn custom_resource(source: Option<&Value>) -> Schema {
    let Some(source) = source.filter(|s| s.is_object()) else {
        return with_object_meta(Schema::new(Shape::Object(Object::new(Vec::new(), Rest::Preserved))));
    };
    with_object_meta(custom(source))
}

/// Adds what every object has: `apiVersion`, `kind` and `metadata`.
fn with_object_meta(mut schema: Schema) -> Schema {
    if let Shape::Object(object) = &mut schema.shape {
        let mut fields = std::mem::take(&mut object.fields).into_vec();
        fields.retain(|(name, _)| !matches!(&**name, "apiVersion" | "kind" | "metadata"));
        let text = || shared(Schema::new(Shape::Text(Text::Plain)));
        fields.push(("apiVersion".into(), text()));
        fields.push(("kind".into(), text()));
        fields.push(("metadata".into(), Arc::new(object_meta())));
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        object.fields = fields.into();
    }
    schema
}

fn object_meta() -> Schema {
    let name = <ObjectMeta as schemars::JsonSchema>::schema_name();
    let generate = |generator: &mut schemars::SchemaGenerator| {
        generator.subschema_for::<ObjectMeta>();
    };
    Schema::new(Shape::Definition(Definition::root(&name, generate)))
}

/// Compiles the schema of a value within a custom resource.
pub(crate) fn custom(source: &Value) -> Schema {
    let mut schema = Schema::new(custom_shape(source));
    schema.typed = source["type"].is_string() || source["x-kubernetes-int-or-string"] == true;
    schema.nullable = source["nullable"] == true;
    schema.default = source.get("default").cloned();
    schema.rules = rules(source).map(Box::new);
    schema.topology = custom_topology(source, &schema.shape);
    if source["x-kubernetes-embedded-resource"] == true { with_object_meta(schema) } else { schema }
}

fn custom_shape(source: &Value) -> Shape {
    if source["x-kubernetes-int-or-string"] == true {
        return Shape::IntOrString;
    }
    match source["type"].as_str() {
        Some("string") => Shape::Text(Text::Plain),
        Some("integer") => Shape::Integer(64),
        Some("number") => Shape::Number,
        Some("boolean") => Shape::Boolean,
        Some("array") => Shape::List(custom_items(source)),
        Some("object") => custom_object(source),
        _ if source["properties"].is_object() || source["additionalProperties"].is_object() => custom_object(source),
        _ if source["items"].is_object() => Shape::List(custom_items(source)),
        _ => Shape::Any,
    }
}

fn custom_items(source: &Value) -> Arc<Schema> {
    match &source["items"] {
        items @ Value::Object(_) => shared(custom(items)),
        _ => Arc::new(Schema::new(Shape::Any)),
    }
}

fn custom_object(source: &Value) -> Shape {
    let fields = source["properties"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, child)| (name.as_str().into(), shared(custom(child)))).collect();
    let preserve = source["x-kubernetes-preserve-unknown-fields"] == true;
    let rest = match &source["additionalProperties"] {
        each @ Value::Object(_) => Rest::Each(shared(custom(each))),
        Value::Bool(true) => Rest::Preserved,
        _ if preserve => Rest::Preserved,
        _ => Rest::Pruned,
    };
    Shape::Object(Object::new(fields, rest))
}

impl Object {
    fn new(mut fields: Vec<(Box<str>, Arc<Schema>)>, rest: Rest) -> Object {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Object { fields: fields.into(), rest, go_type: "".into() }
    }
}

fn custom_topology(source: &Value, shape: &Shape) -> Topology {
    match shape {
        Shape::List(_) => match source["x-kubernetes-list-type"].as_str() {
            Some("map") => Topology::ListMap(texts(&source["x-kubernetes-list-map-keys"])),
            Some("set") => Topology::Set,
            _ => Topology::Atomic,
        },
        Shape::Object(_) if source["x-kubernetes-map-type"] == "atomic" => Topology::Atomic,
        Shape::Object(_) | Shape::Any => Topology::Granular,
        _ => Topology::Atomic,
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The value validations of a schema, if it has any.
fn rules(source: &Value) -> Option<Rules> {
    const KEYWORDS: &[&str] = &[
        "required",
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-list-type",
    ];
    let source = source.as_object()?;
    if !KEYWORDS.iter().any(|k| source.contains_key(*k)) {
        return None;
    }
    let get = |key: &str| source.get(key).unwrap_or(&Value::Null);
    let schemas = |key: &str| get(key).as_array().into_iter().flatten().map(custom).collect();
    let int_or_string = get("x-kubernetes-int-or-string") == true;
    Some(Rules {
        required: texts(get("required")),
        allowed: get("enum").as_array().cloned(),
        pattern: get("pattern").as_str().map(pattern::Pattern::new),
        format: get("format").as_str().and_then(format::Format::named),
        minimum: bound(source, "minimum", "exclusiveMinimum"),
        maximum: bound(source, "maximum", "exclusiveMaximum"),
        multiple_of: get("multipleOf").as_f64().filter(|m| *m > 0.0),
        length: Bounds { least: get("minLength").as_u64(), most: get("maxLength").as_u64() },
        items: Bounds { least: get("minItems").as_u64(), most: get("maxItems").as_u64() },
        properties: Bounds { least: get("minProperties").as_u64(), most: get("maxProperties").as_u64() },
        unique: get("uniqueItems") == true || get("x-kubernetes-list-type") == "set",
        embedded: get("x-kubernetes-embedded-resource") == true,
        all_of: schemas("allOf"),
        // An int-or-string schema may repeat its two types as `anyOf`, which says nothing new.
        any_of: if int_or_string { Vec::new() } else { schemas("anyOf") },
        one_of: schemas("oneOf"),
        not: source.get("not").map(custom),
    })
}

fn bound(source: &Map<String, Value>, key: &str, exclusive: &str) -> Option<(f64, bool)> {
    let exclusive = source.get(exclusive).and_then(Value::as_bool).unwrap_or_default();
    source.get(key).and_then(Value::as_f64).map(|bound| (bound, exclusive))
}
