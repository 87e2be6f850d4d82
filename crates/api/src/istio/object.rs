//! The envelope, and decoding.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::{Map, Value};

use super::strict::Strict;
use crate::NamespacedName;
use crate::selector::Labels;

/// What is inside an object of a kind.
pub trait Spec: DeserializeOwned {
    /// The API group.
    const GROUP: &'static str;
    /// The kind.
    const KIND: &'static str;
}

/// An object: its metadata, its spec, and what was in it that its type does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S> {
    /// Who it is.
    pub metadata: Metadata,
    /// What it says.
    pub spec: S,
    /// The paths of fields that the type does not know, for example `spec.rules[0].from[1].sourc`.
    pub unknown: Vec<String>,
}

/// The part of Kubernetes' metadata that has a meaning here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// When it was created, in RFC 3339 and UTC, so that text compares as time does; older objects win conflicts.
    pub creation_timestamp: String,
}

/// Why a value is not an object of the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DecodeError {
    /// Where.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl<S: Spec> Object<S> {
    /// Decodes an object from the JSON form of any of the kind's versions.
    pub fn decode(value: Value) -> Result<Object<S>, DecodeError> {
        let Value::Object(mut fields) = without_null(value) else {
            return Err(DecodeError { path: ".".to_owned(), reason: "an object is expected".to_owned() });
        };
        let mut unknown = Vec::new();
        let metadata = decode("metadata", fields.remove("metadata"), |_| {})?;
        let spec = decode("spec", fields.remove("spec"), |path| unknown.push(path))?;
        let envelope = ["apiVersion", "kind", "status"];
        unknown.extend(fields.into_iter().map(|(name, _)| name).filter(|name| !envelope.contains(&name.as_str())));
        Ok(Object { metadata, spec, unknown })
    }

    /// `namespace/name`.
    pub fn name(&self) -> NamespacedName {
        NamespacedName::new(self.metadata.namespace.as_str(), self.metadata.name.as_str())
    }
}

/// Decodes a value that stands alone, such as the mesh configuration, with the paths of its unknown fields.
pub fn decode_spec<S: DeserializeOwned>(value: Value) -> Result<(S, Vec<String>), DecodeError> {
    let mut unknown = Vec::new();
    let spec = decode("", Some(without_null(value)), |path| unknown.push(path))?;
    Ok((spec, unknown))
}

fn decode<S: DeserializeOwned>(
    root: &str,
    value: Option<Value>,
    mut unknown: impl FnMut(String),
) -> Result<S, DecodeError> {
    let mut report = |path: Path<'_>| unknown(text(root, &path));
    let value = value.filter(|v| !v.is_null()).unwrap_or_else(|| Value::Object(Map::new()));
    serde_path_to_error::deserialize(serde_ignored::Deserializer::new(Strict(value), &mut report)).map_err(|error| {
        let path = error.path().to_string();
        let path = match (root, path.as_str()) {
            ("", _) => path,
            (_, ".") => root.to_owned(),
            _ => format!("{root}.{path}"),
        };
        DecodeError { path, reason: error.into_inner().to_string() }
    })
}

fn text(root: &str, path: &Path<'_>) -> String {
    match path {
        Path::Root => root.to_owned(),
        Path::Seq { parent, index } => format!("{}[{index}]", text(root, parent)),
        Path::Map { parent, key } => match text(root, parent) {
            outer if outer.is_empty() => key.clone(),
            outer => format!("{outer}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => text(root, parent),
    }
}

/// The value without the fields that are null: the JSON form of protobuf takes null for unset.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let set = fields.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(set.map(|(k, v)| (k, without_null(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_null).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::istio::{AuthorizationPolicy, DestinationRule, PeerAuthentication, ServiceEntry};

    #[test]
    fn unknown_fields_are_reported_by_path() {
        let value = json!({"metadata": {"name": "p", "uid": "1"}, "extra": 1,
            "spec": {"rules": [{"from": [{"source": {"principles": ["x"]}}]}], "selector": {"matchLabel": {}}}});
        let policy = Object::<AuthorizationPolicy>::decode(value).unwrap();
        assert_eq!(policy.unknown, ["spec.rules[0].from[0].source.principles", "spec.selector.matchLabel", "extra"]);
    }

    #[test]
    fn errors_carry_the_path() {
        let value = json!({"metadata": {"name": "p"}, "spec": {"rules": [{"to": [{"operation": {"ports": [9000]}}]}]}});
        let error = Object::<AuthorizationPolicy>::decode(value).unwrap_err();
        assert_eq!(error.path, "spec.rules[0].to[0].operation.ports[0]");
        let error = Object::<AuthorizationPolicy>::decode(json!({"spec": {"action": "PERMIT"}})).unwrap_err();
        assert_eq!(error.path, "spec.action");
    }

    #[test]
    fn both_spellings_and_null_are_accepted() {
        let value = json!({"spec": {"host": "a", "traffic_policy": {"connection_pool": {"tcp": {"max_connections": 3}},
            "tls": null}, "exportTo": null}});
        let rule = Object::<DestinationRule>::decode(value).unwrap();
        assert!(rule.unknown.is_empty(), "{:?}", rule.unknown);
        assert_eq!(rule.spec.traffic_policy.unwrap().connection_pool.unwrap().tcp.unwrap().max_connections, Some(3));
        let entry = Object::<ServiceEntry>::decode(json!({"spec": {"hosts": ["a.b"],
            "workload_selector": {"labels": {"a": "b"}}, "ports": [{"number": 1, "target_port": 2}]}}));
        let entry = entry.unwrap();
        assert_eq!((entry.unknown.len(), entry.spec.ports[0].target_port), (0, 2));
    }

    #[test]
    fn numbers_may_be_text() {
        let value = json!({"spec": {"hosts": ["a.b"], "ports": [{"number": "9000"}],
            "endpoints": [{"address": "1.2.3.4", "ports": {"tcp": "90"}, "labels": {"version": "1"}}]}});
        let entry = Object::<ServiceEntry>::decode(value).unwrap().spec;
        assert_eq!((entry.ports[0].number, entry.endpoints[0].ports["tcp"]), (9000, 90));
        assert_eq!(entry.endpoints[0].labels["version"], "1");
        let peer = json!({"spec": {"portLevelMtls": {"9000": {"mode": "STRICT"}}}});
        assert!(Object::<PeerAuthentication>::decode(peer).unwrap().spec.port_level_mtls.contains_key(&9000));
    }

    #[test]
    fn any_bytes_either_decode_or_say_where() {
        for text in [
            "[]",
            "1",
            "{\"spec\":[]}",
            "{\"spec\":{\"rules\":{}}}",
            "{\"spec\":{\"rules\":[[]]}}",
            "{\"metadata\":\"x\"}",
        ] {
            let error = Object::<AuthorizationPolicy>::decode(serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(!error.path.is_empty() && !error.reason.is_empty(), "{text}");
        }
    }
}
