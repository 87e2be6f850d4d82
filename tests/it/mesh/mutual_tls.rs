//! What sidecars show and accept.

use testkit::Session;

use super::{accept, assert_calls, mesh};

super::on_both_data_planes!(a_strict_port_shows_its_chain_and_takes_no_plaintext, pods_have_two_containers);

fn a_strict_port_shows_its_chain_and_takes_no_plaintext(s: &Session<'_>) {
    mesh(s);
    accept(s, "PERMISSIVE");
    assert_calls(s, "deploy/sleep", "+++", "PERMISSIVE");
    assert_calls(s, "legacy", "+++", "PERMISSIVE");
    accept(s, "STRICT");
    assert_calls(s, "deploy/sleep", "++-", "STRICT");
    assert_calls(s, "legacy", "---", "STRICT");
    if !testkit::program("openssl") {
        return;
    }
    let shown = s.sh(
        "kubectl exec deploy/sleep -c istio-proxy -- openssl s_client -showcerts -connect tcp-echo:9000 </dev/null 2>&1",
    );
    let shown = shown.stdout().replace(" = ", "=");
    assert_eq!(shown.matches("-----BEGIN CERTIFICATE-----").count(), 2, "leaf and root:\n{shown}");
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    let chain = |expected: [&str; 2]| lines.windows(2).any(|pair| pair == expected);
    assert!(chain(["0 s:", "i:O=cluster.local"]), "{shown}");
    assert!(chain(["1 s:O=cluster.local", "i:O=cluster.local"]), "{shown}");
}

fn pods_have_two_containers(s: &Session<'_>) {
    mesh(s);
    let rows = s.sh("kubectl get pods --no-headers").ok();
    let ready =
        |name: &str| rows.lines().find(|row| row.starts_with(name)).and_then(|row| row.split_whitespace().nth(1));
    assert_eq!([ready("tcp-echo"), ready("sleep"), ready("legacy")], [Some("2/2"), Some("2/2"), Some("1/1")], "{rows}");
    let names = s.sh("kubectl get pod -l app=sleep -o jsonpath='{.items[0].spec.containers[*].name}'").ok();
    assert!(names.split(' ').any(|name| name == "istio-proxy"), "{names}");
}
