use serde_json::json;

use super::*;
use crate::kind::Registry;

fn builtin(group: &str, plural: &str) -> Arc<Schema> {
    Arc::clone(&Registry::builtin().find(group, "v1", plural).unwrap().schema)
}

fn at(schema: &Arc<Schema>, path: &str) -> Arc<Schema> {
    path.split('.').fold(Arc::clone(schema), |schema, name| match name {
        "*" => schema.items().unwrap(),
        field => schema.field(field).unwrap(),
    })
}

#[test]
fn unknown_fields_of_a_built_in_kind_are_named_by_path() {
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "y"}, "bogus": 1},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "bogus": 1, "resources": {"limits": {"cpu": 1}}}]}}},
    });
    let removed = builtin("apps", "deployments").prune(&mut deployment);
    assert_eq!(removed, ["metadata.bogus", "spec.template.spec.containers[0].bogus"]);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], 1);
}

#[test]
fn every_built_in_kind_compiles() {
    for kind in Registry::builtin().all() {
        let mut object = json!({"apiVersion": "x", "kind": "y", "metadata": {"name": "z"}, "bogus": 1});
        assert_eq!(kind.schema.prune(&mut object), ["bogus"], "{}", kind.names.kind);
    }
}

#[test]
fn lists_of_built_in_kinds_merge_as_kubernetes_declares() {
    let deployment = builtin("apps", "deployments");
    let containers = at(&deployment, "spec.template.spec.containers");
    assert_eq!(containers.patch_strategy(), &PatchStrategy::MergeByKey("name".to_owned()));
    assert_eq!(containers.topology(), &Topology::ListMap(vec!["name".to_owned()]));
    let ports = at(&containers, "*.ports");
    assert_eq!(ports.patch_strategy(), &PatchStrategy::MergeByKey("containerPort".to_owned()));
    assert_eq!(ports.topology(), &Topology::ListMap(vec!["containerPort".to_owned(), "protocol".to_owned()]));
    assert_eq!(at(&ports, "*.protocol").default_value(), Some(&json!("TCP")));
    let retained = PatchStrategy::RetainKeys { merge_key: None };
    assert_eq!(at(&deployment, "spec.strategy").patch_strategy(), &retained);
    assert_eq!(at(&deployment, "spec.selector").topology(), &Topology::Atomic);
    assert_eq!(at(&deployment, "spec.template.spec.nodeSelector").topology(), &Topology::Atomic);
    assert_eq!(at(&deployment, "metadata.labels").topology(), &Topology::Granular);
    assert_eq!(at(&deployment, "metadata.finalizers").topology(), &Topology::Set);
    assert_eq!(at(&deployment, "metadata.finalizers").patch_strategy(), &PatchStrategy::MergeSet);
    let volumes = PatchStrategy::RetainKeys { merge_key: Some("name".to_owned()) };
    assert_eq!(at(&deployment, "spec.template.spec.volumes").patch_strategy(), &volumes);
    assert_eq!(at(&deployment, "spec.template.spec.containers.*.args").topology(), &Topology::Atomic);
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    let deployment = builtin("apps", "deployments");
    let refused = |spec: Value| {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec});
        deployment.decode_error("Deployment", &object).unwrap_or_default()
    };
    let prefix = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    let container = |container: Value| json!({"template": {"spec": {"containers": [container]}}});
    for (spec, expected) in [
        (
            json!({"replicas": "3"}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"replicas": 3_000_000_000_i64}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"selector": {"matchLabels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field LabelSelector.spec.selector.matchLabels of type string",
        ),
        (
            container(json!({"ports": [{"containerPort": "x"}]})),
            "json: cannot unmarshal string into Go struct field \
             ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
        ),
        (
            json!({"template": {"spec": {"containers": {}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "much"}}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(refused(spec), format!("{prefix}{expected}"));
    }
    let probe =
        json!({"livenessProbe": {"httpGet": {"port": "http"}}, "resources": {"limits": {"cpu": 0.5, "memory": "1Gi"}}});
    assert_eq!(refused(container(probe)), "");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "no base64!"}});
    let error = builtin("", "secrets").decode_error("Secret", &secret).unwrap();
    assert!(error.ends_with("illegal base64 data at input byte 2"), "{error}");
}

#[test]
fn nulls_are_dropped_and_quantities_are_canonical() {
    let mut pod = json!({"metadata": {"creationTimestamp": null}, "spec": {"containers": [
        {"name": "a", "command": null, "resources": {"limits": {"cpu": 0.5}}, "ports": [{"containerPort": 80}]},
    ]}});
    builtin("", "pods").default(&mut pod);
    let expected = json!({"metadata": {}, "spec": {"containers": [
        {"name": "a", "resources": {"limits": {"cpu": "500m"}}, "ports": [{"containerPort": 80, "protocol": "TCP"}]},
    ]}});
    assert_eq!(pod, expected);
}

fn example() -> Schema {
    custom_resource(Some(&json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 2},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "mode": {"type": "string", "enum": ["Fast", "Slow"]},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "maxItems": 1, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "choice": {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            "since": {"type": "string", "format": "date-time", "nullable": true},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true},
        },
    }}})))
}

#[test]
fn custom_resources_are_checked_in_the_words_of_kubernetes() {
    let told = |spec: Value| {
        let causes = example().check(&json!({"apiVersion": "a/v1", "kind": "A", "metadata": {}, "spec": spec}));
        causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>().join("\n")
    };
    for (spec, expected) in [
        (json!({"size": 3, "port": "http", "tags": ["a"], "since": null}), ""),
        (
            json!({"size": "3"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (json!({}), "spec.size: Required value"),
        (json!({"size": 0}), "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (json!({"size": 1, "name": "A"}), "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'"),
        (json!({"size": 1, "name": "abcdef"}), "spec.name: Too long: may not be more than 5 bytes"),
        (
            json!({"size": 1, "mode": "Odd"}),
            "spec.mode: Unsupported value: \"Odd\": supported values: \"Fast\", \"Slow\"",
        ),
        (json!({"size": 1, "tags": ["a", "b"]}), "spec.tags: Too many: 2: must have at most 1 items"),
        (
            json!({"size": 1, "choice": {}}),
            "<nil>: Invalid value: \"\": \"spec.choice\" must validate one and only one schema (oneOf). Found none valid\n\
             spec.choice.a: Required value",
        ),
        (
            json!({"size": 1, "choice": {"a": "1", "b": "2"}}),
            "<nil>: Invalid value: \"\": \"spec.choice\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"size": 1, "since": "today"}),
            "spec.since: Invalid value: \"today\": spec.since in body must be of type date-time: \"today\"",
        ),
        (json!({"size": 1, "inner": {"kind": "B"}}), "spec.inner.apiVersion: Required value"),
        (
            json!({"size": 1, "labels": {"a": 1}}),
            "spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\"",
        ),
    ] {
        assert_eq!(told(spec), expected);
    }
}

#[test]
fn custom_resources_are_pruned_and_defaulted() {
    let mut object = json!({
        "apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x", "odd": 1}, "odd": 1,
        "spec": {
            "odd": 1, "size": null, "name": null, "since": null, "any": {"kept": null},
            "free": {"kept": 1}, "labels": {"kept": "1"}, "inner": {"kind": "B", "metadata": {"odd": 1}, "odd": 1},
        },
    });
    let removed = example().prune(&mut object);
    assert_eq!(removed, ["odd", "metadata.odd", "spec.odd", "spec.inner.odd", "spec.inner.metadata.odd"]);
    example().default(&mut object);
    let expected = json!({
        "size": 2, "since": null, "any": {"kept": null}, "free": {"kept": 1}, "labels": {"kept": "1"},
        "inner": {"kind": "B", "metadata": {}},
    });
    assert_eq!(object["spec"], expected);
}

#[test]
fn metadata_of_custom_resources_has_types() {
    let object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"labels": {"a": 1}}});
    let error = example().decode_error("A", &object).unwrap();
    assert!(error.ends_with("Go struct field ObjectMeta.metadata.labels of type string"), "{error}");
    assert!(example().decode_error("A", &json!([])).is_some());
}

#[test]
fn recursive_schemas_are_followed_as_deep_as_the_object() {
    let mut crd = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
        "type": "object", "properties": {"spec": {"type": "array", "items": {"type": "string", "odd": 1}}},
        "additionalProperties": false,
    }}}]}});
    let kind = Registry::builtin().find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    let removed = kind.schema.prune(&mut crd);
    assert_eq!(removed, ["spec.versions[0].schema.openAPIV3Schema.properties.spec.items.odd"]);
    assert_eq!(kind.schema.decode_error("CustomResourceDefinition", &crd), None);
}
