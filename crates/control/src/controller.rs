//! The controllers, and which changes wake which of them.

mod account;
mod deployment;
mod endpoints;
mod garbage;
mod job;
mod load_balancer;
mod namespace;
mod replica_set;
mod scheduler;

use api::NamespacedName;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, PartialObjectMeta};
use tokio::task::JoinSet;

use crate::cache::{Change, key_of};
use crate::engine::Engine;
use crate::feed::{self, Step};
use crate::mesh::ControlPlane;
use crate::ownership::controller_key;
use crate::queue::Queue;

/// The work queues of all controllers.
#[derive(Clone, Default)]
struct Queues {
    deployments: Queue<NamespacedName>,
    replica_sets: Queue<NamespacedName>,
    jobs: Queue<NamespacedName>,
    pods: Queue<NamespacedName>,
    endpoints: Queue<NamespacedName>,
    load_balancers: Queue<NamespacedName>,
    /// Namespaces, for what each must contain.
    furnish: Queue<NamespacedName>,
    /// Namespaces, for their end.
    namespaces: Queue<NamespacedName>,
}

/// Starts every watch and every controller. The tasks end with the set.
pub(crate) async fn start(engine: &Engine) -> JoinSet<()> {
    let queues = Queues::default();
    let mut tasks = JoinSet::new();
    engine.mesh.start(engine, &mut tasks);
    watch_workloads(engine, &queues, &mut tasks);
    watch_services(engine, &queues, &mut tasks);
    watch_cluster(engine, &queues, &mut tasks);
    tasks.spawn(garbage::Collector::new(engine.clone()).run());
    // Deciding on half a picture would create pods that exist and delete endpoints that are needed.
    futures::join!(
        engine.pods.ready(),
        engine.deployments.ready(),
        engine.replica_sets.ready(),
        engine.jobs.ready(),
        engine.services.ready(),
        engine.endpoints.ready(),
        engine.slices.ready(),
        engine.nodes.ready(),
        engine.namespaces.ready(),
        engine.accounts.ready(),
    );
    tasks.spawn(deployment::run(engine.clone(), queues.deployments));
    tasks.spawn(replica_set::run(engine.clone(), queues.replica_sets));
    tasks.spawn(job::run(engine.clone(), queues.jobs));
    tasks.spawn(scheduler::run(engine.clone(), queues.pods));
    tasks.spawn(endpoints::run(engine.clone(), queues.endpoints));
    tasks.spawn(load_balancer::run(engine.clone(), queues.load_balancers));
    tasks.spawn(account::run(engine.clone(), queues.furnish));
    tasks.spawn(namespace::run(engine.clone(), queues.namespaces));
    tasks
}

/// Keeps one cache up in a task of its own, with its listeners.
macro_rules! keep {
    ($tasks:expr, $engine:expr, $cache:ident, $($listener:expr),+ $(,)?) => {{
        let (cache, api) = ($engine.$cache.clone(), Api::all($engine.client.clone()));
        $tasks.spawn(async move { cache.keep(api, vec![$(Box::new($listener)),+]).await });
    }};
}

fn watch_workloads(engine: &Engine, queues: &Queues, tasks: &mut JoinSet<()>) {
    let (deployments, replica_sets, jobs) = (&queues.deployments, &queues.replica_sets, &queues.jobs);
    let queue = deployments.clone();
    keep!(tasks, engine, deployments, move |change| add(&queue, change));
    let (own, up, all) = (replica_sets.clone(), deployments.clone(), engine.clone());
    keep!(tasks, engine, replica_sets, move |change| add(&own, change), move |change| {
        for set in change.states() {
            match controller_key(set, "Deployment") {
                Some(key) => up.add(key),
                // An orphan may be somebody's to adopt.
                None => all
                    .deployments
                    .all()
                    .iter()
                    .filter(|d| d.namespace() == set.namespace())
                    .for_each(|d| up.add(key_of(&**d))),
            }
        }
    });
    let queue = jobs.clone();
    keep!(tasks, engine, jobs, move |change| add(&queue, change));
    let (owners, pods, endpoints) = (queues.clone(), queues.pods.clone(), queues.endpoints.clone());
    let (all, same, mesh) = (engine.clone(), engine.clone(), engine.mesh.clone());
    keep!(
        tasks,
        engine,
        pods,
        move |change| wake_owners(&all, &owners, change),
        move |change| wake_scheduler(&pods, change),
        move |change| endpoints::services_of(&same, change.states()).into_iter().for_each(|key| endpoints.add(key)),
        move |change| tell_mesh(&mesh, change),
    );
}

fn watch_services(engine: &Engine, queues: &Queues, tasks: &mut JoinSet<()>) {
    let (endpoints, balancers, all) = (queues.endpoints.clone(), queues.load_balancers.clone(), engine.clone());
    let mesh = engine.mesh.clone();
    keep!(
        tasks,
        engine,
        services,
        move |change| add(&endpoints, change),
        move |change| {
            add(&balancers, change);
            if load_balancer::releases(change.old, change.new) {
                load_balancer::waiting(&all).into_iter().for_each(|key| balancers.add(key));
            }
        },
        move |_| mesh.wake(),
    );
    let queue = queues.endpoints.clone();
    keep!(tasks, engine, endpoints, move |change| add(&queue, change));
    let (queue, mesh) = (queues.endpoints.clone(), engine.mesh.clone());
    keep!(tasks, engine, slices, move |_| mesh.wake(), move |change| {
        let service = change.latest().and_then(|slice| slice.labels().get("kubernetes.io/service-name").cloned());
        let namespace = change.latest().and_then(|slice| slice.namespace());
        if let Some((namespace, service)) = namespace.zip(service) {
            queue.add(NamespacedName::new(namespace, service));
        }
    });
}

fn watch_cluster(engine: &Engine, queues: &Queues, tasks: &mut JoinSet<()>) {
    let (pods, all, mesh) = (queues.pods.clone(), engine.clone(), engine.mesh.clone());
    keep!(tasks, engine, nodes, move |_| mesh.wake(), move |_| {
        let waiting = all.pods.all().into_iter().filter(|pod| scheduler::is_waiting(pod));
        waiting.for_each(|pod| pods.add(key_of(&*pod)));
    });
    let (furnish, ending) = (queues.furnish.clone(), queues.namespaces.clone());
    keep!(tasks, engine, namespaces, move |change| add(&furnish, change), move |change| {
        if change.new.is_some_and(namespace::is_ending) {
            add(&ending, change);
        }
    });
    let queue = queues.furnish.clone();
    keep!(tasks, engine, accounts, move |change| {
        if let (Some(account), None) = (change.old, change.new) {
            queue.add(NamespacedName::new("", account.namespace().unwrap_or_default()));
        }
    });
    for name in [account::ROOT_CA, account::MESH_ROOT_CA] {
        let queue = queues.furnish.clone();
        let api: Api<PartialObjectMeta<ConfigMap>> = Api::all(engine.client.clone());
        tasks.spawn(async move {
            feed::follow(api, &format!("metadata.name={name}"), |step| {
                if let Step::Applied(map) | Step::Deleted(map) = step {
                    queue.add(NamespacedName::new("", map.namespace().unwrap_or_default()));
                }
            })
            .await;
        });
    }
    let (queue, all) = (queues.furnish.clone(), engine.namespaces.clone());
    let another_ca = engine.mesh.authority().changes();
    tasks.spawn(another_ca.for_each(move |()| {
        all.all().iter().for_each(|namespace| queue.add(key_of(&**namespace)));
        std::future::ready(())
    }));
}

/// A pod that is gone, or was made again under its name, takes its proxy with it.
fn tell_mesh(mesh: &ControlPlane, change: &Change<'_, Pod>) {
    let uid = change.new.and_then(ResourceExt::uid);
    if let Some(gone) = change.old.and_then(ResourceExt::uid).filter(|old| uid.as_ref() != Some(old)) {
        mesh.forget(&gone);
    }
    mesh.wake();
}

fn add<K: kube::Resource>(queue: &Queue<NamespacedName>, change: &Change<'_, K>) {
    if let Some(object) = change.latest() {
        queue.add(key_of(object));
    }
}

/// Wakes those who own the pod, owned it, or may adopt it, and the namespace that may be empty now.
fn wake_owners(engine: &Engine, queues: &Queues, change: &Change<'_, Pod>) {
    for pod in change.states() {
        if let Some(key) = controller_key(pod, "ReplicaSet") {
            // A Deployment that recreates its pods waits for the last of the old ones.
            if change.new.is_none()
                && let Some(set) = engine.replica_sets.get(&key)
                && let Some(deployment) = controller_key(&*set, "Deployment")
            {
                queues.deployments.add(deployment);
            }
            queues.replica_sets.add(key);
        } else if let Some(key) = controller_key(pod, "Job") {
            queues.jobs.add(key);
        } else if crate::ownership::controller(pod).is_none() {
            let namespace = pod.namespace();
            let sets = engine.replica_sets.all();
            sets.iter()
                .filter(|set| set.namespace() == namespace)
                .for_each(|set| queues.replica_sets.add(key_of(&**set)));
            let jobs = engine.jobs.all();
            jobs.iter().filter(|job| job.namespace() == namespace).for_each(|job| queues.jobs.add(key_of(&**job)));
        }
    }
    if let (Some(pod), None) = (change.old, change.new) {
        let key = NamespacedName::new("", pod.namespace().unwrap_or_default());
        if engine.namespaces.get(&key).is_some_and(|namespace| namespace::is_ending(&namespace)) {
            queues.namespaces.add(key);
        }
    }
}

fn wake_scheduler(queue: &Queue<NamespacedName>, change: &Change<'_, Pod>) {
    if let Some(pod) = change.new.filter(|pod| scheduler::is_waiting(pod)) {
        queue.add(key_of(pod));
    }
}
