//! Opaque facts that the control plane attaches to listeners, chains, clusters and endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy::envoy::config::core::v3;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// Facts by filter and key. They choose transport sockets and label metrics; nothing else reads them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Box<[Fact]>);

#[derive(Debug, Clone, PartialEq)]
struct Fact {
    filter: Arc<str>,
    key: Arc<str>,
    value: Value,
}

impl Metadata {
    /// The value at `filter` and `key`.
    pub fn get(&self, filter: &str, key: &str) -> Option<&Value> {
        self.0.iter().find(|f| &*f.filter == filter && &*f.key == key).map(|f| &f.value)
    }

    /// The text at `filter` and `key`, if it is one.
    pub fn text(&self, filter: &str, key: &str) -> Option<&str> {
        match self.get(filter, key)?.kind.as_ref()? {
            Kind::StringValue(text) => Some(text),
            _ => None,
        }
    }

    /// Whether every one of `criteria` is among the facts of `filter`, with an equal value.
    pub fn includes(&self, filter: &str, criteria: &Struct) -> bool {
        criteria.fields.iter().all(|(key, value)| self.get(filter, key) == Some(value))
    }

    /// Facts without the typed ones, which only extensions that this proxy does not have would read.
    pub(super) fn from_message(message: Option<v3::Metadata>) -> Metadata {
        let filters: BTreeMap<String, Struct> = message.map(|m| m.filter_metadata).unwrap_or_default();
        let facts = filters.into_iter().flat_map(|(filter, facts)| {
            let filter: Arc<str> = filter.into();
            facts.fields.into_iter().map(move |(key, value)| Fact { filter: filter.clone(), key: key.into(), value })
        });
        Metadata(facts.collect())
    }
}
