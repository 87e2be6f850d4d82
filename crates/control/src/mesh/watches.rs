//! What the mesh is made of, followed.

use api::NamespacedName;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::{ResourceExt, core::GroupVersionKind};
use serde_json::Value;
use tokio::task::JoinSet;
use tracing::warn;

use super::ControlPlane;
use super::credentials::SELECTED;
use super::declared::{KINDS, Kind};
use crate::engine::Engine;
use crate::feed::{self, Step};

/// The namespace and the name of the ConfigMap with the mesh's configuration.
const MESH_CONFIG: (&str, &str) = ("istio-system", "istio");

/// Follows every kind of Istio's, the mesh's configuration, and the Secrets that gateways may name.
pub(super) fn start(plane: &ControlPlane, engine: &Engine, tasks: &mut JoinSet<()>) {
    for kind in KINDS {
        let (plane, api) = (plane.clone(), Api::all_with(engine.client.clone(), &resource(kind)));
        tasks.spawn(async move { feed::follow(api, "", |step| istio(&plane, kind, step)).await });
    }
    let (holder, api) = (plane.clone(), engine.api::<ConfigMap>(MESH_CONFIG.0));
    tasks.spawn(async move {
        let fields = format!("metadata.name={}", MESH_CONFIG.1);
        feed::follow(api, &fields, |step| configuration(&holder, step)).await;
    });
    let (plane, api) = (plane.clone(), Api::<Secret>::all(engine.client.clone()));
    tasks.spawn(async move {
        feed::follow(api, SELECTED, |step| {
            if plane.credentials().take(step) {
                plane.wake();
            }
        })
        .await;
    });
}

/// How a kind is asked for.
pub(super) fn resource(kind: Kind) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group, kind.version, kind.name), kind.plural)
}

fn istio(plane: &ControlPlane, kind: Kind, step: Step<DynamicObject>) {
    let changed = {
        let mut declared = plane.declared();
        match step {
            Step::Listed(objects, _) => {
                declared.replace(kind, objects.into_iter().filter_map(|object| value(kind, object)).collect())
            }
            Step::Applied(object) => value(kind, object).is_some_and(|value| declared.apply(kind, value)),
            Step::Deleted(object) => {
                let name = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
                declared.remove(kind, &name)
            }
        }
    };
    if changed {
        plane.wake();
    }
}

fn configuration(plane: &ControlPlane, step: Step<ConfigMap>) {
    let map = match step {
        Step::Listed(maps, _) => maps.into_iter().next(),
        Step::Applied(map) => Some(map),
        Step::Deleted(_) => None,
    };
    let value = map.and_then(|map| serde_json::to_value(map).ok());
    if plane.declared().configure(value) {
        plane.wake();
    }
}

/// The JSON form of an object, which says of what kind it is.
fn value(kind: Kind, object: DynamicObject) -> Option<Value> {
    let name = object.name_any();
    match serde_json::to_value(object) {
        Ok(mut value) => {
            value["apiVersion"] = format!("{}/{}", kind.group, kind.version).into();
            value["kind"] = kind.name.into();
            Some(value)
        }
        Err(error) => {
            warn!(kind = kind.name, name, %error, "an object cannot be read");
            None
        }
    }
}
