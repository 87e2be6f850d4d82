//! Probes of the application. The node's requests come in plaintext from outside of the mesh, where a workload with
//! STRICT mutual TLS takes nothing; so they go to the agent, whose port is not captured, and it asks the application.

use serde_json::{Map, Value, json};

use super::annotation::{Annotations, InjectionError};
use super::{PROXY, STATUS_PORT};
use crate::admission::field::{items_mut, remove, set};

/// The probes and hooks of a container that go over the network, with the last part of their path at the agent.
const ACTIONS: [(&str, &str, &str); 5] = [
    ("/readinessProbe", "app-health", "readyz"),
    ("/livenessProbe", "app-health", "livez"),
    ("/startupProbe", "app-health", "startupz"),
    ("/lifecycle/postStart", "app-lifecycle", "poststartz"),
    ("/lifecycle/preStop", "app-lifecycle", "prestopz"),
];

/// Turns the pod's probes to the agent. What the agent is to do instead is the result, in JSON by path.
pub(super) fn rewrite(pod: &mut Value, annotations: &Annotations<'_>) -> Result<Option<String>, InjectionError> {
    if annotations.boolean("sidecar.istio.io/rewriteAppHTTPProbers")? == Some(false) {
        return Ok(None);
    }
    let mut probers = Map::new();
    for container in items_mut(&mut pod["spec"], "containers").filter(|container| container["name"] != PROXY) {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let ports = container["ports"].clone();
        for (pointer, kind, verb) in ACTIONS {
            let path = format!("/{kind}/{name}/{verb}");
            if let Some(prober) = container.pointer_mut(pointer).and_then(|action| turn(action, &path, &ports)) {
                probers.insert(path, prober);
            }
        }
    }
    Ok((!probers.is_empty()).then(|| Value::Object(probers).to_string()))
}

/// Points one action at `path` of the agent, and gives what it was.
fn turn(action: &mut Value, path: &str, ports: &Value) -> Option<Value> {
    let kind = ["httpGet", "tcpSocket"].into_iter().find(|kind| action[kind].is_object())?;
    let mut asked = action[kind].clone();
    // One that names a host is about something else than this pod, and one with TLS is not in plaintext.
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    if !text("host").is_empty() || text("scheme") == "HTTPS" {
        return None;
    }
    let port = number(&asked["port"], ports).filter(|port| *port != u64::from(STATUS_PORT))?;
    set(&mut asked, "port", port);
    let mut prober = json!({ kind: asked });
    if let Some(seconds) = action["timeoutSeconds"].as_u64() {
        set(&mut prober, "timeoutSeconds", seconds);
    }
    remove(action, kind);
    set(action, "httpGet", json!({ "path": path, "port": STATUS_PORT, "scheme": "HTTP" }));
    Some(prober)
}

/// A port that may be a name; one that no port of the container has stays with the node, which will say so.
fn number(port: &Value, ports: &Value) -> Option<u64> {
    let named = || ports.as_array()?.iter().find(|p| p["name"] == *port)?["containerPort"].as_u64();
    port.as_u64().or_else(named).or_else(|| port.as_str()?.parse().ok())
}
