//! What every namespace has: the service account `default`, and for its pods the CAs of the cluster and of the mesh.

use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::engine::{self, Engine};
use crate::queue::Queue;

const DEFAULT: &str = "default";

/// The ConfigMap that pods read the cluster's CA from.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// The ConfigMap that sidecars read the mesh's roots from.
pub(crate) const MESH_ROOT_CA: &str = "istio-ca-root-cert";

/// Furnishes namespaces for ever; the keys of the queue are theirs.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("namespace-content", 2, &engine, |engine, key| reconcile(engine, &key.name).boxed()).await;
}

async fn reconcile(engine: &Engine, namespace: &str) -> Result<Option<Duration>, kube::Error> {
    let key = NamespacedName::new("", namespace);
    let Some(found) = engine.namespaces.get(&key) else { return Ok(None) };
    if found.metadata.deletion_timestamp.is_none() {
        let root_ca = ("ca.crt", engine.config.ca_pem.clone());
        futures::try_join!(
            ensure_account(engine, namespace),
            ensure_map(engine, namespace, ROOT_CA, root_ca),
            ensure_mesh_root_ca(engine, namespace),
        )?;
    }
    Ok(None)
}

async fn ensure_account(engine: &Engine, namespace: &str) -> Result<(), kube::Error> {
    if engine.accounts.get(&NamespacedName::new(namespace, DEFAULT)).is_some() {
        return Ok(());
    }
    let account = ServiceAccount { metadata: named(namespace, DEFAULT), ..ServiceAccount::default() };
    match engine.api::<ServiceAccount>(namespace).create(&engine::post_params(), &account).await {
        Ok(account) => engine.accounts.wrote(account),
        Err(error) if engine::refused(&error, 409, "AlreadyExists") => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn ensure_mesh_root_ca(engine: &Engine, namespace: &str) -> Result<(), kube::Error> {
    match engine.mesh.authority().roots() {
        Some(roots) => ensure_map(engine, namespace, MESH_ROOT_CA, ("root-cert.pem", roots)).await,
        // As soon as there is a CA, all namespaces come again.
        None => Ok(()),
    }
}

/// Makes the ConfigMap `name` hold this entry and no other.
async fn ensure_map(
    engine: &Engine,
    namespace: &str,
    name: &str,
    (key, text): (&str, String),
) -> Result<(), kube::Error> {
    let api = engine.api::<ConfigMap>(namespace);
    let data = [(key.to_owned(), text.clone())];
    let Some(found) = api.get_opt(name).await? else {
        let map = ConfigMap { metadata: named(namespace, name), data: Some(data.into()), ..ConfigMap::default() };
        return match api.create(&engine::post_params(), &map).await {
            Ok(_) => Ok(()),
            Err(error) if engine::refused(&error, 409, "AlreadyExists") => Ok(()),
            Err(error) => Err(error),
        };
    };
    if found.data != Some(data.into()) {
        let operations = json!({ "data": { "$patch": "replace", key: text } });
        let patch = kube::api::Patch::Strategic(operations);
        api.patch(name, &engine::patch_params(), &patch).await?;
    }
    Ok(())
}

fn named(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() }
}
