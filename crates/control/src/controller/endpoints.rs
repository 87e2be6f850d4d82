//! Endpoints and EndpointSlices of services, from the pods that their selectors select.
//!
//! Kubernetes has three controllers for this. They are one here, because they look at the same pods and services:
//! a service with a selector gets Endpoints and slices, one without gets slices that mirror hand-written
//! Endpoints, and slices written by hand are left alone.

mod members;
mod slices;

use std::time::Duration;

use api::{LabelSelector, NamespacedName};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch};
use serde_json::json;

use crate::engine::{self, Engine};
use crate::labels;
use crate::queue::Queue;

use slices::{MANAGED_BY, MIRROR, SELECTED, SKIP_MIRROR, Slice};

/// How many services are worked on at once.
const WORKERS: usize = 4;

/// The label on Endpoints that this controller wrote.
const OWN: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");

/// Reconciles the endpoints of services for ever.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("endpoints", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

/// The services that a pod belongs to, now or before its change.
pub(crate) fn services_of<'a>(engine: &Engine, states: impl Iterator<Item = &'a Pod>) -> Vec<NamespacedName> {
    let states: Vec<&Pod> = states.collect();
    let Some(namespace) = states.first().map(|pod| pod.namespace().unwrap_or_default()) else { return Vec::new() };
    let selects = |service: &Service| {
        let selector = selector(service);
        selector.is_some_and(|selector| states.iter().any(|pod| labels::selects(&selector, &pod.metadata)))
    };
    engine.services.pick(&namespace, selects).iter().map(|service| crate::cache::key_of(&**service)).collect()
}

/// What a service selects by; `None` if it has no selector, or needs no endpoints.
fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty()).map(LabelSelector::from_labels)
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(service) = engine.services.get(key).filter(|service| service.metadata.deletion_timestamp.is_none()) else {
        return remove(engine, key).await.map(|()| None);
    };
    match selector(&service) {
        Some(selector) => {
            let pods = engine.pods.pick(&key.namespace, |pod| labels::selects(&selector, &pod.metadata));
            let members = members::of(&service, &pods);
            write_endpoints(engine, &service, &members).await?;
            write_slices(engine, key, SELECTED, slices::selected(&service, &members)).await?;
            write_slices(engine, key, MIRROR, Vec::new()).await?;
        }
        None => {
            if service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")) {
                write_slices(engine, key, SELECTED, Vec::new()).await?;
            }
            mirror(engine, key).await?;
        }
    }
    Ok(None)
}

/// Removes the endpoints of a service that is gone. Its slices go with it by their owner references; those of
/// Endpoints without a service are not mirrored any more.
async fn remove(engine: &Engine, key: &NamespacedName) -> Result<(), kube::Error> {
    if let Some(endpoints) = engine.endpoints.get(key).filter(|e| e.labels().get(OWN.0).is_some_and(|v| v == OWN.1)) {
        let api = engine.api::<Endpoints>(&key.namespace);
        let uid = endpoints.uid().unwrap_or_default();
        engine::delete(&api, &key.name, &uid, DeleteParams::default()).await?;
    }
    write_slices(engine, key, SELECTED, Vec::new()).await?;
    write_slices(engine, key, MIRROR, Vec::new()).await
}

async fn mirror(engine: &Engine, key: &NamespacedName) -> Result<(), kube::Error> {
    let endpoints = engine.endpoints.get(key).filter(|endpoints| {
        let labels = endpoints.labels();
        labels.get(SKIP_MIRROR).is_none_or(|v| v != "true")
            && labels.get(OWN.0).is_none_or(|v| v != OWN.1)
            && !endpoints.annotations().contains_key("control-plane.alpha.kubernetes.io/leader")
    });
    let slices = endpoints.map(|endpoints| slices::mirrored(&endpoints)).unwrap_or_default();
    write_slices(engine, key, MIRROR, slices).await
}

async fn write_endpoints(engine: &Engine, service: &Service, members: &[members::Member]) -> Result<(), kube::Error> {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let subsets = members::subsets(members);
    let mut labels = service.labels().clone();
    labels.insert(OWN.0.to_owned(), OWN.1.to_owned());
    if service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None")) {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    let api = engine.api::<Endpoints>(&namespace);
    let key = NamespacedName::new(namespace.clone(), name.clone());
    let written = match engine.endpoints.get(&key) {
        Some(found) if found.subsets.clone().unwrap_or_default() == subsets && *found.labels() == labels => {
            return Ok(());
        }
        Some(found) => {
            let operations = json!([
                { "op": "test", "path": "/metadata/uid", "value": found.uid() },
                { "op": "add", "path": "/metadata/labels", "value": labels },
                { "op": "add", "path": "/subsets", "value": subsets },
            ]);
            let patch: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
            api.patch(&name, &engine::patch_params(), &Patch::Json::<()>(patch)).await?
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(name),
                namespace: Some(namespace),
                labels: Some(labels),
                ..ObjectMeta::default()
            };
            let subsets = (!subsets.is_empty()).then_some(subsets);
            api.create(&engine::post_params(), &Endpoints { metadata, subsets }).await?
        }
    };
    engine.endpoints.wrote(written);
    Ok(())
}

/// Makes the slices of `manager` for the service at `key` be `wanted`, reusing those that exist.
async fn write_slices(
    engine: &Engine,
    key: &NamespacedName,
    manager: &str,
    wanted: Vec<Slice>,
) -> Result<(), kube::Error> {
    let existing = engine.slices.pick(&key.namespace, |slice| {
        let labels = slice.labels();
        labels.get(slices::SERVICE) == Some(&key.name)
            && labels.get(MANAGED_BY).is_some_and(|by| by == manager)
            && slice.metadata.deletion_timestamp.is_none()
    });
    let api = engine.api::<EndpointSlice>(&key.namespace);
    for change in slices::changes(&existing, wanted) {
        match change {
            slices::Change::Create(slice) => {
                engine.slices.wrote(api.create(&engine::post_params(), &slice).await?);
            }
            slices::Change::Update(found, slice) => {
                let patch = json!({
                    "metadata": { "labels": slice.metadata.labels, "resourceVersion": found.resource_version() },
                    "endpoints": slice.endpoints, "ports": slice.ports,
                });
                engine.slices.wrote(engine::merge(&api, &found.name_any(), &patch).await?);
            }
            slices::Change::Delete(found) => {
                let uid = found.uid().unwrap_or_default();
                engine::delete(&api, &found.name_any(), &uid, DeleteParams::default()).await?;
            }
        }
    }
    Ok(())
}
