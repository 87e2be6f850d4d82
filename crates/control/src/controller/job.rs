//! Jobs: pods that run to their end.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

use super::replica_set::{create_pod, delete_pod};
use crate::engine::{self, Engine};
use crate::queue::Queue;
use crate::{labels, ownership};

const COMPONENT: &str = "job-controller";

/// How many Jobs are worked on at once.
const WORKERS: usize = 4;

/// Reconciles Jobs for ever.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("job", WORKERS, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(job) = engine.jobs.get(key).filter(|job| job.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(labels::selector);
    let Some(selector) = selector else { return Ok(None) };
    let pods = ownership::claim(engine, &*job, &selector, &engine.pods).await?;
    let plan = plan::plan(&job, &pods, Timestamp::now());
    if plan.expired {
        let api = engine.api::<Job>(&key.namespace);
        let uid = job.uid().unwrap_or_default();
        engine::delete(&api, &key.name, &uid, DeleteParams::background()).await?;
        return Ok(None);
    }
    let result = carry_out(engine, &job, &plan).await;
    // The counts are written even if a pod could not be created: they are what the next decision rests on.
    if job.status.as_ref() != Some(&plan.status) {
        let api = engine.api::<Job>(&key.namespace);
        let uid = job.uid().unwrap_or_default();
        engine.jobs.wrote(engine::put_status(&api, &key.name, &uid, &plan.status).await?);
        for event in &plan.events {
            if event.warning {
                engine.recorder.warning(&*job, COMPONENT, event.reason, event.message.clone());
            } else {
                engine.recorder.normal(&*job, COMPONENT, event.reason, event.message.clone());
            }
        }
    }
    result.map(|()| plan.again)
}

async fn carry_out(engine: &Engine, job: &Arc<Job>, plan: &plan::Plan) -> Result<(), kube::Error> {
    let victims = plan.delete.iter().map(|pod: &Arc<Pod>| delete_pod(engine, &**job, pod, COMPONENT));
    for result in futures::future::join_all(victims).await {
        result?;
    }
    let Some(template) = job.spec.as_ref().map(|spec| &spec.template) else { return Ok(()) };
    let (mut left, mut batch) = (plan.create, 1);
    while left > 0 {
        let size = left.min(batch);
        let created = (0..size).map(|_| create_pod(engine, &**job, template, COMPONENT));
        for result in futures::future::join_all(created).await {
            result?;
        }
        left -= size;
        batch *= 2;
    }
    Ok(())
}
