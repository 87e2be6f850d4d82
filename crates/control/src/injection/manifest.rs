//! Injection into what is not in a cluster yet.

use serde_json::{Map, Value};

use super::{InjectionError, Workload, inject, policy};

/// Why a manifest cannot be given sidecars.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A document is not YAML.
    #[error("document {number}: {why}")]
    Syntax {
        /// Which one, from 1.
        number: usize,
        /// What is wrong, and where.
        why: String,
    },
    /// An object says what cannot be done.
    #[error("document {number}: {object}: {why}")]
    Refused {
        /// Which document, from 1.
        number: usize,
        /// `Kind/name`.
        object: String,
        /// What is wrong.
        why: String,
    },
}

/// A manifest in which every workload has its sidecar. Documents without one are returned as they are, byte for byte.
pub fn inject_manifest(text: &str) -> Result<String, ManifestError> {
    let mut documents = Vec::new();
    for (index, document) in split(text).into_iter().enumerate() {
        let number = index + 1;
        let syntax = |why: String| ManifestError::Syntax { number, why };
        let mut object: Value =
            serde_saphyr::from_str(document).map_err(|e| syntax(e.without_snippet().to_string()))?;
        let injected = inject_object(&mut object).map_err(|(object, why)| {
            let why = why.to_string();
            ManifestError::Refused { number, object, why }
        })?;
        documents.push(match injected {
            true => serde_saphyr::to_string(&object).map_err(|e| syntax(e.to_string()))?,
            false => document.trim_start_matches('\n').to_owned(),
        });
    }
    let ended = documents.into_iter().map(|d| if d.ends_with('\n') || d.is_empty() { d } else { d + "\n" });
    Ok(ended.collect::<Vec<_>>().join("---\n"))
}

/// The documents of a stream, as Kubernetes separates them: by lines that begin with `---`.
fn split(text: &str) -> Vec<&str> {
    let (mut documents, mut start, mut at) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        if line.starts_with("---") {
            documents.push(&text[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    documents.push(&text[start..]);
    let blank = |document: &&str| document.lines().all(|line| line.trim().is_empty());
    documents.retain(|document| !blank(document));
    documents
}

/// Injects into an object, or into every object of a list; whether there was anything to do.
fn inject_object(object: &mut Value) -> Result<bool, (String, InjectionError)> {
    if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) {
        let items = object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten();
        return items.map(inject_object).try_fold(false, |any, injected| Ok(any | injected?));
    }
    let own = object.clone();
    let text = |pointer: &str| own.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    let pointer = match kind {
        "Pod" => "",
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return Ok(false),
    };
    let Some(pod) = object.pointer_mut(pointer).filter(|pod| pod.is_object() && policy::takes(pod)) else {
        return Ok(false);
    };
    let namespace = own.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("$(POD_NAMESPACE)");
    let workload = Workload { api_version: text("/apiVersion"), kind, name: text("/metadata/name"), namespace };
    inject(pod, &workload, &Map::new()).map_err(|why| (format!("{kind}/{}", workload.name), why))?;
    Ok(true)
}
