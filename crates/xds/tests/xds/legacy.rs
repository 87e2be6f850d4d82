//! Authorization and authentication of up to Istio 1.5.

use crate::authorization::verdicts;
use crate::call::{Caller, proxied};
use crate::world::{assert_found, chains, told, world};

const SLEEP: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
const OTHER: &str = "spiffe://cluster.local/ns/bar/sa/other";

const CONFIG: &str = "apiVersion: rbac.istio.io/v1alpha1\nkind: ClusterRbacConfig\nmetadata: {name: default}\nspec: {mode: ON_WITH_INCLUSION, inclusion: {namespaces: [foo]}}\n";

fn role(rule: &str, subject: &str) -> String {
    format!(
        "---
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRole
metadata: {{name: r, namespace: foo}}
spec: {{rules: [{rule}]}}
---
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRoleBinding
metadata: {{name: b, namespace: foo}}
spec: {{subjects: [{subject}], roleRef: {{kind: ServiceRole, name: r}}}}
"
    )
}

#[track_caller]
fn assert_verdicts(objects: &str, sleep: &str, other: &str, plain: &str) {
    let actual = [proxied(SLEEP), proxied(OTHER), Caller::default()].map(|caller| verdicts(objects, &caller));
    assert_eq!(actual, [sleep, other, plain], "{objects}");
}

#[test]
fn roles_grant_and_what_they_do_not_is_refused_at_declared_ports() {
    assert_verdicts("", "+++", "+++", "+++");
    assert_verdicts(CONFIG, "--+", "--+", "--+");
    let of = |rule: &str, subject: &str| format!("{CONFIG}{}", role(rule, subject));
    let sleep = "{user: cluster.local/ns/foo/sa/sleep}";
    let service = "services: [tcp-echo.foo.svc.cluster.local]";
    assert_verdicts(&of(&format!("{{{service}}}"), sleep), "+++", "--+", "--+");
    let port = "constraints: [{key: destination.port, values: ['9000']}]";
    assert_verdicts(&of(&format!("{{{service}, {port}}}"), sleep), "+-+", "--+", "--+");
    assert_verdicts(&of("{services: ['*']}", "{user: '*'}"), "+++", "+++", "+++");
    assert_verdicts(&of("{services: ['tcp-*']}", "{properties: {source.namespace: bar}}"), "--+", "+++", "--+");
    assert_verdicts(&of("{services: [other.foo.svc.cluster.local]}", "{user: '*'}"), "--+", "--+", "--+");
    assert_verdicts(&of(&format!("{{{service}, methods: [GET]}}"), "{user: '*'}"), "--+", "--+", "--+");
    let labels = |version: &str| {
        of(
            &format!("{{{service}, constraints: [{{key: 'destination.labels[app]', values: [{version}]}}]}}"),
            "{user: '*'}",
        )
    };
    assert_verdicts(&labels("tcp-echo"), "+++", "+++", "+++");
    assert_verdicts(&labels("none"), "--+", "--+", "--+");
}

#[test]
fn policies_of_today_replace_roles() {
    let policy = "---\napiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: foo}\nspec: {rules: [{}]}\n";
    let objects = format!("{CONFIG}{policy}");
    assert_verdicts(&objects, "+++", "+++", "+++");
    assert_found("tcp-echo", &objects, "AuthorizationPolicy foo/p and its like replace roles there");
}

#[test]
fn what_roles_cannot_do_is_said() {
    let unbound = format!(
        "{CONFIG}---\napiVersion: rbac.istio.io/v1alpha1\nkind: ServiceRole\nmetadata: {{name: r, namespace: foo}}\nspec: {{rules: [{{services: ['*']}}]}}\n"
    );
    assert_found("tcp-echo", &unbound, "nobody is bound to the role");
    let lost = role("{services: ['*']}", "{user: '*'}").replace("name: r}}", "name: none}}");
    assert_found("tcp-echo", &lost, "there is no ServiceRole \"none\"");
    let of_requests = format!("{CONFIG}{}", role("{services: ['*'], methods: [GET]}", "{user: '*'}"));
    assert_found("tcp-echo", &of_requests, "it grants nothing on connections");
    assert_found("tcp-echo", &CONFIG.replace("name: default", "name: mine"), "is named default");
}

fn policy(kind: &str, metadata: &str, spec: &str) -> String {
    format!("---\napiVersion: authentication.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n")
}

/// Whether plaintext reaches 9000 and 9001.
fn plain(objects: &str) -> String {
    let snapshot = crate::call::snapshot(&told("tcp-echo", objects));
    let letter = |port| {
        let caller = Caller::default();
        if crate::call::arrive(&snapshot, port, &caller).contains("inbound|") { '+' } else { '-' }
    };
    [9000, 9001].into_iter().map(letter).collect()
}

#[test]
fn old_policies_say_what_is_encrypted() {
    let mesh = policy("MeshPolicy", "name: default", "{peers: [{mtls: {}}]}");
    let null = policy("MeshPolicy", "name: default", "{peers: [{mtls: null}]}");
    let permissive = policy("MeshPolicy", "name: default", "{peers: [{mtls: {mode: PERMISSIVE}}]}");
    assert_eq!([plain(""), plain(&mesh), plain(&null), plain(&permissive)], ["++", "--", "--", "++"]);
    let namespace = policy("Policy", "name: default, namespace: foo", "{peers: [{mtls: {mode: PERMISSIVE}}]}");
    assert_eq!(plain(&format!("{mesh}{namespace}")), "++");
    let port = policy(
        "Policy",
        "name: echo, namespace: foo",
        "{targets: [{name: tcp-echo, ports: [{number: 9000}]}], peers: [{mtls: {}}]}",
    );
    assert_eq!(plain(&port), "-+");
    let today = "---\napiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: istio-system}\nspec: {mtls: {mode: PERMISSIVE}}\n";
    let both = format!("{mesh}{today}");
    assert_eq!(plain(&both), "++");
    assert_found("tcp-echo", &both, "PeerAuthentication istio-system/p is for the same workloads, and replaces it");
}

#[test]
fn old_policies_that_cannot_be_read_are_strict() {
    let broken = policy("MeshPolicy", "name: default", "{peers: 7}");
    assert_eq!(plain(&broken), "--");
    assert!(world(&broken).diagnostics().iter().any(|d| d.message.contains("taken for mutual TLS everywhere")));
    assert!(chains(&told("tcp-echo", &broken), "virtualInbound").iter().any(|chain| chain.contains("mtls")));
}
