//! Who may call, live and explained.

use testkit::Session;

use super::{accept, assert_calls, authorize, mesh};

super::on_both_data_planes!(seven_policies_by_three_ports, callers_are_told_apart);

fn seven_policies_by_three_ports(s: &Session<'_>) {
    mesh(s);
    let sleep = "deploy/sleep";
    assert_calls(s, sleep, "+++", "without a policy");
    for (spec, expected) in [
        ("action: ALLOW, rules: [{to: [{operation: {ports: ['9000', '9001']}}]}]", "++-"),
        ("action: ALLOW, rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]", "---"),
        ("action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]", "-++"),
        ("action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]", "---"),
        ("rules: [{}]", "+++"),
        ("", "---"),
    ] {
        authorize(s, spec);
        assert_calls(s, sleep, expected, spec);
        assert_calls(s, "legacy", expected, spec);
    }
    s.sh("kubectl delete authorizationpolicy p").ok();
    assert_calls(s, sleep, "+++", "after the policy is gone");
}

fn callers_are_told_apart(s: &Session<'_>) {
    mesh(s);
    let namespace = &s.namespace;
    let legacy = s.sh("kubectl get pod legacy -o jsonpath='{.status.podIP}'").ok();
    let sleep = format!("principals: [cluster.local/ns/{namespace}/sa/sleep]");
    // Port 9002 is called in plaintext, which has no identity.
    for (source, ports, [from_sleep, from_other, from_legacy]) in [
        (sleep.as_str(), "", ["++-", "---", "---"]),
        (&sleep, "ports: ['9000']", ["+--", "---", "---"]),
        ("notPrincipals: ['*/sa/sleep']", "", ["--+", "+++", "+++"]),
        (&format!("namespaces: [{namespace}]"), "", ["++-", "++-", "---"]),
        (&format!("notNamespaces: [{namespace}]"), "", ["--+", "--+", "+++"]),
        (&format!("ipBlocks: [{legacy}]"), "", ["---", "---", "+++"]),
        (&format!("notIpBlocks: [{legacy}/32]"), "notPorts: ['9001']", ["+-+", "+-+", "---"]),
    ] {
        let to = if ports.is_empty() { String::new() } else { format!(", to: [{{operation: {{{ports}}}}}]") };
        let spec = format!("rules: [{{from: [{{source: {{{source}}}}}]{to}}}]");
        authorize(s, &spec);
        assert_calls(s, "deploy/sleep", from_sleep, &spec);
        assert_calls(s, "other", from_other, &spec);
        assert_calls(s, "legacy", from_legacy, &spec);
    }
    accept(s, "STRICT");
    authorize(s, "rules: [{}]");
    assert_calls(s, "deploy/sleep", "++-", "STRICT: the undeclared port is called in plaintext");
    assert_calls(s, "legacy", "---", "STRICT");
}
