//! ReplicaSets: as many pods as asked for.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::engine::{self, Engine};
use crate::queue::Queue;
use crate::{labels, ownership, random};

pub(crate) use plan::{is_active, is_ready};

const COMPONENT: &str = "replicaset-controller";

/// How many ReplicaSets are worked on at once.
const WORKERS: usize = 4;

/// Reconciles ReplicaSets for ever.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("replicaset", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(set) = engine.replica_sets.get(key) else { return Ok(None) };
    let Some(selector) = set.spec.as_ref().and_then(|spec| labels::selector(&spec.selector)) else { return Ok(None) };
    let mut pods = ownership::claim(engine, &*set, &selector, &engine.pods).await?;
    let mut failure = None;
    if set.metadata.deletion_timestamp.is_none() {
        match plan::scale(&set, &pods) {
            plan::Scale::Keep => {}
            plan::Scale::Create(count) => failure = create(engine, &set, count).await,
            plan::Scale::Delete(victims) => failure = delete(engine, &set, &victims).await,
        }
        let uid = set.uid();
        pods = engine.pods.pick(&key.namespace, |pod| {
            ownership::controller(pod).is_some_and(|owner| Some(&owner.uid) == uid.as_ref())
        });
    }
    let now = Timestamp::now();
    let status = plan::status(&set, &pods, failure.as_ref().map(|(reason, e)| (*reason, engine::message(e))), now);
    if set.status.as_ref() != Some(&status) {
        let api = engine.api::<ReplicaSet>(&key.namespace);
        let uid = set.uid().unwrap_or_default();
        engine.replica_sets.wrote(engine::put_status(&api, &key.name, &uid, &status).await?);
    }
    match failure {
        Some((_, error)) => Err(error),
        None => Ok(plan::next_available(&set, &pods, now)),
    }
}

type Failure = Option<(&'static str, kube::Error)>;

/// Creates pods in batches of 1, 2, 4, …, so that a template that is refused is refused once and not a thousand times.
async fn create(engine: &Engine, set: &Arc<ReplicaSet>, count: usize) -> Failure {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref())?;
    let (mut left, mut batch) = (count, 1);
    while left > 0 {
        let size = batch.min(left);
        let results = (0..size).map(|_| create_pod(engine, &**set, template, COMPONENT));
        for result in futures::future::join_all(results).await {
            if let Err(error) = result {
                return Some(("FailedCreate", error));
            }
        }
        left -= size;
        batch *= 2;
    }
    None
}

/// Creates a pod that `owner` controls from its template, and tells about it.
pub(crate) async fn create_pod<O>(
    engine: &Engine,
    owner: &O,
    template: &PodTemplateSpec,
    component: &'static str,
) -> Result<(), kube::Error>
where
    O: kube::Resource<DynamicType = ()>,
{
    let namespace = owner.namespace().unwrap_or_default();
    let pod = pod_of(owner, template, &random::suffix());
    match engine.api::<Pod>(&namespace).create(&engine::post_params(), &pod).await {
        Ok(pod) => {
            engine.recorder.normal(owner, component, "SuccessfulCreate", format!("Created pod: {}", pod.name_any()));
            engine.pods.wrote(pod);
            Ok(())
        }
        Err(error) => {
            // In a namespace that is being deleted nothing can be created, and nobody needs to be told.
            if !engine::refused(&error, 403, "Forbidden") || !engine::message(&error).contains("being terminated") {
                let message = format!("Error creating: {}", engine::message(&error));
                engine.recorder.warning(owner, component, "FailedCreate", message);
            }
            Err(error)
        }
    }
}

fn pod_of<O: kube::Resource<DynamicType = ()>>(owner: &O, template: &PodTemplateSpec, suffix: &str) -> Pod {
    // Kubernetes cuts the base so that names stay labels of DNS.
    let base: String = owner.name_any().chars().take(57).collect();
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(format!("{base}-{suffix}")),
            generate_name: Some(format!("{base}-")),
            namespace: owner.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![ownership::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

async fn delete(engine: &Engine, set: &Arc<ReplicaSet>, victims: &[Arc<Pod>]) -> Failure {
    let results = victims.iter().map(|pod| delete_pod(engine, &**set, pod, COMPONENT));
    let results = futures::future::join_all(results).await;
    results.into_iter().find_map(Result::err).map(|error| ("FailedDelete", error))
}

/// Deletes a pod on behalf of `owner`, and tells about it.
pub(crate) async fn delete_pod<O>(
    engine: &Engine,
    owner: &O,
    pod: &Pod,
    component: &'static str,
) -> Result<(), kube::Error>
where
    O: kube::Resource<DynamicType = ()>,
{
    let api = engine.api::<Pod>(&pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    match engine::delete(&api, &name, &pod.uid().unwrap_or_default(), DeleteParams::default()).await {
        Ok(leaving) => {
            match leaving {
                Some(leaving) if leaving.metadata.deletion_timestamp.is_some() => engine.pods.wrote(leaving),
                Some(gone) => engine.pods.removed(&gone),
                None => {}
            }
            engine.recorder.normal(owner, component, "SuccessfulDelete", format!("Deleted pod: {name}"));
            Ok(())
        }
        Err(error) => {
            let message = format!("Error deleting: {}", engine::message(&error));
            engine.recorder.warning(owner, component, "FailedDelete", message);
            Err(error)
        }
    }
}
