//! kube-rs, unchanged: discovery, a reflector, and a controller that applies on the server's side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, reflector, store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use testkit::{Federation, until_async};

const LIMIT: Duration = Duration::from_secs(30);

/// A client of `cluster`, made from the federation's kubeconfig.
pub(crate) async fn client(federation: &Federation, cluster: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(federation.kubeconfig()).unwrap();
    let options = KubeConfigOptions { context: Some(cluster.to_owned()), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A new namespace of `client`'s cluster.
pub(crate) async fn namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() },
        ..Default::default()
    };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}

fn config_map(name: &str, label: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"role": label}},
        "data": {"value": value},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_finds_every_group() {
    let Some(federation) = tokio::task::block_in_place(crate::current_user) else { return };
    let client = client(&federation, "c1").await;
    let discovery = kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    let groups: Vec<_> = discovery.groups_alphabetical().iter().map(|group| group.name().to_owned()).collect();
    for group in ["", "apps", "batch", "discovery.k8s.io", "apiextensions.k8s.io"] {
        assert!(groups.iter().any(|found| found == group), "{group:?} is missing: {groups:?}");
    }
    assert!(client.apiserver_version().await.unwrap().git_version.starts_with("v1."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_holds_what_the_server_holds() {
    let Some(federation) = tokio::task::block_in_place(crate::current_user) else { return };
    let client = client(&federation, "c1").await;
    namespace(&client, "reflector").await;
    let maps: Api<ConfigMap> = Api::namespaced(client, "reflector");
    maps.create(&PostParams::default(), &config_map("early", "seen", "1")).await.unwrap();

    let selected = watcher::Config::default().labels("role=seen");
    for config in [selected.clone(), selected.streaming_lists()] {
        let (reader, writer) = store();
        let stream = reflector(writer, watcher(maps.clone(), config)).touched_objects();
        let following = tokio::spawn(stream.for_each(|event| async { drop(event.unwrap()) }));
        reader.wait_until_ready().await.unwrap();
        assert_eq!(reader.len(), 1);
        let get = |name: &str| reader.get(&ObjectRef::new(name).within("reflector"));

        maps.create(&PostParams::default(), &config_map("late", "seen", "1")).await.unwrap();
        maps.create(&PostParams::default(), &config_map("other", "unseen", "1")).await.unwrap();
        until_async("the new object", LIMIT, async || get("late")).await;
        let merge = Patch::Merge(json!({"data": {"value": "2"}}));
        maps.patch("late", &PatchParams::default(), &merge).await.unwrap();
        let changed = async || get("late").filter(|map| map.data == Some([("value".into(), "2".into())].into()));
        until_async("the change", LIMIT, changed).await;
        let leave = Patch::Merge(json!({"metadata": {"labels": {"role": "unseen"}}}));
        maps.patch("late", &PatchParams::default(), &leave).await.unwrap();
        until_async("the object leaves the selection", LIMIT, async || get("late").is_none().then_some(())).await;
        assert_eq!(reader.len(), 1);
        maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("role=unseen")).await.unwrap();
        following.abort();
    }
}

#[derive(Debug)]
struct Copies(Api<ConfigMap>);

/// Each source has a copy, which the source owns.
async fn reconcile(source: Arc<ConfigMap>, copies: Arc<Copies>) -> Result<Action, kube::Error> {
    let name = format!("{}-copy", source.name_any());
    let copy = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [source.controller_owner_ref(&()).unwrap()]},
        "data": source.data,
    });
    copies.0.patch(&name, &PatchParams::apply("copier").force(), &Patch::Apply(&copy)).await?;
    Ok(Action::await_change())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_applies_and_repairs() {
    let Some(federation) = tokio::task::block_in_place(crate::current_user) else { return };
    let client = client(&federation, "c1").await;
    namespace(&client, "controller").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "controller");
    let controller = Controller::new(maps.clone(), watcher::Config::default().labels("role=source"))
        .owns(maps.clone(), watcher::Config::default())
        .run(reconcile, |_, error, _| panic!("{error}"), Arc::new(Copies(maps.clone())));
    let running = tokio::spawn(controller.for_each(|outcome| async { drop(outcome.unwrap()) }));

    let value = async |name: &str| -> Option<BTreeMap<String, String>> { maps.get_opt(name).await.unwrap()?.data };
    let is = |value: &str| Some(BTreeMap::from([("value".to_owned(), value.to_owned())]));
    maps.create(&PostParams::default(), &config_map("a", "source", "1")).await.unwrap();
    until_async("the copy", LIMIT, async || (value("a-copy").await == is("1")).then_some(())).await;
    let copy = maps.get("a-copy").await.unwrap();
    let managers: Vec<_> = copy.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    assert_eq!(managers, ["copier"]);

    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"value": "2"}}))).await.unwrap();
    until_async("the change", LIMIT, async || (value("a-copy").await == is("2")).then_some(())).await;
    maps.patch("a-copy", &PatchParams::default(), &Patch::Merge(json!({"data": {"value": "x"}}))).await.unwrap();
    until_async("the repair", LIMIT, async || (value("a-copy").await == is("2")).then_some(())).await;
    maps.delete("a-copy", &DeleteParams::default()).await.unwrap();
    until_async("the copy is back", LIMIT, async || (value("a-copy").await == is("2")).then_some(())).await;
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    until_async("the copy goes with its owner", LIMIT, async || value("a-copy").await.is_none().then_some(())).await;
    running.abort();
}
