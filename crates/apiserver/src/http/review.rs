//! Kinds that are only asked, never stored: access reviews, token reviews, who am I.

use api::{ApiError, Cause};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::Body;
use super::admission::{self, Draft};
use super::authorization::{Action, Rule};
use super::call::{self, Call};
use super::create::match_namespace;
use super::object::list_of_strings;
use super::{answer, decode};
use crate::extension::UserInfo;

/// Answers a review with its status filled in.
pub(super) fn create(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let mut draft = Draft::new(call)?;
    let mut review = draft.decode(decode::encoding(&call.headers)?, &body)?;
    if call.kind.namespaced {
        match_namespace(call, &mut review)?;
    }
    let status = match call.path.resource.as_str() {
        "selfsubjectreviews" => {
            review["metadata"]["creationTimestamp"] = call::now().into();
            json!({ "userInfo": user_info(&call.user) })
        }
        "tokenreviews" => token_status(call, &review["spec"])?,
        "selfsubjectaccessreviews" => access_status(call, &call.user, &review["spec"])?,
        "subjectaccessreviews" => access_status(call, &subject(call, &review["spec"])?, &review["spec"])?,
        "localsubjectaccessreviews" => {
            let attributes = &review["spec"]["resourceAttributes"];
            if attributes["namespace"] != call.path.namespace.as_str() {
                let why = format!("spec.resourceAttributes.namespace must match namespace: {}", call.path.namespace);
                return Err(ApiError::bad_request(why));
            }
            access_status(call, &subject(call, &review["spec"])?, &review["spec"])?
        }
        "selfsubjectrulesreviews" => rules_status(call, &review["spec"])?,
        _ => return Err(ApiError::method_not_allowed()),
    };
    review["status"] = status;
    let mut response = call.value(201, &review);
    answer::warn(&mut response, &draft.warnings);
    Ok(response)
}

fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn refuse(call: &Call, cause: Cause) -> ApiError {
    admission::invalid(&call.kind, "", &[cause])
}

fn subject(call: &Call, spec: &Value) -> Result<UserInfo, ApiError> {
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = list_of_strings(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(refuse(call, Cause::invalid("spec.user", &json!(""), why)));
    }
    Ok(UserInfo { name, groups, ..UserInfo::default() })
}

fn access_status(call: &Call, user: &UserInfo, spec: &Value) -> Result<Value, ApiError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |value: &'_ Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let allowed = match (resource.is_object(), path.is_object()) {
        (true, false) => {
            let [verb, group, resource_name, subresource, namespace, name] =
                ["verb", "group", "resource", "subresource", "namespace", "name"].map(|field| text(resource, field));
            call.server.allowed(
                user,
                &Action::Resource {
                    verb: &verb,
                    group: &group,
                    resource: &resource_name,
                    subresource: &subresource,
                    namespace: &namespace,
                    name: &name,
                },
            )
        }
        (false, true) => {
            let (verb, path) = (text(path, "verb"), text(path, "path"));
            call.server.allowed(user, &Action::Path { verb: &verb, path: &path })
        }
        _ => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(refuse(call, Cause::invalid("spec.resourceAttributes", resource, why)));
        }
    };
    Ok(if allowed { json!({ "allowed": true, "reason": "allowed by RBAC" }) } else { json!({ "allowed": false }) })
}

fn token_status(call: &Call, spec: &Value) -> Result<Value, ApiError> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let asked = list_of_strings(&spec["audiences"]);
    let mut audiences: Vec<&str> = asked.iter().map(String::as_str).collect();
    if audiences.is_empty() {
        audiences.push(pki::ISSUER);
    }
    Ok(match call.server.token_user(token, &audiences) {
        Some((user, shared)) => json!({ "authenticated": true, "user": user_info(&user), "audiences": shared }),
        None => json!({ "authenticated": false, "user": {}, "error": "invalid bearer token" }),
    })
}

fn rules_status(call: &Call, spec: &Value) -> Result<Value, ApiError> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let rules = call.server.rules_of(&call.user, namespace);
    let (paths, resources): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.resources.is_empty());
    let resource = |rule: &&Rule| {
        let mut shown = json!({ "verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources });
        if !rule.names.is_empty() {
            shown["resourceNames"] = json!(rule.names);
        }
        shown
    };
    let path = |rule: &&Rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.urls });
    Ok(json!({
        "resourceRules": resources.iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": paths.iter().map(path).collect::<Vec<_>>(),
        "incomplete": false,
    }))
}
