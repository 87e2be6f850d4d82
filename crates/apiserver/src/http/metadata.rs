//! What every object's metadata must be, and what the server writes into it.

use api::{Cause, name};
use serde_json::{Map, Value, json};

use super::authorization::RBAC;
use super::object::{finalizers, is_terminating, meta, metadata_mut, put};
use crate::kind::Kind;

/// The total size of an object's annotations.
const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// Fields that only the server writes.
const KEPT: [&str; 4] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Random endings of generated names, without vowels and digits that look like them, as in Kubernetes.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// Gives a new object its identity.
pub(super) fn stamp_new(value: &mut Value, now: &str) {
    let metadata = metadata_mut(value);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), now.into());
}

/// The name for a `generateName`: the prefix, cut to 58 bytes, and five random characters.
pub(super) fn generate_name(prefix: &str) -> String {
    let mut end = prefix.len().min(63 - SUFFIX_LENGTH);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let random = uuid::Uuid::new_v4();
    let letters = random.as_bytes().iter().take(SUFFIX_LENGTH);
    let suffix = letters.map(|byte| SUFFIX_ALPHABET.get(usize::from(*byte) % SUFFIX_ALPHABET.len()).copied());
    let mut name = prefix.get(..end).unwrap_or_default().to_owned();
    name.extend(suffix.flatten().map(char::from));
    name
}

/// Whether the server counts the generations of a kind: of custom resources, and of built-in kinds with a status,
/// in the core group those that report the generation they have observed.
fn has_generation(kind: &Kind) -> bool {
    let observed = || kind.schema.field("status").is_some_and(|status| status.field("observedGeneration").is_some());
    !kind.builtin || kind.has_status && (!kind.version.group.is_empty() || observed())
}

pub(super) fn start_generation(kind: &Kind, value: &mut Value) {
    let generation = has_generation(kind).then(|| 1.into());
    put(metadata_mut(value), "generation", generation);
}

/// Increases the generation if more than metadata and status changed.
pub(super) fn count_generation(kind: &Kind, old: &Value, value: &mut Value) {
    let mut generation = old["metadata"]["generation"].as_i64();
    if has_generation(kind) && desired(kind, old) != desired(kind, value) {
        generation = Some(generation.unwrap_or_default() + 1);
    }
    put(metadata_mut(value), "generation", generation.map(Into::into));
}

fn desired<'a>(kind: &Kind, value: &'a Value) -> Map<String, Value> {
    let skipped =
        |field: &str| matches!(field, "metadata" | "apiVersion" | "kind") || (field == "status" && kind.has_status);
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter(|(field, _)| !skipped(field))
        .map(|(field, value): (&'a String, _)| (field.clone(), value.clone()))
        .collect()
}

/// Fills in what an update left out and the server keeps, and names what it tried to change of it.
pub(super) fn carry_over(old: &Value, value: &mut Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = metadata_mut(value);
    for field in KEPT.into_iter().chain(["name", "namespace"]) {
        let kept = old["metadata"].get(field);
        match metadata.get(field).filter(|new| !new.is_null() && **new != "") {
            None => put(metadata, field, kept.cloned()),
            Some(new) if Some(new) != kept => {
                causes.push(Cause::invalid(format!("metadata.{field}"), new, "field is immutable"));
            }
            Some(_) => {}
        }
    }
    put(metadata, "resourceVersion", old["metadata"].get("resourceVersion").cloned());
    put(metadata, "selfLink", None);
    causes
}

/// Removes lists and maps with nothing in them, which Kubernetes does not show: a client that takes the last label or
/// owner away may leave an empty one.
pub(super) fn drop_empty(value: &mut Value) {
    metadata_mut(value).retain(|field, value| match field.as_str() {
        "labels" | "annotations" => value.as_object().is_none_or(|map| !map.is_empty()),
        "finalizers" | "ownerReferences" => value.as_array().is_none_or(|list| !list.is_empty()),
        _ => true,
    });
}

/// An object that is being deleted takes no new finalizers.
pub(super) fn check_finalizers(old: &Value, value: &Value) -> Vec<Cause> {
    if !is_terminating(old) {
        return Vec::new();
    }
    let new: Vec<&str> = finalizers(value).filter(|f| !finalizers(old).any(|o| o == *f)).collect();
    if new.is_empty() {
        return Vec::new();
    }
    let why = format!("no new finalizers can be added if the object is being deleted, found new finalizers {new:?}");
    vec![Cause::forbidden("metadata.finalizers", why)]
}

/// Names, labels, annotations, owners and finalizers.
pub(super) fn check(kind: &Kind, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = meta(value, "name");
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Err(why) = check_name(kind, name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    check_labels(value, &mut causes);
    check_annotations(value, &mut causes);
    check_owners(value, &mut causes);
    let listed: Vec<&str> = finalizers(value).collect();
    for (i, finalizer) in listed.iter().enumerate() {
        if let Err(why) = name::check_qualified(finalizer) {
            causes.push(Cause::invalid(format!("metadata.finalizers[{i}]"), &json!(finalizer), why));
        }
    }
    if listed.contains(&"orphan") && listed.contains(&"foregroundDeletion") {
        let why = "finalizers orphan and foregroundDeletion cannot be both set";
        causes.push(Cause::invalid("metadata.finalizers", &json!(listed), why));
    }
    causes
}

/// Names are subdomains, but for those of roles and bindings. Kinds that ask for more check it in admission.
fn check_name(kind: &Kind, given: &str) -> Result<(), String> {
    if kind.version.group == RBAC { name::check_path_segment(given) } else { name::check_subdomain(given) }
}

fn check_labels(value: &Value, causes: &mut Vec<Cause>) {
    for (key, label) in value["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Err(why) = name::check_qualified(key) {
            causes.push(Cause::invalid("metadata.labels", &json!(key), why));
        }
        if let Some(why) = label.as_str().and_then(|label| name::check_label_value(label).err()) {
            causes.push(Cause::invalid("metadata.labels", label, why));
        }
    }
}

fn check_annotations(value: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, annotation) in value["metadata"]["annotations"].as_object().into_iter().flatten() {
        size += key.len() + annotation.as_str().map_or(0, str::len);
        if let Err(why) = name::check_qualified(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), why));
        }
    }
    if size > ANNOTATIONS_LIMIT {
        let message = format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
        causes.push(Cause { reason: "FieldValueTooLong", message, field: "metadata.annotations".to_owned() });
    }
}

fn check_owners(value: &Value, causes: &mut Vec<Cause>) {
    let owners = value["metadata"]["ownerReferences"].as_array();
    let mut controllers = Vec::new();
    for (i, owner) in owners.into_iter().flatten().enumerate() {
        for (field, word) in [("apiVersion", "version"), ("kind", "kind"), ("name", "name"), ("uid", "uid")] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let field = format!("metadata.ownerReferences[{i}].{field}");
                causes.push(Cause::invalid(field, &json!(""), format!("{word} must not be empty")));
            }
        }
        if owner["controller"] == true {
            controllers.push(owner["name"].as_str().unwrap_or_default());
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        causes.push(Cause::invalid("metadata.ownerReferences", &json!(owners), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_and_differ() {
        let (a, b) = (generate_name("web-"), generate_name("web-"));
        assert!(a.starts_with("web-") && a.len() == 9 && a != b, "{a} {b}");
        assert_eq!(generate_name(&"x".repeat(100)).len(), 63);
        assert!(generate_name(&"ü".repeat(40)).len() <= 63);
    }

    #[test]
    fn what_the_server_keeps_cannot_be_changed() {
        let old = json!({"metadata": {"name": "a", "uid": "1", "creationTimestamp": "t", "resourceVersion": "5"}});
        let mut new = json!({"metadata": {"name": "a", "uid": "2", "creationTimestamp": null, "resourceVersion": ""}});
        let causes = carry_over(&old, &mut new);
        assert_eq!(causes, [Cause::invalid("metadata.uid", &json!("2"), "field is immutable")]);
        assert_eq!(new["metadata"]["creationTimestamp"], "t");
        assert_eq!(new["metadata"]["resourceVersion"], "5");
    }

    #[test]
    fn what_is_empty_is_not_kept() {
        let mut value = json!({"metadata": {
            "name": "a", "labels": {}, "annotations": {"b": ""}, "finalizers": [], "ownerReferences": [],
        }});
        drop_empty(&mut value);
        assert_eq!(value, json!({"metadata": {"name": "a", "annotations": {"b": ""}}}));
    }

    #[test]
    fn finalizers_cannot_be_added_to_what_is_being_deleted() {
        let old = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a.b/c"]}});
        let less = json!({"metadata": {"finalizers": []}});
        let more = json!({"metadata": {"finalizers": ["a.b/c", "a.b/d"]}});
        assert!(check_finalizers(&old, &less).is_empty());
        assert_eq!(check_finalizers(&old, &more).len(), 1);
    }

    #[test]
    fn bad_metadata_is_named_field_by_field() {
        let value = json!({"metadata": {
            "labels": {"a b": "c", "d": "-"},
            "annotations": {"big": "x".repeat(ANNOTATIONS_LIMIT)},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}],
            "finalizers": ["no spaces"],
        }});
        let mut causes = Vec::new();
        check_labels(&value, &mut causes);
        check_annotations(&value, &mut causes);
        check_owners(&value, &mut causes);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        let expected =
            ["metadata.labels", "metadata.labels", "metadata.annotations", "metadata.ownerReferences[0].uid"];
        assert_eq!(fields, expected);
    }
}
