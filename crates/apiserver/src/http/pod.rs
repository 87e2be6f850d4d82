//! The subresources of pods that are plain objects: `binding` and `eviction`.

use api::{ApiError, Cause};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::{Draft, Ownership};
use super::call::Call;
use super::decode::{self, Decoded};
use super::object::{field_mut, is_terminating, meta};
use super::update;
use super::{Body, answer, delete};

/// Binds a pod to a node, once.
pub(super) async fn bind(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let Decoded { value: binding, .. } = decode::decode(decode::encoding(&call.headers)?, &body, "Binding")?;
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(ApiError::invalid("", "Binding", &call.path.name, &[cause]));
    }
    let mut draft = Draft::new(call)?;
    let conflict = |why: &str| ApiError::conflict("", "pods/binding", &call.path.name, why);
    let compute = |old: &Value| {
        let name = &call.path.name;
        if is_terminating(old) {
            return Err(conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        if let Some(bound) = old["spec"]["nodeName"].as_str().filter(|bound| !bound.is_empty()) {
            return Err(conflict(&format!("pod {name} is already assigned to node {bound:?}")));
        }
        let mut new = old.clone();
        field_mut(&mut new, "spec").insert("nodeName".to_owned(), node.as_str().into());
        let conditions = field_mut(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
        if let Some(conditions) = conditions.as_array_mut() {
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": super::call::now(),
            }));
        }
        Ok(new)
    };
    update::change(&mut draft, "binding", Ownership::Tracked, compute).await?;
    Ok(call.value(201, &created()))
}

/// Deletes a pod in grace. There are no disruption budgets that could forbid it.
pub(super) async fn evict(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let Decoded { value: eviction, .. } = decode::decode(decode::encoding(&call.headers)?, &body, "Eviction")?;
    let named = meta(&eviction, "name");
    if !named.is_empty() && named != call.path.name {
        let message = format!("name in URL does not match name in Eviction object: {} != {named}", call.path.name);
        return Err(ApiError::bad_request(message));
    }
    let mut options = delete::options_of(&eviction["deleteOptions"])?;
    options.dry_run |= call.query.dry_run()?;
    let mut warnings = Vec::new();
    call.server.delete(&call.kind, &call.user, &call.key(), &options, &mut warnings).await?;
    let mut response = call.value(201, &created());
    answer::warn(&mut response, &warnings);
    Ok(response)
}

fn created() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}
