//! A request and its response, from the first byte of the one to the last of the other.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::connection::{Connection, HASTE, as_known};
use super::deadline::Deadline;
use super::filter::OnResponse;
use super::filter::fault::Suffers;
use super::head::names;
use super::messages::Messages;
use super::peer;
use super::pool::{Carrier, Lease};
use super::report::{self, Reports};
use super::trace::{Spans, Trace};
use super::upload::Upload;
use super::watch::Watch;
use crate::access_log::Text;
use crate::access_log::{Entry, Flag, Flags, Headers, HttpEntry, RequestHead};
use crate::config::Cluster;
use crate::config::http::{
    Action, ClusterSource, Destination, HashCookie, HeaderMutations, HeaderText, Override, Protocols, Route,
    RouteTable, VirtualHost,
};
use crate::dynamic_metadata::DynamicMetadata;
use crate::metrics::Workload;
use crate::routing::{self, Changes, TlsFacts};
use crate::upstream::{Carried, Establish, Host, UnderWay};

/// What is known of a request. It is there until the response has been sent, and then tells the logs.
pub(crate) struct Exchange {
    pub(crate) connection: Rc<Connection>,
    start: SystemTime,
    /// How long it may be silent, and take.
    pub(crate) watch: Rc<Watch>,
    protocol: Version,
    kept: Kept,
    pub(crate) remote: SocketAddr,
    pub(crate) grpc: bool,
    pub(crate) secure: bool,
    pub(crate) flags: Flags,
    pub(crate) status: Option<StatusCode>,
    pub(crate) details: Cow<'static, str>,
    /// What decides where chance does.
    pub(crate) random: u64,
    pub(crate) found: Option<Rc<Found>>,
    pub(crate) cluster: Option<Rc<Establish>>,
    pub(crate) upstream_host: Option<SocketAddr>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) upstream_failure: Option<Arc<str>>,
    pub(crate) attempts: u32,
    /// The connection of the last attempt.
    pub(crate) carrier: Option<Rc<Carrier>>,
    /// Whether the other proxy wants to know whose this one is.
    pub(crate) asked_who: bool,
    /// The sizes of the heads of the request and of the response.
    pub(crate) head_sizes: (u64, u64),
    /// Downstream's end, if it may change its protocol, and how many bytes it sent in that.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// Whether it asks for another protocol: behind it, a connection of HTTP/1 carries that, or nothing.
    pub(crate) changing: bool,
    /// The protocol that upstream was asked for over HTTP/2.
    pub(crate) extended: Option<HeaderValue>,
    pub(crate) tunnelled: u64,
    /// The body of the request, until somebody reads it.
    pub(crate) incoming: Option<Incoming>,
    pub(crate) upload: Option<Rc<Upload>>,
    /// The connection to upstream, while the response comes over it.
    pub(crate) lease: Option<Lease>,
    pub(crate) answered: Option<Instant>,
    pub(crate) sent: u64,
    pub(crate) grpc_status: Option<u32>,
    /// Messages of gRPC in the response.
    pub(super) messages: Messages,
    /// What the filters that the request has passed do to its response, in their order.
    pub(crate) on_response: Vec<OnResponse>,
    /// Counts the request among those that suffer from faults.
    pub(crate) suffers: Vec<Suffers>,
    /// What filters have noted.
    pub(crate) metadata: DynamicMetadata,
    /// The endpoint of the last attempt, which counts its requests.
    pub(crate) host: Option<Arc<Host>>,
    pub(crate) carried: Option<Carried>,
    /// The protocols that connections to upstream offer, if they are not those of the cluster.
    pub(crate) offer: Option<Protocols>,
    /// Counts the request among those of its cluster.
    pub(crate) under_way: Option<UnderWay>,
    /// When it has taken too long.
    pub(crate) deadline: Option<Deadline>,
    /// A cookie that the response must set, and its value.
    pub(crate) cookie: Option<(String, HashCookie)>,
    /// When the last attempt was sent.
    pub(crate) sent_up: Option<Instant>,
    /// What the request is called in `x-request-id`.
    pub(crate) id: Option<HeaderValue>,
    /// The part of a trace that it is.
    pub(crate) trace: Option<Box<Trace>>,
    /// Whether nothing is said of upstream having taken too long.
    pub(crate) silent_timeout: bool,
    /// Whether the last attempt took too long.
    pub(crate) timed_out: bool,
    /// Whether the client is to come again over TLS.
    pub(crate) must_come_over_tls: bool,
    /// Whether the head of the request could not be read, so that nothing is known of it.
    pub(crate) unread: bool,
    /// Whether this proxy has broken it off, since it took too long.
    pub(crate) broken_off: bool,
    /// Whether the response has been handed over whole.
    complete: bool,
}

/// The route of a request, and what it belongs to.
pub(crate) struct Found {
    pub(crate) table: Arc<RouteTable>,
    pub(crate) host: Arc<VirtualHost>,
    pub(crate) route: Arc<Route>,
    pub(crate) random: u64,
}

impl Found {
    /// Which of several clusters was drawn.
    pub(crate) fn destination(&self) -> Option<&Destination> {
        match &self.route.action {
            Action::Forward(action) => match &action.cluster {
                ClusterSource::Weighted(weighted) => Some(weighted.pick(self.random)),
                ClusterSource::Single(_) | ClusterSource::Header(_) => None,
            },
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes::new(&self.table, &self.host, &self.route, self.destination())
    }

    /// What is changed in a filter, by what is most specific.
    pub(crate) fn override_of(&self, filter: &str) -> Option<&Override> {
        let of_destination = self.destination().and_then(|d| d.overrides.of(filter));
        let of_route = || self.route.overrides.of(filter);
        let of_host = || self.host.overrides.of(filter);
        of_destination.or_else(of_route).or_else(of_host).or_else(|| self.table.overrides.of(filter))
    }

    /// Whether a header that is added to the request has operators in it.
    pub(crate) fn has_formats(&self) -> bool {
        let of_destination = self.destination().map(|d| &d.request_headers);
        let others = [&self.route.request_headers, &self.host.request_headers, &self.table.request_headers];
        let formatted = |m: &HeaderMutations| m.add.iter().any(|a| matches!(a.value, HeaderText::Format(_)));
        of_destination.into_iter().chain(others).any(formatted)
    }
}

/// What logs may show of heads that have gone on.
#[derive(Default)]
struct Kept {
    method: Method,
    uri: Uri,
    authority: Option<HeaderValue>,
    request: Vec<(HeaderName, HeaderValue)>,
    response: Vec<(HeaderName, HeaderValue)>,
    trailers: Option<HeaderMap>,
}

impl Exchange {
    pub(crate) fn new(connection: &Rc<Connection>, protocol: Version) -> Box<Exchange> {
        let stats = &connection.manager.stats;
        stats.rq_total.inc();
        stats.rq_active.inc();
        if protocol == Version::HTTP_2 {
            stats.rq_http2_total.inc()
        } else {
            stats.rq_http1_total.inc()
        }
        connection.begin();
        Box::new(Exchange {
            connection: connection.clone(),
            start: SystemTime::now(),
            watch: Watch::new(&connection.manager.config),
            protocol,
            kept: Kept::default(),
            remote: connection.remote,
            grpc: false,
            secure: connection.is_secure(),
            flags: Flags::default(),
            status: None,
            details: Cow::Borrowed(""),
            random: fastrand::u64(..),
            found: None,
            cluster: None,
            upstream_host: None,
            upstream_local: None,
            upstream_failure: None,
            attempts: 0,
            carrier: None,
            asked_who: false,
            head_sizes: (0, 0),
            upgrade: None,
            changing: connection.is_to_change(),
            extended: None,
            tunnelled: 0,
            incoming: None,
            upload: None,
            lease: None,
            answered: None,
            sent: 0,
            grpc_status: None,
            messages: Messages::default(),
            on_response: Vec::new(),
            suffers: Vec::new(),
            metadata: DynamicMetadata::default(),
            host: None,
            carried: None,
            offer: None,
            under_way: None,
            deadline: None,
            cookie: None,
            sent_up: None,
            id: None,
            trace: None,
            silent_timeout: false,
            timed_out: false,
            must_come_over_tls: false,
            unread: false,
            broken_off: false,
            complete: false,
        })
    }

    /// Notes what logs may show of a request, as it is now.
    pub(crate) fn keep_request(&mut self, parts: &Parts) {
        let names = &self.connection.manager.request_headers;
        self.kept.method = parts.method.clone();
        self.kept.uri = parts.uri.clone();
        self.kept.authority = parts.headers.get(header::HOST).cloned();
        keep(&mut self.kept.request, &parts.headers, names);
    }

    /// Notes what logs may show of a response.
    pub(crate) fn keep_response(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.head_sizes.1 = report::size(headers);
        keep(&mut self.kept.response, headers, &self.connection.manager.response_headers);
        if self.grpc {
            self.note_grpc_status(headers);
        }
    }

    pub(crate) fn keep_trailers(&mut self, trailers: &HeaderMap) {
        self.note_grpc_status(trailers);
        self.kept.trailers = Some(trailers.clone());
    }

    fn note_grpc_status(&mut self, headers: &HeaderMap) {
        let status = headers.get(names::GRPC_STATUS).and_then(|v| v.to_str().ok());
        self.grpc_status = status.and_then(|s| s.parse().ok()).or(self.grpc_status);
    }

    pub(crate) fn protocol(&self) -> Version {
        self.protocol
    }

    pub(crate) fn method(&self) -> &Method {
        &self.kept.method
    }

    /// The request as routes look at it.
    pub(crate) fn asked<'a>(&self, parts: &'a Parts) -> routing::Request<'a> {
        let presented = self.connection.certificate.is_some();
        let facts = TlsFacts { presented, validated: presented };
        let tls = self.connection.is_secure().then_some(facts);
        routing::Request { parts, tls, random: self.random }
    }

    /// The body of the request, if it has one. Of what is read up to `keep` bytes are kept, if nobody has said that
    /// before.
    pub(crate) fn upload(&mut self, keep: Option<usize>) -> Option<Rc<Upload>> {
        if let Some(incoming) = self.incoming.take() {
            self.upload = Upload::new(incoming, keep, &self.watch, self.grpc);
        }
        self.upload.clone()
    }

    /// What a text with operators is.
    pub(crate) fn rendered(&self, text: &Text, head: Option<&Parts>) -> String {
        let mut out = String::new();
        self.with_entry(head, |entry| text.render(entry, &mut out));
        out
    }

    /// The head of the request is ready to be read: notes what it is called, and to which trace it belongs.
    pub(crate) fn recognise(&mut self, parts: &mut Parts) {
        let connection = self.connection.clone();
        let config = &connection.manager.config;
        if let Some(tracing) = &config.tracing {
            let direction = connection.listener.config.direction;
            self.trace = Trace::begin(parts, tracing, config.request_id, direction).map(Box::new);
        }
        self.head_sizes.0 = report::size(&parts.headers);
        if let Some(said) = peer::take(&mut parts.headers) {
            self.asked_who = true;
            connection.introduce(&said);
        }
        self.id = parts.headers.get(names::X_REQUEST_ID).cloned();
    }

    /// The workload at this end of the connection to upstream.
    pub(super) fn own_end(&self, reports: &Reports, own: &Workload) -> Arc<Workload> {
        match &self.carrier {
            Some(carrier) => carrier.own_end(reports, own),
            None => reports.intern(as_known(own, None)),
        }
    }

    /// The workload at the other end of the connection to upstream, as far as it is known.
    pub(super) fn other_end(&self, reports: &Reports) -> Arc<Workload> {
        match &self.carrier {
            Some(carrier) => carrier.peer(reports),
            None => reports.intern(Workload::default()),
        }
    }

    /// Whether downstream has trailers: HTTP/1 carries them where it is told to, as with Envoy.
    pub(crate) fn has_trailers_below(&self) -> bool {
        self.protocol == Version::HTTP_2 || self.connection.manager.config.http1.trailers
    }

    /// Whether an upstream that speaks this has trailers.
    pub(crate) fn has_trailers_above(&self, spoken: Version) -> bool {
        let told = || self.cluster.as_ref().is_some_and(|cluster| cluster.upstream.config.http.http1.trailers);
        spoken == Version::HTTP_2 || told()
    }

    /// Whether the request has been sent on, so that its head is gone.
    pub(crate) fn has_gone_on(&self) -> bool {
        self.sent_up.is_some()
    }

    /// The response has been handed over whole.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
        let uploaded = self.upload.as_ref().is_none_or(|u| u.is_complete());
        match self.lease.take() {
            Some(lease) if uploaded => lease.complete(),
            // An answer that came before the request was there whole: the connection is of no more use.
            lease => drop(lease),
        }
    }

    /// What the line of a log would be made of now. `head` is the request, if it is still at hand.
    pub(crate) fn with_entry<T>(&self, head: Option<&Parts>, use_entry: impl FnOnce(&Entry<'_>) -> T) -> T {
        let connection = &self.connection;
        let text =
            |value: Option<&HeaderValue>| value.and_then(|v| std::str::from_utf8(v.as_bytes()).ok()).map(str::to_owned);
        let (method, uri, authority, headers) = match head {
            Some(parts) => {
                (&parts.method, &parts.uri, text(parts.headers.get(header::HOST)), Headers::All(&parts.headers))
            }
            None => (
                &self.kept.method,
                &self.kept.uri,
                text(self.kept.authority.as_ref()),
                Headers::Kept(&self.kept.request),
            ),
        };
        let request = RequestHead {
            method: method.as_str(),
            path: uri.path_and_query().map_or("", PathAndQuery::as_str),
            authority: authority.as_deref().unwrap_or_default(),
            scheme: if self.secure { "https" } else { "http" },
            headers,
        };
        let request = if self.unread { RequestHead::default() } else { request };
        let answered = self.answered;
        let id = text(self.id.as_ref());
        let trace = self.trace.as_ref().map(|trace| format!("{:032x}", trace.context.trace));
        let http = HttpEntry {
            protocol: self.protocol,
            request,
            status: self.status.map(|s| s.as_u16()),
            response: Headers::Kept(&self.kept.response),
            trailers: self.kept.trailers.as_ref().map_or(Headers::default(), Headers::All),
            route: self.found.as_ref().map(|f| &*f.route.name),
            attempts: self.attempts,
            request_duration: self.upload.as_ref().map_or(Some(std::time::Duration::ZERO), |u| {
                u.ended().map(|ended| ended.saturating_duration_since(self.watch.begun()))
            }),
            response_duration: answered.map(|a| a.saturating_duration_since(self.watch.begun())),
            response_tx_duration: answered.map(|a| a.elapsed()),
            grpc_status: self.grpc_status,
            stream_id: id.as_deref(),
            trace_id: trace.as_deref(),
            metadata: &self.metadata,
        };
        let planned = self.planned_cluster();
        let cluster = self.cluster.as_ref().map(|c| &c.upstream.config).or(planned.as_ref()).map(|c| &**c);
        use_entry(&Entry {
            start: self.start,
            duration: self.watch.begun().elapsed(),
            received: self.received(),
            sent: self.sent,
            flags: self.flags,
            details: Some(&*self.details),
            termination: None,
            upstream_failure: self.upstream_failure.as_deref(),
            downstream_failure: None,
            upstream_host: self.upstream_host,
            cluster: cluster.map(|c| &*c.name),
            cluster_stat_name: cluster.map(|c| &*c.stat_name),
            upstream_local: self.upstream_local,
            downstream_local: connection.local,
            downstream_remote: self.remote,
            direct_remote: connection.remote,
            server_name: connection.server_name.as_deref(),
            peer_identity: connection.identities.first().map(|i| &**i),
            peer_subject: connection.certificate.as_ref().map(|c| &*c.subject),
            peer_fingerprint: connection.certificate.as_ref().map(|c| &*c.fingerprint),
            local_identity: connection.own_identity.as_deref(),
            tls_version: connection.tls_version,
            filter_chain: Some(&connection.chain.config.name),
            connection_id: connection.number,
            http: Some(&http),
        })
    }

    /// The cluster to which the request would have gone, had nothing answered it before.
    fn planned_cluster(&self) -> Option<Arc<Cluster>> {
        let Action::Forward(action) = &self.found.as_ref()?.route.action else { return None };
        let name = match &action.cluster {
            ClusterSource::Single(name) => name,
            ClusterSource::Weighted(weighted) => &weighted.pick(self.random).cluster,
            ClusterSource::Header(_) => return None,
        };
        self.connection.worker.current().prepared.snapshot.cluster(name).cloned()
    }

    /// Bytes of the request's body.
    pub(crate) fn received(&self) -> u64 {
        self.upload.as_ref().map_or(0, |u| u.received()) + self.tunnelled
    }

    fn count(&self) {
        let stats = &self.connection.manager.stats;
        let Some(status) = self.status else { return };
        stats.rq_completed.inc();
        match status.as_u16() {
            100..200 => stats.rq_1xx.inc(),
            200..300 => stats.rq_2xx.inc(),
            300..400 => stats.rq_3xx.inc(),
            400..500 => stats.rq_4xx.inc(),
            _ => stats.rq_5xx.inc(),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let connection = self.connection.clone();
        let stats = &connection.manager.stats;
        if !self.complete && !self.broken_off && !self.flags.intersects(OWN_RESETS) {
            // hyper drops what nobody waits for any more.
            self.flags.set(Flag::DownstreamConnectionTermination);
            self.details = Cow::Borrowed("downstream_remote_disconnect");
            stats.rq_rx_reset.inc();
        }
        self.count();
        stats.rq_active.dec();
        if self.under_way.is_some()
            && let Some(cluster) = &self.cluster
        {
            cluster.stats.rq_active.dec();
        }
        connection.end(self.status.is_none() && self.watch.begun().elapsed() < HASTE);
        let config = &connection.manager.config;
        if let Some(mut trace) = self.trace.take()
            && let Some(collector) = config.tracing.as_ref().and_then(|tracing| tracing.collector.as_ref())
        {
            let way = connection.listener.config.direction;
            self.with_entry(None, |entry| Spans::add(&connection.worker, collector, &mut trace, entry, way));
        }
        let authority = self.kept.authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        report::report(self, authority, self.watch.begun().elapsed());
        let logs = &config.access_logs;
        if !logs.is_empty() {
            self.with_entry(None, |entry| connection.worker.log(logs, entry));
        }
    }
}

/// What this proxy or upstream has broken off, so that downstream has not.
const OWN_RESETS: Flags = Flags::NONE
    .with(Flag::UpstreamConnectionTermination)
    .with(Flag::UpstreamRemoteReset)
    .with(Flag::UpstreamRequestTimeout)
    .with(Flag::UpstreamProtocolError);

fn keep(into: &mut Vec<(HeaderName, HeaderValue)>, headers: &HeaderMap, names: &[HeaderName]) {
    into.clear();
    into.extend(names.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))));
}
