//! Discovery: which groups, versions and resources there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::GroupVersion;
use serde_json::{Value, json};

use super::{Kind, Subresource};

/// The forms of the discovery documents at `/api` and `/apis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// `APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`.
    Plain,
    /// `apidiscovery.k8s.io/v2`.
    V2,
    /// `apidiscovery.k8s.io/v2beta1`.
    V2Beta1,
}

/// The document for a path; `kinds` are ordered by group, version, plural.
pub(super) fn document(kinds: &[Arc<Kind>], path: &str, form: Discovery) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let aggregated = match form {
        Discovery::Plain => None,
        Discovery::V2 => Some("apidiscovery.k8s.io/v2"),
        Discovery::V2Beta1 => Some("apidiscovery.k8s.io/v2beta1"),
    };
    match (parts.as_slice(), aggregated) {
        (["api"], None) => Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })),
        (["apis"], None) => {
            let groups: Vec<Value> = groups(kinds).iter().filter(|g| !g.name.is_empty()).map(group_summary).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        (["api"], Some(version)) => Some(aggregate(kinds, version, true)),
        (["apis"], Some(version)) => Some(aggregate(kinds, version, false)),
        (["apis", name], _) => {
            let group = groups(kinds).into_iter().find(|g| g.name == *name && !name.is_empty())?;
            let mut document = group_summary(&group);
            document["kind"] = "APIGroup".into();
            document["apiVersion"] = "v1".into();
            Some(document)
        }
        (["api", version], _) => resource_list(kinds, "", version),
        (["apis", group, version], _) if !group.is_empty() => resource_list(kinds, group, version),
        _ => None,
    }
}

/// A group with its versions, the preferred one first.
pub(super) struct Group<'a> {
    pub(super) name: &'a str,
    pub(super) versions: Vec<(&'a str, Vec<&'a Kind>)>,
}

/// The groups: built-in ones first, so that their short names win, each part in alphabetical order.
pub(super) fn groups(kinds: &[Arc<Kind>]) -> Vec<Group<'_>> {
    let mut found: BTreeMap<(bool, &str), BTreeMap<&str, Vec<&Kind>>> = BTreeMap::new();
    for kind in kinds {
        let versions = found.entry((!kind.builtin, &kind.version.group)).or_default();
        versions.entry(&kind.version.version).or_default().push(kind);
    }
    let groups = found.into_iter().map(|((_, name), versions)| {
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort_by_cached_key(|(version, _)| priority(version));
        Group { name, versions }
    });
    groups.collect()
}

/// Stable versions before beta before alpha, higher numbers first, other names last.
pub(super) fn priority(version: &str) -> (u8, Reverse<u32>, Reverse<u32>, String) {
    let other = (3, Reverse(0), Reverse(0), version.to_owned());
    let Some(rest) = version.strip_prefix('v') else { return other };
    let (stage, major, minor) = match (rest.split_once("alpha"), rest.split_once("beta")) {
        (Some((major, minor)), _) => (2, major, minor),
        (_, Some((major, minor))) => (1, major, minor),
        _ => (0, rest, "0"),
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (stage, Reverse(major), Reverse(minor), String::new()),
        _ => other,
    }
}

fn group_summary(group: &Group<'_>) -> Value {
    let version = |version: &str| json!({ "groupVersion": format!("{}/{version}", group.name), "version": version });
    let versions: Vec<Value> = group.versions.iter().map(|(v, _)| version(v)).collect();
    let preferred = versions.first().cloned();
    json!({ "name": group.name, "versions": versions, "preferredVersion": preferred })
}

fn resource_list(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let version = GroupVersion { group: group.to_owned(), version: version.to_owned() };
    let mut resources: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter(|k| k.version == version) {
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|s| subresource(kind, s)));
    }
    if resources.is_empty() {
        return None;
    }
    let version = version.to_string();
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources }))
}

fn resource(kind: &Kind) -> Value {
    let names = &kind.names;
    let mut entry = json!({
        "name": names.plural, "singularName": names.singular, "namespaced": kind.namespaced, "kind": names.kind,
        "verbs": kind.verb_names(),
    });
    add_names(&mut entry, kind);
    entry
}

fn add_names(entry: &mut Value, kind: &Kind) {
    for (field, list) in [("shortNames", &kind.names.short), ("categories", &kind.names.categories)] {
        if !list.is_empty() {
            entry[field] = list.as_slice().into();
        }
    }
}

fn subresource(kind: &Kind, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", kind.names.plural, subresource.name), "singularName": "",
        "namespaced": kind.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
    });
    if subresource.version != kind.version {
        entry["group"] = subresource.version.group.as_str().into();
        entry["version"] = subresource.version.version.as_str().into();
    }
    entry
}

fn aggregate(kinds: &[Arc<Kind>], api_version: &str, core: bool) -> Value {
    let groups = groups(kinds).into_iter().filter(|g| g.name.is_empty() == core);
    let items: Vec<Value> = groups.map(|group| aggregated_group(&group)).collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items })
}

fn aggregated_group(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, kinds)| {
            let resources: Vec<Value> = kinds.iter().map(|k| aggregated_resource(k)).collect();
            json!({ "version": version, "resources": resources, "freshness": "Current" })
        })
        .collect();
    json!({ "metadata": { "name": group.name, "creationTimestamp": null }, "versions": versions })
}

fn response_kind(version: &GroupVersion, kind: &str) -> Value {
    json!({ "group": version.group, "version": version.version, "kind": kind })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let names = &kind.names;
    let mut entry = json!({
        "resource": names.plural, "responseKind": response_kind(&kind.version, &names.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": names.singular,
        "verbs": kind.verb_names(),
    });
    add_names(&mut entry, kind);
    if !kind.subresources.is_empty() {
        let list = kind.subresources.iter().map(|s| {
            let response = response_kind(&s.version, &s.kind);
            json!({ "subresource": s.name, "responseKind": response, "verbs": s.verbs })
        });
        entry["subresources"] = list.collect::<Vec<_>>().into();
    }
    entry
}
