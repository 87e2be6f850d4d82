//! Routes, subsets and policies are changed while requests are under way.

use std::fmt::Write;

use testkit::Session;

super::on_both_data_planes!(no_request_fails_while_a_few_things_are_changed);

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

/// Five changes, as somebody makes them who replaces a subset with another one: it is there before a route leads to it,
/// and goes when none does any more.
fn round(number: usize) -> String {
    let (old, new, version) = (number, number + 1, number % 2 + 1);
    let subset = |number: usize| format!("{{name: s{number}, labels: {{version: v{}}}}}", (number + 1) % 2 + 1);
    let rule = |subsets: &str| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: helloworld}}, spec: {{
               host: helloworld, subsets: [{subsets}]}}}}\n"
        )
    };
    let routes = |subset: usize, timeout: usize| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: helloworld}}, spec: {{
               hosts: [helloworld], http: [{{timeout: {timeout}s, retries: {{attempts: 0}}, route: [
                 {{destination: {{host: helloworld, subset: s{subset}}}}}]}}]}}}}\n"
        )
    };
    let mut all = rule(&[subset(old), subset(new)].join(", "));
    all += &routes(new, 20);
    write!(
        all,
        "---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: helloworld}}, spec: {{
           selector: {{matchLabels: {{app: helloworld}}}}, rules: [
             {{to: [{{operation: {{methods: [GET], notPaths: [/never/{version}/{number}]}}}}]}}]}}}}\n"
    )
    .unwrap();
    all += &rule(&subset(new));
    all += &routes(new, 30);
    all
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
    s.apply(&round(0));
    let inside = |line: &str| format!("kubectl exec deploy/sleep -c sleep -- {line}");
    s.until_prints(&inside("curl -sS -m 10 -o /dev/null -w '%{http_code}' http://helloworld:5000/hello"), "200");
    let load = "while [ ! -e /tmp/enough ]; do wrk -t 1 -c 4 -d 1s --timeout 30s http://helloworld:5000/hello; done";
    let running = s.start(&inside(&format!("sh -c '{load}'")));
    running.line_with("requests in");
    for number in 1..=rounds {
        s.apply(&round(number));
    }
    s.sh(&inside("touch /tmp/enough")).ok();
    running.line_with("Transfer/sec");
    let lines = testkit::until("the end of the load", std::time::Duration::from_secs(60), || {
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
