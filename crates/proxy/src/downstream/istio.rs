//! Connections as Istio's metrics report them.

use std::sync::Arc;

use prost_types::value::Kind;

use super::record::Record;
use crate::access_log::Flags;
use crate::config::{Cluster, Direction};
use crate::metrics::{CallLabels, IstioTcpStats, Reporter, Security, Service, Workload};
use crate::upstream::{Connected, Establish};
use crate::worker::{LocalChain, LocalListener, Worker};

/// A connection that was reported as opened.
pub(super) struct Reported {
    labels: Box<CallLabels>,
    stats: Arc<IstioTcpStats>,
}

/// The identities of this proxy and of its peer upstream.
type Identities<'a> = (Option<&'a Arc<str>>, Option<&'a Arc<str>>);

/// Where a connection came through.
pub(super) struct Way<'a> {
    pub(super) worker: &'a Worker,
    pub(super) listener: &'a LocalListener,
    pub(super) chain: &'a LocalChain,
    pub(super) cluster: &'a Establish,
}

impl Reported {
    /// Reports that a connection was opened.
    pub(super) fn opened(way: &Way<'_>, connected: &Connected, record: &Record) -> Reported {
        let labels = way.labels((connected.own_identity.as_ref(), connected.identity.as_ref()), record);
        let stats = way.worker.setup.metrics.istio.of(&labels);
        stats.opened.inc();
        Reported { labels: Box::new(labels), stats }
    }

    /// Reports a connection that found no endpoint: it was opened and closed with the flags that say why.
    pub(super) fn unconnected(way: &Way<'_>, record: &Record) {
        let labels = CallLabels { flags: record.flags, ..way.labels((None, None), record) };
        let stats = way.worker.setup.metrics.istio.of(&labels);
        stats.opened.inc();
        stats.closed.inc();
    }

    pub(super) fn stats(&self) -> &IstioTcpStats {
        &self.stats
    }

    /// Reports that it was closed.
    pub(super) fn closed(self, worker: &Worker, record: &Record) {
        if record.flags.is_empty() {
            return self.stats.closed.inc();
        }
        worker.setup.metrics.istio.of(&CallLabels { flags: record.flags, ..*self.labels }).closed.inc();
    }
}

impl Way<'_> {
    fn labels(&self, (own, upstream): Identities<'_>, record: &Record) -> CallLabels {
        let inbound = self.listener.config.direction == Direction::Inbound;
        let (own, peer) =
            if inbound { (record.own_identity.as_ref(), record.peer_identity.as_ref()) } else { (own, upstream) };
        let principal = own.cloned().unwrap_or_default();
        let own = Arc::new(Workload { principal, ..Workload::clone(&self.worker.setup.workload) });
        let peer = Arc::new(known(peer));
        let (source, destination) = if inbound { (peer, own) } else { (own, peer) };
        CallLabels {
            reporter: if inbound { Reporter::Destination } else { Reporter::Source },
            source,
            destination,
            service: Arc::new(service_of(&self.cluster.upstream.config)),
            request: None,
            flags: Flags::default(),
            security: match (inbound, self.chain.server.is_some() && record.peer_identity.is_some()) {
                (false, _) => Security::Unknown,
                (true, true) => Security::MutualTls,
                (true, false) => Security::None,
            },
        }
    }
}

/// What an identity tells of its workload.
pub(crate) fn known(identity: Option<&Arc<str>>) -> Workload {
    let Some(identity) = identity else { return Workload::default() };
    let mut parts = identity.strip_prefix("spiffe://").unwrap_or_default().split('/').skip(1);
    let namespace = parts.by_ref().skip_while(|part| *part != "ns").nth(1).unwrap_or_default();
    Workload { principal: identity.clone(), namespace: namespace.into(), ..Workload::default() }
}

/// The service that the control plane says a cluster stands for.
pub(crate) fn service_of(cluster: &Cluster) -> Service {
    let services = cluster.metadata.get("istio", "services").and_then(|s| s.kind.as_ref());
    let first = match services {
        Some(Kind::ListValue(list)) => list.values.first().and_then(|v| v.kind.as_ref()),
        _ => None,
    };
    let text = |key: &str| match first {
        Some(Kind::StructValue(service)) => match service.fields.get(key).and_then(|v| v.kind.as_ref()) {
            Some(Kind::StringValue(text)) => text.as_str().into(),
            _ => Arc::default(),
        },
        _ => Arc::default(),
    };
    Service { host: text("host"), name: text("name"), namespace: text("namespace") }
}
