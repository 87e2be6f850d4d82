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

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": {"type": "object", "properties": {
                            "cronSpec": {"type": "string", "description": "When."}, "replicas": {"type": "integer"},
                        }},
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}},
                    "subresources": {"status": {}, "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    }},
                    "additionalPrinterColumns": [
                        {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"},
                        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
                        {"name": "Ready", "type": "string",
                         "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                    "selectableFields": [{"jsonPath": ".spec.cronSpec"}],
                },
                {
                    "name": "v1alpha1", "served": true, "storage": false,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                },
            ],
        },
    })
}

#[test]
fn a_definition_adds_its_kinds_at_once() {
    let registry = Registry::builtin();
    let installed = registry.install(&definition()).unwrap();
    assert_eq!(installed.status["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(installed.status["storedVersions"], json!(["v1"]));
    assert_eq!(installed.status["conditions"][1]["type"], "Established");
    assert_eq!(installed.status["conditions"][1]["status"], "True");
    let kind = registry.find("stable.example.com", "v1", "crontabs").unwrap();
    assert!(kind.has_status && kind.namespaced && !kind.builtin);
    assert_eq!(kind.selectable_fields, ["spec.cronSpec"]);
    let older = registry.find("stable.example.com", "v1alpha1", "crontabs").unwrap();
    assert_eq!(older.storage_version.to_string(), "stable.example.com/v1");
    let mut object = json!({"apiVersion": "stable.example.com/v1alpha1"});
    older.to_storage(&mut object);
    assert_eq!(object["apiVersion"], "stable.example.com/v1");
    let group = plain(&registry, "/apis/stable.example.com");
    assert_eq!(group["preferredVersion"]["version"], "v1");
    registry.uninstall(&definition());
    assert!(registry.find("stable.example.com", "v1", "crontabs").is_none());
    assert!(registry.discovery("/apis/stable.example.com", Discovery::Plain).is_none());
}

#[test]
fn printer_columns_show_what_their_paths_lead_to() {
    let registry = Registry::builtin();
    registry.install(&definition()).unwrap();
    let kind = registry.find("stable.example.com", "v1", "crontabs").unwrap();
    let names: Vec<&str> = kind.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["Name", "Spec", "Replicas", "Ready", "Age"]);
    let object = json!({
        "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "spec": {"cronSpec": "* *", "replicas": 3}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    assert_eq!((kind.row)(&object, 60), [json!("a"), json!("* *"), json!(3), json!("True"), json!("60s")]);
    let plain = registry.find("stable.example.com", "v1alpha1", "crontabs").unwrap();
    assert_eq!((plain.row)(&object, 60), [json!("a"), json!("60s")]);
}

#[test]
fn names_that_are_taken_are_not_accepted() {
    let registry = Registry::builtin();
    registry.install(&definition()).unwrap();
    let mut other = definition();
    other["metadata"]["name"] = "cts.stable.example.com".into();
    other["spec"]["names"] = json!({"plural": "cts", "kind": "Cat", "shortNames": ["ct"]});
    let installed = registry.install(&other).unwrap();
    let conditions = &installed.status["conditions"];
    assert_eq!((&conditions[0]["status"], &conditions[0]["reason"]), (&json!("False"), &json!("ShortNamesConflict")));
    assert_eq!(conditions[0]["message"], "\"ct\" is already in use");
    assert_eq!(conditions[1]["status"], "False");
    assert!(registry.find("stable.example.com", "v1", "cts").is_none());
}

#[test]
fn a_bad_definition_is_told_all_that_is_wrong() {
    let registry = Registry::builtin();
    let told = |change: &dyn Fn(&mut Value)| {
        let mut crd = definition();
        change(&mut crd);
        let causes = registry.install(&crd).unwrap_err();
        causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>().join("\n")
    };
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let at = "spec.versions[0].schema.openAPIV3Schema";
    assert_eq!(
        told(&|crd| crd["metadata"]["name"] = "x".into()),
        "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"
    );
    assert_eq!(
        told(&|crd| crd["spec"]["versions"][1]["storage"] = true.into()),
        "spec.versions: Invalid value: [\"v1\",\"v1alpha1\"]: must have exactly one version marked as storage version"
    );
    assert_eq!(
        told(&|crd| crd.pointer_mut(schema).unwrap()["properties"]["none"] = json!({"properties": {}})),
        format!("{at}.properties[none].type: Required value: must not be empty for specified object fields")
    );
    assert_eq!(
        told(&|crd| crd.pointer_mut(schema).unwrap()["properties"]["n"] = json!({"type": "integer", "default": "x"})),
        format!(
            "{at}.properties[n].default: Invalid value: \"string\": value in body must be of type integer: \"string\""
        )
    );
    assert_eq!(
        told(&|crd| crd["spec"]["conversion"] = json!({"strategy": "Webhook"})),
        "spec.conversion.strategy: Unsupported value: \"Webhook\": supported values: \"None\""
    );
    let pattern =
        told(&|crd| crd.pointer_mut(schema).unwrap()["properties"]["n"] = json!({"type": "string", "pattern": "("}));
    assert!(pattern.contains("pattern: Invalid value: \"(\": must be a valid regular expression"), "{pattern}");
    let mut crd = json!({"spec": 1});
    assert!(registry.check_definition(&mut crd, None).is_err());
}

#[test]
fn rules_that_are_not_evaluated_are_told() {
    let mut crd = definition();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        json!([{"rule": "self.replicas > 0"}]);
    let warnings = Registry::builtin().check_definition(&mut crd, None).unwrap();
    assert!(warnings[0].starts_with("x-kubernetes-validations rules of crontabs.stable.example.com"), "{warnings:?}");
    assert_eq!(crd["spec"]["names"]["singular"], "crontab");
    let mut moved = crd.clone();
    moved["spec"]["scope"] = "Cluster".into();
    crd["status"] = json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]});
    let causes = Registry::builtin().check_definition(&mut moved, Some(&crd)).unwrap_err();
    assert_eq!(causes[0].message, "Invalid value: \"Cluster\": field is immutable");
}

fn openapi(registry: &Registry, path: &str) -> Value {
    serde_json::from_slice(&registry.openapi_v3(path).unwrap()).unwrap()
}

#[test]
fn every_openapi_reference_leads_to_a_schema() {
    let registry = Registry::builtin();
    registry.install(&definition()).unwrap();
    let index = openapi(&registry, "/openapi/v3");
    for (name, entry) in index["paths"].as_object().unwrap() {
        assert!(entry["serverRelativeURL"].as_str().unwrap().starts_with(&format!("/openapi/v3/{name}?hash=")));
        let text = String::from_utf8(registry.openapi_v3(&format!("/openapi/v3/{name}")).unwrap().to_vec()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for target in text.split("#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()) {
            assert!(document["components"]["schemas"][target].is_object(), "{name}: {target}");
        }
        assert!(!text.contains("$defs"), "{name}");
    }
    assert!(registry.openapi_v3("/openapi/v3/apis/nope/v1").is_none());
}

#[test]
fn openapi_tells_kubectl_how_to_patch() {
    let registry = Registry::builtin();
    registry.install(&definition()).unwrap();
    let apps = openapi(&registry, "/openapi/v3/apis/apps/v1");
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let pod = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(pod["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(pod["x-kubernetes-list-map-keys"], json!(["name"]));
    let custom = openapi(&registry, "/openapi/v3/apis/stable.example.com/v1");
    let patch = &custom["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());
    let schema = &custom["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["cronSpec"]["description"], "When.");
}

#[test]
fn a_document_lives_as_long_as_its_kinds() {
    let registry = Registry::builtin();
    let first = registry.openapi_v3("/openapi/v3/apis/apps/v1").unwrap();
    let before = openapi(&registry, "/openapi/v3");
    registry.install(&definition()).unwrap();
    let second = registry.openapi_v3("/openapi/v3/apis/apps/v1").unwrap();
    assert_eq!(first.as_ptr(), second.as_ptr());
    let after = openapi(&registry, "/openapi/v3");
    assert_eq!(before["paths"]["apis/apps/v1"], after["paths"]["apis/apps/v1"]);
    assert!(after["paths"]["apis/stable.example.com/v1"].is_object());
}
