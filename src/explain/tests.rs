//! Questions about a small world: `sleep` and `tcp-echo` with sidecars, `legacy` without.

mod federation;
mod requests;

use std::net::SocketAddr;

use serde_json::Value;

use super::explanation::{Explanation, Verdict};
use super::path::{Question, explain};
use super::question::{self, NotFound};
use super::world::World;

const WORLD: &str = include_str!("world.yaml");

pub(super) fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(yaml).unwrap()
}

fn world(more: &str) -> World {
    World::new([("c1".to_owned(), [WORLD, more].map(documents).concat())]).unwrap()
}

fn ask(more: &str, from: &str, to: &str, port: u16) -> Explanation {
    let world = world(more);
    let objects = &world.own().objects;
    let pod = question::pod(objects, from, "foo").unwrap();
    let own = pod.metadata.namespace.clone().unwrap();
    let address = question::address(objects, to, port, &own, "foo").unwrap();
    let question = Question { from: pod, asked: to.to_owned(), to: SocketAddr::new(address, port), request: None };
    explain(&world, &question).unwrap()
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: foo}}\nspec: {spec}\n"
    )
}

#[test]
fn a_call_of_a_service_is_followed_to_its_endpoint() {
    let told = ask("", "sleep-abc-1", "tcp-echo", 9000);
    assert_eq!((told.verdict, told.reason.as_str()), (Verdict::Allowed, "no policy holds for foo/tcp-echo-abc-1"));
    let outbound = told.outbound.as_ref().unwrap();
    assert_eq!(outbound.listener.as_deref(), Some("10.96.0.9_9000"));
    assert_eq!(outbound.cluster.as_deref(), Some("outbound|9000||tcp-echo.foo.svc.cluster.local"));
    let path = &told.paths[0];
    assert!(path.tls.as_ref().unwrap().mutual);
    assert_eq!(path.endpoint.as_deref(), Some("10.0.0.2:9000"));
    let inbound = path.inbound.as_ref().unwrap();
    assert_eq!(inbound.cluster.as_deref(), Some("inbound|9000||"));
    assert_eq!(inbound.notes, ["port 9000 is PERMISSIVE, by default"]);
    let text = told.to_string();
    assert!(text.contains("endpoint  10.0.0.2:9000 in mutual TLS for outbound_.9000_._.tcp-echo.foo"), "{text}");
}

#[test]
fn a_port_that_nobody_declares_passes_through() {
    let told = ask("", "deploy/sleep", "10.0.0.2", 9002);
    assert_eq!(told.verdict, Verdict::Allowed);
    assert_eq!(told.outbound.as_ref().unwrap().cluster.as_deref(), Some("PassthroughCluster"));
    let text = told.to_string();
    assert!(text.contains("no service declares port 9002 of the pod"), "{text}");
    let refused =
        ask(&policy("{rules: [{to: [{operation: {ports: ['9000']}}]}]}"), "deploy/sleep", "deploy/tcp-echo", 9002);
    assert_eq!(refused.verdict, Verdict::Denied);
    assert!(refused.to_string().contains("no service declares port 9002 of the pod"), "{refused}");
    let reason = "no rule of AuthorizationPolicy foo/p lets a caller without an identity in";
    assert_eq!(
        (refused.reason.as_str(), refused.paths[0].decided_by.as_slice()),
        (reason, &["AuthorizationPolicy foo/p".to_owned()][..])
    );
}

#[test]
fn the_deciding_rule_is_named() {
    let told = |spec: &str| ask(&policy(spec), "sleep-abc-1", "tcp-echo", 9000);
    let sleep = "\"spiffe://cluster.local/ns/foo/sa/sleep\"";
    let allow = told("{rules: [{to: [{operation: {ports: ['1']}}]}, {from: [{source: {namespaces: [foo]}}]}]}");
    assert_eq!(allow.reason, format!("AuthorizationPolicy foo/p rule 1 lets {sleep} in"));
    let deny = told("{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}");
    assert_eq!(deny.reason, format!("AuthorizationPolicy foo/p rule 0 refuses {sleep}"));
    assert!(deny.diagnostics.iter().any(|d| d.starts_with("Warning [OnlyHttp]")), "{:?}", deny.diagnostics);
    let unusable = told("{rules: [{to: [{operation: {methods: [GET]}}]}]}");
    assert_eq!(unusable.reason, format!("no rule of AuthorizationPolicy foo/p lets {sleep} in"));
}

#[test]
fn plaintext_to_a_strict_port_is_refused_by_name() {
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: foo}\nspec: \
        {mtls: {mode: STRICT}}\n";
    let told = ask(strict, "legacy.bar", "tcp-echo.foo", 9000);
    assert_eq!(told.verdict, Verdict::Refused);
    assert_eq!(told.reason, "PeerAuthentication foo/default asks for mutual TLS, and the caller has none");
    assert_eq!(ask(strict, "deploy/sleep", "tcp-echo", 9000).verdict, Verdict::Allowed);
    assert!(told.outbound.is_none() && !told.source.sidecar);
}

#[test]
fn pods_without_a_sidecar_are_called_in_plaintext() {
    let told = ask("", "deploy/sleep", "legacy.bar", 80);
    assert_eq!((told.verdict, told.paths[0].tls.is_none()), (Verdict::Allowed, true));
    assert!(told.reason.contains("has no sidecar"), "{}", told.reason);
    assert_eq!(
        ask("", "deploy/sleep", "192.0.2.1", 80).reason,
        "192.0.2.1 is no pod's, so nothing here decides about it"
    );
    let missing = ask("", "legacy.bar", "tcp-echo.foo", 1);
    assert_eq!(
        (missing.verdict, missing.reason.as_str()),
        (Verdict::Unreachable, "Service foo/tcp-echo has no port 1")
    );
}

#[test]
fn ports_that_go_past_the_sidecar_are_not_judged() {
    let deny = policy("{action: DENY, rules: [{}]}");
    assert_eq!(ask(&deny, "deploy/sleep", "deploy/tcp-echo", 15021).verdict, Verdict::Allowed);
    assert_eq!(ask(&deny, "deploy/sleep", "deploy/tcp-echo", 15022).verdict, Verdict::Denied);
}

#[test]
fn what_is_not_there_is_said() {
    let world = world("");
    let objects = &world.own().objects;
    let missing = |text: &str| question::pod(objects, text, "foo").unwrap_err();
    assert_eq!(
        missing("nobody"),
        NotFound("there is no pod \"nobody\" with an address in namespace \"foo\"".to_owned())
    );
    assert!(missing("job/x").0.contains("POD or deploy/NAME"));
    assert!(question::address(objects, "nobody", 80, "foo", "foo").is_err());
    let names = ["tcp-echo", "tcp-echo.foo", "tcp-echo.foo.svc", "tcp-echo.foo.svc.cluster.local"];
    let address = |name: &str| question::address(objects, name, 80, "foo", "foo").unwrap().to_string();
    assert!(names.iter().all(|name| address(name) == "10.96.0.9"));
    assert!(question::address(objects, "tcp-echo", 80, "bar", "bar").is_err());
}

#[test]
fn a_gateway_takes_what_its_servers_are_for() {
    let gateway = "---
apiVersion: v1
kind: Pod
metadata: {name: edge-abc-1, namespace: foo, labels: {istio: edge}}
spec: {serviceAccountName: edge, containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {podIP: 10.0.0.50}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: foo}
spec: {selector: {istio: edge}, servers: [{port: {number: 5000, name: tcp, protocol: TCP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: foo}
spec: {hosts: ['*'], gateways: [edge], tcp: [{route: [{destination: {host: tcp-echo, port: {number: 9000}}}]}]}
";
    let told = ask(gateway, "sleep-abc-1", "10.0.0.50", 5000);
    let path = &told.paths[0];
    let inbound = path.inbound.as_ref().unwrap();
    assert_eq!((told.verdict, inbound.listener.as_deref()), (Verdict::Allowed, Some("0.0.0.0_5000")));
    assert_eq!(inbound.cluster.as_deref(), Some("outbound|9000||tcp-echo.foo.svc.cluster.local"));
    assert_eq!(inbound.notes, ["the pod is a gateway, which sends on what it takes"]);
    assert_eq!(ask(gateway, "sleep-abc-1", "10.0.0.50", 5001).verdict, Verdict::Unreachable);
}
