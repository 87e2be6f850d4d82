//! `delete` and `deletecollection`.

use std::sync::Arc;

use api::{ApiError, Cause};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::completes_deletion;
use super::call::{Call, timestamp};
use super::create::write_error;
use super::decode;
use super::filter::Filter;
use super::object::{finalizers, is_terminating, list_of_strings, meta, metadata_mut, put};
use super::query::{self, options_error};
use super::{Body, Server, answer, definition, list, namespace};
use crate::extension::{Operation, Phase, UserInfo};
use crate::kind::Kind;
use crate::store::{Key, Write, WriteError};

/// How often a deletion is tried when others write at the same time.
const ATTEMPTS: usize = 5;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// The options of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) grace: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) dry_run: bool,
}

/// What a deletion led to.
pub(super) enum Deleted {
    /// The object is gone; its last state.
    Gone(Value),
    /// The object is on its way out, held by finalizers or its grace period.
    Marked(Value),
}

/// Deletes one object.
pub(super) async fn delete(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let options = options(call, &body)?;
    let mut warnings = Vec::new();
    let deleted = call.server.delete(&call.kind, &call.user, &call.key(), &options, &mut warnings).await?;
    let answer = match deleted {
        Deleted::Marked(object) => object,
        Deleted::Gone(object) if returns_object(&call.kind) => object,
        Deleted::Gone(object) => answer::success(details(call, &object)),
    };
    let mut response = call.value(200, &answer);
    answer::warn(&mut response, &warnings);
    Ok(response)
}

/// Deletes what the selectors select, and answers with the list of it.
pub(super) async fn delete_collection(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let options = options(call, &body)?;
    let filter = Filter::of(call)?;
    let (revision, objects) = list::current(&call.server.store, &call.kind.resource(), &filter);
    let mut warnings = Vec::new();
    let mut items = Vec::with_capacity(objects.len());
    for object in objects {
        match call.server.delete(&call.kind, &call.user, &object.key, &options, &mut warnings).await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => items.push(object),
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let answer = json!({
        "kind": call.kind.list_kind(), "apiVersion": call.kind.version.to_string(),
        "metadata": { "resourceVersion": revision.0.to_string() }, "items": items,
    });
    let mut response = call.value(200, &answer);
    answer::warn(&mut response, &warnings);
    Ok(response)
}

impl Server {
    /// Removes an object, or marks it for removal if something holds it.
    pub(super) async fn delete(
        self: &Arc<Self>,
        kind: &Kind,
        user: &UserInfo,
        key: &Key,
        options: &Options,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, ApiError> {
        let (group, resource) = (&*key.resource.group, &*key.resource.resource);
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(key).ok_or_else(|| ApiError::not_found(group, resource, &key.name))?;
            let old = kind.show(&stored);
            check_preconditions(key, &old, options)?;
            namespace::check_delete(kind, &key.name)?;
            let mut new = old.clone();
            let (phase, operation, dry_run) = (Phase::Mutating, Operation::Delete, options.dry_run);
            self.review(kind, user, phase, operation, Some(&old), &mut new, "", dry_run, warnings)?;
            // Admission decides whether, not how: the state is what it was.
            new.clone_from(&old);
            mark(kind, &mut new, options);
            let gone = completes_deletion(&new);
            if options.dry_run || !gone && new == old {
                return Ok(if gone { Deleted::Gone(old) } else { Deleted::Marked(new) });
            }
            let write = if gone {
                Write::Delete { key: key.clone(), expected: stored.revision }
            } else {
                kind.to_storage(&mut new);
                Write::Update { key: key.clone(), value: new, expected: stored.revision }
            };
            match self.commit(write).await {
                Ok(object) if gone => {
                    self.definition_removed(kind, &object);
                    return Ok(Deleted::Gone(kind.show(&object)));
                }
                Ok(object) => {
                    self.definition_written(kind, &object).await?;
                    return Ok(Deleted::Marked(kind.show(&object)));
                }
                Err(WriteError::Conflict) => {}
                Err(error) => return Err(write_error(error, key)),
            }
        }
        Err(ApiError::modified(group, resource, &key.name))
    }
}

/// Marks an object for removal: deletion time, grace period, and the finalizers that propagation asks for.
fn mark(kind: &Kind, object: &mut Value, options: &Options) {
    let grace = grace_period(kind, object, options.grace);
    if let Some(propagation) = options.propagation {
        let mut kept: Vec<&str> = finalizers(object).filter(|f| !matches!(*f, ORPHAN | FOREGROUND)).collect();
        match propagation {
            Propagation::Background => {}
            Propagation::Foreground => kept.push(FOREGROUND),
            Propagation::Orphan => kept.push(ORPHAN),
        }
        let list = (!kept.is_empty()).then(|| json!(kept));
        put(metadata_mut(object), "finalizers", list);
    }
    let already = is_terminating(object);
    let pending = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    // A second deletion can only shorten the grace period.
    if already && grace >= pending {
        return;
    }
    let now = jiff::Timestamp::now();
    let time = jiff::SignedDuration::from_secs(grace);
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), timestamp(now.checked_add(time).unwrap_or(now)).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|_| !already) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    namespace::terminate(kind, object);
    definition::terminate(kind, object);
}

/// How long the object is given to end, in seconds. Kinds whose spec has `terminationGracePeriodSeconds` end in grace
/// as long as something runs them: they are scheduled and have not finished.
fn grace_period(kind: &Kind, object: &Value, asked: Option<i64>) -> i64 {
    const FIELD: &str = "terminationGracePeriodSeconds";
    let spec = &object["spec"];
    let graceful = kind.schema.field("spec").and_then(|spec| spec.field(FIELD)).is_some()
        && spec["nodeName"].as_str().is_some_and(|node| !node.is_empty())
        && !matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !graceful {
        return 0;
    }
    match asked.or_else(|| spec[FIELD].as_i64()).unwrap_or(30) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn check_preconditions(key: &Key, object: &Value, options: &Options) -> Result<(), ApiError> {
    for (name, wanted, field) in
        [("UID", &options.uid, "uid"), ("ResourceVersion", &options.resource_version, "resourceVersion")]
    {
        let found = meta(object, field);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!("Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {found}");
            return Err(ApiError::conflict(&key.resource.group, &key.resource.resource, &key.name, &why));
        }
    }
    Ok(())
}

fn options(call: &Call, body: &[u8]) -> Result<Options, ApiError> {
    let body = if body.is_empty() {
        Value::Null
    } else {
        decode::decode(decode::encoding(&call.headers)?, body, "DeleteOptions")?.value
    };
    let mut options = options_of(&body)?;
    options.dry_run |= call.query.dry_run()?;
    if options.grace.is_none() {
        options.grace = call.query.seconds("gracePeriodSeconds")?;
    }
    if options.propagation.is_none() {
        options.propagation = match call.query.get("propagationPolicy") {
            Some(policy) => Some(propagation(policy)?),
            None => call.query.get("orphanDependents").map(|_| orphans(call.query.flag("orphanDependents"))),
        };
    }
    Ok(options)
}

/// Reads a `DeleteOptions` object.
pub(super) fn options_of(body: &Value) -> Result<Options, ApiError> {
    let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
    let preconditions = &body["preconditions"];
    let policy = body["propagationPolicy"].as_str().map(propagation).transpose()?;
    let dry_run = list_of_strings(&body["dryRun"]);
    Ok(Options {
        grace: body["gracePeriodSeconds"].as_i64(),
        propagation: policy.or_else(|| body["orphanDependents"].as_bool().map(orphans)),
        uid: text(&preconditions["uid"]),
        resource_version: text(&preconditions["resourceVersion"]),
        dry_run: query::dry_run(dry_run.iter().map(String::as_str))?,
    })
}

fn orphans(orphan: bool) -> Propagation {
    if orphan { Propagation::Orphan } else { Propagation::Background }
}

fn propagation(policy: &str) -> Result<Propagation, ApiError> {
    match policy {
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        "Orphan" => Ok(Propagation::Orphan),
        other => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            let cause = Cause::unsupported("propagationPolicy", &json!(other), &supported);
            Err(options_error("DeleteOptions", &[cause]))
        }
    }
}

/// The kinds whose deletion answers with the object, as in Kubernetes.
fn returns_object(kind: &Kind) -> bool {
    const RETURNED: [&str; 4] = ["pods", "services", "serviceaccounts", "resourcequotas"];
    kind.version.group.is_empty() && RETURNED.contains(&kind.names.plural.as_str())
}

fn details(call: &Call, object: &Value) -> Value {
    let mut details =
        json!({ "name": meta(object, "name"), "kind": call.kind.names.plural, "uid": meta(object, "uid") });
    if !call.path.group.is_empty() {
        details["group"] = call.path.group.as_str().into();
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_a_body() {
        let body = json!({
            "propagationPolicy": "Foreground", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"],
        });
        let expected = Options {
            grace: Some(0),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".to_owned()),
            resource_version: None,
            dry_run: true,
        };
        assert_eq!(options_of(&body).unwrap(), expected);
        assert_eq!(options_of(&Value::Null).unwrap(), Options::default());
        assert_eq!(options_of(&json!({"propagationPolicy": "Never"})).unwrap_err().code, 422);
        assert_eq!(options_of(&json!({"orphanDependents": true})).unwrap().propagation, Some(Propagation::Orphan));
    }
}
