//! A snapshot with everything that is made from it once, before any connection needs it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Snapshot;
use crate::config::{DownstreamTls, Listener};
use crate::metrics::Metrics;
use crate::tls::ServerTls;
use crate::upstream::Upstream;

/// A configuration, ready for use by all workers.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) snapshot: Arc<Snapshot>,
    clusters: HashMap<Arc<str>, Arc<Upstream>>,
    /// By the message of the context: chains with equal contexts share one, and with it their clients' sessions.
    servers: HashMap<Arc<[u8]>, Arc<ServerTls>>,
}

impl Prepared {
    /// Prepares the snapshot that follows this one, and keeps whatever has not changed.
    pub(crate) fn next(&self, snapshot: Arc<Snapshot>, metrics: &Metrics) -> Prepared {
        let cluster = |config| {
            let config: &Arc<crate::config::Cluster> = config;
            let last = self.clusters.get(&config.name);
            (config.name.clone(), Upstream::next(last, config, &snapshot, metrics))
        };
        let clusters = snapshot.clusters().into_values().map(|l| cluster(&l.config)).collect();
        let mut servers = HashMap::new();
        for context in snapshot.listeners().values().flat_map(|l| contexts(&l.config)) {
            if !servers.contains_key(&context.message) {
                let last = self.servers.get(&context.message).filter(|l| l.is_current(context, &snapshot));
                let server = last.cloned().unwrap_or_else(|| Arc::new(ServerTls::new(context, &snapshot)));
                servers.insert(context.message.clone(), server);
            }
        }
        Prepared { clusters, servers, snapshot }
    }

    pub(crate) fn cluster(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.clusters.get(name)
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.clusters.values()
    }

    pub(crate) fn server(&self, context: &DownstreamTls) -> Option<&Arc<ServerTls>> {
        self.servers.get(&context.message)
    }
}

fn contexts(listener: &Listener) -> impl Iterator<Item = &DownstreamTls> {
    listener.chains.iter().chain(&listener.default_chain).filter_map(|c| c.tls.as_deref())
}
