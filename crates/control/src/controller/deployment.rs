//! Deployments: ReplicaSets for each version of a template, and the way from one to the next.
//!
//! [`plan`] decides from a snapshot what to do next and what to report; here it is carried out. Every step changes
//! something that is watched, so the next step follows from a new snapshot.

mod plan;
mod revision;
mod rolling;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::engine::{self, Engine};
use crate::queue::Queue;
use crate::{labels, ownership};

use plan::{Action, Snapshot};

const COMPONENT: &str = "deployment-controller";

/// How many Deployments are worked on at once.
const WORKERS: usize = 4;

/// Reconciles Deployments for ever.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("deployment", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(deployment) = engine.deployments.get(key) else { return Ok(None) };
    let selector = deployment.spec.as_ref().and_then(|spec| labels::selector(&spec.selector));
    let Some(selector) = selector else { return Ok(None) };
    let sets = ownership::claim(engine, &*deployment, &selector, &engine.replica_sets).await?;
    let pods = pods_of(engine, &sets, &key.namespace);
    let snapshot = Snapshot { deployment: &deployment, sets: &sets, pods: &pods, now: Timestamp::now() };
    let plan = plan::plan(&snapshot);
    for action in plan.actions {
        carry_out(engine, &deployment, action).await?;
    }
    if deployment.status.as_ref() != Some(&plan.status) {
        put_status(engine, &deployment, &plan.status).await?;
    }
    Ok(plan.again)
}

/// The pods of the sets, whose end a `Recreate` waits for.
fn pods_of(engine: &Engine, sets: &[Arc<ReplicaSet>], namespace: &str) -> Vec<Arc<Pod>> {
    let owners: Vec<String> = sets.iter().filter_map(|set| set.uid()).collect();
    engine.pods.pick(namespace, |pod| ownership::controller(pod).is_some_and(|owner| owners.contains(&owner.uid)))
}

async fn put_status(
    engine: &Engine,
    deployment: &Deployment,
    status: &k8s_openapi::api::apps::v1::DeploymentStatus,
) -> Result<(), kube::Error> {
    let api = engine.api::<Deployment>(&deployment.namespace().unwrap_or_default());
    let uid = deployment.uid().unwrap_or_default();
    engine.deployments.wrote(engine::put_status(&api, &deployment.name_any(), &uid, status).await?);
    Ok(())
}

async fn carry_out(engine: &Engine, deployment: &Deployment, action: Action) -> Result<(), kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let sets = engine.api::<ReplicaSet>(&namespace);
    match action {
        Action::Create(set) => create(engine, deployment, *set).await,
        Action::Scale { set, replicas, annotations } => {
            let from = plan::replicas(&set);
            let patch = json!({
                "metadata": { "annotations": annotations, "resourceVersion": set.resource_version() },
                "spec": { "replicas": replicas },
            });
            let name = set.name_any();
            engine.replica_sets.wrote(engine::merge(&sets, &name, &patch).await?);
            tell_scaling(engine, deployment, &name, from, replicas);
            Ok(())
        }
        Action::AnnotateSet { set, annotations } => {
            let patch = json!({
                "metadata": { "annotations": annotations, "resourceVersion": set.resource_version() },
                "spec": { "minReadySeconds": deployment.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0) },
            });
            engine.replica_sets.wrote(engine::merge(&sets, &set.name_any(), &patch).await?);
            Ok(())
        }
        Action::Delete(set) => {
            let uid = set.uid().unwrap_or_default();
            engine::delete(&sets, &set.name_any(), &uid, DeleteParams::background()).await?;
            Ok(())
        }
        Action::SetRevision(revision) => {
            let api = engine.api::<Deployment>(&namespace);
            let patch = json!({ "metadata": { "annotations": { revision::REVISION: revision.to_string() } } });
            engine.deployments.wrote(engine::merge(&api, &deployment.name_any(), &patch).await?);
            Ok(())
        }
    }
}

/// Creates the new ReplicaSet. Its name is the hash of its template; if somebody else's set has that name, the
/// collision is counted and enters the next hash.
async fn create(engine: &Engine, deployment: &Deployment, set: ReplicaSet) -> Result<(), kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let api = engine.api::<ReplicaSet>(&namespace);
    let (name, replicas) = (set.name_any(), plan::replicas(&set));
    match api.create(&engine::post_params(), &set).await {
        Ok(created) => {
            engine.replica_sets.wrote(created);
            if replicas > 0 {
                tell_scaling(engine, deployment, &name, 0, replicas);
            }
            Ok(())
        }
        Err(error) if engine::refused(&error, 409, "AlreadyExists") => {
            let existing = api.get(&name).await?;
            let own = ownership::controller(&existing).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
            if own && revision::same_template(&existing, deployment) {
                engine.replica_sets.wrote(existing);
                return Ok(());
            }
            let mut status = deployment.status.clone().unwrap_or_default();
            status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            put_status(engine, deployment, &status).await?;
            Err(error)
        }
        Err(error) => {
            let status = status::create_failed(deployment, &name, &engine::message(&error), Timestamp::now());
            put_status(engine, deployment, &status).await?;
            let message = format!("Failed to create new replica set {name:?}: {}", engine::message(&error));
            engine.recorder.warning(deployment, COMPONENT, "ReplicaSetCreateError", message);
            Err(error)
        }
    }
}

fn tell_scaling(engine: &Engine, deployment: &Deployment, set: &str, from: i32, to: i32) {
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        engine.recorder.normal(deployment, COMPONENT, "ScalingReplicaSet", message);
    }
}

#[cfg(test)]
mod tests;
