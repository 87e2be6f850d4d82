//! `serviceaccounts/token`: tokens for service accounts.

use api::{ApiError, Cause, GroupResource};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::Body;
use super::call::{self, Call};
use super::decode;
use super::object::{Head, list_of_strings};
use crate::store::Key;

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

/// Answers a `TokenRequest` with a token in its status.
pub(super) fn create(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut request = if body.is_empty() {
        json!({})
    } else {
        decode::decode(decode::encoding(&call.headers)?, &body, "TokenRequest")?.value
    };
    let account = Head::of(&*call.object()?);
    let spec = request["spec"].clone();
    let mut audiences = list_of_strings(&spec["audiences"]);
    if audiences.is_empty() {
        audiences.push(pki::ISSUER.to_owned());
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    check_seconds(call, seconds)?;
    let bound = &spec["boundObjectRef"];
    let pod = if bound.is_null() { None } else { Some(bound_object(call, bound)?) };
    let now = jiff::Timestamp::now();
    let expires_at = now.as_second() + seconds;
    let claims = pki::TokenClaims {
        namespace: call.path.namespace.clone(),
        service_account: call.path.name.clone(),
        service_account_uid: account.metadata.uid,
        pod,
        audiences: audiences.clone(),
        issued_at: now.as_second(),
        expires_at,
    };
    let token = call.server.token_key.sign(&claims).map_err(ApiError::internal)?;
    let expires = jiff::Timestamp::from_second(expires_at).map_err(ApiError::internal)?;
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["metadata"] = json!({
        "name": call.path.name, "namespace": call.path.namespace, "creationTimestamp": call::timestamp(now),
    });
    request["spec"] = json!({ "audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound });
    request["status"] = json!({ "token": token, "expirationTimestamp": call::timestamp(expires) });
    Ok(call.value(201, &request))
}

fn check_seconds(call: &Call, seconds: i64) -> Result<(), ApiError> {
    let why = match seconds {
        s if s < LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MOST_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let cause = Cause::invalid("spec.expirationSeconds", &json!(seconds), why);
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", &call.path.name, &[cause]))
}

/// Name and uid of the pod that the token is bound to, which must exist.
fn bound_object(call: &Call, reference: &Value) -> Result<(String, String), ApiError> {
    let (kind, version) = (reference["kind"].as_str(), reference["apiVersion"].as_str());
    if kind != Some("Pod") || version != Some("v1") {
        let message = format!("cannot bind token to object of type {}", reference["kind"]);
        return Err(ApiError::bad_request(message));
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let key =
        Key { resource: GroupResource::new("", "pods"), namespace: call.path.namespace.clone(), name: name.to_owned() };
    let pod = call.server.store.get(&key).ok_or_else(|| ApiError::not_found("", "pods", name))?;
    let uid = Head::of(&pod).metadata.uid;
    if let Some(wanted) = reference["uid"].as_str().filter(|wanted| !wanted.is_empty() && *wanted != uid) {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(ApiError::conflict("", "pods", name, &why));
    }
    Ok((name.to_owned(), uid))
}
