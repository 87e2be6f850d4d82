use std::cell::Cell;

use serde_json::json;

use super::super::managed::tests::{MORNING, NOON, deployment, kind, manager};
use super::super::track;
use super::*;

fn applied(live: Option<&Value>, config: &Value, manager: &Manager<'_>) -> Result<Value, ApiError> {
    apply(live, config, &kind("apps", "deployments").schema, manager, false)
}

fn forced(live: Option<&Value>, config: &Value, manager: &Manager<'_>) -> Value {
    apply(live, config, &kind("apps", "deployments").schema, manager, true).unwrap()
}

/// What a manager says about the deployment `web`.
fn config(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": spec })
}

fn containers(list: Value) -> Value {
    config(json!({ "template": { "spec": { "containers": list } } }))
}

/// An object that exists, as an update by `manager` left it.
fn updated(live: Option<&Value>, new: &Value, manager: &Manager<'_>) -> Value {
    let mut new = new.clone();
    track(live, &mut new, &kind("apps", "deployments").schema, manager);
    new
}

fn fields_of(object: &Value, manager: &str) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    entries.iter().find(|e| e["manager"] == manager).map(|e| e["fieldsV1"].clone())
}

#[test]
fn applying_creates_and_claims_what_is_said() {
    let created = applied(None, &config(json!({ "replicas": 2, "paused": false })), &manager("a", MORNING)).unwrap();
    assert_eq!(created["spec"], json!({ "replicas": 2, "paused": false }));
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{ "manager": "a", "operation": "Apply", "apiVersion": "apps/v1", "time": MORNING, "fieldsType": "FieldsV1",
                 "fieldsV1": { "f:spec": { "f:paused": {}, "f:replicas": {} } } }])
    );
}

#[test]
fn applying_twice_is_applying_once() {
    let config = deployment();
    let once = applied(None, &config, &manager("a", MORNING)).unwrap();
    assert_eq!(applied(Some(&once), &config, &manager("a", NOON)).unwrap(), once);
}

#[test]
fn an_apply_that_says_nothing_owns_nothing() {
    let nothing =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" } });
    let created = applied(None, &nothing, &manager("a", MORNING)).unwrap();
    assert!(created["metadata"].get("managedFields").is_none());
    let live = applied(None, &config(json!({ "replicas": 2 })), &manager("a", MORNING)).unwrap();
    let emptied = applied(Some(&live), &nothing, &manager("a", NOON)).unwrap();
    assert_eq!(emptied.get("spec"), None);
    assert!(emptied["metadata"].get("managedFields").is_none());
}

#[test]
fn another_value_is_a_conflict_and_force_takes_it() {
    let live = updated(None, &deployment(), &manager("kubectl-client-side-apply", MORNING));
    let config = config(json!({ "replicas": 5 }));
    let error = applied(Some(&live), &config, &manager("a", NOON)).unwrap_err();
    assert_eq!((error.code, error.reason), (409, "Conflict"));
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        error.details.unwrap()["causes"],
        json!([{ "reason": "FieldManagerConflict", "field": ".spec.replicas",
                 "message": "conflict with \"kubectl-client-side-apply\" using apps/v1" }])
    );
    let taken = forced(Some(&live), &config, &manager("a", NOON));
    assert_eq!(taken["spec"]["replicas"], 5);
    assert_eq!(fields_of(&taken, "a").unwrap(), json!({ "f:spec": { "f:replicas": {} } }));
    assert_eq!(fields_of(&taken, "kubectl-client-side-apply").unwrap()["f:spec"].get("f:replicas"), None);
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let live = updated(None, &deployment(), &manager("kubectl-create", MORNING));
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(3);
    let live = updated(Some(&live), &scaled, &Manager { subresource: "scale", ..manager("hpa", MORNING) });
    let config = config(json!({ "replicas": 5, "template": { "spec": { "containers": [
        { "name": "nginx", "image": "nginx:9", "ports": [{ "containerPort": 80, "name": "http" }] }] } } }));
    let error = applied(Some(&live), &config, &manager("a", NOON)).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"hpa\" with subresource \"scale\" using apps/v1:\n\
         - .spec.replicas\n\
         conflicts with \"kubectl-create\" using apps/v1:\n\
         - .spec.template.spec.containers[name=\"nginx\"].image"
    );
}

#[test]
fn equal_values_are_shared_and_stay_while_one_applies_them() {
    let a = config(json!({ "replicas": 2, "paused": true }));
    let b = config(json!({ "replicas": 2 }));
    let live = applied(None, &a, &manager("a", MORNING)).unwrap();
    let live = applied(Some(&live), &b, &manager("b", MORNING)).unwrap();
    let error = applied(Some(&live), &config(json!({ "replicas": 3 })), &manager("c", NOON)).unwrap_err();
    assert!(error.message.contains("conflicts with \"a\":\n- .spec.replicas\nconflicts with \"b\":"), "{error}");
    let live = applied(Some(&live), &config(json!({})), &manager("a", NOON)).unwrap();
    assert_eq!(live["spec"], json!({ "replicas": 2 }));
    let live = applied(
        Some(&live),
        &json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" } }),
        &manager("b", NOON),
    )
    .unwrap();
    assert_eq!(live.get("spec"), None);
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_owns_it() {
    let first = containers(json!([
        { "name": "a", "image": "a", "env": [{ "name": "X", "value": "1" }, { "name": "Y", "value": "2" }] },
        { "name": "b", "image": "b" }]));
    let live = applied(None, &first, &manager("m", MORNING)).unwrap();
    let mut edited = live.clone();
    edited["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = "3".into();
    edited["spec"]["template"]["spec"]["containers"][0]["tty"] = true.into();
    let live = updated(Some(&live), &edited, &manager("editor", NOON));
    let second = containers(json!([{ "name": "a", "image": "a2" }]));
    let live = applied(Some(&live), &second, &manager("m", NOON)).unwrap();
    // The editor owns the value of Y, but not the item: items go as a whole, as in Kubernetes.
    let left = json!([{ "name": "a", "image": "a2", "tty": true }]);
    assert_eq!(live["spec"]["template"]["spec"]["containers"], left);
    assert_eq!(
        fields_of(&live, "editor").unwrap()["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({ "k:{\"name\":\"a\"}": { "f:tty": {} } })
    );
}

#[test]
fn items_are_told_apart_by_all_their_keys_with_defaults() {
    let service = |ports: Value| json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" }, "spec": { "ports": ports } });
    let schema = &kind("", "services").schema;
    let who = |name| Manager { api_version: "v1", ..manager(name, NOON) };
    let live = apply(
        None,
        &service(json!([{ "port": 53, "name": "tcp" }, { "port": 53, "protocol": "UDP", "name": "udp" }])),
        schema,
        &who("a"),
        false,
    )
    .unwrap();
    let ports = fields_of(&live, "a").unwrap()["f:spec"]["f:ports"].clone();
    assert!(
        ports.get("k:{\"port\":53,\"protocol\":\"TCP\"}").is_some()
            && ports.get("k:{\"port\":53,\"protocol\":\"UDP\"}").is_some()
    );
    let live = apply(
        Some(&live),
        &service(json!([{ "port": 53, "protocol": "TCP", "targetPort": 5353 }])),
        schema,
        &who("b"),
        false,
    )
    .unwrap();
    assert_eq!(live["spec"]["ports"][0], json!({ "port": 53, "name": "tcp", "protocol": "TCP", "targetPort": 5353 }));
    assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 2);
}

#[test]
fn applied_items_set_the_order_and_others_keep_their_place() {
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    let of = |names: &[&str]| containers(names.iter().map(|n| json!({ "name": n })).collect());
    let live = applied(None, &of(&["a", "injected", "b", "z"]), &manager("other", MORNING)).unwrap();
    let live = applied(Some(&live), &of(&["b", "new", "a"]), &manager("m", NOON)).unwrap();
    assert_eq!(names(&live), ["injected", "b", "z", "new", "a"]);
}

#[test]
fn sets_and_atomic_values_are_owned_as_such() {
    let with = |finalizers: Value, selector: Value| {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "finalizers": finalizers }, "spec": { "selector": { "matchLabels": selector } } })
    };
    let live = applied(None, &with(json!(["a", "b"]), json!({ "x": "1" })), &manager("m", MORNING)).unwrap();
    assert_eq!(
        fields_of(&live, "m").unwrap(),
        json!({ "f:metadata": { "f:finalizers": { "v:\"a\"": {}, "v:\"b\"": {} } }, "f:spec": { "f:selector": {} } })
    );
    let mut more = live.clone();
    more["metadata"]["finalizers"] = json!(["a", "b", "c"]);
    let live = updated(Some(&live), &more, &manager("u", MORNING));
    let live = applied(Some(&live), &with(json!(["b"]), json!({ "y": "2" })), &manager("m", NOON)).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["b", "c"]));
    assert_eq!(live["spec"]["selector"], json!({ "matchLabels": { "y": "2" } }));
}

#[test]
fn what_was_there_before_the_first_apply_has_an_owner() {
    let mut live = deployment();
    live["metadata"]["uid"] = "u".into();
    let config = config(json!({ "replicas": 1, "paused": true }));
    let result = applied(Some(&live), &config, &manager("a", NOON)).unwrap();
    let before = fields_of(&result, "before-first-apply").unwrap();
    assert_eq!(before["f:spec"]["f:replicas"], json!({}));
    let error = applied(Some(&live), &self::config(json!({ "replicas": 9 })), &manager("a", NOON)).unwrap_err();
    assert!(error.message.ends_with("conflict with \"before-first-apply\" using apps/v1: .spec.replicas"), "{error}");
}

/// `kubectl apply`, then `kubectl apply --server-side` of a changed manifest, then the patch that follows it.
#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut manifest = deployment();
    manifest["metadata"].as_object_mut().unwrap().remove("uid");
    let mut live = deployment();
    live["metadata"]["annotations"] = json!({ LAST_APPLIED: manifest.to_string() });
    let live = updated(None, &live, &manager("kubectl-client-side-apply", MORNING));
    manifest["spec"]["replicas"] = json!(4);
    assert_eq!(applied(Some(&live), &manifest, &manager("flux", NOON)).unwrap_err().code, 409);
    let result = applied(Some(&live), &manifest, &manager("kubectl", NOON)).unwrap();
    assert_eq!(result["spec"]["replicas"], 4);
    let annotation = result["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), manifest);

    let patch = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "annotations": { LAST_APPLIED: annotation } } });
    let marked = applied(Some(&result), &patch, &manager("kubectl-last-applied", NOON)).unwrap();
    let owned = fields_of(&marked, "kubectl-last-applied").unwrap();
    assert!(owned["f:metadata"]["f:annotations"].get(format!("f:{LAST_APPLIED}")).is_some());

    // Somebody else changed the live value since: that stays a conflict.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    let scaled = updated(Some(&live), &scaled, &manager("someone", NOON));
    let error = applied(Some(&scaled), &manifest, &manager("kubectl", NOON)).unwrap_err();
    assert!(error.message.ends_with("conflict with \"someone\" using apps/v1: .spec.replicas"), "{error}");
}

#[test]
fn objects_that_cannot_be_applied_are_refused() {
    let mut managed = config(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    let error = applied(None, &managed, &manager("a", NOON)).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (400, "metadata.managedFields must be nil"));
    for (list, why) in [
        (json!([{ "name": "a" }, { "name": "a" }]), "duplicate entries for key [name=\"a\"]"),
        (
            json!([{ "image": "a" }]),
            "element 0: associative list with keys has an element that omits all key fields [\"name\"] \
          (and doesn't have default values for any key fields)",
        ),
        (json!([null]), "element 0: associative list with keys may not have a null element"),
    ] {
        let error = applied(None, &containers(list), &manager("a", NOON)).unwrap_err();
        assert_eq!(error.code, 400);
        assert_eq!(
            error.message,
            format!(
                "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: {why}"
            )
        );
    }
}

#[test]
fn a_null_timestamp_does_not_erase_the_live_one() {
    let mut live = applied(None, &config(json!({ "replicas": 1 })), &manager("a", MORNING)).unwrap();
    live["metadata"]["creationTimestamp"] = MORNING.into();
    let mut config = config(json!({ "replicas": 1 }));
    config["metadata"]["creationTimestamp"] = Value::Null;
    assert_eq!(applied(Some(&live), &config, &manager("a", NOON)).unwrap(), live);
}

/// Random manifests by three managers: the laws that hold whatever they say.
#[test]
fn applies_are_idempotent_and_owners_cover_what_is_applied() {
    let seed = Cell::new(42_u64);
    let roll = |n: u64| {
        seed.set(seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        (seed.get() >> 33) % n
    };
    let env = |name: &&str| json!({ "name": name, "value": roll(3).to_string() });
    let container = |name: &&str| {
        let env: Vec<Value> = ["E", "F"].iter().filter(|_| roll(2) == 0).map(env).collect();
        json!({ "name": name, "image": format!("i{}", roll(3)), "env": env })
    };
    let schema = &kind("apps", "deployments").schema;
    let mut live: Option<Value> = None;
    for round in 0..300 {
        let name = ["a", "b", "c"][round % 3];
        let list: Vec<Value> = ["x", "y", "z"].iter().filter(|_| roll(2) == 0).map(container).collect();
        let mut config = containers(list.into());
        if roll(2) == 0 {
            config["spec"]["replicas"] = roll(3).into();
            config["metadata"]["labels"] = json!({ format!("l{}", roll(3)): roll(2).to_string() });
        }
        let once = forced(live.as_ref(), &config, &manager(name, MORNING));
        assert_eq!(forced(Some(&once), &config, &manager(name, NOON)), once, "round {round}");
        let mut claim = claimed(&config, Some(schema)).unwrap();
        claim.subtract(unowned());
        let own = fields_of(&once, name).map(|f| FieldSet::read(&f).unwrap()).unwrap_or_default();
        assert_eq!(own, claim);
        let mut owned = FieldSet::default();
        Entries::of(&once).0.iter().for_each(|e| owned.unite(&e.fields));
        let mut present = claimed(&once, Some(schema)).unwrap();
        present.subtract(unowned());
        present.subtract(&owned);
        assert_eq!(present.paths(), Vec::<String>::new(), "round {round}");
        live = Some(once);
    }
}
