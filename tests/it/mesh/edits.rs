//! Routes, subsets and policies are changed while requests are under way.

use std::time::{Duration, Instant};

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};
use testkit::{Session, until};

super::alternately!(no_request_fails_while_a_few_things_are_changed);

mod for_a_minute {
    #[test]
    #[ignore = "takes a minute and more"]
    fn no_request_fails_while_many_things_are_changed() {
        crate::play(crate::current_user, |s| super::edit(s, 100));
    }

    #[test]
    #[ignore = "takes a minute and more"]
    fn no_request_fails_while_many_things_are_changed_for_envoys() {
        crate::play(crate::mesh::envoy_current_user, |s| super::edit(s, 100));
    }
}

/// What the sidecars have logged of requests that were not answered with 200.
fn complaints(s: &Session<'_>) -> String {
    let log = |pods: &str| {
        s.sh(&format!("kubectl logs -l app={pods} -c istio-proxy --tail=-1 | grep 'HTTP/1' | grep -v '\" 200 '"))
    };
    ["sleep", "helloworld"].map(|pods| log(pods).transcript()).join("\n")
}

/// How often somebody changes something: five hundred times in a minute.
const PACE: Duration = Duration::from_millis(120);

/// Five changes, as somebody makes them who replaces a subset with another one: it is there before a route leads to it,
/// and goes when none does any more.
fn round(number: usize) -> [Value; 5] {
    let (old, new) = (number, number + 1);
    let version = |number: usize| format!("v{}", (number + 1) % 2 + 1);
    let subset = |number: usize| json!({ "name": format!("s{number}"), "labels": { "version": version(number) } });
    let rule = |subsets: &[Value]| {
        let spec = json!({ "host": "helloworld", "subsets": subsets });
        object("networking.istio.io/v1", "DestinationRule", &spec)
    };
    let route = |timeout: &str| {
        let destination = json!({ "host": "helloworld", "subset": format!("s{new}") });
        let route =
            json!({ "timeout": timeout, "retries": { "attempts": 0 }, "route": [{ "destination": destination }] });
        object("networking.istio.io/v1", "VirtualService", &json!({ "hosts": ["helloworld"], "http": [route] }))
    };
    let operation = json!({ "methods": ["GET"], "notPaths": [format!("/never/{number}")] });
    let policy = json!({
        "selector": { "matchLabels": { "app": "helloworld" } }, "rules": [{ "to": [{ "operation": operation }] }],
    });
    let policy = object("security.istio.io/v1", "AuthorizationPolicy", &policy);
    [rule(&[subset(old), subset(new)]), route("20s"), policy, rule(&[subset(new)]), route("30s")]
}

fn object(version: &str, kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "helloworld" }, "spec": spec })
}

/// Somebody who changes things over one connection: a `kubectl` for each would have the machine busy with starting it.
struct Editor<'a> {
    session: &'a Session<'a>,
    runtime: tokio::runtime::Runtime,
    client: Client,
    due: Instant,
}

impl<'a> Editor<'a> {
    fn of(session: &'a Session<'a>) -> Editor<'a> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(crate::client_rs::client(session.federation, "c1"));
        Editor { session, runtime, client, due: Instant::now() }
    }

    /// Applies one object when its time has come.
    fn apply(&mut self, object: &Value) {
        let due = self.due.max(Instant::now());
        self.due += PACE;
        until("the time of the next change", PACE * 10, || (Instant::now() >= due).then_some(()));
        let text = |name: &str| object[name].as_str().unwrap();
        let (group, version) = text("apiVersion").split_once('/').unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.session.namespace, &resource);
        let params = PatchParams::apply("editor").force();
        self.runtime.block_on(api.patch("helloworld", &params, &Patch::Apply(object))).unwrap();
    }
}

fn edit(s: &Session<'_>, rounds: usize) {
    if !testkit::program("wrk") {
        return;
    }
    s.sh(&format!("kubectl label namespace {} istio-injection=enabled", s.namespace)).ok();
    s.sample("helloworld/helloworld.yaml");
    s.sample("sleep/sleep.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=120s").ok();
    s.apply("{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: log}, spec: {accessLogging: [{providers: [{name: envoy}]}]}}");
    let mut editor = Editor::of(s);
    round(0).iter().for_each(|object| editor.apply(object));
    let inside = |line: &str| format!("kubectl exec deploy/sleep -c sleep -- {line}");
    s.until_prints(&inside("curl -sS -m 10 -o /dev/null -w '%{http_code}' http://helloworld:5000/hello"), "200");
    let load = "while [ ! -e /tmp/enough ]; do wrk -t 1 -c 4 -d 1s --timeout 30s http://helloworld:5000/hello; done";
    let running = s.start(&inside(&format!("sh -c '{load}'")));
    running.line_with("requests in");
    let began = Instant::now();
    for number in 1..=rounds {
        round(number).iter().for_each(|object| editor.apply(object));
    }
    println!("{} changes in {:?}", 5 * rounds, began.elapsed());
    s.sh(&inside("touch /tmp/enough")).ok();
    running.line_with("Transfer/sec");
    let lines = until("the end of the load", Duration::from_secs(60), || {
        let lines = running.lines();
        let done = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
        (done("Running") == done("Transfer/sec")).then(|| running.lines())
    });
    let failed: Vec<&String> =
        lines.iter().filter(|line| line.contains("Non-2xx") || line.contains("Socket errors")).collect();
    assert!(failed.is_empty(), "{failed:?}\n{}", complaints(s));
}

fn no_request_fails_while_a_few_things_are_changed(s: &Session<'_>) {
    edit(s, 12);
}
