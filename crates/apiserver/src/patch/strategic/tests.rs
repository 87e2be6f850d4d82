use serde_json::json;

use super::super::managed::tests::kind;
use super::*;

fn patched(group: &str, plural: &str, live: &Value, patch: &Value) -> Result<Value, ApiError> {
    strategic(live, patch, &kind(group, plural).schema)
}

fn service(ports: Value) -> Value {
    json!({ "spec": { "ports": ports } })
}

fn pod_spec(spec: Value) -> Value {
    json!({ "spec": { "template": { "spec": spec } } })
}

fn ports(live: Value, patch: Value) -> Result<Value, ApiError> {
    patched("", "services", &service(live), &patch).map(|s| s["spec"]["ports"].clone())
}

/// Patches the pod template of a deployment.
fn template(live: Value, patch: Value) -> Result<Value, ApiError> {
    patched("apps", "deployments", &pod_spec(live), &pod_spec(patch)).map(|d| d["spec"]["template"]["spec"].clone())
}

/// Sent by `kubectl apply` 1.32 after port 80 got a target port and port 81 went.
#[test]
fn kubectl_apply_merges_ports_by_their_key() {
    let live = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30080 }, { "port": 81, "protocol": "TCP" }]);
    let patch = json!({ "spec": { "$setElementOrder/ports": [{ "port": 80 }],
        "ports": [{ "port": 80, "targetPort": 8080 }, { "$patch": "delete", "port": 81 }] } });
    let merged = json!([{ "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": 8080 }]);
    assert_eq!(ports(live, patch).unwrap(), merged);
}

#[test]
fn the_given_order_holds_and_other_items_keep_their_place() {
    let live = json!([{ "name": "a" }, { "name": "injected" }, { "name": "b" }, { "name": "z" }]);
    let patch = json!({ "$setElementOrder/containers": [{ "name": "b" }, { "name": "new" }, { "name": "a" }],
        "containers": [{ "name": "new", "image": "n" }] });
    let merged = template(json!({ "containers": live }), patch).unwrap();
    let names: Vec<&str> =
        merged["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["injected", "b", "new", "a", "z"]);
}

/// `kubectl set image deployment/web nginx=nginx:2`.
#[test]
fn kubectl_set_image_touches_one_container() {
    let live = json!({ "containers": [
        { "name": "sidecar", "image": "s" },
        { "name": "nginx", "image": "nginx:1", "env": [{ "name": "A", "value": "1" }] }] });
    let patch = json!({ "$setElementOrder/containers": [{ "name": "sidecar" }, { "name": "nginx" }],
        "containers": [{ "image": "nginx:2", "name": "nginx" }] });
    let merged = json!({ "containers": [
        { "name": "sidecar", "image": "s" },
        { "name": "nginx", "image": "nginx:2", "env": [{ "name": "A", "value": "1" }] }] });
    assert_eq!(template(live, patch).unwrap(), merged);
}

/// `kubectl rollout restart deployment/web`.
#[test]
fn kubectl_rollout_restart_annotates_the_template() {
    let live = json!({ "spec": { "replicas": 2, "template": { "metadata": { "creationTimestamp": null } } } });
    let annotation = json!({ "kubectl.kubernetes.io/restartedAt": "2026-11-21T09:00:00Z" });
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": annotation } } } });
    let merged = patched("apps", "deployments", &live, &patch).unwrap();
    assert_eq!(merged["spec"]["template"]["metadata"]["annotations"], annotation);
    assert_eq!(merged["spec"]["replicas"], 2);
}

#[test]
fn environments_and_mounts_merge_by_their_own_keys() {
    let live = json!({ "containers": [{ "name": "c",
        "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
        "volumeMounts": [{ "name": "v", "mountPath": "/a" }, { "name": "v", "mountPath": "/b" }] }] });
    let patch = json!({ "containers": [{ "name": "c",
        "env": [{ "name": "B", "$patch": "delete" }, { "name": "A", "value": null, "valueFrom": { "fieldRef": { "fieldPath": "x" } } }],
        "volumeMounts": [{ "mountPath": "/b", "readOnly": true }] }] });
    let merged = json!({ "containers": [{ "name": "c",
        "env": [{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "x" } } }],
        "volumeMounts": [{ "name": "v", "mountPath": "/a" }, { "name": "v", "mountPath": "/b", "readOnly": true }] }] });
    assert_eq!(template(live, patch).unwrap(), merged);
}

/// A volume that changes its kind, and a strategy that loses its parameters, as `kubectl apply` writes them.
#[test]
fn retained_keys_drop_the_others() {
    let live = json!({ "volumes": [{ "name": "v", "emptyDir": {} }, { "name": "w", "emptyDir": {} }] });
    let patch = json!({ "$setElementOrder/volumes": [{ "name": "v" }, { "name": "w" }],
        "volumes": [{ "$retainKeys": ["name", "configMap"], "configMap": { "name": "x" }, "emptyDir": null, "name": "v" }] });
    let merged = json!([{ "name": "v", "configMap": { "name": "x" } }, { "name": "w", "emptyDir": {} }]);
    assert_eq!(template(live, patch).unwrap()["volumes"], merged);

    let live = json!({ "spec": { "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } } } });
    let patch = json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } });
    let merged = patched("apps", "deployments", &live, &patch).unwrap();
    assert_eq!(merged, json!({ "spec": { "strategy": { "type": "Recreate" } } }));

    let patch = json!({ "spec": { "strategy": { "$retainKeys": ["rollingUpdate"], "type": "Recreate" } } });
    let error = patched("apps", "deployments", &live, &patch).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (400, "invalid patch format of retainKeys"));
}

#[test]
fn scalars_merge_as_a_set_and_can_be_deleted() {
    let live = json!({ "metadata": { "finalizers": ["a", "b", "c"] } });
    let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["d", "a"],
        "finalizers": ["d"] } });
    let merged = patched("", "configmaps", &live, &patch).unwrap();
    assert_eq!(merged, json!({ "metadata": { "finalizers": ["d", "a", "c"] } }));
    let patch = json!({ "metadata": { "finalizers": ["c", "x", "x"] } });
    let merged = patched("", "configmaps", &live, &patch).unwrap();
    assert_eq!(merged, json!({ "metadata": { "finalizers": ["a", "b", "c", "x"] } }));
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let live = json!({ "containers": [{ "name": "c", "args": ["a", "b"], "command": ["x"] }] });
    let patch = json!({ "containers": [{ "name": "c", "args": ["z"], "command": null }] });
    assert_eq!(template(live, patch).unwrap()["containers"], json!([{ "name": "c", "args": ["z"] }]));
    let live = json!({ "rules": [{ "verbs": ["get"] }] });
    let patch = json!({ "rules": [{ "verbs": ["list"] }] });
    assert_eq!(patched("rbac.authorization.k8s.io", "roles", &live, &patch).unwrap(), patch);
}

#[test]
fn directives_replace_and_delete() {
    let live = json!({ "data": { "a": "1" }, "metadata": { "labels": { "x": "1" } } });
    let replace = json!({ "data": { "$patch": "replace", "b": "2" } });
    assert_eq!(patched("", "configmaps", &live, &replace).unwrap()["data"], json!({ "b": "2" }));
    let delete = json!({ "metadata": { "labels": { "$patch": "delete" } } });
    assert_eq!(patched("", "configmaps", &live, &delete).unwrap()["metadata"], json!({ "labels": {} }));
    let list = json!({ "spec": { "ports": [{ "$patch": "replace" }, { "port": 9 }] } });
    assert_eq!(ports(json!([{ "port": 1 }]), list).unwrap(), json!([{ "port": 9 }]));
    let whole = json!({ "$patch": "replace", "kind": "ConfigMap" });
    assert_eq!(patched("", "configmaps", &live, &whole).unwrap(), json!({ "kind": "ConfigMap" }));
}

#[test]
fn nulls_delete_and_never_arrive() {
    let live = json!({ "metadata": { "annotations": { "a": "1", "b": "2" } } });
    let patch = json!({ "metadata": { "annotations": { "a": null, "c": null } }, "data": { "x": null, "y": "1" } });
    let merged = json!({ "metadata": { "annotations": { "b": "2" } }, "data": { "y": "1" } });
    assert_eq!(patched("", "configmaps", &live, &patch).unwrap(), merged);
}

/// What a new object or list holds of directives is about nothing.
#[test]
fn directives_do_not_reach_the_object() {
    let patch = json!({ "$setElementOrder/containers": [{ "name": "c" }], "containers": [
        { "name": "c", "$setElementOrder/env": [{ "name": "A" }], "env": [{ "name": "A" }, { "name": "B", "$patch": "delete" }] },
        { "name": "gone", "$patch": "delete" }] });
    let merged = json!({ "containers": [{ "name": "c", "env": [{ "name": "A" }] }] });
    assert_eq!(template(json!({}), patch.clone()).unwrap(), merged);
    assert_eq!(template(json!({ "containers": [] }), patch).unwrap(), merged);
}

#[test]
fn refusals_are_worded_as_kubernetes_words_them() {
    for (patch, message) in [
        (
            json!([{ "image": "x", "ports": [{ "containerPort": 80 }] }]),
            "map: map[image:x ports:[map[containerPort:80]]] does not contain declared merge key: name",
        ),
        (json!([{ "$patch": "delete" }]), "map: map[$patch:delete] does not contain declared merge key: name"),
        (json!([{ "$patch": "merge", "name": "c" }]), "merging lists cannot yet be specified in the patch"),
        (json!([{ "$patch": "burn", "name": "c" }]), "unknown patch type: burn in map: map[$patch:burn name:c]"),
        (json!(["c"]), "list element types are not identical: [[map[name:c]] [c]]"),
    ] {
        let error = template(json!({ "containers": [{ "name": "c" }] }), json!({ "containers": patch })).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, message));
    }
    let error = patched("", "configmaps", &json!({}), &json!({ "$patch": 1 })).unwrap_err();
    assert_eq!(error.message, "unknown patch type: 1 in map: map[$patch:1]");
    assert_eq!(patched("", "configmaps", &json!({}), &json!([])).unwrap_err().message, "invalid JSON document");
    let disorder = json!({ "spec": { "$setElementOrder/ports": [{ "port": 1 }], "ports": [{ "port": 2 }] } });
    let error = ports(json!([]), disorder).unwrap_err();
    assert!(error.message.starts_with("The order in patch list:\n[map[port:2]]\n doesn't match"), "{error}");
    let nested = json!({ "metadata": { "finalizers": [["a"]] } });
    assert_eq!(patched("", "configmaps", &json!({ "metadata": { "finalizers": [] } }), &nested).unwrap_err().code, 422);
}

#[test]
fn an_empty_patch_changes_nothing_and_a_patch_twice_is_a_patch_once() {
    let live = json!({ "spec": { "ports": [{ "port": 81 }, { "port": 80, "name": "x" }] } });
    assert_eq!(patched("", "services", &live, &json!({})).unwrap(), live);
    let patch = json!({ "spec": { "$setElementOrder/ports": [{ "port": 80 }, { "port": 82 }],
        "ports": [{ "port": 80, "name": "y" }, { "port": 82 }], "type": "NodePort" } });
    let once = patched("", "services", &live, &patch).unwrap();
    assert_eq!(once["spec"]["ports"], json!([{ "port": 81 }, { "port": 80, "name": "y" }, { "port": 82 }]));
    assert_eq!(patched("", "services", &once, &patch).unwrap(), once);
}
