//! Following the API server: what it says of Services and EndpointSlices, for as long as the network lives.

use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::Instant;

use super::objects::Objects;

/// How long changes are gathered before they are made known: a Deployment's endpoints come in bursts.
const GATHER: Duration = Duration::from_millis(3);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Watch(#[from] watcher::Error),
    #[error("the API server has ended a watch")]
    Ended,
}

/// Tells `changed` of every change, starting with the first complete state. While the API server cannot be reached,
/// what it said last stands.
pub(super) async fn follow(kubeconfig: &Path, mut changed: impl FnMut(&Objects)) -> Infallible {
    let mut objects = Objects::default();
    let mut pause = SHORTEST_PAUSE;
    loop {
        let mut told = false;
        let tell = |objects: &Objects| {
            told = true;
            changed(objects);
        };
        let Err(lost) = follow_once(kubeconfig, &mut objects, tell).await;
        if told {
            tracing::warn!(%lost, "the API server is away; services and names stay as they are until it is back");
            pause = SHORTEST_PAUSE;
        } else {
            tracing::debug!(%lost, "the API server cannot be reached");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn follow_once(
    kubeconfig: &Path,
    objects: &mut Objects,
    mut changed: impl FnMut(&Objects),
) -> Result<Infallible, Lost> {
    // Read again each time: a cluster that is made anew has another CA and other credentials.
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let mut services = pin!(watch::<Service>(&client));
    let mut slices = pin!(watch::<EndpointSlice>(&client));
    let mut due: Option<Instant> = None;
    loop {
        let shows = tokio::select! {
            event = services.next() => objects.take_service(event.ok_or(Lost::Ended)??),
            event = slices.next() => objects.take_slice(event.ok_or(Lost::Ended)??),
            () = at(due) => {
                due = None;
                changed(objects);
                false
            }
        };
        if shows && objects.are_complete() && due.is_none() {
            due = Some(Instant::now() + GATHER);
        }
    }
}

fn watch<K>(client: &kube::Client) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default())
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
