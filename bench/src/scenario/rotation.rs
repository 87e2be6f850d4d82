//! Connections that fail while the certificates of 20 pods, made to live for a minute, follow one another.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use testkit::{Account, Federation, Session};

use crate::report::Report;

const PAIRS: usize = 10;
const LIFETIME: &str = "60s";

/// Calls a server over and over, and keeps count of the calls and of those that failed.
const CALLER: &str = "calls=0; failed=0; while :; do calls=$((calls + 1)); \
    [ \"$(echo x | nc -w 10 server 9000)\" = \"hello x\" ] || failed=$((failed + 1)); echo \"$calls $failed\" > /tmp/count; done";

pub(crate) fn run(binary: &Path, minutes: u64) -> anyhow::Result<Report> {
    let federation = Federation::up(binary, Account::current(), &["c1"]);
    let session = federation.session("c1");
    session.sh(&format!("kubectl label namespace {} istio-injection=enabled", session.namespace)).ok();
    session.write("caller", CALLER);
    session.sh("kubectl create configmap caller --from-file=caller").ok();
    session.apply(&manifest());
    session.sh("kubectl wait deployment --all --for=condition=Available --timeout=80s").ok();
    let before = count(&session)?;
    std::thread::sleep(Duration::from_secs(minutes * 60));
    let after = count(&session)?;
    let shown = session.sh("kubectl get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}'").ok();
    let restarts = shown.split(' ').filter(|count| *count != "0").count();
    #[expect(clippy::cast_precision_loss, reason = "nobody calls that often")]
    let number = |n: u64| n as f64;
    let report = Report::new("rotation").row("pods with sidecars", number(2 * PAIRS as u64), "", "20");
    let report = report.row(format!("calls in {minutes} minutes"), number(after.0 - before.0), "", "");
    let report = report.row("calls that failed", number(after.1 - before.1), "", "0");
    Ok(report.row("containers that were restarted", number(restarts as u64), "", "0"))
}

/// The calls of every caller, and how many of them failed.
fn count(session: &Session<'_>) -> anyhow::Result<(u64, u64)> {
    let pods = session.sh("kubectl get pods -l app=caller -o name").ok();
    let mut sum = (0, 0);
    for pod in pods.lines() {
        let counted = session.sh(&format!("kubectl exec {pod} -c main -- cat /tmp/count")).ok();
        let (calls, failed) = counted.split_once(' ').with_context(|| format!("{pod} has counted {counted:?}"))?;
        sum = (sum.0 + calls.parse::<u64>()?, sum.1 + failed.trim().parse::<u64>()?);
    }
    Ok(sum)
}

fn manifest() -> String {
    let deployment = |name: &str, container: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: {PAIRS},
               selector: {{matchLabels: {{app: {name}}}}}, template: {{
                 metadata: {{labels: {{app: {name}}}, annotations: {{
                   proxy.istio.io/config: '{{proxyMetadata: {{SECRET_TTL: {LIFETIME}}}}}'}}}},
                 spec: {{terminationGracePeriodSeconds: 0, volumes: [{{name: caller, configMap: {{name: caller}}}}],
                   containers: [{container}]}}}}}}}}"
        )
    };
    let server = "{name: main, image: 'docker.io/istio/tcp-echo-server:1.3', args: ['9000', hello]}";
    let caller = "{name: main, image: busybox, command: [sh, /caller/caller], volumeMounts: [{name: caller, mountPath: /caller}]}";
    let service = "{apiVersion: v1, kind: Service, metadata: {name: server}, spec: {selector: {app: server}, ports: [{name: tcp, port: 9000}]}}";
    [service.to_owned(), deployment("server", server), deployment("caller", caller)].join("\n---\n")
}
