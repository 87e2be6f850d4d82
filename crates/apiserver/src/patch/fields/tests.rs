use serde_json::json;

use super::*;

fn set(stored: Value) -> FieldSet {
    FieldSet::read(&stored).unwrap()
}

/// A pseudo-random set: three levels of a few elements each.
fn random(seed: &mut u64, depth: usize) -> FieldSet {
    let mut set = FieldSet::default();
    for element in ["f:a", "f:b", "k:{\"name\":\"x\"}", "v:1"] {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = *seed >> 60;
        let below = if depth > 0 && roll.is_multiple_of(3) { random(seed, depth - 1) } else { FieldSet::default() };
        set.add(element, roll.is_multiple_of(2), below);
    }
    set
}

#[test]
fn a_stored_set_reads_and_writes_back() {
    let stored = json!({ "f:spec": { "f:containers": { "k:{\"name\":\"web\"}": { ".": {}, "f:image": {} } } },
                         "f:metadata": { "f:finalizers": { "v:\"a\"": {} } } });
    assert_eq!(set(stored.clone()).into_json(), stored);
    let odd = json!({ "k:{ \"protocol\":\"TCP\", \"port\": 80 }": { ".": {} }, "v: 1": {} });
    assert_eq!(set(odd).into_json(), json!({ "k:{\"port\":80,\"protocol\":\"TCP\"}": {}, "v:1": {} }));
}

#[test]
fn what_is_not_a_set_is_refused() {
    for stored in [json!(1), json!({ "f:a": 1 }), json!({ "spec": {} }), json!({ "k:1": {} }), json!({ "i:x": {} })] {
        assert!(FieldSet::read(&stored).is_none(), "{stored}");
    }
}

#[test]
fn members_are_told_from_paths_to_members() {
    let mut a = set(json!({ "f:a": { ".": {}, "f:b": {}, "f:c": {} } }));
    a.subtract(&set(json!({ "f:a": {} })));
    assert_eq!(a.clone().into_json(), json!({ "f:a": { "f:b": {}, "f:c": {} } }));
    a.subtract(&set(json!({ "f:a": { "f:b": {} } })));
    a.unite(&set(json!({ "f:a": {} })));
    assert_eq!(a.clone().into_json(), json!({ "f:a": { ".": {}, "f:c": {} } }));
    a.subtract(&set(json!({ "f:a": { ".": {}, "f:c": {} } })));
    assert!(a.is_empty());
}

#[test]
fn sets_obey_the_laws_of_sets() {
    let mut seed = 7;
    for _ in 0..500 {
        let (a, b) = (random(&mut seed, 2), random(&mut seed, 2));
        let mut both = a.clone();
        both.unite(&b);
        let mut other_way = b.clone();
        other_way.unite(&a);
        assert_eq!(both, other_way);
        assert_eq!(a.intersection(&b), b.intersection(&a));
        let (mut only_a, mut only_b) = (a.clone(), b.clone());
        only_a.subtract(&b);
        only_b.subtract(&a);
        assert!(only_a.intersection(&b).is_empty());
        let mut rebuilt = a.intersection(&b);
        rebuilt.unite(&only_a);
        rebuilt.unite(&only_b);
        assert_eq!(rebuilt, both);
        assert_eq!(FieldSet::read(&both.clone().into_json()).unwrap(), both);
        assert_eq!(both.paths().len(), a.paths().len() + only_b.paths().len());
    }
}

#[test]
fn paths_read_as_kubernetes_prints_them() {
    let set = set(json!({
        "f:spec": { "f:replicas": {}, "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {} } } },
        "f:metadata": { "f:labels": { "f:app.kubernetes.io/name": {} }, "f:finalizers": { "v:\"x\"": {} } },
    }));
    assert_eq!(
        set.paths(),
        [
            ".metadata.finalizers[=\"x\"]",
            ".metadata.labels.app.kubernetes.io/name",
            ".spec.replicas",
            ".spec.ports[port=80,protocol=\"TCP\"]",
            ".spec.ports[port=80,protocol=\"TCP\"].port",
        ]
    );
}
