//! Who may call the workload.

use xds::Resources;

use crate::call::{Caller, arrive, proxied, snapshot};
use crate::world::{assert_found, chains, told};

const SLEEP: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
const OTHER: &str = "spiffe://cluster.local/ns/bar/sa/other";

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1beta1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: foo}}\nspec: {spec}\n"
    )
}

/// A policy for the server.
fn on_server(rest: &str) -> String {
    policy(&format!("{{selector: {{matchLabels: {{app: tcp-echo}}}}, {rest}}}"))
}

/// What becomes of calls of 9000, 9001 and the port 9002 that nobody declares; in letters, `+` is proxied.
pub(crate) fn verdicts(objects: &str, caller: &Caller) -> String {
    let snapshot = snapshot(&told("tcp-echo", objects));
    let letter = |port| {
        let outcome = arrive(&snapshot, port, caller);
        if outcome.starts_with("denied") {
            '-'
        } else if outcome.contains("inbound|") || outcome.contains("Inbound") {
            '+'
        } else {
            '?'
        }
    };
    [9000, 9001, 9002].into_iter().map(letter).collect()
}

#[track_caller]
fn assert_ports(spec: &str, expected: &str) {
    let objects = on_server(spec);
    for caller in [proxied(SLEEP), Caller::default()] {
        assert_eq!(verdicts(&objects, &caller), expected, "{spec} {caller:?}");
    }
}

#[test]
fn seven_policies_by_three_ports() {
    let everyone = [proxied(SLEEP), Caller::default()];
    assert!(everyone.iter().all(|caller| verdicts("", caller) == "+++"));
    assert_ports("action: ALLOW, rules: [{to: [{operation: {ports: ['9000', '9001']}}]}]", "++-");
    assert_ports("action: ALLOW, rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]", "---");
    assert_ports("action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]", "-++");
    assert_ports("action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]", "---");
    assert_ports("", "---");
    assert_ports("rules: [{}]", "+++");
}

#[test]
fn identities_and_addresses_by_three_ports() {
    let legacy = Caller { from: Some("10.9.0.1"), ..Caller::default() };
    let assert = |spec: &str, expected: [&str; 3]| {
        let objects = on_server(&format!("rules: [{spec}]"));
        let actual = [proxied(SLEEP), proxied(OTHER), legacy.clone()].map(|caller| verdicts(&objects, &caller));
        assert_eq!(actual, expected, "{spec}");
    };
    let sleep = "from: [{source: {principals: [cluster.local/ns/foo/sa/sleep]}}]";
    assert(&format!("{{{sleep}}}"), ["+++", "---", "---"]);
    assert(&format!("{{{sleep}, to: [{{operation: {{ports: ['9000']}}}}]}}"), ["+--", "---", "---"]);
    assert(&format!("{{{sleep}, to: [{{operation: {{notPorts: ['9000']}}}}]}}"), ["-++", "---", "---"]);
    assert("{from: [{source: {namespaces: [bar]}}], to: [{operation: {ports: ['9001']}}]}", ["---", "-+-", "---"]);
    assert(
        "{from: [{source: {ipBlocks: [10.9.0.0/16]}}], to: [{operation: {ports: ['9002']}}]}",
        ["---", "---", "--+"],
    );
    assert("{from: [{source: {namespaces: [foo]}}, {source: {ipBlocks: [10.9.0.1]}}]}", ["+++", "---", "+++"]);
    assert(&format!("{{{sleep}, to: [{{operation: {{methods: [GET]}}}}]}}"), ["---", "---", "---"]);
    assert("{from: [{source: {requestPrincipals: ['*'], namespaces: [foo]}}]}", ["---", "---", "---"]);
}

#[track_caller]
fn assert_callers(from: &str, sleep: char, other: char, plain: char) {
    let objects = on_server(&format!("rules: [{{from: [{{source: {from}}}]}}]"));
    let first = |caller: Caller| verdicts(&objects, &caller).chars().next().unwrap();
    let actual =
        (first(proxied(SLEEP)), first(proxied(OTHER)), first(Caller { from: Some("10.9.0.1"), ..Caller::default() }));
    assert_eq!(actual, (sleep, other, plain), "{from}");
}

#[test]
fn callers_are_told_apart_by_identity_and_address() {
    assert_callers("{principals: [cluster.local/ns/foo/sa/sleep]}", '+', '-', '-');
    assert_callers("{principals: ['*']}", '+', '+', '-');
    assert_callers("{principals: ['*/ns/foo/sa/sleep']}", '+', '-', '-');
    assert_callers("{principals: ['cluster.local/ns/bar/*']}", '-', '+', '-');
    assert_callers("{notPrincipals: [cluster.local/ns/foo/sa/sleep]}", '-', '+', '+');
    assert_callers("{namespaces: [foo]}", '+', '-', '-');
    assert_callers("{namespaces: ['b*']}", '-', '+', '-');
    assert_callers("{notNamespaces: [foo]}", '-', '+', '+');
    assert_callers("{serviceAccounts: [sleep]}", '+', '-', '-');
    assert_callers("{serviceAccounts: [bar/other]}", '-', '+', '-');
    assert_callers("{notServiceAccounts: [sleep]}", '-', '+', '+');
    assert_callers("{ipBlocks: [10.0.0.1]}", '+', '+', '-');
    assert_callers("{ipBlocks: [10.0.0.0/24], namespaces: [foo]}", '+', '-', '-');
    assert_callers("{notIpBlocks: [10.0.0.0/8]}", '-', '-', '-');
    assert_callers("{remoteIpBlocks: [10.9.0.0/16]}", '-', '-', '+');
    assert_callers("{notRemoteIpBlocks: [10.9.0.0/16]}", '+', '+', '-');
}

#[test]
fn conditions_are_held_against_connections() {
    let ports = |when: &str| verdicts(&on_server(&format!("rules: [{{when: [{when}]}}]")), &proxied(SLEEP));
    assert_eq!(ports("{key: destination.port, values: ['9001']}"), "-+-");
    assert_eq!(ports("{key: destination.port, notValues: ['9001']}"), "+-+");
    assert_eq!(ports("{key: destination.ip, values: [10.0.0.2]}"), "+++");
    assert_eq!(ports("{key: destination.ip, values: [10.0.0.3]}"), "---");
    assert_eq!(ports("{key: source.ip, values: [10.0.0.0/30]}"), "+++");
    assert_eq!(ports("{key: source.namespace, values: [foo], notValues: [bar]}"), "+++");
    assert_eq!(ports("{key: source.principal, values: [cluster.local/ns/bar/sa/other]}"), "---");
    let both = "{key: source.namespace, values: [foo]}, {key: destination.port, values: ['9000']}";
    assert_eq!(ports(both), "+--");
    let named = Caller { sni: Some("outbound_.9000_._.tcp-echo.foo.svc.cluster.local"), ..proxied(SLEEP) };
    let by_name = |name: &str| {
        verdicts(&on_server(&format!("rules: [{{when: [{{key: connection.sni, values: ['{name}']}}]}}]")), &named)
    };
    assert_eq!(by_name("*.cluster.local"), "+++");
    assert_eq!(by_name("outbound_.9001_*"), "---");
}

#[test]
fn a_refusal_comes_before_an_admission_and_audit_changes_nothing() {
    let named = |name: &str, spec: &str| policy(spec).replace("name: p", &format!("name: {name}"));
    let deny = named("deny", "{action: DENY, rules: [{from: [{source: {namespaces: [foo]}}]}]}");
    let allow = named("allow", "{action: ALLOW, rules: [{}]}");
    let audit = named("audit", "{action: AUDIT, rules: [{}]}");
    let objects = [allow.as_str(), &deny, &audit].join("---\n");
    assert_eq!(verdicts(&objects, &proxied(SLEEP)), "---");
    assert_eq!(verdicts(&objects, &proxied(OTHER)), "+++");
    let resources = told("tcp-echo", &objects);
    let outcome = arrive(&snapshot(&resources), 9000, &proxied(SLEEP));
    assert_eq!(outcome, "denied by ns[foo]-policy[deny]-rule[0]");
    let every = |r: &Resources| {
        let connections = |c: &str| c.ends_with("rbac rbac rbac tcp_proxy");
        // Requests have the same filters inside.
        let requests = |c: &str| c.ends_with("http_connection_manager(rbac rbac rbac router)");
        chains(r, "virtualInbound").iter().skip(1).all(|c| connections(c) || requests(c))
    };
    assert!(every(&resources), "{:#?}", chains(&resources, "virtualInbound"));
}

#[test]
fn a_policy_of_the_root_namespace_holds_for_all() {
    let root = policy("{}").replace("namespace: foo", "namespace: istio-system");
    assert_eq!(verdicts(&root, &proxied(SLEEP)), "---");
    let elsewhere = policy("{}").replace("namespace: foo", "namespace: bar");
    assert_eq!(verdicts(&elsewhere, &proxied(SLEEP)), "+++");
}

#[test]
fn trust_domains_stand_for_one_another() {
    let objects = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: '{{trustDomain: new, \
         trustDomainAliases: [old]}}'\n---\n{}",
        on_server("rules: [{from: [{source: {principals: [cluster.local/ns/foo/sa/sleep]}}]}]")
    );
    for identity in ["spiffe://new/ns/foo/sa/sleep", "spiffe://old/ns/foo/sa/sleep"] {
        assert_eq!(verdicts(&objects, &proxied(identity)), "+++", "{identity}");
    }
    let snapshot = snapshot(&told("tcp-echo", &objects));
    let refused = arrive(&snapshot, 9000, &proxied("spiffe://third/ns/foo/sa/sleep"));
    assert_eq!(refused, "tls: the client's certificate has none of the names that are demanded");
}

#[test]
fn a_mistake_never_opens_a_door() {
    for rule in [
        "{from: [{source: {principles: [x]}}]}",
        "{from: [{source: {}}]}",
        "{from: [{source: {namespaces: [foo], principles: [x]}}]}",
        "{to: [{operation: {}}]}",
        "{to: [{operation: {ports: [http]}}]}",
        "{to: [{operation: {ports: ['0']}}]}",
        "{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}",
        "{from: [{source: {serviceAccounts: [a/b/c]}}]}",
        "{from: [{source: {requestPrincipals: ['*']}}]}",
        "{when: [{key: 'request.headers[x]', values: [text]}]}",
        "{when: [{key: source.ip}]}",
        "{when: [{key: nonsense, values: [text]}]}",
        "{when: [{key: source.ip, values: [true]}]}",
        "[]",
    ] {
        assert_eq!(verdicts(&on_server(&format!("rules: [{rule}]")), &proxied(SLEEP)), "---", "ALLOW {rule}");
        assert_eq!(
            verdicts(&on_server(&format!("action: DENY, rules: [{rule}]")), &proxied(SLEEP)),
            "---",
            "DENY {rule}"
        );
    }
    assert_eq!(verdicts(&on_server("action: CUSTOM, rules: [{}]"), &proxied(SLEEP)), "---");
}

#[test]
fn what_has_no_effect_is_said() {
    let allow = on_server("rules: [{to: [{operation: {methods: [GET], ports: ['9000']}}]}]");
    let expected = "Warning [OnlyHttp] (AuthorizationPolicy foo/p) spec.rules[0].to[0].operation.methods: is for HTTP \
        requests, which connections are not: spec.rules[0] lets nobody in on connections";
    assert_found("tcp-echo", &allow, expected);
    let deny = allow.replace("rules:", "action: DENY, rules:");
    assert_found("tcp-echo", &deny, "without it spec.rules[0] refuses more connections");
    assert_found("tcp-echo", &on_server("action: DENY"), "without rules the policy has no effect");
    let nobody = policy("{selector: {matchLabels: {app: nothing}}}");
    assert_found("tcp-echo", &nobody, "no workload has the labels app=nothing");
    assert_found("tcp-echo", &on_server("action: CUSTOM, rules: [{}]"), "Error [NotSupported]");
    assert_found("tcp-echo", &policy("{rules: 1}"), "Error [Malformed] (AuthorizationPolicy foo/p) spec.rules: ");
}
