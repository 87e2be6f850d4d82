//! `create`.

use api::{ApiError, GroupResource};
use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::admission::{Draft, Ownership};
use super::call::{Call, Outcome};
use super::metadata::generate_name;
use super::object::{Head, field_mut, meta, metadata_mut};
use super::{Body, Server, answer, decode};
use crate::store::{Key, Object, Write, WriteError};

/// How many names are tried for a `generateName`.
const NAME_ATTEMPTS: usize = 8;

/// Creates an object from a body.
pub(super) async fn create(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut draft = Draft::new(call)?;
    let mut value = draft.decode(decode::encoding(&call.headers)?, &body)?;
    match_namespace(call, &mut value)?;
    if !meta(&value, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let outcome = insert(&mut draft, value, Ownership::Tracked).await?;
    let mut response = call.show(201, &outcome);
    answer::warn(&mut response, &draft.warnings);
    Ok(response)
}

/// Admits and stores a new object, under a generated name if it asks for one.
pub(super) async fn insert(draft: &mut Draft<'_>, value: Value, ownership: Ownership) -> Result<Outcome, ApiError> {
    let call = draft.call;
    let generated = meta(&value, "name").is_empty() && !meta(&value, "generateName").is_empty();
    let mut attempts = if generated { NAME_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let mut attempt = value.clone();
        if generated {
            let name = generate_name(meta(&value, "generateName"));
            metadata_mut(&mut attempt).insert("name".to_owned(), name.into());
        }
        let name = meta(&attempt, "name").to_owned();
        check_namespace(call, &name)?;
        call.server.check_open(&call.kind)?;
        let warned = draft.warnings.len();
        let admitted = draft.admit_new(attempt, ownership)?;
        let key = call.kind.key(&call.path.namespace, meta(&admitted, "name"));
        let exists = || ApiError::already_exists(&key.resource.group, &key.resource.resource, &key.name);
        if draft.dry_run {
            if call.server.store.get(&key).is_some() {
                return Err(exists());
            }
            let mut shown = admitted;
            call.kind.from_storage(&mut shown);
            return Ok(Outcome::Shown(shown));
        }
        match call.server.commit(Write::Create { key: key.clone(), value: admitted }).await {
            Ok(object) => {
                return call.server.definition_written(&call.kind, &object).await.map(|()| Outcome::Stored(object));
            }
            Err(WriteError::Exists) if attempts > 0 => draft.warnings.truncate(warned),
            Err(WriteError::Exists) => return Err(exists()),
            Err(error) => return Err(write_error(error, &key)),
        }
    }
}

impl Server {
    /// Commits a write, and drops what was derived from the state before.
    pub(super) async fn commit(&self, write: Write) -> Result<std::sync::Arc<Object>, WriteError> {
        let object = self.store.commit(write).await?;
        self.policy.written(&object.key.resource);
        Ok(object)
    }
}

/// What a failed write means to the client.
pub(super) fn write_error(error: WriteError, key: &Key) -> ApiError {
    let GroupResource { group, resource } = &key.resource;
    match error {
        WriteError::Exists => ApiError::already_exists(group, resource, &key.name),
        WriteError::Missing => ApiError::not_found(group, resource, &key.name),
        WriteError::Conflict => ApiError::modified(group, resource, &key.name),
        WriteError::Storage(cause) => ApiError::storage(cause),
    }
}

/// The object's namespace is the path's.
pub(super) fn match_namespace(call: &Call, value: &mut Value) -> Result<(), ApiError> {
    let given = meta(value, "namespace");
    if !call.kind.namespaced {
        field_mut(value, "metadata").remove("namespace");
        return Ok(());
    }
    if !given.is_empty() && given != call.path.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    metadata_mut(value).insert("namespace".to_owned(), call.path.namespace.as_str().into());
    Ok(())
}

/// 404 for a namespace that does not exist, 403 for one on its way out.
fn check_namespace(call: &Call, name: &str) -> Result<(), ApiError> {
    if !call.kind.namespaced {
        return Ok(());
    }
    let namespace = &call.path.namespace;
    let resource = GroupResource::new("", "namespaces");
    let object = call.server.store.get(&Key { resource, namespace: String::new(), name: namespace.clone() });
    let object = object.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
    if Head::of(&object).metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(&call.path.group, &call.path.resource, name, &why);
    error.set_causes(&[api::Cause {
        reason: "NamespaceTerminating",
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    }]);
    Err(error)
}
