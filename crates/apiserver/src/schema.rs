//! Structural schemas: validation, pruning, defaulting, and how lists merge.
//! CONTRACT STUB: signatures are what the others build on.

use std::sync::Arc;

use api::Cause;
use serde_json::Value;

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
    RetainKeys { merge_key: Option<String> },
}

/// How server-side apply owns a list or map (`x-kubernetes-list-type`, `x-kubernetes-map-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// Owned as one value (a list without a list type, or an atomic map).
    #[default]
    Atomic,
    /// A list of objects owned item by item under these keys.
    ListMap(Vec<String>),
    /// A list of scalars owned value by value.
    Set,
    /// An object or map owned field by field.
    Granular,
}

/// A node of a schema. Shared by reference; recursive schemas (JSONSchemaProps) are possible.
#[derive(Debug)]
pub struct Schema {}

impl Schema {
    /// The schema of an object's field, or of any key of a free-form map.
    pub fn field(&self, name: &str) -> Option<Arc<Schema>> {
        let _ = name;
        unimplemented!()
    }

    /// The schema of a list's items.
    pub fn items(&self) -> Option<Arc<Schema>> {
        unimplemented!()
    }

    pub fn patch_strategy(&self) -> &PatchStrategy {
        unimplemented!()
    }

    pub fn topology(&self) -> &Topology {
        unimplemented!()
    }

    /// Removes fields that the schema does not know and names them (`spec.bogus`, `spec.ports[0].bogus`).
    pub fn prune(&self, value: &mut Value) -> Vec<String> {
        let _ = value;
        unimplemented!()
    }

    /// Fills in defaults; drops `null`s that the schema does not allow, as Kubernetes does on decoding.
    pub fn default(&self, value: &mut Value) {
        let _ = value;
        unimplemented!()
    }

    /// Types, enums, patterns, bounds, required fields.
    pub fn check(&self, value: &Value) -> Vec<Cause> {
        let _ = value;
        unimplemented!()
    }
}
