//! CustomResourceDefinitions: what they say becomes kinds.

mod structural;
mod validation;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Cause, GroupVersion};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cell::{self, list_at, or, text_at};
use super::jsonpath::JsonPath;
use super::{Column, Installation, Kind, Names, Row, ScalePaths, Source, Subresource, Verbs};
use crate::schema::{self, Schema};

pub(super) use validation::{check, check_update};

/// Fills in what a definition may leave out.
pub(super) fn complete(crd: &mut Value) {
    let kind = text_at(crd, "/spec/names/kind").to_owned();
    let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.entry("conversion").or_insert_with(|| json!({ "strategy": "None" }));
    let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) else { return };
    for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        let given = names.get(field).and_then(Value::as_str).is_some_and(|v| !v.is_empty());
        if !given {
            names.insert(field.to_owned(), value.into());
        }
    }
}

/// The kinds that a valid definition adds beside those of `others`, and what it comes to. A definition whose names
/// are taken adds none.
pub(super) fn read(crd: &Value, others: &[Arc<Kind>], now: Timestamp) -> (Vec<Kind>, Installation) {
    let names = names(crd);
    let group = text_at(crd, "/spec/group");
    let taken = conflict(&names, others.iter().filter(|k| k.version.group == group).map(|k| &k.names));
    let status = status(crd, &names, taken.as_ref(), now);
    let installation = Installation { status, warnings: warnings(crd) };
    let kinds = if taken.is_none() { kinds(crd, group, &names) } else { Vec::new() };
    (kinds, installation)
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn names(crd: &Value) -> Names {
    let text = |field: &str| text_at(crd, &format!("/spec/names/{field}")).to_owned();
    let kind = text("kind");
    Names {
        list_kind: or(&text("listKind"), &format!("{kind}List")).to_owned(),
        plural: text("plural"),
        singular: or(&text("singular"), &kind.to_lowercase()).to_owned(),
        short: texts(list_at(crd, "/spec/names/shortNames")),
        categories: texts(list_at(crd, "/spec/names/categories")),
        kind,
    }
}

/// The reason and the message of the first name that another kind of the group has.
fn conflict<'a>(names: &Names, others: impl Iterator<Item = &'a Names> + Clone) -> Option<(&'static str, String)> {
    let resource = |name: &str| {
        others.clone().any(|o| o.plural == name || o.singular == name || o.short.contains(&name.to_owned()))
    };
    let kind = |name: &str| others.clone().any(|o| o.kind == name || o.list_kind == name);
    let in_use = |name: &str| format!("{name:?} is already in use");
    if resource(&names.plural) {
        return Some(("PluralConflict", in_use(&names.plural)));
    }
    if resource(&names.singular) {
        return Some(("SingularConflict", in_use(&names.singular)));
    }
    if let Some(short) = names.short.iter().find(|short| resource(short)) {
        return Some(("ShortNamesConflict", in_use(short)));
    }
    if kind(&names.kind) {
        return Some(("KindConflict", in_use(&names.kind)));
    }
    kind(&names.list_kind).then(|| ("ListKindConflict", in_use(&names.list_kind)))
}

fn status(crd: &Value, names: &Names, taken: Option<&(&'static str, String)>, now: Timestamp) -> Value {
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let known = list_at(crd, "/status/conditions").iter().find(|c| c["type"] == kind && c["status"] == status);
        let since = known.map(|c| c["lastTransitionTime"].clone()).filter(Value::is_string);
        let since = since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since })
    };
    let conditions = match taken {
        None => [
            condition("NamesAccepted", true, "NoConflicts", "no conflicts found"),
            condition("Established", true, "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        Some((reason, message)) => [
            condition("NamesAccepted", false, reason, message),
            condition("Established", false, "NotAccepted", "not all names are accepted"),
        ],
    };
    let accepted = if taken.is_none() { accepted_names(names) } else { json!({ "plural": "", "kind": "" }) };
    let mut stored = texts(list_at(crd, "/status/storedVersions"));
    let storage = list_at(crd, "/spec/versions").iter().find(|v| v["storage"] == true);
    if let Some(name) = storage.map(|v| text_at(v, "/name")).filter(|name| !stored.iter().any(|s| s == name)) {
        stored.push(name.to_owned());
    }
    json!({ "conditions": conditions, "acceptedNames": accepted, "storedVersions": stored })
}

fn accepted_names(names: &Names) -> Value {
    let Names { kind, list_kind, plural, singular, short, categories } = names;
    let mut accepted = json!({ "kind": kind, "listKind": list_kind, "plural": plural, "singular": singular });
    for (field, list) in [("shortNames", short), ("categories", categories)] {
        if !list.is_empty() {
            accepted[field] = list.as_slice().into();
        }
    }
    accepted
}

/// What the definition asks for and does not get.
pub(super) fn warnings(crd: &Value) -> Vec<String> {
    let rules = list_at(crd, "/spec/versions").iter().any(|v| structural::has_rules(&v["schema"]["openAPIV3Schema"]));
    let text = format!(
        "x-kubernetes-validations rules of {} are stored but not evaluated; objects are checked against the rest of the \
         schema only",
        text_at(crd, "/metadata/name")
    );
    if rules { vec![text] } else { Vec::new() }
}

fn kinds(crd: &Value, group: &str, names: &Names) -> Vec<Kind> {
    let versions = list_at(crd, "/spec/versions");
    let storage = versions.iter().find(|v| v["storage"] == true).map_or("", |v| text_at(v, "/name"));
    let storage_version = GroupVersion { group: group.to_owned(), version: storage.to_owned() };
    let served = versions.iter().filter(|v| v["served"] == true);
    served.map(|version| kind(crd, version, names, &storage_version)).collect()
}

fn kind(crd: &Value, version: &Value, names: &Names, storage_version: &GroupVersion) -> Kind {
    let source = version.pointer("/schema/openAPIV3Schema");
    let (columns, row) = table(version);
    let group_version =
        GroupVersion { group: storage_version.group.clone(), version: text_at(version, "/name").to_owned() };
    let has_status = version.pointer("/subresources/status").is_some_and(Value::is_object);
    let scale = version.pointer("/subresources/scale").filter(|s| s.is_object()).map(scale_paths);
    Kind {
        subresources: subresources(&group_version, &names.kind, has_status, scale.is_some()),
        deprecation: deprecation(version, &group_version, &names.kind),
        version: group_version,
        names: names.clone(),
        namespaced: text_at(crd, "/spec/scope") == "Namespaced",
        verbs: Verbs::All,
        storage_version: storage_version.clone(),
        has_status,
        scale,
        builtin: false,
        schema: Arc::new(schema::custom_resource(source)),
        columns,
        row,
        selectable_fields: list_at(version, "/selectableFields")
            .iter()
            .map(|f| text_at(f, "/jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        source: Source::Custom {
            definition: text_at(crd, "/metadata/name").to_owned(),
            schema: source.map(|s| s.to_string().into()).unwrap_or_default(),
        },
        conversion: None,
    }
}

fn subresources(version: &GroupVersion, kind: &str, status: bool, scale: bool) -> Vec<Subresource> {
    const VERBS: &[&str] = &["get", "patch", "update"];
    let subresource = |name: &str, version: GroupVersion, kind: &str| Subresource {
        name: name.to_owned(),
        version,
        kind: kind.to_owned(),
        verbs: VERBS,
    };
    let scale = scale.then(|| subresource("scale", GroupVersion::parse("autoscaling/v1"), "Scale"));
    let status = status.then(|| subresource("status", version.clone(), kind));
    scale.into_iter().chain(status).collect()
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let path = |field: &str| scale.get(field).and_then(Value::as_str).map(|p| p.trim_start_matches('.').to_owned());
    ScalePaths {
        spec_replicas: path("specReplicasPath").unwrap_or_default(),
        status_replicas: path("statusReplicasPath").unwrap_or_default(),
        selector: path("labelSelectorPath").filter(|p| !p.is_empty()),
    }
}

fn deprecation(version: &Value, group_version: &GroupVersion, kind: &str) -> Option<String> {
    let own = version["deprecationWarning"].as_str().map(str::to_owned);
    (version["deprecated"] == true).then(|| own.unwrap_or_else(|| format!("{group_version} {kind} is deprecated")))
}

/// The columns of `additionalPrinterColumns`; without any, the age.
fn table(version: &Value) -> (Vec<Column>, Row) {
    let mut columns = vec![cell::name_column()];
    let mut paths: Vec<(String, JsonPath)> = Vec::new();
    for column in list_at(version, "/additionalPrinterColumns") {
        let Ok(path) = JsonPath::parse(text_at(column, "/jsonPath")) else { continue };
        let kind = text_at(column, "/type");
        paths.push((kind.to_owned(), path));
        let priority = column["priority"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or_default();
        let described = cell::column(text_at(column, "/name"), kind, text_at(column, "/description"), priority);
        columns.push(Column { format: text_at(column, "/format").to_owned(), ..described });
    }
    if paths.is_empty() {
        columns.push(Column { kind: "date".to_owned(), ..cell::age_column() });
        return (columns, Arc::new(|o, now| vec![cell::name(o), cell::age(o, now)]));
    }
    let row: Row = Arc::new(move |object, now| {
        let cells = paths.iter().map(|(kind, path)| printed(kind, path.first(object), now));
        std::iter::once(cell::name(object)).chain(cells).collect()
    });
    (columns, row)
}

/// A column's value as its type shows it; `null` where the object has none.
fn printed(kind: &str, value: Option<&Value>, now: i64) -> Value {
    let Some(value) = value.filter(|v| !v.is_null()) else { return Value::Null };
    match (kind, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(n)) => {
            n.as_i64().map_or_else(|| n.as_f64().map(|f| f.trunc() as i64).into(), Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(time)) => match cell::since(time, now).as_str() {
            "<unknown>" => "<invalid>".into(),
            known => known.into(),
        },
        _ => Value::Null,
    }
}

/// Whether `value` is a default that the schema itself would refuse.
fn check_default(source: &Value, value: &Value) -> Vec<Cause> {
    let schema: Schema = schema::custom_value(source);
    let mut completed = value.clone();
    schema.default(&mut completed);
    let mut causes = schema.check(&completed);
    causes.extend(schema.prune(&mut completed).into_iter().map(|field| Cause::forbidden(field, "unknown field")));
    causes
}

/// The kinds of all definitions but `crd`, and those of `crd` afterwards.
pub(super) fn without(kinds: &[Arc<Kind>], crd: &str) -> Vec<Arc<Kind>> {
    let other = |kind: &&Arc<Kind>| !matches!(&kind.source, Source::Custom { definition, .. } if definition == crd);
    kinds.iter().filter(other).cloned().collect()
}

/// The causes by field, without repetition, in a stable order.
fn ordered(causes: Vec<Cause>) -> Vec<Cause> {
    let mut seen: BTreeMap<(String, String), ()> = BTreeMap::new();
    causes.into_iter().filter(|c| seen.insert((c.field.clone(), c.message.clone()), ()).is_none()).collect()
}
