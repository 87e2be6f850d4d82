use serde_json::json;

use super::*;
use crate::kind::{Kind, Registry};

pub(in crate::patch) fn kind(group: &str, plural: &str) -> std::sync::Arc<Kind> {
    Registry::builtin().find(group, "v1", plural).unwrap()
}

pub(in crate::patch) fn manager(name: &'static str, now: &'static str) -> Manager<'static> {
    Manager { name, subresource: "", api_version: "apps/v1", now }
}

pub(in crate::patch) const MORNING: &str = "2026-11-21T08:00:00Z";
pub(in crate::patch) const NOON: &str = "2026-11-21T12:00:00Z";

pub(in crate::patch) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default", "uid": "u", "labels": { "app": "web" } },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "nginx", "image": "nginx:1", "resources": {},
                    "ports": [{ "containerPort": 80 }], "env": [{ "name": "A", "value": "1" }] }] },
            },
        },
    })
}

fn tracked(live: Option<&Value>, new: &Value, manager: &Manager<'_>) -> Value {
    let mut new = new.clone();
    track(live, &mut new, &kind("apps", "deployments").schema, manager);
    new
}

fn entries(object: &Value) -> Vec<(String, String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    list.iter().map(|e| (text(&e["manager"]), text(&e["time"]), e["fieldsV1"].to_string())).collect()
}

#[test]
fn a_created_object_belongs_to_its_creator() {
    let created = tracked(None, &deployment(), &manager("kubectl-create", MORNING));
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": MORNING,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
                "f:spec": {
                    "f:replicas": {}, "f:selector": {},
                    "f:strategy": { "f:type": {}, "f:rollingUpdate": { ".": {}, "f:maxSurge": {} } },
                    "f:template": {
                        "f:metadata": { "f:labels": { ".": {}, "f:app": {} } },
                        "f:spec": { "f:containers": { "k:{\"name\":\"nginx\"}": {
                            ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                            "f:ports": { ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                ".": {}, "f:containerPort": {} } },
                            "f:env": { ".": {}, "k:{\"name\":\"A\"}": { ".": {}, "f:name": {}, "f:value": {} } },
                        } } },
                    },
                },
            },
        }])
    );
}

#[test]
fn changed_fields_move_and_removed_ones_vanish() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    let mut edited = created.clone();
    edited["spec"]["replicas"] = json!(3);
    edited["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("env");
    let edited = tracked(Some(&created), &edited, &manager("b", NOON));
    let [(first, time, fields), second] = entries(&edited).try_into().unwrap();
    assert_eq!((first.as_str(), time.as_str()), ("a", MORNING));
    assert!(!fields.contains("f:replicas") && !fields.contains("f:env"));
    assert_eq!(second, ("b".to_owned(), NOON.to_owned(), r#"{"f:spec":{"f:replicas":{}}}"#.to_owned()));
}

#[test]
fn a_write_that_changes_nothing_leaves_the_entries_alone() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    for name in ["a", "b"] {
        assert_eq!(tracked(Some(&created), &created, &manager(name, NOON)), created);
        let mut without = created.clone();
        without["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(tracked(Some(&created), &without, &manager(name, NOON)), created);
    }
}

#[test]
fn system_metadata_belongs_to_nobody() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    let mut touched = created.clone();
    touched["metadata"]["resourceVersion"] = "7".into();
    touched["metadata"]["generation"] = 2.into();
    touched["metadata"]["creationTimestamp"] = NOON.into();
    assert_eq!(entries(&tracked(Some(&created), &touched, &manager("b", NOON))), entries(&created));
}

#[test]
fn entries_can_be_cleared_and_stay_clear_until_an_apply() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    let mut cleared = created.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    cleared["spec"]["replicas"] = json!(2);
    let cleared = tracked(Some(&created), &cleared, &manager("b", NOON));
    assert!(cleared["metadata"].get("managedFields").is_none());
    let mut next = cleared.clone();
    next["spec"]["replicas"] = json!(5);
    assert!(tracked(Some(&cleared), &next, &manager("b", NOON))["metadata"].get("managedFields").is_none());
}

#[test]
fn damaged_or_missing_entries_fall_back_to_the_live_ones() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    for sent in [
        json!([]),
        json!(null),
        json!("x"),
        json!([{ "manager": "x" }]),
        json!([{ "manager": "x", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": { "f:a": 1 } }]),
    ] {
        let mut next = created.clone();
        next["metadata"]["managedFields"] = sent;
        assert_eq!(tracked(Some(&created), &next, &manager("b", NOON)), created);
    }
}

#[test]
fn a_client_may_hand_its_entries_on_but_not_through_a_subresource() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    let mut renamed = created.clone();
    renamed["metadata"]["managedFields"][0]["manager"] = "z".into();
    assert_eq!(entries(&tracked(Some(&created), &renamed, &manager("b", NOON)))[0].0, "z");
    let status = Manager { subresource: "status", ..manager("b", NOON) };
    renamed["status"] = json!({ "replicas": 1 });
    let updated = tracked(Some(&created), &renamed, &status);
    let list = &updated["metadata"]["managedFields"];
    assert_eq!((&list[0]["manager"], &list[1]["manager"]), (&json!("a"), &json!("b")));
    assert_eq!(list[1]["subresource"], "status");
    assert_eq!(list[1]["fieldsV1"], json!({ "f:status": { ".": {}, "f:replicas": {} } }));
}

#[test]
fn a_custom_resource_is_claimed_with_its_spec() {
    let schema = crate::schema::custom_resource(Some(&json!({ "type": "object", "properties": {
        "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } } })));
    let mut new =
        json!({ "apiVersion": "example.com/v1", "kind": "Box", "metadata": { "name": "b" }, "spec": { "size": 1 } });
    let creator = Manager { api_version: "example.com/v1", ..manager("m", NOON) };
    track(None, &mut new, &schema, &creator);
    assert_eq!(entries(&new)[0].2, r#"{"f:spec":{".":{},"f:size":{}}}"#);
}

#[test]
fn the_oldest_of_many_updaters_are_merged() {
    let mut live = tracked(None, &deployment(), &manager("creator", MORNING));
    for n in 0..15 {
        let mut next = live.clone();
        next["metadata"]["labels"][format!("l{n:02}")] = "x".into();
        let (name, now) = (format!("m{n:02}"), format!("2026-11-21T09:{n:02}:00Z"));
        let manager = Manager { name: &name, subresource: "", api_version: "apps/v1", now: &now };
        live = tracked(Some(&live), &next, &manager);
    }
    let entries = entries(&live);
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0].0, "ancient-changes");
    assert!(entries[0].2.contains("f:l00") && entries[0].2.contains("f:replicas"));
    assert_eq!(entries[9].0, "m14");
}

#[test]
fn every_field_of_an_object_has_an_owner() {
    let created = tracked(None, &deployment(), &manager("a", MORNING));
    let mut edited = created.clone();
    edited["spec"]["template"]["spec"]["containers"] = json!([
        { "name": "sidecar", "image": "s", "ports": [{ "containerPort": 53, "protocol": "UDP" }] },
        { "name": "nginx", "image": "nginx:2" },
    ]);
    let edited = tracked(Some(&created), &edited, &manager("b", NOON));
    let mut owned = FieldSet::default();
    Entries::of(&edited).0.iter().for_each(|e| owned.unite(&e.fields));
    let mut bare = edited.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    let mut all = compare(&json!({}), &bare, &kind("apps", "deployments").schema).changed;
    all.subtract(unowned());
    all.subtract(&compare(&json!({}), blank("apps/v1"), &kind("apps", "deployments").schema).changed);
    all.subtract(&owned);
    assert_eq!(all.paths(), Vec::<String>::new());
}
