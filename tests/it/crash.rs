//! A cluster process that is killed, again and again, while it is written to; and a network process that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::{Account, Federation, until, until_async};
use tokio::sync::watch;

use crate::client_rs::{client, namespace};

const ROUNDS: usize = 100;
const WRITERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(30);

/// What one writer was told is stored.
#[derive(Default)]
struct Acknowledged {
    created: Vec<String>,
    /// The last value of the one object that it changes over and over.
    counted: u64,
    /// The last resource version it was given.
    revision: u64,
}

/// Creates objects, and counts in one, until it is told to stop. A request that failed may or may not have been
/// carried out; only what was acknowledged counts.
async fn write(
    client: Client,
    writer: usize,
    mut serving: watch::Receiver<bool>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
) -> Acknowledged {
    let maps: Api<ConfigMap> = Api::namespaced(client, "crash");
    let mut known = Acknowledged::default();
    for n in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("w{writer}-{n}");
        let new = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let created = maps.create(&PostParams::default(), &serde_json::from_value(new).unwrap()).await;
        if let Ok(map) = created {
            known.revise(&map);
            known.created.push(name);
        }
        let count = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("count-{writer}")}, "data": {"n": n.to_string()},
        });
        let params = PatchParams::apply("writer").force();
        if let Ok(map) = maps.patch(&format!("count-{writer}"), &params, &Patch::Apply(&count)).await {
            known.revise(&map);
            known.counted = n;
            written.fetch_add(1, Ordering::Relaxed);
        } else {
            // Trying on and on would take the processor from the process that is starting.
            serving.wait_for(|serving| *serving).await.unwrap();
        }
    }
    known
}

impl Acknowledged {
    fn revise(&mut self, map: &ConfigMap) {
        let revision = map.metadata.resource_version.as_ref().and_then(|text| text.parse().ok()).unwrap();
        assert!(revision > self.revision, "revision {revision} was given after {}", self.revision);
        self.revision = revision;
    }
}

fn kill_cluster(federation: &Federation) {
    let pid = until("the cluster process", LIMIT, || federation.cluster_process("c1"));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("its end", LIMIT, || (federation.cluster_process("c1") != Some(pid)).then_some(()));
}

/// Name, uid, container id and restarts of the pod in the namespace.
async fn pod(client: &Client) -> Option<(String, String, String, i32)> {
    let pods = Api::<Pod>::namespaced(client.clone(), "crash").list(&ListParams::default()).await.ok()?;
    let pod = pods.items.into_iter().next()?;
    let status = pod.status?.container_statuses?.into_iter().next()?;
    status.ready.then_some(())?;
    Some((pod.metadata.name?, pod.metadata.uid?, status.container_id?, status.restart_count))
}

#[test]
fn no_acknowledged_write_is_lost_and_nothing_is_leaked() {
    if !testkit::namespaces() {
        return;
    }
    let federation = Federation::up(crate::binary(), Account::current(), &["c1"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let client = client(&federation, "c1").await;
        namespace(&client, "crash").await;
        let echo = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"},
            "spec": {"containers": [
                {"name": "echo", "image": "docker.io/istio/tcp-echo-server:1.3", "args": ["9000", "hello"]},
            ]},
        });
        let pods: Api<Pod> = Api::namespaced(client.clone(), "crash");
        pods.create(&PostParams::default(), &serde_json::from_value(echo).unwrap()).await.unwrap();
        client
    });
    let before = runtime.block_on(until_async("the pod is ready", LIMIT, async || pod(&client).await));
    let processes = federation.processes();

    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let (serving, told) = watch::channel(true);
    let writer = |n| runtime.spawn(write(client.clone(), n, told.clone(), stop.clone(), written.clone()));
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    for round in 0..ROUNDS {
        let enough = written.load(Ordering::Relaxed) + WRITERS;
        until("writes in this round", LIMIT, || (written.load(Ordering::Relaxed) >= enough).then_some(()));
        serving.send_replace(false);
        kill_cluster(&federation);
        let up = federation.isthmus("up c1 --detach");
        assert!(up.code == 0, "round {round}: {}", up.transcript());
        serving.send_replace(true);
    }
    stop.store(true, Ordering::Relaxed);

    runtime.block_on(async {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "crash");
        let stored = maps.list(&ListParams::default()).await.unwrap().items;
        let mut total = 0;
        for (n, writer) in writers.into_iter().enumerate() {
            let known = writer.await.unwrap();
            let has = |name: &str| stored.iter().find(|map| map.metadata.name.as_deref() == Some(name));
            let lost: Vec<_> = known.created.iter().filter(|name| has(name).is_none()).collect();
            assert!(lost.is_empty(), "{} of {} objects are lost: {lost:?}", lost.len(), known.created.len());
            let count = has(&format!("count-{n}")).and_then(|map| map.data.as_ref()?.get("n")?.parse::<u64>().ok());
            assert!(count.unwrap_or(0) >= known.counted, "{count:?} is older than {}", known.counted);
            total += known.created.len();
        }
        assert!(total > ROUNDS, "the writers hardly wrote: {total}");
    });
    let after = runtime.block_on(until_async("the pod is ready", LIMIT, async || pod(&client).await));
    assert_eq!(after, before, "the pod was adopted, not restarted");
    let now = until("no more processes than before", LIMIT, || {
        let now = federation.processes();
        (now.len() <= processes.len()).then_some(now)
    });
    assert_eq!(now.len(), processes.len(), "before: {processes:#?}\nafter: {now:#?}");
}

#[test]
fn the_network_comes_back() {
    replace_network(Account::current());
}

#[test]
fn the_network_of_an_ordinary_user_comes_back() {
    match Account::ordinary() {
        Some(account) => replace_network(account),
        None => testkit::skip("the tests do not run as root, so the current user is an ordinary one"),
    }
}

fn replace_network(account: Account) {
    if !testkit::namespaces() || !testkit::kubectl() {
        return;
    }
    let federation = Federation::up(crate::binary(), account, &["c1"]);
    let s = federation.session("c1");
    s.sample("sleep/sleep.yaml");
    s.sample("tcp-echo/tcp-echo.yaml");
    s.sh("kubectl wait deployment --all --for=condition=Available --timeout=60s").ok();
    let asks = "kubectl exec deploy/sleep -c sleep -- sh -c 'echo world | nc -w 5 tcp-echo 9000'";
    s.until_prints(asks, "hello world");
    let pods =
        "kubectl get pods -o jsonpath='{.items[*].metadata.uid} {.items[*].status.containerStatuses[0].restartCount}'";
    let before = s.sh(pods).ok();
    let network = || {
        let lock = std::fs::read(federation.home().join("c1/network.lock")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&lock).ok()?["pid"].as_i64()
    };
    let killed = network().unwrap();
    kill(Pid::from_raw(killed.try_into().unwrap()), Signal::SIGKILL).unwrap();
    until("another network process", LIMIT, || network().filter(|pid| *pid != killed));
    s.until_prints(asks, "hello world");
    assert_eq!(s.sh(pods).ok(), before, "the pods were attached again, not restarted");
}
