//! OpenAPI: what kubectl reads to validate, explain, diff and patch.
//!
//! There is one document per group and version. Documents are made when they are asked for and kept encoded, as long
//! as the kinds they describe stay the same.

mod paths;
mod schemas;

use std::sync::Arc;

use api::GroupVersion;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Kind, Source};

/// `api/v1`, `apis/apps/v1`: how the index names a document.
fn document_name(version: &GroupVersion) -> String {
    if version.group.is_empty() { format!("api/{}", version.version) } else { format!("apis/{version}") }
}

/// The group and version of the document at `/openapi/v3/{name}`.
pub(super) fn parse_name(name: &str) -> Option<GroupVersion> {
    let mut parts = name.split('/');
    let (group, version) = match (parts.next()?, parts.next()?, parts.next()) {
        ("api", version, None) => ("", version),
        ("apis", group, Some(version)) => (group, version),
        _ => return None,
    };
    let whole = parts.next().is_none();
    whole.then(|| GroupVersion { group: group.to_owned(), version: version.to_owned() })
}

/// What `/openapi/v3` answers: where the documents are, under names that change with their content.
pub(super) fn index(kinds: &[Arc<Kind>]) -> Bytes {
    let mut paths = Map::new();
    for group in kinds.chunk_by(|a, b| a.version == b.version) {
        let Some(first) = group.first() else { continue };
        let name = document_name(&first.version);
        let url = format!("/openapi/v3/{name}?hash={}", hash(group));
        paths.insert(name, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths }).to_string().into()
}

/// Identifies what the document of these kinds is made from.
pub(super) fn hash(kinds: &[Arc<Kind>]) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    for kind in kinds {
        let names = &kind.names;
        digest.update(format!("{} {} {} {:?}", kind.version, names.kind, names.plural, kind.subresources));
        if let Source::Custom { schema, .. } = &kind.source {
            digest.update(schema);
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The document of one group and version, whose kinds these are.
pub(super) fn document(kinds: &[Arc<Kind>]) -> Bytes {
    let document = json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.33.0" },
        "paths": paths::paths(kinds),
        "components": { "schemas": schemas::schemas(kinds) },
    });
    document.to_string().into()
}

/// The name under which a kind's schema is published.
fn definition_name(kind: &Kind) -> String {
    match &kind.source {
        Source::Builtin { definition, .. } => definition.clone(),
        Source::Custom { .. } => {
            let group: Vec<&str> = kind.version.group.rsplit('.').collect();
            format!("{}.{}.{}", group.join("."), kind.version.version, kind.names.kind)
        }
    }
}

/// The name under which the schema of lists of a kind is published.
fn list_definition_name(kind: &Kind) -> String {
    let own = definition_name(kind);
    let package = own.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", kind.names.list_kind)
}

fn group_version_kind(version: &GroupVersion, kind: &str) -> Value {
    json!({ "group": version.group, "version": version.version, "kind": kind })
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{definition}") })
}
