//! Server-side apply.

use api::{ApiError, Cause, GroupVersion};
use serde_json::{Map, Value};

use super::Manager;
use super::combine::{merged, prune};
use super::fields::FieldSet;
use super::managed::{Entries, Entry, Operation, blank, record, unowned};
use super::ownership::{claimed, compare};
use crate::schema::Schema;

/// Owner of the fields that an object had before anybody applied it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager of `kubectl apply --server-side`, which takes over from client-side apply.
const KUBECTL: &str = "kubectl";
/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Kubernetes' limit for all annotations of an object, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// `application/apply-patch+yaml`: merges `applied` (without managedFields) into `live`, recording ownership in
/// `metadata.managedFields` of the result.
///
/// Fields that the manager applied before, does not apply now and nobody else owns are removed. Fields that others own
/// with another value are conflicts, 409 `Apply failed with N conflicts: …` with causes `FieldManagerConflict`, unless
/// `force`. An apply that changes nothing gives `live` back as it is. Defaults are not filled in.
pub(crate) fn apply(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, ApiError> {
    if !applied["metadata"]["managedFields"].is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    let mut claim = claimed(applied, Some(schema)).map_err(|why| untyped(applied, &why))?;
    claim.subtract(unowned());
    let before = live.unwrap_or_else(|| blank(manager.api_version));
    let mut entries = live.map(Entries::of).unwrap_or_default();
    if entries.0.is_empty() {
        let first = Manager { name: BEFORE_FIRST_APPLY, ..*manager };
        record(blank(manager.api_version), before, schema, &first, &mut entries);
    }
    let former = entries.clone();
    let result = combine(live, applied, schema, &claim, (&entries, manager));

    let mut changes = compare(before, &result, schema);
    changes.changed.subtract(unowned());
    let own = entries.0.iter().position(|e| e.is_of(manager, Operation::Apply)).map(|at| entries.0.remove(at));
    let conflicts = Conflict::all(&entries, &changes.changed);
    if !force {
        let conflicts = forgive(conflicts, live, schema, manager);
        if !conflicts.is_empty() {
            return Err(refusal(&conflicts));
        }
    }
    entries.release(&changes.changed, &changes.removed);
    if !claim.is_empty() {
        entries.0.push(Entry::new(manager, Operation::Apply, claim));
    }
    Ok(finish(live, applied, result, manager, (entries, former, own)))
}

/// The live object without what is no longer applied, and with what is. Pruning comes first, so that an empty list or
/// object that is applied stays.
fn combine(
    live: Option<&Value>,
    applied: &Value,
    schema: &Schema,
    claim: &FieldSet,
    (entries, manager): (&Entries, &Manager<'_>),
) -> Value {
    let applied = without_null_timestamp(applied);
    let Some(live) = live else { return applied };
    let mut pruned = live.clone();
    if let Some(last) = entries.0.iter().find(|e| e.is_of(manager, Operation::Apply)) {
        let mut owned = claim.clone();
        for other in entries.0.iter().filter(|e| !e.is_of(manager, Operation::Apply)) {
            owned.unite(&other.fields);
        }
        prune(&mut pruned, Some(schema), last.fields.view(), Some(owned.view()));
    }
    merged(pruned, &applied, Some(schema))
}

/// Go clients write `creationTimestamp: null` into every manifest; it must not erase the live one.
fn without_null_timestamp(applied: &Value) -> Value {
    let mut applied = applied.clone();
    if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        if metadata.get("creationTimestamp").is_some_and(Value::is_null) {
            metadata.remove("creationTimestamp");
        }
        metadata.remove("managedFields");
    }
    applied
}

/// Writes the entries. The manager's time changes only if the object or somebody's fields did.
fn finish(
    live: Option<&Value>,
    applied: &Value,
    mut result: Value,
    manager: &Manager<'_>,
    (mut entries, former, own): (Entries, Entries, Option<Entry>),
) -> Value {
    if manager.name == KUBECTL && manager.subresource.is_empty() {
        refresh_last_applied(&mut result, applied);
    }
    let same_fields = |e: &Entry| former.0.iter().any(|f| f.title() == e.title() && f.fields == e.fields);
    let unmoved = entries.0.len() == former.0.len() && entries.0.iter().all(same_fields);
    if live == Some(&result) && unmoved {
        let entry = entries.0.iter_mut().find(|e| e.is_of(manager, Operation::Apply));
        if let (Some(entry), Some(own)) = (entry, own) {
            entry.time = own.time;
        }
    }
    entries.write(&mut result);
    result
}

/// An object that cannot be taken apart.
fn untyped(applied: &Value, why: &str) -> ApiError {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &applied["metadata"];
    let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
    let version = GroupVersion::parse(applied["apiVersion"].as_str().unwrap_or_default());
    let kind = text(&applied["kind"]);
    ApiError::bad_request(format!(
        "failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {why}"
    ))
}

/// Fields that somebody else owns with another value.
struct Conflict {
    title: String,
    paths: Vec<String>,
    fields: FieldSet,
}

impl Conflict {
    /// The conflicts with every entry, ordered by manager.
    fn all(entries: &Entries, changed: &FieldSet) -> Vec<Conflict> {
        let mut conflicts: Vec<Conflict> = entries.0.iter().filter_map(|e| Conflict::with(e, changed)).collect();
        conflicts.sort_by(|a, b| a.title.cmp(&b.title));
        conflicts
    }

    fn with(entry: &Entry, changed: &FieldSet) -> Option<Conflict> {
        let fields = entry.fields.intersection(changed);
        (!fields.is_empty()).then(|| Conflict { title: entry.title(), paths: fields.paths(), fields })
    }
}

/// kubectl may take fields that it applied client-side and that still have the value it gave them.
fn forgive(conflicts: Vec<Conflict>, live: Option<&Value>, schema: &Schema, manager: &Manager<'_>) -> Vec<Conflict> {
    let allowed = match live {
        Some(live) if manager.name == KUBECTL && !conflicts.is_empty() => taken_over(live, schema, manager),
        _ => None,
    };
    let Some(allowed) = allowed else { return conflicts };
    let left = conflicts.into_iter().filter_map(|mut conflict| {
        conflict.fields.subtract(&allowed);
        conflict.paths = conflict.fields.paths();
        (!conflict.fields.is_empty()).then_some(conflict)
    });
    left.collect()
}

fn taken_over(live: &Value, schema: &Schema, manager: &Manager<'_>) -> Option<FieldSet> {
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    let last: Value = serde_json::from_str(annotation).ok()?;
    if last["apiVersion"] != manager.api_version {
        return None;
    }
    let mut fields = claimed(&last, Some(schema)).ok()?;
    let changes = compare(&last, live, schema);
    fields.subtract(&changes.changed);
    fields.subtract(&changes.removed);
    Some(fields)
}

/// Keeps client-side apply's annotation in step, so that a user may go back to it.
fn refresh_last_applied(result: &mut Value, applied: &Value) {
    let Some(annotations) = annotations(result) else { return };
    if annotations.get(LAST_APPLIED).is_none_or(|a| a == "") {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = self::annotations(&mut applied) {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{applied}\n");
    if text.len() > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    } else {
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    }
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.pointer_mut("/metadata/annotations")?.as_object_mut()
}

/// Kubernetes' 409: one conflict on a line, several as a list by manager.
fn refusal(conflicts: &[Conflict]) -> ApiError {
    let causes: Vec<Cause> = conflicts.iter().flat_map(causes).collect();
    let what = match (causes.as_slice(), conflicts) {
        ([cause], _) => format!("1 conflict: {}: {}", cause.message, cause.field),
        _ => {
            let lists: Vec<String> = conflicts.iter().map(listed).collect();
            format!("{} conflicts: {}", causes.len(), lists.join("\n"))
        }
    };
    let mut error = ApiError::new(409, "Conflict", format!("Apply failed with {what}"));
    error.set_causes(&causes);
    error
}

fn causes(conflict: &Conflict) -> impl Iterator<Item = Cause> {
    let message = format!("conflict with {}", conflict.title);
    let reason = "FieldManagerConflict";
    conflict.paths.iter().map(move |path| Cause { reason, message: message.clone(), field: path.clone() })
}

fn listed(conflict: &Conflict) -> String {
    let paths: Vec<String> = conflict.paths.iter().map(|path| format!("- {path}")).collect();
    format!("conflicts with {}:\n{}", conflict.title, paths.join("\n"))
}

#[cfg(test)]
mod tests;
