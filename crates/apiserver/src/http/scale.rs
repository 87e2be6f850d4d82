//! The `scale` subresource: `autoscaling/v1` `Scale`, for every kind that says where its numbers are.

use api::{ApiError, Cause, LabelSelector};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::admission::{Draft, Ownership};
use super::call::{Call, Outcome};
use super::decode::{self, Decoded};
use super::object::{at_path, meta, set_path};
use super::patch::{self, Patch};
use super::update;
use super::{Body, answer};
use crate::kind::ScalePaths;

pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let object = call.kind.show(&*call.object()?);
    Ok(call.value(200, &scale_of(&object, paths(call)?)))
}

/// `PUT …/scale`.
pub(super) async fn replace(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let Decoded { value: wanted, .. } = decode::decode(decode::encoding(&call.headers)?, &body, "Scale")?;
    if wanted["kind"].as_str().is_some_and(|kind| kind != "Scale") {
        return Err(ApiError::bad_request("the object provided is unrecognized (must be of type Scale)"));
    }
    change(call, |_| Ok(wanted.clone())).await
}

/// `PATCH …/scale`: the patch is of the `Scale`.
pub(super) async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    if patch::is_apply(call) {
        let Decoded { value: applied, .. } = decode::decode(decode::Encoding::Yaml, &body, "Scale")?;
        return change(call, |scale| Ok(crate::patch::merge(scale, &applied))).await;
    }
    let parsed = patch::parse(call, body)?.patch;
    change(call, |scale| match &parsed {
        Patch::Json(operations) => crate::patch::json(scale, operations),
        // A Scale has no lists: both merge alike.
        Patch::Merge(patch) | Patch::Strategic(patch) => Ok(crate::patch::merge(scale, patch)),
    })
    .await
}

async fn change(call: &Call, compute: impl Fn(&Value) -> Result<Value, ApiError>) -> Result<Response<Body>, ApiError> {
    let paths = paths(call)?;
    let mut draft = Draft::new(call)?;
    let outcome = update::change(&mut draft, "scale", Ownership::Tracked, |old| {
        let wanted = compute(&scale_of(old, paths))?;
        let mut new = old.clone();
        set_path(&mut new, &paths.spec_replicas, replicas(&wanted)?.into());
        new["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
        new["metadata"]["uid"] = wanted["metadata"]["uid"].clone();
        Ok(new)
    })
    .await?;
    let object = match outcome {
        Outcome::Stored(object) => call.kind.show(&object),
        Outcome::Shown(value) => value,
    };
    let mut response = call.value(200, &scale_of(&object, paths));
    answer::warn(&mut response, &draft.warnings);
    Ok(response)
}

fn paths(call: &Call) -> Result<&ScalePaths, ApiError> {
    call.kind.scale.as_ref().ok_or_else(ApiError::no_such_path)
}

/// The wanted number: none means 0, as it does in a protobuf message.
fn replicas(scale: &Value) -> Result<i64, ApiError> {
    let given = &scale["spec"]["replicas"];
    let number = if given.is_null() { Some(0) } else { given.as_i64() };
    match number {
        Some(number) if number >= 0 => Ok(number),
        _ => {
            let cause = Cause::invalid("spec.replicas", given, "must be greater than or equal to 0");
            Err(ApiError::invalid("autoscaling", "Scale", meta(scale, "name"), &[cause]))
        }
    }
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &str| at_path(object, path).and_then(Value::as_i64).unwrap_or_default();
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": number(&paths.spec_replicas) },
        "status": { "replicas": number(&paths.status_replicas) },
    });
    if let Some(selector) = paths.selector.as_deref().and_then(|path| at_path(object, path)) {
        scale["status"]["selector"] = match selector {
            Value::String(text) => text.as_str().into(),
            object => LabelSelector::from_object(object).map(|s| s.to_string()).unwrap_or_default().into(),
        };
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_numbers_and_selector() {
        let paths = ScalePaths {
            spec_replicas: "spec.replicas".to_owned(),
            status_replicas: "status.replicas".to_owned(),
            selector: Some("spec.selector".to_owned()),
        };
        let object = json!({"metadata": {"name": "web", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2}});
        let scale = scale_of(&object, &paths);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(scale["metadata"], json!({"name": "web"}));
        assert_eq!(replicas(&json!({"spec": {"replicas": -1}})).unwrap_err().code, 422);
        assert_eq!(replicas(&json!({"spec": {"replicas": "x"}})).unwrap_err().code, 422);
    }
}
