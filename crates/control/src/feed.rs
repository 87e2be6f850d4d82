//! Following all objects of one kind: a list, then a watch, for ever.
//!
//! `kube_runtime::watcher` does the same but keeps the revision of the list to itself; [`crate::cache`] needs it
//! to tell which of its own writes the watch is yet to deliver.

use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::engine;

/// What has happened to the objects of a kind.
pub(crate) enum Step<K> {
    /// These are all objects, as of the revision; what was known before is void.
    Listed(Vec<K>, u64),
    /// The object is new or has changed.
    Applied(K),
    /// The object is gone; this is its last state, at the revision of its deletion.
    Deleted(K),
}

/// The first delay after a failure; it doubles up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// Reports every step of the objects that the field selector `fields` picks to `sink`. Never returns: failures are
/// logged and retried. A kind that is not served has no objects until it is.
pub(crate) async fn follow<K>(api: Api<K>, fields: &str, mut sink: impl FnMut(Step<K>))
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut delay = BACKOFF.0;
    loop {
        match follow_once(&api, fields, &mut sink, &mut delay).await {
            Ok(()) => debug!(resource = api.resource_url(), "the watch has expired; listing again"),
            Err(error) if engine::refused(&error, 404, "") => {
                debug!(resource = api.resource_url(), "the kind is not served; trying again");
                sink(Step::Listed(Vec::new(), 0));
            }
            Err(error) => warn!(resource = api.resource_url(), %error, "cannot watch; trying again"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(BACKOFF.1);
    }
}

/// Lists, and watches until the revision has expired.
async fn follow_once<K>(
    api: &Api<K>,
    fields: &str,
    sink: &mut impl FnMut(Step<K>),
    delay: &mut Duration,
) -> Result<(), kube::Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let list = api.list(&ListParams::default().fields(fields)).await?;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    sink(Step::Listed(list.items, revision(&version)));
    loop {
        let mut events = api.watch(&WatchParams::default().fields(fields), &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            *delay = BACKOFF.0;
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.resource_version().unwrap_or(version);
                    sink(Step::Applied(object));
                }
                WatchEvent::Deleted(object) => {
                    version = object.resource_version().unwrap_or(version);
                    sink(Step::Deleted(object));
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
    }
}

/// A `resourceVersion` as the number it is in this API server; 0 if it is none.
pub(crate) fn revision(version: &str) -> u64 {
    version.parse().unwrap_or_default()
}
