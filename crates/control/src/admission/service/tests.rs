use super::*;

fn causes(spec: Value) -> Vec<String> {
    let object = json!({ "spec": spec });
    let mut causes = Vec::new();
    rules::check(&Field::of(&object, "spec"), &mut causes);
    causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

fn defaulted(mut spec: Value) -> Value {
    rules::defaults(&mut spec);
    join_addresses(&mut spec);
    spec
}

fn updated(old: &Value, mut new: Value) -> (Value, Vec<String>) {
    rules::carry_over(old, &mut new);
    let new = defaulted(new);
    let mut found = causes(new.clone());
    let object = json!({ "spec": new });
    let mut update = Vec::new();
    rules::check_update(old, &Field::of(&object, "spec"), &mut update);
    found.extend(update.into_iter().map(|c| format!("{}: {}", c.field, c.message)));
    (new, found)
}

fn node_port_service() -> Value {
    defaulted(json!({
        "type": "NodePort", "clusterIP": "10.97.1.1",
        "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}],
    }))
}

#[test]
fn a_service_is_defaulted_as_kubernetes_does() {
    let spec = defaulted(json!({"ports": [{"port": 80}], "selector": {"app": "a"}}));
    assert_eq!(
        spec,
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"app": "a"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    assert_eq!(defaulted(spec.clone()), spec);
}

#[test]
fn a_port_that_is_not_forwarded_is_warned_of() {
    let object = json!({ "spec": { "ports": [{"port": 80, "protocol": "TCP"}, {"port": 5060, "protocol": "SCTP"}] } });
    let mut warnings = Vec::new();
    rules::warn(&Field::of(&object, "spec"), &mut warnings);
    let expected = "spec.ports[1].protocol: this cluster forwards TCP and UDP: the port is stored and has no effect";
    assert_eq!(warnings, [expected]);
}

#[test]
fn becoming_an_external_name_gives_up_addresses_and_node_ports() {
    let old = node_port_service();
    let mut new = old.clone();
    set(&mut new, "type", "ExternalName");
    set(&mut new, "externalName", "example.com");
    let (new, causes) = updated(&old, new);
    assert_eq!(causes, Vec::<String>::new());
    assert_eq!(new["clusterIP"], Value::Null);
    assert_eq!(new["ipFamilies"], Value::Null);
    assert_eq!(new["ports"][0]["nodePort"], Value::Null);
    assert_eq!(new["externalTrafficPolicy"], Value::Null);
}

#[test]
fn an_external_name_may_become_a_cluster_ip_again() {
    let old = defaulted(json!({"type": "ExternalName", "externalName": "198.18.1.2"}));
    assert_eq!(causes(old.clone()), Vec::<String>::new());
    let (new, causes) =
        updated(&old, json!({"type": "ClusterIP", "externalName": "198.18.1.2", "ports": [{"port": 80}]}));
    assert_eq!(causes, Vec::<String>::new());
    assert_eq!(new["externalName"], Value::Null);
}

#[test]
fn a_replacement_that_does_not_mention_allocated_values_keeps_them() {
    let old = node_port_service();
    let (new, causes) =
        updated(&old, json!({"type": "NodePort", "ports": [{"name": "b", "port": 82}, {"name": "c", "port": 83}]}));
    assert_eq!(causes, Vec::<String>::new());
    assert_eq!(new["clusterIP"], "10.97.1.1");
    assert_eq!(new["ports"][0]["nodePort"], 30002);
    assert_eq!(new["ports"][1]["nodePort"], Value::Null);
}

#[test]
fn a_cluster_ip_may_not_change_once_set() {
    let old = node_port_service();
    let mut new = old.clone();
    set(&mut new, "clusterIP", "10.97.1.2");
    let (_, causes) = updated(&old, new);
    assert_eq!(causes, ["spec.clusterIPs[0]: Invalid value: [\"10.97.1.2\"]: may not change once set"]);
}

#[test]
fn ports_are_checked_one_by_one() {
    let spec = defaulted(json!({"ports": [{"port": 80}, {"port": 0, "name": "x"}, {"port": 81, "name": "x"}]}));
    assert_eq!(
        causes(spec),
        [
            "spec.ports[0].name: Required value",
            "spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[2].name: Duplicate value: \"x\"",
        ]
    );
    let node = defaulted(json!({"ports": [{"port": 80, "nodePort": 30000}]}));
    assert_eq!(causes(node), ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]);
}

#[test]
fn what_only_some_types_have_is_refused_for_the_others() {
    assert_eq!(causes(defaulted(json!({}))), ["spec.ports: Required value"]);
    assert_eq!(causes(defaulted(json!({"clusterIP": "None"}))), Vec::<String>::new());
    let headless = defaulted(json!({"type": "LoadBalancer", "clusterIP": "None", "ports": [{"port": 1}]}));
    assert_eq!(
        causes(headless),
        ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"]
    );
    let v6 = defaulted(json!({"ipFamilies": ["IPv6"], "ports": [{"port": 1}]}));
    assert_eq!(causes(v6), ["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"]);
}
