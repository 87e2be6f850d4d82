//! Server-side apply: who owns which field.

use testkit::Session;

crate::of_the_api!(
    conflicts_are_named_and_can_be_forced,
    fields_that_a_manager_gives_up_are_removed,
    lists_with_keys_are_shared,
    client_side_apply_hands_over,
);

fn apply(s: &Session<'_>, manager: &str, more: &str, manifest: &str) -> testkit::Done {
    let line = format!("kubectl apply --server-side --field-manager={manager} {more} -f -");
    s.sh_with_input(&line, manifest.as_bytes())
}

fn config_map(data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared}}, data: {{{data}}}}}")
}

fn conflicts_are_named_and_can_be_forced(s: &Session<'_>) {
    assert_eq!(apply(s, "one", "", &config_map("a: '1', b: '1'")).ok(), "configmap/shared serverside-applied");
    let refused = apply(s, "two", "", &config_map("a: '2'")).fails();
    assert!(refused.contains("Apply failed with 1 conflict: conflict with \"one\": .data.a"), "{refused}");
    apply(s, "two", "", &config_map("b: '1'")).ok();
    apply(s, "two", "--force-conflicts", &config_map("a: '2', b: '1'")).ok();
    assert_eq!(s.sh("kubectl get cm shared -o jsonpath='{.data}'").ok(), r#"{"a":"2","b":"1"}"#);
    let refused = apply(s, "one", "", &config_map("a: '1', b: '1'")).fails();
    assert!(refused.contains("conflict with \"two\": .data.a"), "{refused}");
}

fn fields_that_a_manager_gives_up_are_removed(s: &Session<'_>) {
    apply(s, "one", "", &config_map("a: '1', b: '1'")).ok();
    apply(s, "two", "", &config_map("b: '1', c: '1'")).ok();
    apply(s, "one", "", &config_map("")).ok();
    assert_eq!(s.sh("kubectl get cm shared -o jsonpath='{.data}'").ok(), r#"{"b":"1","c":"1"}"#);
    let managers = "kubectl get cm shared --show-managed-fields -o jsonpath='{.metadata.managedFields[*].manager}'";
    assert!(s.sh(managers).ok().split(' ').any(|manager| manager == "two"));
}

fn lists_with_keys_are_shared(s: &Session<'_>) {
    let service = |ports: &str| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: shared}}, spec: {{ports: [{ports}]}}}}")
    };
    apply(s, "one", "", &service("{name: a, port: 80}")).ok();
    apply(s, "two", "", &service("{name: b, port: 81}")).ok();
    let ports = "kubectl get svc shared -o jsonpath='{.spec.ports[*].port}'";
    assert_eq!(s.sh(ports).ok(), "80 81");
    apply(s, "one", "", &service("{name: c, port: 82}")).ok();
    assert_eq!(s.sh(ports).ok().split(' ').filter(|port| *port != "80").count(), 2);
    let same = s.sh("kubectl get svc shared -o jsonpath='{.metadata.resourceVersion}'").ok();
    apply(s, "one", "", &service("{name: c, port: 82}")).ok();
    assert_eq!(s.sh("kubectl get svc shared -o jsonpath='{.metadata.resourceVersion}'").ok(), same, "nothing changed");
}

fn client_side_apply_hands_over(s: &Session<'_>) {
    s.apply(&config_map("a: '1', b: '1'"));
    s.sh_with_input("kubectl apply --server-side -f -", config_map("a: '2'").as_bytes()).ok();
    assert_eq!(s.sh("kubectl get cm shared -o jsonpath='{.data}'").ok(), r#"{"a":"2"}"#);
}
