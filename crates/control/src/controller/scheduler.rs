//! The scheduler: binds pods to a node that fits, or says why none does.

mod fit;

use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Binding, Node, ObjectReference, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PostParams};
use serde_json::json;

use crate::engine::{self, Engine};
use crate::queue::Queue;

const COMPONENT: &str = "default-scheduler";

/// How many pods are placed at once.
const WORKERS: usize = 4;

/// Places pods for ever.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("scheduler", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

/// Whether the pod waits for this scheduler.
pub(crate) fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(COMPONENT);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    node.is_empty()
        && scheduler == COMPONENT
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(pod) = engine.pods.get(key).filter(|pod| is_waiting(pod)) else { return Ok(None) };
    let nodes = engine.nodes.all();
    let neighbours = engine.pods.all();
    match fit::choose(&pod, &nodes, &neighbours) {
        Ok(node) => bind(engine, &pod, &node).await?,
        Err(why) => put_off(engine, &pod, why).await?,
    }
    Ok(None)
}

async fn bind(engine: &Engine, pod: &Arc<Pod>, node: &Node) -> Result<(), kube::Error> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let target = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(node.name_any()),
        ..ObjectReference::default()
    };
    let mut binding = Binding { target, ..Binding::default() };
    binding.metadata.name = Some(name.clone());
    binding.metadata.namespace = Some(namespace.clone());
    binding.metadata.uid = pod.uid();
    let api = engine.api::<Pod>(&namespace);
    let answer: Result<serde_json::Value, _> =
        api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    match answer {
        Ok(_) => {
            let message = format!("Successfully assigned {namespace}/{name} to {}", node.name_any());
            engine.recorder.normal(&**pod, COMPONENT, "Scheduled", message);
            Ok(())
        }
        // Somebody else was faster, or the pod is gone.
        Err(error) if engine::refused(&error, 409, "") || engine::refused(&error, 404, "") => Ok(()),
        Err(error) => Err(error),
    }
}

/// Leaves the pod `Pending`, with the reason on it. It is looked at again when a node or another pod changes.
async fn put_off(engine: &Engine, pod: &Arc<Pod>, why: String) -> Result<(), kube::Error> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let told = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    if told.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(&why)) {
        return Ok(());
    }
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
        "lastProbeTime": null, "lastTransitionTime": engine::now(),
    });
    let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [condition] } });
    let api = engine.api::<Pod>(&pod.namespace().unwrap_or_default());
    let changed = api.patch_status(&pod.name_any(), &engine::patch_params(), &Patch::Strategic(patch)).await?;
    engine.pods.wrote(changed);
    engine.recorder.warning(&**pod, COMPONENT, "FailedScheduling", why);
    Ok(())
}
