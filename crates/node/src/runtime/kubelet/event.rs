//! Events about pods and the node, counted when they repeat.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

/// Events remembered for counting; the table starts afresh when it is full.
const MOST_REMEMBERED: usize = 4096;
/// Events that may wait to be written. More are dropped: they must not hold up pods.
const MOST_WAITING: usize = 1024;

/// Whether an event is bad news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Normal,
    Warning,
}

struct News {
    about: ObjectReference,
    kind: Kind,
    reason: &'static str,
    message: String,
}

/// Writes events in the background. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder {
    sender: mpsc::Sender<News>,
}

impl Recorder {
    pub(super) fn start(client: kube::Client, host: String) -> Recorder {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        tokio::spawn(write(client, host, receiver));
        Recorder { sender }
    }

    /// Records an event about a pod, or about one of its containers.
    pub(super) fn pod(&self, pod: &Pod, container: Option<&str>, kind: Kind, reason: &'static str, message: String) {
        let field_path = container.map(|name| {
            let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
            let field = if init.into_iter().any(|c| c.name == name) { "initContainers" } else { "containers" };
            format!("spec.{field}{{{name}}}")
        });
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        self.send(News { about, kind, reason, message });
    }

    /// Records an event about the node.
    pub(super) fn node(&self, name: &str, reason: &'static str, message: String) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.send(News { about, kind: Kind::Normal, reason, message });
    }

    fn send(&self, news: News) {
        if let Err(error) = self.sender.try_send(news) {
            tracing::warn!(%error, "an event is lost");
        }
    }
}

/// What makes two events the same: object, part of it, reason and message.
type Key = (Option<String>, Option<String>, &'static str, String);

async fn write(client: kube::Client, host: String, mut receiver: mpsc::Receiver<News>) {
    let mut seen: HashMap<Key, (String, i32)> = HashMap::new();
    while let Some(news) = receiver.recv().await {
        let namespace = news.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = (news.about.uid.clone(), news.about.field_path.clone(), news.reason, news.message.clone());
        if seen.len() >= MOST_REMEMBERED {
            seen.clear();
        }
        if let Some((name, count)) = seen.get_mut(&key) {
            *count += 1;
            let patch = Patch::Merge(json!({ "count": *count, "lastTimestamp": Time(Timestamp::now()) }));
            if events.patch(name, &PatchParams::default(), &patch).await.is_ok() {
                continue;
            }
        }
        // Written anew when it is the first of its kind, or when the old one has been deleted.
        let event = build(news, namespace, &host);
        let name = event.metadata.name.clone().unwrap_or_default();
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => {
                seen.insert(key, (name, 1));
            }
            // A namespace that is being deleted takes no new objects.
            Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {}
            Err(error) => tracing::warn!(%error, "writing an event"),
        }
    }
}

fn build(news: News, namespace: String, host: &str) -> Event {
    let now = Timestamp::now();
    let name = format!("{}.{:x}", news.about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
    let kind = match news.kind {
        Kind::Normal => "Normal",
        Kind::Warning => "Warning",
    };
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: news.about,
        type_: Some(kind.to_owned()),
        reason: Some(news.reason.to_owned()),
        message: Some(news.message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(host.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    }
}
