//! Encoding: an object's JSON, but for the revision that only the writer knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{EventKind, Revision, WriteError};

/// An object encoded by the task that writes it, so that the writer thread only copies bytes.
#[derive(Debug)]
pub(super) struct Draft {
    json: Vec<u8>,
    /// Where the digits of `metadata.resourceVersion` belong in `json`.
    stamp_at: usize,
    pub(super) labels: BTreeMap<String, String>,
}

/// An encoded object and the watch line around it, in one allocation.
pub(super) struct Stamped {
    pub(super) json: Bytes,
    pub(super) line: Bytes,
}

impl Draft {
    /// Encodes an object in the order Kubernetes prints it: `apiVersion`, `kind`, `metadata`, the rest. Any
    /// `metadata.resourceVersion` is dropped.
    pub(super) fn new(value: Value) -> Result<Draft, WriteError> {
        let Value::Object(mut object) = value else { return Err(without_metadata()) };
        let Some(Value::Object(mut metadata)) = object.remove("metadata") else { return Err(without_metadata()) };
        metadata.remove("resourceVersion");
        let mut json = vec![b'{'];
        for name in ["apiVersion", "kind"] {
            if let Some(value) = object.remove(name) {
                append_member(&mut json, name, &value);
                json.push(b',');
            }
        }
        json.extend_from_slice(br#""metadata":{"resourceVersion":""#);
        let stamp_at = json.len();
        json.push(b'"');
        append_rest(&mut json, &metadata);
        append_rest(&mut json, &object);
        Ok(Draft { json, stamp_at, labels: labels(metadata.remove("labels")) })
    }

    /// About how many bytes the object has.
    pub(super) fn len(&self) -> usize {
        self.json.len()
    }

    pub(super) fn stamp(&self, kind: EventKind, revision: Revision) -> Stamped {
        let (head, tail) = self.json.split_at(self.stamp_at);
        let line = line(kind, &[head, revision.0.to_string().as_bytes(), tail]);
        let start = line_prefix(kind).len();
        Stamped { json: line.slice(start..line.len() - LINE_END.len()), line }
    }
}

const LINE_END: &[u8] = b"}\n";

fn line_prefix(kind: EventKind) -> &'static [u8] {
    match kind {
        EventKind::Added => br#"{"type":"ADDED","object":"#,
        EventKind::Modified => br#"{"type":"MODIFIED","object":"#,
        EventKind::Deleted => br#"{"type":"DELETED","object":"#,
    }
}

/// A watch line around the object whose JSON is in `parts`.
pub(super) fn line(kind: EventKind, parts: &[&[u8]]) -> Bytes {
    let prefix = line_prefix(kind);
    let length = prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>() + LINE_END.len();
    let mut line = Vec::with_capacity(length);
    line.extend_from_slice(prefix);
    for part in parts {
        line.extend_from_slice(part);
    }
    line.extend_from_slice(LINE_END);
    line.into()
}

fn append_rest(json: &mut Vec<u8>, members: &Map<String, Value>) {
    for (name, value) in members {
        json.push(b',');
        append_member(json, name, value);
    }
    json.push(b'}');
}

fn append_member(json: &mut Vec<u8>, name: &str, value: &Value) {
    append(json, name);
    json.push(b':');
    append(json, value);
}

fn append(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("a JSON value encodes into memory");
}

/// Reads from an encoded object what the store keeps beside it, and checks that the rest is JSON.
pub(super) fn decode(json: &[u8]) -> Result<(Revision, BTreeMap<String, String>), String> {
    #[derive(Deserialize)]
    struct Head {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
        #[serde(default)]
        labels: Value,
    }
    let text = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    let Head { metadata } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let revision = metadata.resource_version.parse().map_err(|error| format!("resourceVersion: {error}"))?;
    Ok((Revision(revision), labels(Some(metadata.labels))))
}

/// What selectors match; validation has refused other labels than text before they come here.
fn labels(labels: Option<Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(labels)) = labels else { return BTreeMap::new() };
    let text = |(name, value)| if let Value::String(value) = value { Some((name, value)) } else { None };
    labels.into_iter().filter_map(text).collect()
}

fn without_metadata() -> WriteError {
    WriteError::Storage("an object without metadata cannot be stored".to_owned())
}
