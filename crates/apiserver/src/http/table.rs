//! Objects as `Table`s and as `PartialObjectMetadata`.

use api::ApiError;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::query::options_error;
use crate::kind::Kind;

/// What a table's rows carry besides their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// A table under construction.
pub(super) struct Table<'a> {
    kind: &'a Kind,
    include: Include,
    now: i64,
    with_columns: bool,
    rows: Vec<Value>,
}

impl<'a> Table<'a> {
    pub(super) fn new(call: &'a Call) -> Table<'a> {
        Table {
            kind: &call.kind,
            include: include(call).unwrap_or(Include::Metadata),
            now: jiff::Timestamp::now().as_second(),
            with_columns: true,
            rows: Vec::new(),
        }
    }

    /// A further table of the same columns, which the client knows already.
    pub(super) fn without_columns(mut self) -> Table<'a> {
        self.with_columns = false;
        self
    }

    pub(super) fn with_rows<'v>(mut self, objects: impl IntoIterator<Item = &'v Value>) -> Table<'a> {
        for object in objects {
            self.add(object);
        }
        self
    }

    pub(super) fn add(&mut self, object: &Value) {
        let cells = (self.kind.row)(object, self.now);
        let mut row = json!({ "cells": cells });
        match self.include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = partial(object),
            Include::Object => row["object"] = object.clone(),
        }
        self.rows.push(row);
    }

    /// The table; `metadata` is the list's or the object's, of which the position is kept.
    pub(super) fn finish(self, metadata: &Value) -> Value {
        let mut kept = Map::new();
        for field in ["resourceVersion", "continue", "remainingItemCount"] {
            if let Some(value) = metadata.get(field) {
                kept.insert(field.to_owned(), value.clone());
            }
        }
        let columns = if self.with_columns { columns(self.kind) } else { Vec::new() };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": kept,
            "columnDefinitions": columns, "rows": self.rows,
        })
    }
}

/// Refuses an `includeObject` that does not exist.
pub(super) fn check(call: &Call) -> Result<(), ApiError> {
    include(call).map(|_| ())
}

fn include(call: &Call) -> Result<Include, ApiError> {
    match call.query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("Object") => Ok(Include::Object),
        Some("None") => Ok(Include::Nothing),
        Some(other) => {
            let cause = api::Cause::unsupported("includeObject", &json!(other), &["Metadata", "None", "Object"]);
            Err(options_error("TableOptions", &[cause]))
        }
    }
}

/// The object's metadata alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let column = |c: &crate::kind::Column| {
        json!({
            "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
        })
    };
    kind.columns.iter().map(column).collect()
}
