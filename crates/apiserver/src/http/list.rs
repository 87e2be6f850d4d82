//! `list`: whole, in pages, and as of an earlier revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{ApiError, GroupResource};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;
use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Call;
use super::filter::Filter;
use super::negotiate::{Form, Syntax};
use super::query::Asked;
use super::table::{self, Table};
use super::{Body, answer, read};
use crate::kind::Kind;
use crate::store::{Key, Object, Revision, Store};

/// Where the next page begins, as it is written into `metadata.continue`.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// The revision that every page of the list is of.
    rv: u64,
    /// The last object of the page before: `namespace/name`.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A page of a list.
struct Page {
    revision: Revision,
    objects: Vec<Arc<Object>>,
    next: Option<String>,
    /// How many objects follow, where that is known.
    remaining: Option<usize>,
}

/// Answers with the objects of a collection.
pub(super) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    if call.format.form == Form::Table {
        table::check(call)?;
    }
    let filter = Filter::of(call)?;
    let page = page(call, &filter)?;
    let plain = call.format.syntax == Syntax::Json && !call.format.pretty && call.kind.shows_as_stored();
    if plain && call.format.form == Form::Object {
        return Ok(answer::bytes(200, "application/json", concatenate(&call.kind, &page)?));
    }
    Ok(call.value(200, &shown(call, &page)))
}

/// The objects that pass the filter as they are now.
pub(super) fn current(store: &Store, resource: &GroupResource, filter: &Filter) -> (Revision, Vec<Arc<Object>>) {
    if let (Some(name), Some(namespace)) = (filter.name(), filter.namespace.as_deref()) {
        // The revision first: what is found may be newer, which a list may be, but never older.
        let revision = store.revision();
        let key = Key { resource: resource.clone(), namespace: namespace.to_owned(), name: name.to_owned() };
        let found: Option<Arc<Object>> = store.get(&key).filter(|object| filter.matches(object));
        if found.as_ref().is_none_or(|object| object.revision <= revision) {
            return (revision, found.into_iter().collect());
        }
    }
    let (revision, mut objects) = store.list(resource, filter.namespace.as_deref());
    if !filter.selects_all() {
        objects.retain(|object| filter.matches(object));
    }
    (revision, objects)
}

fn page(call: &Call, filter: &Filter) -> Result<Page, ApiError> {
    let (store, resource) = (&call.server.store, call.kind.resource());
    let (exact, asked, limit) = (call.query.exact_match()?, call.query.resource_version()?, call.query.limit()?);
    if let Asked::At(revision) = asked {
        read::check_reached(store, revision)?;
    }
    let token = call.query.get("continue").map(decode_token).transpose()?;
    if token.is_some() && matches!(asked, Asked::At(_)) {
        let message = "specifying resource version is not allowed when using continue";
        return Err(ApiError::bad_request(message));
    }
    let (revision, mut objects) = match (&token, asked) {
        (Some(token), _) => (Revision(token.rv), as_of(store, &resource, filter, Revision(token.rv))?),
        // A limited list at a revision is of that very revision, for the sake of its later pages.
        (None, Asked::At(revision)) if exact || limit.is_some() && call.query.get("resourceVersionMatch").is_none() => {
            (revision, as_of(store, &resource, filter, revision)?)
        }
        _ => current(store, &resource, filter),
    };
    if let Some(token) = token {
        let (namespace, name) = token.start.split_once('/').unwrap_or(("", &token.start));
        objects.retain(|o| (o.key.namespace.as_str(), o.key.name.as_str()) > (namespace, name));
    }
    let remaining = limit.map_or(0, |limit| objects.len().saturating_sub(limit));
    objects.truncate(limit.unwrap_or(usize::MAX));
    let next = objects.last().filter(|_| remaining > 0).map(|last| encode_token(revision, &last.key)).transpose()?;
    let remaining = Some(remaining).filter(|n| *n > 0 && filter.selects_all());
    Ok(Page { revision, objects, next, remaining })
}

/// The objects as they were at a revision: what changed since is undone.
fn as_of(
    store: &Store,
    resource: &GroupResource,
    filter: &Filter,
    revision: Revision,
) -> Result<Vec<Arc<Object>>, ApiError> {
    read::check_reached(store, revision)?;
    let expired = |_| {
        let message = "The provided continue parameter is too old to display a consistent list result. You must start a \
                       new list without the continue parameter.";
        ApiError::expired(message)
    };
    let mut watch = store.watch(resource, revision).map_err(expired)?;
    let (listed, objects) = store.list(resource, filter.namespace.as_deref());
    let mut then: BTreeMap<Key, Arc<Object>> = objects.into_iter().map(|o| (o.key.clone(), o)).collect();
    let mut changes = Vec::new();
    while watch.seen() < listed {
        match watch.next().now_or_never() {
            Some(events) => changes.extend(events.map_err(expired)?),
            None => break,
        }
    }
    for change in changes.iter().rev().filter(|change| change.revision <= listed) {
        match &change.previous {
            Some(previous) => then.insert(previous.key.clone(), previous.clone()),
            None => then.remove(&change.object.key),
        };
    }
    Ok(then.into_values().filter(|object| filter.matches(object)).collect())
}

fn encode_token(revision: Revision, last: &Key) -> Result<String, ApiError> {
    let start = format!("{}/{}", last.namespace, last.name);
    let token = Token { v: TOKEN_VERSION.to_owned(), rv: revision.0, start };
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).map_err(ApiError::internal)?))
}

fn decode_token(text: &str) -> Result<Token, ApiError> {
    let bad = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| bad(&e))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
    if token.v == TOKEN_VERSION { Ok(token) } else { Err(bad(&"it is of another version")) }
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({ "resourceVersion": page.revision.0.to_string() });
    if let Some(next) = &page.next {
        metadata["continue"] = next.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// The list's JSON from the objects' stored bytes, which are not parsed.
fn concatenate(kind: &Kind, page: &Page) -> Result<Vec<u8>, ApiError> {
    let head = json!({
        "kind": kind.list_kind(), "apiVersion": kind.version.to_string(), "metadata": list_metadata(page),
    });
    let mut text = serde_json::to_vec(&head).map_err(ApiError::internal)?;
    // The head's closing brace makes room for the items.
    text.pop();
    text.reserve(page.objects.iter().map(|o| o.json.len() + 1).sum::<usize>() + 16);
    text.extend_from_slice(b",\"items\":[");
    for (i, object) in page.objects.iter().enumerate() {
        if i > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&object.json);
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

fn shown(call: &Call, page: &Page) -> Value {
    let metadata = list_metadata(page);
    let values = page.objects.iter().map(|object| call.kind.show(object));
    let (kind, version, items): (&str, String, Vec<Value>) = match call.format.form {
        Form::Table => {
            let mut table = Table::new(call);
            values.for_each(|value| table.add(&value));
            return table.finish(&metadata);
        }
        Form::Metadata => {
            let items = values.map(|value| table::partial(&value)).collect();
            ("PartialObjectMetadataList", "meta.k8s.io/v1".to_owned(), items)
        }
        Form::Object => (call.kind.list_kind(), call.kind.version.to_string(), values.collect()),
    };
    json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items })
}
