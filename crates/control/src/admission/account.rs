//! Service accounts, and their tokens in pods (the `ServiceAccount` admission plugin).

use api::{ApiError, GroupResource, name};
use apiserver::{Key, Operation, Review};
use serde_json::{Value, json};

use super::field::{Field, default, default_text, object_at, set};
use super::{check_name, pod, pod_defaults, verdict};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";

/// Names of service accounts.
pub(super) fn review(review: &mut Review<'_>) -> Result<(), ApiError> {
    if review.operation == Operation::Delete || !review.subresource.is_empty() {
        return Ok(());
    }
    let causes = check_name(review.name, name::check_subdomain).into_iter().collect();
    verdict(review, "", "ServiceAccount", causes)
}

/// Gives the new pod under review its account and, unless declined, the account's token.
pub(super) fn inject(review: &mut Review<'_>) -> Result<(), ApiError> {
    let Some(spec) = object_at(review.object, &["spec"]) else { return Ok(()) };
    default_text(spec, "serviceAccountName", "default");
    pod_defaults::mirror_account(spec);
    let account_name = Field::of(spec, "serviceAccountName").str().to_owned();
    let key = Key {
        resource: GroupResource::new("", "serviceaccounts"),
        namespace: review.namespace.to_owned(),
        name: account_name.clone(),
    };
    let account = match review.store.get(&key) {
        Some(account) => account.value(),
        // The account `default` follows its namespace within moments, and comes back if it is deleted: a pod that
        // arrives in between need not be refused.
        None if account_name == "default" => Value::Null,
        None => {
            let why = format!(
                "error looking up service account {}/{account_name}: serviceaccount {account_name:?} not found",
                review.namespace
            );
            return Err(ApiError::forbidden("", "pods", review.name, &why));
        }
    };
    if let Some(secrets) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty()) {
        default(spec, "imagePullSecrets", secrets.clone());
    }
    let declined = [&spec["automountServiceAccountToken"], &account["automountServiceAccountToken"]];
    if declined.into_iter().find_map(Value::as_bool) != Some(false) {
        mount_token(spec);
    }
    Ok(())
}

/// Puts the token back where an update left out the volume that admission had added.
pub(super) fn keep_token(old: &Value, spec: &mut Value) {
    let is_token = |volume: &&Value| volume["name"].as_str().is_some_and(|name| name.starts_with(VOLUME_PREFIX));
    let token = |spec: &Value| spec["volumes"].as_array().into_iter().flatten().find(is_token).cloned();
    let Some(volume) = token(old).filter(|_| token(spec).is_none()) else { return };
    let name = volume["name"].as_str().unwrap_or_default().to_owned();
    let lists = ["containers", "initContainers"].iter().flat_map(|list| old[*list].as_array().into_iter().flatten());
    let mut mounts = lists.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    if let Some(path) = mounts.find(|mount| mount["name"] == *name).and_then(|mount| mount["mountPath"].as_str()) {
        pod::mount_everywhere(spec, &name, path);
    }
    add_volume(spec, volume);
}

fn mount_token(spec: &mut Value) {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let existing = volumes.filter_map(|v| v["name"].as_str()).find(|n| n.starts_with(VOLUME_PREFIX));
    let existing = existing.map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", crate::random::suffix()));
    if !pod::mount_everywhere(spec, &volume, TOKEN_PATH) || existing.is_some() {
        return;
    }
    let namespace =
        json!({ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } });
    let sources = json!([
        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [namespace] } },
    ]);
    let token = json!({ "name": volume, "projected": { "defaultMode": 0o644, "sources": sources } });
    add_volume(spec, token);
}

fn add_volume(spec: &mut Value, volume: Value) {
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => set(spec, "volumes", json!([volume])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let own = json!({"name": "own", "mountPath": TOKEN_PATH});
        let mut spec = json!({
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [own]}],
        });
        mount_token(&mut spec);
        let volume = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(volume.starts_with(VOLUME_PREFIX));
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], *volume);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["mountPath"], TOKEN_PATH);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let once = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, once);
    }
}
