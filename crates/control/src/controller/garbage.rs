//! Garbage collection: objects whose owners are gone go too, and owners that are deleted in the foreground wait for
//! what they own.
//!
//! [`graph`] remembers who owns whom, from one metadata watch per resource; decisions are made on fresh reads,
//! because the watches of different resources are not in step.

mod graph;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, Preconditions, PropagationPolicy};
use kube::core::discovery::ApiResource;
use serde_json::json;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::engine::{self, Engine};
use crate::feed::{self, Step};
use crate::queue::Queue;
use crate::resources::{self, Served};

use graph::{Graph, Place, Uid};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// How many objects are looked at at once.
const WORKERS: usize = 4;

type Meta = PartialObjectMeta<DynamicObject>;

/// Collects garbage; cheap to clone.
#[derive(Clone)]
pub(crate) struct Collector {
    engine: Engine,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<Uid>,
    /// The resources served, by group and kind.
    served: Arc<Mutex<BTreeMap<(String, String), Served>>>,
}

impl Collector {
    pub(crate) fn new(engine: Engine) -> Collector {
        Collector { engine, graph: Arc::default(), queue: Queue::default(), served: Arc::default() }
    }

    /// Collects for ever.
    pub(crate) async fn run(self) {
        tokio::join!(
            self.watch_resources(),
            self.queue.work("garbage-collector", WORKERS, &self, |collector, uid| collector.reconcile(uid).boxed()),
        );
    }

    /// Follows every resource, and those that definitions add or take away.
    async fn watch_resources(&self) {
        let definitions = ApiResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
        };
        let changed = tokio::sync::Notify::new();
        let api: Api<Meta> = Api::all_with(self.engine.client.clone(), &definitions);
        let follow = feed::follow(api, "", |_| changed.notify_one());
        let refresh = async {
            let mut watches = Watches::default();
            loop {
                match resources::served(&self.engine.client).await {
                    Ok(served) => self.refresh(served, &mut watches),
                    Err(error) => {
                        warn!(%error, "cannot discover resources; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                }
                changed.notified().await;
            }
        };
        tokio::join!(follow, refresh);
    }

    fn refresh(&self, served: Vec<Served>, watches: &mut Watches) {
        let mut wanted = BTreeMap::new();
        for item in served {
            wanted.insert((item.resource.group.clone(), item.resource.kind.clone()), item);
        }
        // Events are about objects and belong to none.
        let is_watched = |key: &(String, String)| key.1 != "Event";
        watches.0.retain(|key, watch| {
            let stays = wanted.get(key).is_some_and(|served| served.resource == watch.resource);
            if !stays {
                watch.task.abort();
            }
            stays
        });
        for (key, item) in wanted.iter().filter(|(key, _)| is_watched(key)) {
            watches.0.entry(key.clone()).or_insert_with(|| {
                let (collector, resource) = (self.clone(), item.resource.clone());
                let task = tokio::spawn(collector.follow(resource.clone()));
                Watch { resource, task }
            });
        }
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    async fn follow(self, resource: ApiResource) {
        let api: Api<Meta> = Api::all_with(self.engine.client.clone(), &resource);
        let place = |object: &Meta| Place {
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        };
        feed::follow(api, "", |step| {
            let mut graph = self.graph();
            let affected = match step {
                Step::Applied(object) => graph.observe(place(&object), &object.metadata),
                Step::Deleted(object) => graph.forget(&object.uid().unwrap_or_default()),
                Step::Listed(objects, _) => {
                    let objects = objects.into_iter().map(|object| (place(&object), object.metadata));
                    graph.replace(&resource.group, &resource.kind, objects)
                }
            };
            drop(graph);
            affected.into_iter().for_each(|uid| self.queue.add(uid));
        })
        .await;
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resource(&self, group: &str, kind: &str) -> Option<Served> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    fn api(&self, place: &Place) -> Option<Api<Meta>> {
        let served = self.resource(&place.group, &place.kind)?;
        let client = self.engine.client.clone();
        Some(if served.namespaced {
            Api::namespaced_with(client, &place.namespace, &served.resource)
        } else {
            Api::all_with(client, &served.resource)
        })
    }

    async fn reconcile(&self, uid: &Uid) -> Result<Option<Duration>, kube::Error> {
        let Some(place) = self.graph().place(uid) else { return Ok(None) };
        let Some(api) = self.api(&place) else { return Ok(None) };
        let Some(object) = api.get_opt(&place.name).await?.filter(|object| object.uid().as_ref() == Some(&uid.0))
        else {
            return Ok(None);
        };
        if object.metadata.deletion_timestamp.is_some() {
            if object.finalizers().iter().any(|f| f == ORPHAN) {
                return self.orphan_dependents(uid, &api, &object).await.map(|()| None);
            }
            if object.finalizers().iter().any(|f| f == FOREGROUND) {
                return self.await_dependents(uid, &api, &object).await.map(|()| None);
            }
            return Ok(None);
        }
        self.judge(uid, &api, &place, &object).await.map(|()| None)
    }

    /// Deletes the object if all its owners are gone; otherwise drops the references to those that are.
    async fn judge(&self, uid: &Uid, api: &Api<Meta>, place: &Place, object: &Meta) -> Result<(), kube::Error> {
        let (mut solid, mut stale, mut waiting) = (0, Vec::new(), Vec::new());
        for reference in object.owner_references() {
            match self.owner(place, reference).await? {
                Owner::Alive => solid += 1,
                Owner::Absent => stale.push(reference.uid.clone()),
                Owner::Waiting => waiting.push(reference.uid.clone()),
                // An owner of a kind that is not served may come back; without knowing, nothing is deleted.
                Owner::Unknown => solid += 1,
            }
        }
        if object.owner_references().is_empty() || (solid > 0 && stale.is_empty() && waiting.is_empty()) {
            return Ok(());
        }
        if solid > 0 {
            stale.append(&mut waiting);
            return self.drop_references(api, object, &stale).await;
        }
        let policy = if object.finalizers().iter().any(|f| f == ORPHAN) {
            PropagationPolicy::Orphan
        } else if !waiting.is_empty() && self.graph().has_dependents(uid) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        match api.delete(&place.name, &params.preconditions(preconditions)).await {
            Ok(_) => Ok(()),
            Err(error) if engine::refused(&error, 404, "") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn owner(&self, dependent: &Place, reference: &OwnerReference) -> Result<Owner, kube::Error> {
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(served) = self.resource(group, &reference.kind) else { return Ok(Owner::Unknown) };
        let namespace = if served.namespaced { dependent.namespace.clone() } else { String::new() };
        if served.namespaced && namespace.is_empty() {
            // A cluster-scoped object cannot be owned by one in a namespace; Kubernetes leaves it alone.
            return Ok(Owner::Unknown);
        }
        let place =
            Place { group: group.to_owned(), kind: reference.kind.clone(), namespace, name: reference.name.clone() };
        let Some(api) = self.api(&place) else { return Ok(Owner::Unknown) };
        let Some(owner) = api.get_opt(&reference.name).await? else { return Ok(Owner::Absent) };
        if owner.uid().as_ref() != Some(&reference.uid) {
            return Ok(Owner::Absent);
        }
        let is_waiting =
            owner.metadata.deletion_timestamp.is_some() && owner.finalizers().iter().any(|f| f == FOREGROUND);
        Ok(if is_waiting { Owner::Waiting } else { Owner::Alive })
    }

    async fn drop_references(&self, api: &Api<Meta>, object: &Meta, gone: &[String]) -> Result<(), kube::Error> {
        let mut kept = object.owner_references().to_vec();
        kept.retain(|reference| !gone.contains(&reference.uid));
        self.patch(api, object, json!({ "ownerReferences": kept })).await
    }

    async fn patch(&self, api: &Api<Meta>, object: &Meta, mut metadata: serde_json::Value) -> Result<(), kube::Error> {
        metadata["uid"] = json!(object.uid());
        metadata["resourceVersion"] = json!(object.resource_version());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        match api.patch(&object.name_any(), &engine::patch_params(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if engine::refused(&error, 404, "") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove_finalizer(&self, api: &Api<Meta>, object: &Meta, finalizer: &str) -> Result<(), kube::Error> {
        let kept: Vec<&String> = object.finalizers().iter().filter(|f| *f != finalizer).collect();
        self.patch(api, object, json!({ "finalizers": kept })).await
    }

    /// Frees all dependents of an owner that wants to leave them behind, then lets it go.
    async fn orphan_dependents(&self, uid: &Uid, api: &Api<Meta>, owner: &Meta) -> Result<(), kube::Error> {
        let dependents = self.graph().dependents(uid);
        for (_, place) in dependents {
            let Some(api) = self.api(&place) else { continue };
            if let Some(dependent) = api.get_opt(&place.name).await? {
                let owned = dependent.owner_references().iter().any(|reference| reference.uid == uid.0);
                if owned {
                    self.drop_references(&api, &dependent, std::slice::from_ref(&uid.0)).await?;
                }
            }
        }
        self.remove_finalizer(api, owner, ORPHAN).await
    }

    /// Has the dependents deleted, and lets the owner go once none is left that blocks it.
    async fn await_dependents(&self, uid: &Uid, api: &Api<Meta>, owner: &Meta) -> Result<(), kube::Error> {
        let (blocking, dependents) = {
            let graph = self.graph();
            (graph.blocks(uid), graph.dependents(uid))
        };
        if !blocking {
            return self.remove_finalizer(api, owner, FOREGROUND).await;
        }
        dependents.into_iter().for_each(|(dependent, _)| self.queue.add(dependent));
        Ok(())
    }
}

/// What has become of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Alive,
    Absent,
    /// It is being deleted, and waits for its dependents.
    Waiting,
    /// Its kind is not served.
    Unknown,
}

struct Watch {
    resource: ApiResource,
    task: JoinHandle<()>,
}

/// The running watches; they end with this.
#[derive(Default)]
struct Watches(BTreeMap<(String, String), Watch>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.values().for_each(|watch| watch.task.abort());
    }
}
