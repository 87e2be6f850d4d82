//! Validation of a CustomResourceDefinition, worded as Kubernetes 1.33 words it.

use api::{Cause, name};
use serde_json::{Value, json};

use super::super::cell::{list_at, text_at};
use super::super::jsonpath::JsonPath;
use super::{ordered, structural};

/// What is wrong with a definition.
pub(in crate::kind) fn check(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_names(crd, &mut causes);
    check_versions(crd, &mut causes);
    let strategy = text_at(crd, "/spec/conversion/strategy");
    if !matches!(strategy, "" | "None") {
        causes.push(Cause::unsupported("spec.conversion.strategy", &strategy.into(), &["None"]));
    }
    if crd.pointer("/spec/preserveUnknownFields") == Some(&json!(true)) {
        let why = "must be false; use x-kubernetes-preserve-unknown-fields in the schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
    ordered(causes)
}

/// What a change may not touch: objects are stored under the names that a definition has had.
pub(in crate::kind) fn check_update(old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let established = super::super::cell::condition(old, "Established");
    let fields = [
        ("/spec/group", true),
        ("/spec/scope", established),
        ("/spec/names/plural", true),
        ("/spec/names/kind", established),
    ];
    for (pointer, fixed) in fields {
        let value = new.pointer(pointer).unwrap_or(&Value::Null);
        if fixed && old.pointer(pointer).unwrap_or(&Value::Null) != value {
            let field = pointer.trim_start_matches('/').replace('/', ".");
            causes.push(Cause::invalid(field, value, "field is immutable"));
        }
    }
    for (index, stored) in list_at(old, "/status/storedVersions").iter().enumerate() {
        let kept = list_at(new, "/spec/versions").iter().any(|v| v["name"] == *stored);
        if !kept {
            let stored_name = stored.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {stored_name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {stored_name} and removes {stored_name} from \
                 status.storedVersions"
            );
            causes.push(Cause::invalid(format!("status.storedVersions[{index}]"), stored, why));
        }
    }
    causes
}

fn check_names(crd: &Value, causes: &mut Vec<Cause>) {
    let group = text_at(crd, "/spec/group");
    let plural = text_at(crd, "/spec/names/plural");
    let own = text_at(crd, "/metadata/name");
    if own != format!("{plural}.{group}") {
        causes.push(Cause::invalid("metadata.name", &own.into(), "must be spec.names.plural+\".\"+spec.group"));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let Err(why) = name::check_subdomain(group) {
        causes.push(Cause::invalid("spec.group", &group.into(), why));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    let scope = text_at(crd, "/spec/scope");
    if !matches!(scope, "Cluster" | "Namespaced") {
        causes.push(Cause::unsupported("spec.scope", &scope.into(), &["Cluster", "Namespaced"]));
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        check_name(text_at(crd, &format!("/spec/names/{field}")), &format!("spec.names.{field}"), causes);
    }
    for list in ["shortNames", "categories"] {
        for (index, entry) in list_at(crd, &format!("/spec/names/{list}")).iter().enumerate() {
            check_name(entry.as_str().unwrap_or_default(), &format!("spec.names.{list}[{index}]"), causes);
        }
    }
    let (kind, list_kind) = (text_at(crd, "/spec/names/kind"), text_at(crd, "/spec/names/listKind"));
    if kind == list_kind && !kind.is_empty() {
        causes.push(Cause::invalid("spec.names.listKind", &list_kind.into(), "kind and listKind may not be the same"));
    }
}

/// A name of a resource or, apart from its capitals, of a kind.
fn check_name(value: &str, field: &str, causes: &mut Vec<Cause>) {
    if value.is_empty() {
        // What is left out is filled in from the kind.
        if !field.ends_with(".singular") && !field.ends_with(".listKind") {
            causes.push(Cause::required(field, ""));
        }
        return;
    }
    let kind = field.ends_with("ind");
    let lower = value.to_lowercase();
    if let Err(why) = name::check_label_1035(if kind { &lower } else { value }) {
        let prefix = if kind { "may have mixed case, but should otherwise match: " } else { "" };
        causes.push(Cause::invalid(field, &value.into(), format!("{prefix}{why}")));
    }
}

fn check_versions(crd: &Value, causes: &mut Vec<Cause>) {
    let versions = list_at(crd, "/spec/versions");
    let names: Vec<&str> = versions.iter().map(|v| text_at(v, "/name")).collect();
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(names), why));
    }
    if names.iter().enumerate().any(|(index, name)| names.get(..index).is_some_and(|earlier| earlier.contains(name))) {
        causes.push(Cause::invalid("spec.versions", &json!(names), "must contain unique version names"));
    }
    let schema = |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned();
    let shared = versions.windows(2).all(|pair| matches!(pair, [a, b] if schema(a) == schema(b)));
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        if let Err(why) = name::check_label_1035(text_at(version, "/name")) {
            causes.push(Cause::invalid(format!("{path}.name"), &version["name"], why));
        }
        match version.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object()) {
            None => causes.push(Cause::required(format!("{path}.schema.openAPIV3Schema"), "schemas are required")),
            // A schema that all versions have is one schema, and told once.
            Some(_) if shared && index > 0 => {}
            Some(schema) if shared => causes.extend(structural::check(schema, "spec.validation.openAPIV3Schema")),
            Some(schema) => causes.extend(structural::check(schema, &format!("{path}.schema.openAPIV3Schema"))),
        }
        check_columns(version, &path, causes);
        check_subresources(version, &path, causes);
        check_selectable(version, &path, causes);
    }
}

fn check_columns(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
    for (index, column) in list_at(version, "/additionalPrinterColumns").iter().enumerate() {
        let at = |field: &str| format!("{path}.additionalPrinterColumns[{index}].{field}");
        if text_at(column, "/name").is_empty() {
            causes.push(Cause::required(at("name"), ""));
        }
        let kind = text_at(column, "/type");
        if !TYPES.contains(&kind) {
            causes.push(Cause::unsupported(at("type"), &kind.into(), TYPES));
        }
        let json_path = text_at(column, "/jsonPath");
        if json_path.is_empty() {
            causes.push(Cause::required(at("jsonPath"), ""));
        } else if let Err(why) = JsonPath::parse(json_path) {
            causes.push(Cause::invalid(at("jsonPath"), &json_path.into(), why));
        }
    }
}

fn check_subresources(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|s| s.is_object()) else { return };
    let mut under = |field: &str, roots: &[&str], required: bool| {
        let value = text_at(scale, &format!("/{field}"));
        let at = format!("{path}.subresources.scale.{field}");
        if value.is_empty() {
            if required {
                causes.push(Cause::required(at, ""));
            }
        } else if !roots.iter().any(|root| value.starts_with(&format!("{root}."))) || value.contains('[') {
            let why = format!("should be a json path under {}", roots.join(" or "));
            causes.push(Cause::invalid(at, &value.into(), why));
        }
    };
    under("specReplicasPath", &[".spec"], true);
    under("statusReplicasPath", &[".status"], true);
    under("labelSelectorPath", &[".spec", ".status"], false);
}

fn check_selectable(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (index, field) in list_at(version, "/selectableFields").iter().enumerate() {
        let json_path = text_at(field, "/jsonPath");
        let at = format!("{path}.selectableFields[{index}].jsonPath");
        let steps = json_path.strip_prefix('.').filter(|steps| !steps.is_empty() && !steps.contains(['[', ' ']));
        let schema = steps.and_then(|steps| {
            let root = version.pointer("/schema/openAPIV3Schema")?;
            steps.split('.').try_fold(root, |schema, name| schema.get("properties")?.get(name))
        });
        match schema.and_then(|s| s["type"].as_str()) {
            Some("string" | "integer" | "boolean") => {}
            Some(_) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                causes.push(Cause::invalid(at, &json_path.into(), why));
            }
            None => causes.push(Cause::invalid(
                at,
                &json_path.into(),
                "is an invalid path: does not refer to a valid field",
            )),
        }
    }
}
