//! Structural schemas: validation, pruning, defaulting, and how lists merge.
//!
//! A schema is compiled once, from a custom resource's `openAPIV3Schema` or from the published definitions of a
//! built-in kind, and keeps only what the server acts on: descriptions are dropped. Built-in definitions are compiled
//! when a kind is first used and shared between kinds.

mod check;
mod compile;
mod decode;
mod defaults;
mod definition;
mod format;
mod merging;
mod pattern;
mod prune;
mod quantity;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use compile::{custom as custom_value, custom_resource};
pub(crate) use definition::{Definition, Generate, definitions_of};
pub(crate) use merging::{AtomicObject, atomic_object, list_rule};
pub(crate) use pattern::translate as translate_pattern;

/// How strategic merge patch treats a list (`x-kubernetes-patch-*`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PatchStrategy {
    /// Lists are replaced.
    #[default]
    Replace,
    /// Lists of objects merge by this key.
    MergeByKey(String),
    /// Lists of scalars merge as sets.
    MergeSet,
    /// `retainKeys` on an object (Deployment `strategy`, volumes), with or without a merge key.
    RetainKeys {
        /// The key of the list's items; absent on an object.
        merge_key: Option<String>,
    },
}

/// How server-side apply owns a list or map (`x-kubernetes-list-type`, `x-kubernetes-map-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// Owned as one value (a scalar, a list without a list type, or an atomic map).
    #[default]
    Atomic,
    /// A list of objects owned item by item under these keys.
    ListMap(Vec<String>),
    /// A list of scalars owned value by value.
    Set,
    /// An object or map owned field by field; also a value without a schema, whose objects are granular and whose
    /// lists are atomic.
    Granular,
}

/// A node of a schema. Shared by reference; recursive schemas (JSONSchemaProps) are possible.
#[derive(Debug)]
pub struct Schema {
    shape: Shape,
    /// Whether a type is stated, beside the shape that the structure implies.
    typed: bool,
    nullable: bool,
    default: Option<Value>,
    rules: Option<Box<Rules>>,
    patch: PatchStrategy,
    topology: Topology,
}

#[derive(Debug)]
pub(crate) enum Shape {
    /// Any JSON value, kept as it is.
    Any,
    Text(Text),
    /// An integer of this many bits.
    Integer(u8),
    Number,
    Boolean,
    IntOrString,
    Quantity,
    List(Arc<Schema>),
    Object(Object),
    /// A shared definition of the built-in kinds.
    Definition(Arc<Definition>),
}

/// What a string of a built-in kind decodes to; custom resources have only plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Plain,
    Time,
    MicroTime,
    Bytes,
}

#[derive(Debug)]
pub(crate) struct Object {
    /// Sorted by name.
    fields: Box<[(Box<str>, Arc<Schema>)]>,
    rest: Rest,
    /// The Go type, such as `v1.PodSpec`, for the messages of decoding errors; empty in custom resources.
    go_type: Box<str>,
}

/// What becomes of fields that are not listed.
#[derive(Debug)]
pub(crate) enum Rest {
    Pruned,
    Preserved,
    Each(Arc<Schema>),
}

/// Value validations of a custom resource.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    required: Vec<String>,
    allowed: Option<Vec<Value>>,
    pattern: Option<pattern::Pattern>,
    format: Option<format::Format>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    multiple_of: Option<f64>,
    length: Bounds,
    items: Bounds,
    properties: Bounds,
    unique: bool,
    embedded: bool,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Schema>,
}

/// Inclusive bounds of a size.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Bounds {
    least: Option<u64>,
    most: Option<u64>,
}

impl Schema {
    fn new(shape: Shape) -> Schema {
        let topology = match shape {
            Shape::Object(_) | Shape::Any | Shape::Definition(_) => Topology::Granular,
            _ => Topology::Atomic,
        };
        let patch = PatchStrategy::Replace;
        Schema { shape, typed: true, nullable: false, default: None, rules: None, patch, topology }
    }

    /// The schema of a built-in kind, compiled on first use.
    pub(crate) fn builtin(name: &str, generate: Generate) -> Schema {
        Schema::new(Shape::Definition(Definition::root(name, generate)))
    }

    /// The shape itself, through any reference.
    fn shape(&self) -> &Shape {
        match &self.shape {
            Shape::Definition(definition) => definition.schema().shape(),
            own => own,
        }
    }

    /// Whether another JSON type than the shape's is an error.
    fn is_typed(&self) -> bool {
        self.typed
            && match &self.shape {
                Shape::Definition(definition) => definition.schema().is_typed(),
                _ => true,
            }
    }

    /// The schema of an object's field, or of any key of a free-form map.
    pub fn field(&self, name: &str) -> Option<Arc<Schema>> {
        self.child(name).cloned()
    }

    fn child(&self, name: &str) -> Option<&Arc<Schema>> {
        let Shape::Object(object) = self.shape() else { return None };
        match object.fields.binary_search_by(|(field, _)| (**field).cmp(name)) {
            Ok(at) => object.fields.get(at).map(|(_, schema)| schema),
            Err(_) => match &object.rest {
                Rest::Each(schema) => Some(schema),
                Rest::Pruned | Rest::Preserved => None,
            },
        }
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<Arc<Schema>> {
        match self.shape() {
            Shape::List(items) => Some(Arc::clone(items)),
            _ => None,
        }
    }

    /// How a strategic merge patch treats this field.
    pub fn patch_strategy(&self) -> &PatchStrategy {
        &self.patch
    }

    /// How server-side apply owns this field.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The value this field has when it is left out; list-map keys without a value take it.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// Whether this is a map with keys of the user's choice rather than an object with known fields.
    pub fn is_map(&self) -> bool {
        matches!(self.shape(), Shape::Object(Object { rest: Rest::Each(_), fields, .. }) if fields.is_empty())
    }
}

#[cfg(test)]
mod tests;
