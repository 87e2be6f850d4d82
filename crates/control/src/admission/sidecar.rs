//! Sidecars for new pods (Istio's `namespace.sidecar-injector.istio.io`).

use api::ApiError;
use api::GroupResource;
use api::istio::MeshConfig;
use apiserver::{Key, Operation, Review};
use serde_json::Value;

use super::istio::denied;
use crate::injection::{self, Namespace, Settings, Workload};
use crate::{Config, DataPlane};

/// Injects what pods of this cluster get.
pub(super) struct Injector {
    cluster: String,
    data_plane: DataPlane,
}

impl Injector {
    pub(super) fn new(config: &Config) -> Injector {
        Injector { cluster: config.cluster.clone(), data_plane: config.data_plane.clone() }
    }

    /// Gives a new pod its proxy if it is to have one, and tells any proxy which cluster it is in.
    pub(super) fn review(&self, review: &mut Review<'_>) -> Result<(), ApiError> {
        if review.operation != Operation::Create || !review.subresource.is_empty() {
            return Ok(());
        }
        let labels =
            object(review, "namespaces", "", review.namespace).map(|namespace| namespace["metadata"]["labels"].clone());
        let namespace = Namespace { name: review.namespace, labels: &labels.unwrap_or_default() };
        let wanted = injection::wanted(&namespace, review.object);
        if !wanted && !injection::has_proxy(review.object) {
            return Ok(());
        }
        let mesh = mesh_config(review);
        if wanted {
            let pod = review.object.clone();
            let workload = Workload::of(&pod, review.namespace);
            injection::inject(review.object, &workload, &mesh.default_config)
                .map_err(|why| denied("namespace.sidecar-injector.istio.io", why))?;
        }
        let settings = Settings { cluster: &self.cluster, data_plane: &self.data_plane, mesh: &mesh };
        injection::complete(review.object, &settings);
        Ok(())
    }
}

/// The mesh's configuration; what cannot be read leaves the defaults, as for proxies that run already.
fn mesh_config(review: &Review<'_>) -> MeshConfig {
    let map = object(review, "configmaps", "istio-system", "istio");
    let text = map.as_ref().and_then(|map| map["data"]["mesh"].as_str());
    let read = text.and_then(|text| MeshConfig::from_yaml(text).ok());
    read.map(|(mesh, _)| mesh).unwrap_or_default()
}

fn object(review: &Review<'_>, resource: &str, namespace: &str, name: &str) -> Option<Value> {
    let resource = GroupResource::new("", resource);
    let key = Key { resource, namespace: namespace.to_owned(), name: name.to_owned() };
    review.store.get(&key).map(|object| object.value())
}
