//! What sidecars do while the control plane is gone, and while certificates change.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::{Account, Federation, Session, until};

use super::{assert_calls, authorize, mesh};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_control_plane_is_killed_under_traffic() {
    if testkit::namespaces() && testkit::kubectl() {
        killed_under_traffic(&Federation::up(crate::binary(), Account::current(), &["c1"]));
    }
}

#[test]
fn the_control_plane_of_envoys_is_killed_under_traffic() {
    let Some(envoy) = testkit::envoy().filter(|_| testkit::namespaces() && testkit::kubectl()) else { return };
    let federation = Federation::prepare(crate::binary(), Account::current());
    federation.isthmus(&format!("up c1 --detach --data-plane envoy --envoy {}", envoy.display())).ok();
    federation.fetch_kubeconfig();
    killed_under_traffic(&federation);
}

/// A pod that calls `tcp-echo` over and over, and writes a line for each call: `ok` or `fail`.
const CALLER: &str = "while :; do answer=$(echo x | nc -w 10 tcp-echo 9000); [ \"$answer\" = \"hello x\" ] && echo ok || echo \"fail: $answer\"; done";

/// Starts it; gives how often it has called when its sidecar was ready: what came before may have failed.
fn caller(s: &Session<'_>, annotations: &str) -> usize {
    s.write("caller", CALLER);
    s.sh("kubectl create configmap caller --from-file=caller").ok();
    s.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: caller, annotations: {annotations}}}, spec: {{
           terminationGracePeriodSeconds: 0, volumes: [{{name: caller, configMap: {{name: caller}}}}],
           containers: [{{name: main, image: busybox, command: [sh, /caller/caller], volumeMounts: [{{name: caller, mountPath: /caller}}]}}]}}}}"
    ));
    s.sh("kubectl wait pod caller --for=condition=Ready --timeout=60s").ok();
    written(s.federation.home()).len()
}

/// What the caller has written, read where its node keeps it: the API may be down.
fn written(home: &Path) -> Vec<String> {
    let lines = |text: String| {
        let words =
            text.lines().filter_map(|line| Some(line[line.find("ok").or_else(|| line.find("fail"))?..].to_owned()));
        words.collect::<Vec<_>>()
    };
    let files =
        walk(&home.join("c1/pods")).into_iter().filter(|file| file.to_string_lossy().contains("/containers/main/"));
    files.filter_map(|file| std::fs::read_to_string(file).ok()).flat_map(lines).collect()
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |path: std::path::PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    entries.flat_map(of).collect()
}

/// Waits for so many more calls; gives what there are then.
fn calls_more(federation: &Federation, more: usize) -> Vec<String> {
    let enough = written(federation.home()).len() + more;
    until("more calls", LIMIT, || Some(written(federation.home())).filter(|calls| calls.len() >= enough))
}

#[track_caller]
fn assert_answered(calls: &[String]) {
    let failed: Vec<_> = calls.iter().enumerate().filter(|(_, call)| *call != "ok").collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {failed:?}", failed.len(), calls.len());
}

fn killed_under_traffic(federation: &Federation) {
    let s = federation.session("c1");
    mesh(&s);
    assert_calls(&s, "deploy/sleep", "+++", "before");
    let before = caller(&s, "{}");
    calls_more(federation, 20);
    let pid = until("the cluster process", LIMIT, || federation.cluster_process("c1"));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("its end", LIMIT, || (federation.cluster_process("c1") != Some(pid)).then_some(()));
    calls_more(federation, 200);
    federation.isthmus("up c1 --detach").ok();
    let calls = calls_more(federation, 100);
    assert_answered(&calls[before..]);
    authorize(&s, "action: DENY, rules: [{to: [{operation: {ports: ['9001']}}]}]");
    assert_calls(&s, "deploy/sleep", "+-+", "changed after the restart");
}

#[test]
fn certificates_are_rotated_under_traffic() {
    if !testkit::namespaces() || !testkit::kubectl() || !testkit::program("openssl") {
        return;
    }
    let federation = Federation::up(crate::binary(), Account::current(), &["c1"]);
    let s = federation.session("c1");
    // The shortest lives that leave time to renew them.
    let short = "{proxy.istio.io/config: '{proxyMetadata: {SECRET_TTL: 10s}}'}";
    let annotations = json!({"proxy.istio.io/config": "{proxyMetadata: {SECRET_TTL: 10s}}"});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    mesh(&s);
    s.sh(&format!("kubectl patch deployment tcp-echo -p '{patch}'")).ok();
    s.sh("kubectl rollout status deployment tcp-echo --timeout=60s").ok();
    let before = caller(&s, short);
    let shown = "kubectl exec deploy/sleep -c istio-proxy -- openssl s_client -alpn istio -connect tcp-echo:9000 </dev/null 2>/dev/null \
        | openssl x509 -noout -serial";
    let mut serials = std::collections::BTreeSet::new();
    until("certificates that follow one another", LIMIT, || {
        serials.insert(s.sh(shown).stdout());
        (serials.len() > 4).then_some(())
    });
    let calls = calls_more(&federation, 20);
    assert_answered(&calls[before..]);
}
