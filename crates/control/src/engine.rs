//! What all controllers share: the client, the caches, and the ways to write.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Config;
use crate::cache::Cache;
use crate::mesh::ControlPlane;
use crate::recorder::Recorder;

/// The name under which the controllers' writes appear in `managedFields` and in events.
pub(crate) const MANAGER: &str = "kube-controller-manager";

/// Shared by all controllers; cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) config: std::sync::Arc<Config>,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Cache<Pod>,
    pub(crate) deployments: Cache<Deployment>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) jobs: Cache<Job>,
    pub(crate) services: Cache<Service>,
    pub(crate) endpoints: Cache<Endpoints>,
    pub(crate) slices: Cache<EndpointSlice>,
    pub(crate) nodes: Cache<Node>,
    pub(crate) namespaces: Cache<Namespace>,
    pub(crate) accounts: Cache<ServiceAccount>,
    pub(crate) mesh: ControlPlane,
}

impl Engine {
    pub(crate) fn new(config: Config, client: Client, recorder: Recorder, mesh: ControlPlane) -> Engine {
        Engine {
            config: std::sync::Arc::new(config),
            client,
            recorder,
            pods: mesh.pods(),
            deployments: Cache::default(),
            replica_sets: Cache::default(),
            jobs: Cache::default(),
            services: Cache::default(),
            endpoints: Cache::default(),
            slices: Cache::default(),
            nodes: Cache::default(),
            namespaces: Cache::default(),
            accounts: Cache::default(),
            mesh,
        }
    }

    /// The objects of one kind in one namespace.
    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Parameters of patches.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// Parameters of creations.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

/// Merges `patch` into the object `name`.
pub(crate) async fn merge<K>(api: &Api<K>, name: &str, patch: &Value) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(name, &patch_params(), &Patch::Merge(patch)).await
}

/// Replaces the whole status of the object `name`, which must still be the one with `uid`.
pub(crate) async fn put_status<K, S>(api: &Api<K>, name: &str, uid: &str, status: &S) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": uid },
        { "op": "add", "path": "/status", "value": status },
    ]);
    let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    api.patch_status(name, &patch_params(), &Patch::Json::<()>(patch)).await
}

/// Deletes the object `name` if it still has `uid`; that it is gone already is fine.
/// Returns the object where it lives on with a deletion timestamp.
pub(crate) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    params: DeleteParams,
) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match api.delete(name, &params.preconditions(preconditions)).await {
        Ok(answer) => Ok(answer.left()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the API server answered with this `code` and, if given, `reason`.
pub(crate) fn refused(error: &kube::Error, code: u16, reason: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code && (reason.is_empty() || status.reason == reason))
}

/// The causes of a refusal, for messages.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The present, to the second, as Kubernetes writes it into objects.
pub(crate) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
