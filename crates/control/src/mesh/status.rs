//! What is found about an object, in its status.

use api::NamespacedName;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{debug, warn};
use xds::{Diagnostic, Severity};

use super::ControlPlane;
use super::declared::Kind;
use super::watches::resource;
use crate::engine;

/// The name under which Istio's control plane writes.
const WRITER: &str = "pilot-discovery";
/// The condition that says whether all of an object is in force.
const CONDITION: &str = "Reconciled";

/// Keeps the status of every object right, for ever. An object that nothing is found about gets none.
pub(super) async fn run(plane: ControlPlane, client: Client) {
    let mut built = plane.0.built.subscribe();
    while built.changed().await.is_ok() {
        for (kind, name, status) in due(&plane) {
            write(&client, kind, &name, &status).await;
        }
    }
}

/// The statuses that are not as they should be.
fn due(plane: &ControlPlane) -> Vec<(Kind, NamespacedName, Value)> {
    let world = plane.world();
    let declared = plane.declared();
    let wrong = declared.iter().filter_map(|(kind, name, object)| {
        let about = |d: &&Diagnostic| {
            d.object.kind == kind.name && d.object.namespace == name.namespace && d.object.name == name.name
        };
        let found: Vec<&Diagnostic> = world.diagnostics.iter().filter(about).collect();
        Some((kind, name.clone(), wanted(&object.value, &found)?))
    });
    wrong.collect()
}

/// The status that an object should have, unless it has it.
fn wanted(object: &Value, found: &[&Diagnostic]) -> Option<Value> {
    let old = &object["status"];
    if found.is_empty() && old["validationMessages"].is_null() {
        return None;
    }
    let messages: Vec<Value> = found.iter().map(|d| message(d)).collect();
    let failed = found.iter().any(|d| d.severity == Severity::Error);
    let generation = &object["metadata"]["generation"];
    let (verdict, reason) = if failed { ("False", "Invalid") } else { ("True", "Accepted") };
    let current = old["conditions"].as_array().into_iter().flatten();
    let (own, mut conditions): (Vec<Value>, Vec<Value>) = current.cloned().partition(|c| c["type"] == CONDITION);
    let since = own.into_iter().find(|c| c["status"] == verdict).map(|c| c["lastTransitionTime"].clone());
    conditions.push(json!({
        "type": CONDITION,
        "status": verdict,
        "reason": reason,
        "message": format!("{} of what the object says has less effect than written", found.len()),
        "lastTransitionTime": since.unwrap_or_else(|| json!(engine::now())),
        "observedGeneration": generation,
    }));
    let status = json!({ "observedGeneration": generation, "conditions": conditions, "validationMessages": messages });
    (status != *old).then_some(status)
}

/// A finding as Istio's analysis writes it.
fn message(found: &Diagnostic) -> Value {
    let (code, name) = (found.code.number(), found.code.name());
    let level = match found.severity {
        Severity::Info => "INFO",
        Severity::Warning => "WARNING",
        Severity::Error => "ERROR",
    };
    let text = format!("{}: {}", found.field, found.message);
    let mut message = json!({ "type": { "code": code, "name": name }, "level": level, "message": text });
    if let Some(page) = xds::analysis::documentation_url(code) {
        message["documentationUrl"] = page.into();
    }
    message
}

async fn write(client: &Client, kind: Kind, name: &NamespacedName, status: &Value) {
    let api: Api<DynamicObject> = match kind.of_cluster {
        true => Api::all_with(client.clone(), &resource(kind)),
        false => Api::namespaced_with(client.clone(), &name.namespace, &resource(kind)),
    };
    let params = PatchParams { field_manager: Some(WRITER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&name.name, &params, &Patch::Merge(json!({ "status": status }))).await {
        Ok(_) => {}
        // It may have been deleted, or changed, which will be seen.
        Err(error) if engine::refused(&error, 404, "") || engine::refused(&error, 409, "") => {
            debug!(kind = kind.name, %name, %error, "a status is not written");
        }
        Err(error) => warn!(kind = kind.name, %name, %error, "a status cannot be written"),
    }
}

#[cfg(test)]
mod tests {
    use xds::Objects;

    use super::*;

    fn found(object: &Value) -> Vec<Diagnostic> {
        let mut objects = Objects::default();
        objects.insert(object.clone());
        xds::Mesh::new(&objects).diagnostics().iter().cloned().collect()
    }

    #[test]
    fn a_status_is_written_once_and_cleared_when_nothing_is_found_any_more() {
        let mut policy = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "ns", "generation": 3},
            "spec": {"selector": {"matchLabels": {"app": "nobody"}}, "rules": [{}]},
        });
        let diagnostics = found(&policy);
        let diagnostics: Vec<&Diagnostic> = diagnostics.iter().collect();
        let status = wanted(&policy, &diagnostics).unwrap();
        assert_eq!(status["observedGeneration"], 3);
        assert_eq!(status["validationMessages"][0]["type"]["name"], "NoMatchingWorkloadsFound");
        policy["status"] = status;
        assert_eq!(wanted(&policy, &diagnostics), None);
        let cleared = wanted(&policy, &[]).unwrap();
        assert_eq!(cleared["validationMessages"], json!([]));
        policy["status"] = cleared;
        assert_eq!(wanted(&policy, &[]), None);
    }
}
