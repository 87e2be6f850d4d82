//! The mesh at layer 4, with sidecars of our own and with real Envoys.

mod authorization;
mod browser;
mod control_plane;
mod document;
mod edits;
mod gateway;
mod http;
mod interop;
mod introspection;
mod mutual_tls;
mod protocols;

use std::sync::Arc;

use testkit::{Account, Federation, Session, Shared};

use crate::binary;

static ENVOY_CURRENT: Shared = Shared::new();
static ENVOY_ORDINARY: Shared = Shared::new();

/// A federation whose sidecars are real Envoys, run by whoever runs the tests.
fn envoy_current_user() -> Option<Arc<Federation>> {
    with_envoy(&ENVOY_CURRENT, Account::current())
}

/// The same, run by an ordinary user.
fn envoy_ordinary_user() -> Option<Arc<Federation>> {
    with_envoy(&ENVOY_ORDINARY, Account::ordinary()?)
}

/// The same, run by somebody who may do little, where the tests can be somebody else.
fn envoy_least_user() -> Option<Arc<Federation>> {
    if Account::ordinary().is_some() { envoy_ordinary_user() } else { envoy_current_user() }
}

fn with_envoy(shared: &Shared, account: Account) -> Option<Arc<Federation>> {
    let envoy = testkit::envoy().filter(|_| testkit::namespaces())?;
    let up = || {
        let federation = Federation::prepare(binary(), account);
        let envoy = envoy.display();
        federation.isthmus(&format!("up c1 --detach --data-plane envoy --envoy {envoy}")).ok();
        federation.fetch_kubeconfig();
        federation
    };
    Some(shared.get(up))
}

/// Makes each scenario four tests: with both data planes, as whoever runs the tests and as an ordinary user.
macro_rules! on_both_data_planes {
    ($($name:ident),+ $(,)?) => {
        mod native {
            mod as_current_user {
                $(#[test] fn $name() { crate::play(crate::current_user, super::super::$name); })+
            }
            mod as_ordinary_user {
                $(#[test] fn $name() { crate::play(crate::ordinary_user, super::super::$name); })+
            }
        }
        mod envoy {
            mod as_current_user {
                $(#[test] fn $name() { crate::play(crate::mesh::envoy_current_user, super::super::$name); })+
            }
            mod as_ordinary_user {
                $(#[test] fn $name() { crate::play(crate::mesh::envoy_ordinary_user, super::super::$name); })+
            }
        }
    };
}
use on_both_data_planes;

/// Makes each scenario two tests, one for each data plane and one for each account. How connections reach a sidecar and
/// leave it depends on both at once, and has [`on_both_data_planes`]; what is done with requests does not.
macro_rules! alternately {
    ($($name:ident),+ $(,)?) => {
        mod native {
            mod as_current_user {
                $(#[test] fn $name() { crate::play(crate::current_user, super::super::$name); })+
            }
        }
        mod envoy {
            mod as_least_user {
                $(#[test] fn $name() { crate::play(crate::mesh::envoy_least_user, super::super::$name); })+
            }
        }
    };
}
use alternately;

/// `tcp-echo` and the clients `sleep` and `other` with sidecars, and `legacy` without, each with an account of its name.
fn mesh(s: &Session<'_>) {
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sample("sleep/sleep.yaml");
    client(s, "other", "{}");
    client(s, "legacy", "{sidecar.istio.io/inject: 'false'}");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=60s").ok();
    s.sh("kubectl wait pod other legacy --for=condition=Ready --timeout=60s").ok();
}

fn client(s: &Session<'_>, name: &str, annotations: &str) {
    s.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n---\n\
         {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}, annotations: {annotations}}}, spec: {{
           serviceAccountName: {name}, terminationGracePeriodSeconds: 0,
           containers: [{{name: main, image: busybox, command: [sleep, infinity]}}]}}}}"
    ));
}

/// The address of the pod of `tcp-echo`.
fn echo_address(s: &Session<'_>) -> String {
    s.sh("kubectl get pod -l app=tcp-echo -o jsonpath='{.items[0].status.podIP}'").ok()
}

/// What becomes of calls of 9000 and 9001 of the service and of the port 9002 of the pod, which nobody declares: `+` is
/// answered, `-` is not.
fn calls(s: &Session<'_>, from: &str) -> String {
    let address = echo_address(s);
    let call = |host: &str, port: u16| format!("echo {port} | nc -w 5 {host} {port}");
    let script = [call("tcp-echo", 9000), call("tcp-echo", 9001), call(&address, 9002)].join("; ");
    let done = s.sh(&format!("kubectl exec {from} -- sh -c '{script}'"));
    let answers: Vec<String> = done.stdout().lines().map(str::to_owned).collect();
    let answered = |port: u16| answers.iter().any(|line| *line == format!("hello {port}"));
    [9000, 9001, 9002].map(|port| if answered(port) { '+' } else { '-' }).iter().collect()
}

/// The same, as `isthmus explain` has it.
fn explained(s: &Session<'_>, from: &str) -> String {
    let address = echo_address(s);
    let ask = |host: &str, port: u16| {
        let namespace = &s.namespace;
        let done = s.federation.isthmus(&format!("explain {from} --to {host} --port {port} -n {namespace} -o json"));
        let verdict: serde_json::Value = serde_json::from_slice(&done.bytes).unwrap_or_default();
        match (done.code, verdict["verdict"].as_str()) {
            (0, Some("Allowed")) => '+',
            (1, Some("Denied" | "Refused")) => '-',
            _ => panic!("{}", done.transcript()),
        }
    };
    [ask("tcp-echo", 9000), ask("tcp-echo", 9001), ask(&address, 9002)].iter().collect()
}

/// Waits until calls of `from` are answered as `expected`, and checks that the explanation says the same.
#[track_caller]
fn assert_calls(s: &Session<'_>, from: &str, expected: &str, when: &str) {
    let mut last = String::new();
    for _ in 0..40 {
        last = calls(s, from);
        if last == expected {
            break;
        }
    }
    assert_eq!(last, expected, "calls of {from}, {when}");
    assert_eq!(explained(s, from), expected, "explanations for {from}, {when}");
}

/// Applies an AuthorizationPolicy `p` for `tcp-echo`; `spec` is the rest of its specification.
fn authorize(s: &Session<'_>, spec: &str) {
    s.apply(&format!(
        "{{apiVersion: security.istio.io/v1beta1, kind: AuthorizationPolicy, metadata: {{name: p}}, spec: {{
           selector: {{matchLabels: {{app: tcp-echo}}}}, {spec}}}}}"
    ));
}

/// Says what the namespace's workloads accept.
fn accept(s: &Session<'_>, mode: &str) {
    s.apply(&format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default}}, spec: {{mtls: {{mode: {mode}}}}}}}"
    ));
}
