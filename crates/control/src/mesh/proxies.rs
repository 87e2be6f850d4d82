//! The proxies that are connected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::NamespacedName;
use envoy::TypeUrl;
use envoy::ads::Snapshot;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use xds::Role;

use super::Signal;
use super::identity::Identity;

/// Every stream that is open. A proxy that has just come back may have two for a moment.
#[derive(Default)]
pub(super) struct Proxies {
    open: Mutex<Open>,
    joined: Signal,
}

#[derive(Default)]
struct Open {
    last: u64,
    proxies: BTreeMap<u64, Arc<Proxy>>,
}

/// One proxy, on one stream.
pub(super) struct Proxy {
    /// As it calls itself: `sidecar~IP~POD.NAMESPACE~DOMAIN`, or `router~…`.
    pub(super) id: String,
    /// What it says it is to its pod.
    pub(super) role: Role,
    pub(super) pod: NamespacedName,
    /// The pod's; a pod made again under the same name is another.
    pub(super) uid: String,
    /// The program's name and version, and the cluster that it is in, if it says so.
    pub(super) program: String,
    pub(super) cluster: String,
    pub(super) connected: Timestamp,
    snapshot: watch::Sender<Option<Snapshot>>,
    /// When the first change was heard of that the proxy has not been sent yet.
    since: Mutex<Option<Instant>>,
    gone: CancellationToken,
    dialogues: Mutex<BTreeMap<TypeUrl, Dialogue>>,
}

/// How far a proxy is with one type.
#[derive(Debug, Clone, Default)]
pub(super) struct Dialogue {
    /// The nonces of the last responses that were sent, acknowledged and refused.
    pub(super) sent: String,
    pub(super) acknowledged: String,
    pub(super) rejected: String,
    /// Why the last refused response was.
    pub(super) reason: String,
}

impl Dialogue {
    /// The state in istioctl's words.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Dialogue { sent, .. } if sent.is_empty() => "NOT SENT",
            Dialogue { sent, acknowledged, .. } if acknowledged == sent => "SYNCED",
            Dialogue { sent, rejected, .. } if rejected == sent => "ERROR",
            _ => "STALE",
        }
    }
}

/// A proxy that is counted as connected until this is dropped.
pub(super) struct Connected<'a> {
    proxies: &'a Proxies,
    number: u64,
    pub(super) proxy: Arc<Proxy>,
}

impl Proxies {
    /// Counts a proxy as connected.
    pub(super) fn join(&self, proxy: Proxy) -> Connected<'_> {
        let proxy = Arc::new(proxy);
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.proxies.insert(number, proxy.clone());
        drop(open);
        self.joined.tell();
        Connected { proxies: self, number, proxy }
    }

    /// Told of every proxy that joins.
    pub(super) fn joined(&self) -> watch::Receiver<()> {
        self.joined.hear()
    }

    pub(super) fn all(&self) -> Vec<Arc<Proxy>> {
        self.open().proxies.values().cloned().collect()
    }

    /// The proxy of a pod; of several streams the youngest.
    pub(super) fn of_pod(&self, pod: &NamespacedName) -> Option<Arc<Proxy>> {
        self.open().proxies.values().rev().find(|proxy| proxy.pod == *pod).cloned()
    }

    /// Ends the streams of a pod that is gone.
    pub(super) fn end(&self, uid: &str) {
        self.all().iter().filter(|proxy| proxy.uid == uid).for_each(|proxy| proxy.gone.cancel());
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.proxies.open().proxies.remove(&self.number);
    }
}

impl Proxy {
    pub(super) fn new(id: String, identity: Identity, uid: String) -> Proxy {
        let Identity { role, pod, program, cluster } = identity;
        Proxy {
            id,
            role,
            pod,
            uid,
            program,
            cluster,
            connected: Timestamp::now(),
            snapshot: watch::Sender::new(None),
            since: Mutex::default(),
            gone: CancellationToken::new(),
            dialogues: Mutex::default(),
        }
    }

    /// What the proxy is to be told from now on. Its stream hears of it only if it is not what it was.
    pub(super) fn tell(&self, snapshot: Snapshot, since: Instant) {
        self.snapshot.send_if_modified(|held| {
            let differs = held.as_ref().is_none_or(|held| !held.is(&snapshot));
            if differs {
                *held = Some(snapshot);
                *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
            }
            differs
        });
    }

    /// What the proxy is to be told; nothing before it was first built.
    pub(super) fn told(&self) -> watch::Receiver<Option<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// What the proxy has, or is about to be sent.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone().unwrap_or_default()
    }

    /// The proxy has been sent everything; how long that took is returned.
    pub(super) fn has_converged(&self) -> Option<Duration> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).take().map(|since| since.elapsed())
    }

    /// Returns when the proxy's pod is gone.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    pub(super) fn dialogues(&self) -> MutexGuard<'_, BTreeMap<TypeUrl, Dialogue>> {
        self.dialogues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_last_is_what_counts() {
        let state = |sent: &str, acknowledged: &str, rejected: &str| {
            let dialogue = Dialogue {
                sent: sent.to_owned(),
                acknowledged: acknowledged.to_owned(),
                rejected: rejected.to_owned(),
                reason: String::new(),
            };
            dialogue.state()
        };
        assert_eq!(state("", "", ""), "NOT SENT");
        assert_eq!(state("2", "2", "1"), "SYNCED");
        assert_eq!(state("3", "2", "1"), "STALE");
        assert_eq!(state("3", "2", "3"), "ERROR");
    }
}
