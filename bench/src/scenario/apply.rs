//! From applying a Deployment to its Pod being ready.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::cluster::{NAMESPACE, one};
use crate::connection::Server;
use crate::report::Report;

const RUNS: usize = 10;

pub(crate) fn run(binary: &Path, runtime: &Runtime) -> anyhow::Result<Report> {
    let (federation, server) = one(binary, runtime)?;
    let (mut requested, mut applied) = (Vec::new(), Vec::new());
    for n in 0..RUNS {
        let name = format!("request-{n}");
        let ready = runtime.block_on(watch(&server, &name))?;
        let begin = Instant::now();
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        runtime.block_on(async {
            server.connect().await?.request(Method::POST, &path, deployment(&name).to_string()).await
        })?;
        requested.push(runtime.block_on(ready)?? - begin);
    }
    let report = Report::new("apply").times("from the request to Ready", &mut requested, "");
    if !testkit::kubectl() {
        return Ok(report);
    }
    for n in 0..RUNS {
        let name = format!("kubectl-{n}");
        let ready = runtime.block_on(watch(&server, &name))?;
        let apply = format!("kubectl --context c1 -n {NAMESPACE} apply -f -");
        federation.shell().sh_with_input(&apply, deployment(&name).to_string().as_bytes()).ok();
        let end = Instant::now();
        applied.push(runtime.block_on(ready)??.saturating_duration_since(end));
    }
    Ok(report.times("from the end of kubectl apply to Ready", &mut applied, "300 ms"))
}

fn deployment(name: &str) -> Value {
    let container = json!({"name": "echo", "image": "docker.io/istio/tcp-echo-server:1.3", "args": ["9000", "hello"]});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    })
}

/// Watches the pods of an application; gives the moment when one is ready.
async fn watch(server: &Server, app: &str) -> anyhow::Result<JoinHandle<anyhow::Result<Instant>>> {
    let mut connection = server.connect().await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?watch=true&labelSelector=app%3D{app}");
    let mut events = connection.open(Method::GET, &path, "").await?;
    Ok(tokio::spawn(async move {
        let _connection = connection;
        let mut text = Vec::new();
        while let Some(frame) = tokio::time::timeout(Duration::from_secs(30), events.frame()).await? {
            text.extend_from_slice(&frame?.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let rest = text.split_off(end + 1);
                let event: Value = serde_json::from_slice(&text)?;
                text = rest;
                if is_ready(&event).context("an event without an object")? {
                    return Ok(Instant::now());
                }
            }
        }
        bail!("the watch ended before the pod was ready")
    }))
}

fn is_ready(event: &Value) -> Option<bool> {
    let conditions = event.get("object")?.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    Some(conditions.is_some_and(|conditions| conditions.iter().any(ready)))
}
