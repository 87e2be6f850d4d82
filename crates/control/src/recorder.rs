//! Events: what `kubectl describe` and `kubectl get events` show, counted where they repeat.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::engine;

/// How long an event is kept after it last happened, as in Kubernetes.
const LIFETIME: Duration = Duration::from_secs(3600);
const SWEEP: Duration = Duration::from_secs(300);

/// Events that wait to be written; more than these are dropped rather than slow a controller down.
const WAITING: usize = 1024;

/// What happened.
struct Report {
    about: ObjectReference,
    component: &'static str,
    warning: bool,
    reason: &'static str,
    message: String,
}

/// Writes events in the background. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Report>);

impl Recorder {
    /// A recorder and the task that writes for it.
    pub(crate) fn new(client: Client) -> (Recorder, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Recorder(sender), write(client, receiver))
    }

    /// Records an event of type `Normal`.
    pub(crate) fn normal<K>(&self, about: &K, component: &'static str, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.send(about, component, false, reason, message);
    }

    /// Records an event of type `Warning`.
    pub(crate) fn warning<K>(&self, about: &K, component: &'static str, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.send(about, component, true, reason, message);
    }

    fn send<K>(&self, about: &K, component: &'static str, warning: bool, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let report = Report { about: about.object_ref(&()), component, warning, reason, message };
        if let Err(error) = self.0.try_send(report) {
            warn!(reason, %error, "an event is lost");
        }
    }
}

/// What makes two reports the same event.
type Likeness = (Option<String>, &'static str, &'static str, String);

struct Written {
    namespace: String,
    name: String,
    count: i32,
    at: Instant,
}

async fn write(client: Client, mut reports: mpsc::Receiver<Report>) {
    let mut known: BTreeMap<Likeness, Written> = BTreeMap::new();
    while let Some(report) = reports.recv().await {
        known.retain(|_, written| written.at.elapsed() < LIFETIME);
        let likeness = (report.about.uid.clone(), report.component, report.reason, report.message.clone());
        let repeated = match known.get_mut(&likeness) {
            Some(written) => repeat(&client, written).await,
            None => false,
        };
        if repeated {
            continue;
        }
        match create(&client, report).await {
            Ok(written) => drop(known.insert(likeness, written)),
            // The namespace may be on its way out, with the object the event is about.
            Err(error) if engine::refused(&error, 403, "") || engine::refused(&error, 404, "") => {
                debug!(%error, "an event is not recorded");
            }
            Err(error) => warn!(%error, "an event is not recorded"),
        }
    }
}

/// Counts an event once more; `false` if it has expired meanwhile.
async fn repeat(client: &Client, written: &mut Written) -> bool {
    let api: Api<Event> = Api::namespaced(client.clone(), &written.namespace);
    let patch = json!({ "count": written.count + 1, "lastTimestamp": engine::now() });
    match engine::merge(&api, &written.name, &patch).await {
        Ok(_) => {
            written.count += 1;
            written.at = Instant::now();
            true
        }
        Err(error) => {
            debug!(%error, "an event cannot be counted");
            false
        }
    }
}

async fn create(client: &Client, report: Report) -> Result<Written, kube::Error> {
    let namespace = report.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let unique = Timestamp::now().as_nanosecond();
    let name = format!("{}.{unique:x}", report.about.name.as_deref().unwrap_or_default());
    let now = engine::now();
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace.clone()), ..ObjectMeta::default() },
        involved_object: report.about,
        reason: Some(report.reason.to_owned()),
        message: Some(report.message),
        type_: Some(if report.warning { "Warning" } else { "Normal" }.to_owned()),
        source: Some(EventSource { component: Some(report.component.to_owned()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        reporting_component: Some(report.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    api.create(&engine::post_params(), &event).await?;
    Ok(Written { namespace, name, count: 1, at: Instant::now() })
}

/// Deletes events whose time is up, for ever.
pub(crate) async fn expire(client: Client) {
    let mut timer = tokio::time::interval(SWEEP);
    loop {
        timer.tick().await;
        if let Err(error) = sweep(&client, Timestamp::now()).await {
            warn!(%error, "cannot delete old events");
        }
    }
}

async fn sweep(client: &Client, now: Timestamp) -> Result<(), kube::Error> {
    let events: Api<Event> = Api::all(client.clone());
    for event in events.list(&ListParams::default()).await? {
        if is_expired(&event, now) {
            let api: Api<Event> = Api::namespaced(client.clone(), &event.namespace().unwrap_or_default());
            let uid = event.uid().unwrap_or_default();
            engine::delete(&api, &event.name_any(), &uid, DeleteParams::default()).await?;
        }
    }
    Ok(())
}

fn is_expired(event: &Event, now: Timestamp) -> bool {
    let seen = event.last_timestamp.as_ref().map(|t| t.0);
    let seen = seen.or(event.event_time.as_ref().map(|MicroTime(t)| *t));
    let seen = seen.max(event.metadata.creation_timestamp.as_ref().map(|t| t.0));
    seen.is_some_and(|seen| now.duration_since(seen).unsigned_abs() > LIFETIME && now > seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn an_event_expires_an_hour_after_it_last_happened() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut event = Event::default();
        event.metadata.creation_timestamp = Some(Time(at(0)));
        assert!(!is_expired(&event, at(3600)));
        assert!(is_expired(&event, at(3601)));
        event.last_timestamp = Some(Time(at(100)));
        assert!(!is_expired(&event, at(3601)));
        assert!(is_expired(&event, at(3701)));
    }
}
