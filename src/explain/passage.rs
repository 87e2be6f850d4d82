//! What one proxy makes of what reaches it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use proxy::DynamicMetadata;
use proxy::config::http::{Action, ClusterSource, HttpConnectionManager};
use proxy::config::{Cluster as Upstream, Direction, EndpointAddress, SanKind, Socket, Terminal};
use proxy::select::{
    Arrival, Call, Fate, LocalReply, Outcome, RequestSelection, Selection, Target, arrived, request, select,
};

use super::explanation::{Hop, Verdict};
use super::flow::Flow;
use super::judgement::{Guard, Judgement};
use super::named;
use super::notes;
use super::sidecar::Sidecar;
use super::world::Cluster;

/// What becomes of a flow at a proxy.
pub(super) struct Passage {
    pub(super) hop: Hop,
    pub(super) ways: Vec<Way>,
}

/// One of the ways on.
pub(super) struct Way {
    /// The share of all that goes it, in percent.
    pub(super) share: f64,
    pub(super) upstream: Option<String>,
    pub(super) destination_rule: Option<String>,
    /// Why it goes on, or does not.
    pub(super) judgement: Judgement,
    /// Where it goes on, and what is sent there.
    pub(super) targets: Vec<(EndpointAddress, Flow)>,
}

/// A proxy that something reaches.
pub(super) struct Stop<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) proxy: &'a Sidecar,
    pub(super) arrival: Arrival,
    pub(super) destination: SocketAddr,
}

impl Stop<'_> {
    /// Follows a flow through the proxy.
    pub(super) fn pass(&self, flow: &Flow) -> Passage {
        let selection = select(&self.proxy.snapshot, &flow.connection(self.arrival, self.destination, 0));
        let mut hop = Hop {
            listener: selection.listener.map(|l| l.name.to_string()),
            filter_chain: selection.chain.map(|c| c.name.to_string()),
            gateways: selection.chain.map(|chain| named::gateways(chain)).unwrap_or_default(),
            route: selection.chain.and_then(|chain| named::route_of_bytes(chain)),
            ..Hop::default()
        };
        let secure = selection.chain.is_some_and(|chain| chain.tls.is_some());
        let inner = self.unwrapped(flow, secure);
        let ways = match (self.distrust(&selection, flow), &selection.outcome) {
            (Some(refusal), _) => vec![Way::end(refusal)],
            (None, Outcome::Http(manager)) => self.requests(manager, flow, &inner, secure, &mut hop),
            (None, _) => self.bytes(&selection, flow, &inner),
        };
        if let [way] = ways.as_slice() {
            hop.cluster = way.upstream.clone();
        }
        Passage { hop, ways }
    }

    fn guard<'f>(&'f self, flow: &'f Flow, random: u64) -> Guard<'f> {
        let inbound = self.arrival == Arrival::Captured(Direction::Inbound);
        Guard { cluster: self.cluster, proxy: self.proxy, flow, port: self.destination.port(), inbound, random }
    }

    /// The flow without the TLS that ends here.
    fn unwrapped(&self, flow: &Flow, secure: bool) -> Flow {
        let mut inner = flow.clone();
        if secure {
            inner.layers.pop();
        }
        inner
    }

    /// Why one end of the TLS that ends here does not take the other for whom it expects, if so.
    fn distrust(&self, selection: &Selection<'_>, flow: &Flow) -> Option<Judgement> {
        let tls = selection.chain?.tls.as_ref()?;
        let layer = flow.layers.last()?;
        let (snapshot, own) = (&self.proxy.snapshot, &self.proxy.identity);
        let server = super::certificate::Shown::by(snapshot, &tls.settings, own);
        let name = self.proxy.name();
        if let Some(demands) = &layer.demands {
            if !server.is_trusted(demands) {
                let reason = format!("the caller does not trust the authority of {name}'s certificate");
                return Some(Judgement::new(Verdict::Refused, reason));
            }
            let expected = |id: &Arc<str>| demands.names.iter().any(|name| name.matches(SanKind::Uri, id));
            if !demands.names.is_empty() && !server.identities.iter().any(expected) {
                let who = server.identities.first().map_or_else(|| name.clone(), ToString::to_string);
                return Some(Judgement::new(Verdict::Refused, format!("the caller does not expect {who} there")));
            }
        }
        let demands = snapshot.validation(&tls.settings.validation)?;
        let shown = !layer.shown.chain.is_empty();
        (shown && !layer.shown.is_trusted(&demands)).then(|| {
            let reason = format!("{name} does not trust the authority of the certificate of {}", flow.caller());
            let decided_by = selection.chain.map(|chain| named::gateways(chain)).unwrap_or_default();
            Judgement { decided_by, ..Judgement::new(Verdict::Refused, reason) }
        })
    }

    /// The ways of a connection that carries bytes.
    fn bytes(&self, first: &Selection<'_>, flow: &Flow, inner: &Flow) -> Vec<Way> {
        let choices = match first.chain.map(|chain| &chain.terminal) {
            Some(Terminal::Tcp(proxy)) => shares(proxy.cluster.clusters().map(|(_, weight)| weight)),
            _ => vec![(0, 100.0)],
        };
        let mut ways = Vec::new();
        for (random, share) in choices {
            let connection = flow.connection(self.arrival, self.destination, random);
            let selection = select(&self.proxy.snapshot, &connection);
            let judgement = self.guard(flow, random).of_connection(&selection);
            let (upstream, targets) = match &selection.outcome {
                Outcome::Proxied { cluster, targets } => (Some(*cluster), targets.as_slice()),
                Outcome::NoEndpoint(cluster) => (Some(*cluster), &[][..]),
                _ => (None, &[][..]),
            };
            let targets = targets.iter().map(|target| (target.address.clone(), self.sent(inner, target, None)));
            let way = Way { share, targets: targets.collect(), ..Way::to(upstream, judgement) };
            // Where it would go, if it were let through.
            let meant = selection.chain.and_then(|chain| match &chain.terminal {
                Terminal::Tcp(proxy) => Some(proxy.cluster.pick(random).to_string()),
                Terminal::Http(_) => None,
            });
            ways.push(Way { upstream: way.upstream.or(meant), ..way });
        }
        ways
    }

    /// The ways of a request.
    fn requests(
        &self,
        manager: &HttpConnectionManager,
        flow: &Flow,
        inner: &Flow,
        secure: bool,
        hop: &mut Hop,
    ) -> Vec<Way> {
        if !inner.layers.is_empty() {
            let reason = format!("{} expects HTTP in plaintext there, and gets TLS", self.proxy.name());
            return vec![Way::end(Judgement::new(Verdict::Refused, reason))];
        }
        let Some(parts) = inner.request.clone() else {
            let name = self.proxy.name();
            let reason =
                format!("{name} takes requests of HTTP there, and routes and policies decide about each of them");
            return vec![Way::end(Judgement::new(Verdict::Allowed, reason))];
        };
        let first = flow.connection(self.arrival, self.destination, 0);
        let (parts, remote) = match arrived(parts, manager, first.source, secure) {
            Ok(arrived) => arrived,
            Err(reply) => return vec![Way::end(self.guard(flow, 0).answered(&reply, None))],
        };
        // A clock that is set before the epoch is wrong in any case.
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let metadata = DynamicMetadata::default();
        let call = |random| {
            let connection = flow.connection(self.arrival, self.destination, random);
            request(&self.proxy.snapshot, &Call { connection, parts: &parts, remote, metadata: &metadata, time })
        };
        let selection = call(0);
        self.describe(&selection, hop);
        let ways = choices(&selection).into_iter().map(|(random, share)| {
            let selection = call(random);
            Way { share, ..self.way(&selection, random, flow, inner) }
        });
        ways.collect()
    }

    fn describe(&self, selection: &RequestSelection<'_>, hop: &mut Hop) {
        hop.virtual_host = selection.host.map(|host| host.name.to_string());
        hop.route = selection.route.map(|route| named::route(route));
        hop.notes.extend(notes::of_request(self.cluster, self.proxy, selection));
    }

    fn way(&self, selection: &RequestSelection<'_>, random: u64, flow: &Flow, inner: &Flow) -> Way {
        let guard = self.guard(flow, random);
        match &selection.fate {
            Fate::NotReached => Way::end(guard.of_connection(&selection.connection)),
            Fate::Answered(reply) => {
                let upstream = notes::upstream(selection, random);
                Way { upstream, ..Way::end(guard.answered(reply, Some(selection))) }
            }
            Fate::Forwarded { cluster, targets, path, authority, headers } => {
                let targets = targets.iter().map(|target| {
                    let of_endpoint = target.address.to_string();
                    let host = authority.as_deref().or(Some(of_endpoint.as_str()));
                    let next = inner.with_request(path, host, headers.clone());
                    (target.address.clone(), self.sent(&next, target, selection.offer))
                });
                Way { targets: targets.collect(), ..Way::to(Some(cluster), guard.of_request(selection)) }
            }
        }
    }

    fn sent(&self, inner: &Flow, target: &Target<'_>, offer: Option<&proxy::config::http::Protocols>) -> Flow {
        let tls = match target.socket {
            Socket::Raw => None,
            Socket::Tls(tls) => Some(&**tls),
        };
        inner.sent(self.proxy, tls, offer)
    }
}

impl Way {
    fn end(judgement: Judgement) -> Way {
        Way::to(None, judgement)
    }

    fn to(upstream: Option<&Arc<Upstream>>, judgement: Judgement) -> Way {
        Way {
            share: 100.0,
            upstream: upstream.map(|cluster| cluster.name.to_string()),
            destination_rule: upstream.and_then(|cluster| named::destination_rule(cluster)),
            judgement,
            targets: Vec::new(),
        }
    }
}

/// A number for each choice by weight that the dice must show for it, with its share in percent.
fn shares(weights: impl Iterator<Item = u32>) -> Vec<(u64, f64)> {
    let weights: Vec<u64> = weights.map(u64::from).collect();
    let total: u64 = weights.iter().sum();
    let mut before = 0;
    let mut shares = Vec::new();
    for weight in weights.into_iter().filter(|weight| *weight > 0) {
        shares.push((before, 100.0 * weight as f64 / total as f64));
        before += weight;
    }
    shares
}

/// The same for the clusters of a request's route.
fn choices(selection: &RequestSelection<'_>) -> Vec<(u64, f64)> {
    let weighted = selection.route.and_then(|route| match &route.action {
        Action::Forward(action) => match &action.cluster {
            ClusterSource::Weighted(weighted) => Some(weighted),
            ClusterSource::Single(_) | ClusterSource::Header(_) => None,
        },
        Action::Redirect(_) | Action::Respond(_) => None,
    });
    match weighted {
        // What is answered here is answered whatever the dice show.
        Some(weighted) if !matches!(&selection.fate, Fate::Answered(LocalReply { status, .. }) if *status == 403) => {
            shares(weighted.iter().map(|(_, weight)| weight))
        }
        _ => vec![(0, 100.0)],
    }
}
