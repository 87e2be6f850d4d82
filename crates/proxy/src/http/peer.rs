//! What proxies of the mesh tell each other of their workloads: Istio's headers, which hold a Struct in base64.
//!
//! A proxy says who it is with the requests of a new connection until the other one has said it in a response; what is
//! said is believed of connections with mutual TLS.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::head::names;
use crate::metrics::Workload;

/// The labels of a workload that are told, with what holds them.
type Labels<T> = [(&'static str, T); 4];

/// What a proxy says of its workload.
#[derive(Debug, Clone)]
pub(crate) struct Introduction {
    id: HeaderValue,
    metadata: HeaderValue,
}

impl Introduction {
    /// `None` if there is nothing to say.
    pub(crate) fn of(workload: &Workload) -> Option<Introduction> {
        if workload.name.is_empty() {
            return None;
        }
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels: Labels<&Arc<str>> = [
            ("app", &workload.app),
            ("version", &workload.version),
            ("service.istio.io/canonical-name", &workload.canonical_service),
            ("service.istio.io/canonical-revision", &workload.canonical_revision),
        ];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.to_owned(), text(value))).collect();
        let fields = [
            ("NAMESPACE", text(&workload.namespace)),
            ("WORKLOAD_NAME", text(&workload.name)),
            ("CLUSTER_ID", text(&workload.cluster)),
            ("LABELS", Value { kind: Some(Kind::StructValue(Struct { fields: labels })) }),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let metadata = HeaderValue::try_from(STANDARD.encode(Struct { fields }.encode_to_vec())).ok()?;
        let id = format!("sidecar~~{}.{}~{}.svc", workload.name, workload.namespace, workload.namespace);
        Some(Introduction { id: HeaderValue::try_from(id).ok()?, metadata })
    }

    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(names::X_ENVOY_PEER_METADATA_ID, self.id.clone());
        headers.insert(names::X_ENVOY_PEER_METADATA, self.metadata.clone());
    }
}

/// Takes what the other proxy says of its workload out of headers: nobody else is to see it.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(names::X_ENVOY_PEER_METADATA_ID);
    headers.remove(names::X_ENVOY_PEER_METADATA)
}

/// The workload with an identity. Its namespace is that of the identity, whatever else is said.
pub(crate) fn read(said: &HeaderValue, known: Workload) -> Option<Workload> {
    let said = Struct::decode(&*STANDARD.decode(said.as_bytes()).ok()?).ok()?;
    let text = |of: &Struct, key: &str| match of.fields.get(key).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.as_str().into(),
        _ => Arc::default(),
    };
    let none = Struct::default();
    let labels = match said.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => labels,
        _ => &none,
    };
    let first = |one: Arc<str>, other: Arc<str>| if one.is_empty() { other } else { one };
    let (name, app, version) = (text(&said, "WORKLOAD_NAME"), text(labels, "app"), text(labels, "version"));
    let canonical = text(labels, "service.istio.io/canonical-name");
    let revision = text(labels, "service.istio.io/canonical-revision");
    Some(Workload {
        namespace: first(known.namespace, text(&said, "NAMESPACE")),
        principal: known.principal,
        cluster: text(&said, "CLUSTER_ID"),
        canonical_service: first(canonical, first(app.clone(), name.clone())),
        canonical_revision: first(revision, first(version.clone(), "latest".into())),
        name,
        app,
        version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_except_for_the_namespace() {
        let workload = Workload {
            name: "reviews-v1".into(),
            namespace: "pretended".into(),
            principal: "pretended".into(),
            app: "reviews".into(),
            version: "v1".into(),
            cluster: "c1".into(),
            canonical_service: "reviews".into(),
            canonical_revision: "v1".into(),
        };
        let mut headers = HeaderMap::new();
        Introduction::of(&workload).unwrap().tell(&mut headers);
        let said = take(&mut headers).unwrap();
        assert!(headers.is_empty());
        let known = Workload { namespace: "ns".into(), principal: "id".into(), ..Workload::default() };
        let expected = Workload { namespace: "ns".into(), principal: "id".into(), ..workload };
        assert_eq!(read(&said, known), Some(expected));
        assert_eq!(read(&HeaderValue::from_static("no base64"), Workload::default()), None);
        assert!(Introduction::of(&Workload::default()).is_none());
    }
}
