//! What the shell knows, and how an update changes it; time is given by the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use envoy::TypeUrl;
use envoy::TypeUrl::{Cluster, Listener};

use super::arrivals::Arrivals;
use crate::config::Rejected;
use crate::metrics::{Counter, Kind, Sample, Scope};
use crate::snapshot::patience;
use crate::{Snapshot, Update};

/// The configuration in force, with what people and timers need to know of it.
#[derive(Debug, Default)]
pub(crate) struct State {
    snapshot: Arc<Snapshot>,
    arrivals: Arrivals,
    /// Since when each resource warms.
    warming: BTreeMap<(TypeUrl, Arc<str>), Instant>,
    updates: BTreeMap<TypeUrl, Updates>,
    live: bool,
    connected: bool,
    draining: bool,
    /// Somebody wants the health check to fail.
    failing: bool,
    /// What the counters had counted when they were last reset.
    reset: BTreeMap<(Scope, &'static str, Kind), u64>,
}

/// How updates of one type went.
#[derive(Debug, Default)]
struct Updates {
    success: Counter,
    rejected: Counter,
}

impl State {
    /// Puts an update in force; what was refused is returned, by the name of the resource.
    pub(super) fn apply(&mut self, update: Update, now: Instant, time: SystemTime) -> Vec<(String, Rejected)> {
        let type_url = update.type_url;
        let offered: Vec<(String, String)> =
            update.resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect();
        let removed = update.removed.clone();
        let (next, refused) = self.snapshot.apply(update);
        for name in &removed {
            self.arrivals.forget(type_url, name);
        }
        for (name, version) in offered.iter().filter(|(name, _)| refused.iter().all(|(n, _)| n != name)) {
            self.warming.remove(&(type_url, name.as_str().into()));
            self.arrivals.note(type_url, name, version, time, |v| next.has_version(type_url, name, v));
        }
        let updates = self.updates.entry(type_url).or_default();
        if refused.is_empty() {
            updates.success.inc()
        } else {
            updates.rejected.inc()
        }
        self.replace(next, now);
        refused
    }

    /// Puts live what has waited too long, which is `usual` for endpoints and routes; whether there was any.
    pub(super) fn give_up(&mut self, now: Instant, usual: Duration) -> bool {
        let waited = |type_url, name: &str| {
            let since = self.warming.get(&(type_url, Arc::from(name)));
            since.map(|since| now.duration_since(*since)).unwrap_or_default()
        };
        let next = self.snapshot.without_endpoints(usual, waited);
        let changed = next.warming().len() != self.snapshot.warming().len();
        self.replace(next, now);
        changed
    }

    /// When something will have waited too long. What waits for a certificate as long as it takes never will.
    pub(super) fn gives_up_at(&self, usual: Duration) -> Option<Instant> {
        let warming = self.snapshot.warming();
        let due = warming.iter().filter_map(|((type_url, name), missing)| {
            let since = self.warming.get(&(*type_url, Arc::from(*name)))?;
            Some(*since + patience(missing, usual)?)
        });
        due.min()
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Envoy's name for the state of the proxy. It is live once clusters and listeners have come, and none of the
    /// first ones waits.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            State { draining: true, .. } | State { failing: true, .. } => "DRAINING",
            State { live: true, .. } => "LIVE",
            _ => "PRE_INITIALIZING",
        }
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn fail(&mut self, failing: bool) {
        self.failing = failing;
    }

    /// Lets every counter begin anew. Those who count are not disturbed: what they have counted is taken off.
    pub(crate) fn reset_counters(&mut self, counted: &[Sample]) {
        let counters = counted.iter().filter(|s| s.kind.only_grows());
        self.reset = counters.map(|s| ((s.scope.clone(), s.name, s.kind), s.value)).collect();
    }

    /// What has been counted since the last reset. A counter that is below has itself begun anew.
    pub(crate) fn since_reset(&self, mut counted: Vec<Sample>) -> Vec<Sample> {
        if !self.reset.is_empty() {
            for sample in counted.iter_mut().filter(|s| s.kind.only_grows()) {
                let before = self.reset.get(&(sample.scope.clone(), sample.name, sample.kind)).copied().unwrap_or(0);
                sample.value = sample.value.checked_sub(before).unwrap_or(sample.value);
            }
        }
        counted
    }

    /// Notes whether there is a stream to the control plane.
    pub(crate) fn connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    #[cfg(test)]
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// What the shell counts, in Envoy's names.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = vec![sample("control_plane.connected_state", Kind::Gauge, self.connected.into())];
        for (type_url, updates) in &self.updates {
            let (success, rejected) = match type_url {
                Cluster => ("cluster_manager.cds.update_success", "cluster_manager.cds.update_rejected"),
                Listener => ("listener_manager.lds.update_success", "listener_manager.lds.update_rejected"),
                TypeUrl::Endpoint => ("eds.update_success", "eds.update_rejected"),
                TypeUrl::Secret => ("sds.update_success", "sds.update_rejected"),
                TypeUrl::Route => continue,
            };
            samples.push(sample(success, Kind::Counter, updates.success.get()));
            samples.push(sample(rejected, Kind::Counter, updates.rejected.get()));
        }
        let warming = |kind| self.snapshot.warming().keys().filter(|(t, _)| *t == kind).count();
        for (name, value) in [
            ("cluster_manager.active_clusters", self.snapshot.clusters().len()),
            ("cluster_manager.warming_clusters", warming(Cluster)),
            ("listener_manager.total_listeners_active", self.snapshot.listeners().len()),
            ("listener_manager.total_listeners_warming", warming(Listener)),
        ] {
            samples.push(sample(name, Kind::Gauge, value as u64));
        }
        samples
    }

    fn replace(&mut self, next: Snapshot, now: Instant) {
        let warming = next.warming().into_keys().map(|(type_url, name)| {
            let key = (type_url, Arc::from(name));
            let since = self.warming.get(&key).copied().unwrap_or(now);
            (key, since)
        });
        self.warming = warming.collect();
        let came = |kind| self.updates.contains_key(&kind);
        self.live |= came(Cluster) && came(Listener) && self.warming.is_empty();
        self.snapshot = Arc::new(next);
    }
}

/// A number of the proxy as a whole.
pub(crate) fn sample(name: &'static str, kind: Kind, value: u64) -> Sample {
    Sample { scope: Scope::Server, name, kind, value }
}
