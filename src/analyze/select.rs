//! Which objects are looked at, and about which of them something is told.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;
use xds::ObjectRef;
use xds::analysis::Finding;

use super::document::Document;

/// What an analysis is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every namespace.
    All,
    /// One namespace, and the objects in files.
    Namespace(String),
    /// The objects in files, and nothing else.
    Files(Vec<String>),
}

impl Scope {
    pub(super) fn includes(&self, finding: &Finding, documents: &[Document]) -> bool {
        let Scope::Namespace(namespace) = self else { return true };
        let own = match finding.object.kind.as_str() {
            "Namespace" => finding.object.name == *namespace,
            _ => finding.object.namespace == *namespace,
        };
        own || documents.iter().any(|document| is(&document.value, &finding.object))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all namespaces"),
            Scope::Namespace(namespace) => write!(f, "namespace: {namespace}"),
            Scope::Files(files) => f.write_str(&files.join(", ")),
        }
    }
}

/// Whether an object is the one that is meant.
pub(super) fn is(object: &Value, meant: &ObjectRef) -> bool {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
        == (meant.kind.as_str(), meant.namespace.as_str(), meant.name.as_str())
}

/// The objects of a cluster after those of files have been applied.
pub(super) fn overlay(live: &[Value], written: &[Value]) -> Vec<Value> {
    let replaced: BTreeSet<Identity> = written.iter().map(identity).collect();
    let kept = live.iter().filter(|object| !replaced.contains(&identity(object)));
    kept.chain(written).cloned().collect()
}

/// Of objects that are written more than once, those that are applied last.
pub(super) fn last_of_each(written: &[Value]) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<Value> = written.iter().rev().filter(|object| seen.insert(identity(object))).cloned().collect();
    last.reverse();
    last
}

/// Group, kind, namespace and name.
type Identity = (String, String, String, String);

fn identity(object: &Value) -> Identity {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let group = text("/apiVersion").rsplit_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
    (group, text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_takes_the_place_of_what_is_there_in_any_version() {
        let object = |version: &str, name: &str, host: &str| {
            json!({"apiVersion": format!("networking.istio.io/{version}"), "kind": "DestinationRule",
                "metadata": {"name": name, "namespace": "ns"}, "spec": {"host": host}})
        };
        let all = overlay(&[object("v1", "a", "old"), object("v1", "b", "old")], &[object("v1alpha3", "a", "new")]);
        let hosts: Vec<&str> = all.iter().map(|object| object["spec"]["host"].as_str().unwrap()).collect();
        assert_eq!(hosts, ["old", "new"]);
        assert_eq!(all[0]["metadata"]["name"], "b");
        let last = last_of_each(&[object("v1", "a", "first"), object("v1", "b", "x"), object("v1", "a", "last")]);
        let hosts: Vec<&str> = last.iter().map(|object| object["spec"]["host"].as_str().unwrap()).collect();
        assert_eq!(hosts, ["x", "last"]);
    }
}
