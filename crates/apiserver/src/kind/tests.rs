use serde_json::{Value, json};

use super::*;

fn plain(registry: &Registry, path: &str) -> Value {
    serde_json::from_slice(&registry.discovery(path, Discovery::Plain).unwrap()).unwrap()
}

#[test]
fn kinds_are_found_by_resource_and_by_kind() {
    let registry = Registry::builtin();
    let pods = registry.find("", "v1", "pods").unwrap();
    assert!(pods.namespaced && pods.has_status);
    assert_eq!(pods.names.short, ["po"]);
    assert!(!registry.find("", "v1", "nodes").unwrap().namespaced);
    assert!(registry.find_kind(&GroupVersion::parse("apps/v1"), "Deployment").is_some());
    assert!(registry.find("apps", "v1", "daemonsets").is_none());
    for kind in registry.all() {
        assert_eq!((kind.row)(&json!({}), 0).len(), kind.columns.len(), "{}", kind.names.kind);
    }
}

#[test]
fn discovery_lists_groups_versions_and_resources() {
    let registry = Registry::builtin();
    assert_eq!(plain(&registry, "/api")["versions"], json!(["v1"]));
    let groups = plain(&registry, "/apis");
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"apps") && !names.contains(&""));
    assert_eq!(plain(&registry, "/apis/autoscaling")["preferredVersion"]["version"], "v2");
    let apps = plain(&registry, "/apis/apps/v1");
    let scale = apps["resources"].as_array().unwrap().iter().find(|r| r["name"] == "deployments/scale").unwrap();
    assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));
    assert!(registry.discovery("/apis/nope", Discovery::Plain).is_none());
}

#[test]
fn aggregated_discovery_has_everything_in_two_documents() {
    let registry = Registry::builtin();
    let core: Value = serde_json::from_slice(&registry.discovery("/api", Discovery::V2).unwrap()).unwrap();
    assert_eq!(core["apiVersion"], "apidiscovery.k8s.io/v2");
    let resources = core["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let pods = resources.iter().find(|r| r["resource"] == "pods").unwrap();
    assert_eq!(pods["scope"], "Namespaced");
    assert!(pods["subresources"].as_array().unwrap().iter().any(|s| s["subresource"] == "log"));
}
