//! What becomes of a request of HTTP, and why.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::filters::{Asked, ask};
use super::{Connection, Outcome, Selection, Target, in_cluster, select};
use crate::access_log::Flag;
use crate::config::Cluster;
use crate::config::http::{
    Action, ClusterSource, Destination, Fault, HostRewrite, HttpConnectionManager, HttpRbac, NamedFilter, Override,
    Protocols, Route, RouteAction, RouteTable, VirtualHost,
};
use crate::http::{Reply, head};
use crate::rbac::Verdict;
use crate::routing::{self, Changes, Request, TlsFacts};
use crate::{DynamicMetadata, Snapshot};

/// The body of the answer to a request that was not authorized.
pub const DENIED: &str = "RBAC: access denied";
/// The body of the answer to a request whose cluster has no endpoint.
pub const NO_ENDPOINT: &str = "no healthy upstream";

/// A request, as far as its fate depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The connection that it comes on.
    pub connection: Connection<'a>,
    /// Its head, normalised, and with `x-forwarded-proto` as the proxy sets it.
    pub parts: &'a Parts,
    /// Where it is said to come from.
    pub remote: IpAddr,
    /// What filters noted of it.
    pub metadata: &'a DynamicMetadata,
    /// When it comes, counted from the epoch; tokens are good for a time.
    pub time: Duration,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub struct RequestSelection<'s> {
    /// What becomes of its connection.
    pub connection: Selection<'s>,
    /// The virtual host that takes it.
    pub host: Option<&'s Arc<VirtualHost>>,
    /// The route that takes it.
    pub route: Option<&'s Arc<Route>>,
    /// What each RBAC filter that enforces something says, up to the first denial.
    pub verdicts: Vec<Verdict<'s>>,
    /// The rules that refuse it, if some do.
    pub refused_by: Option<&'s Arc<HttpRbac>>,
    /// The filters that decide with what nobody knows here: the answer of a server, or keys that it has.
    pub undecided: Vec<&'s NamedFilter>,
    /// The faults that are injected into a part of the requests like this one.
    pub faults: Vec<&'s Arc<Fault>>,
    /// The application protocols that its connection to upstream offers, if they are not those of the cluster.
    pub offer: Option<&'s Protocols>,
    /// What comes of it, if those that are undecided let it pass and no fault that others are spared meets it.
    pub fate: Fate<'s>,
}

/// What comes of a request.
#[derive(Debug, Clone)]
pub enum Fate<'s> {
    /// Its connection does not get so far; what becomes of that says why.
    NotReached,
    /// The proxy answers it.
    Answered(LocalReply),
    /// It goes on.
    Forwarded {
        /// Its cluster.
        cluster: &'s Arc<Cluster>,
        /// The endpoints, of which the load balancer chooses one.
        targets: Vec<Target<'s>>,
        /// The path, with its query, that upstream gets.
        path: String,
        /// The authority that upstream gets; `None` if the endpoint's name is to be it.
        authority: Option<String>,
        /// The other headers that upstream gets. Those whose text is made for each request anew are not among them.
        headers: HeaderMap,
    },
}

/// An answer of the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// Its status.
    pub status: StatusCode,
    /// Its body; may be empty.
    pub body: Cow<'static, [u8]>,
    /// Where the client is sent, if anywhere.
    pub location: Option<String>,
    /// The flag that the access log shows, if there is one.
    pub flag: Option<Flag>,
    /// The details that the access log shows.
    pub details: Cow<'static, str>,
}

impl LocalReply {
    pub(super) fn new(status: StatusCode, body: &'static str, flag: Option<Flag>, details: &'static str) -> LocalReply {
        LocalReply { status, body: Cow::Borrowed(body.as_bytes()), location: None, flag, details: details.into() }
    }

    fn to(status: StatusCode, location: String) -> LocalReply {
        LocalReply { location: Some(location), ..LocalReply::new(status, "", None, "direct_response") }
    }

    pub(super) fn of(reply: Reply) -> LocalReply {
        let location = reply.headers.iter().find(|(name, _)| *name == header::LOCATION);
        LocalReply {
            location: location.and_then(|(_, location)| location.to_str().ok()).map(str::to_owned),
            status: reply.status,
            body: Cow::Owned(reply.body.to_vec()),
            flag: reply.flags.iter().next(),
            details: reply.details,
        }
    }
}

/// A head as everything that decides about a request reads it: with its authority in `host`, and with its path normalised.
///
/// # Errors
/// The answer to a request that goes no further for its head.
pub fn prepared(parts: Parts, config: &HttpConnectionManager) -> Result<Parts, LocalReply> {
    let mut parts = parts;
    head::check(&mut parts, config).map(|()| parts).map_err(LocalReply::of)
}

/// The same for a request that has arrived from `source`, over TLS or not: its headers say who it comes from, as far as
/// they are believed, and so does the address that is returned.
///
/// # Errors
/// The answer to a request that goes no further for its head.
pub fn arrived(
    parts: Parts,
    config: &HttpConnectionManager,
    source: SocketAddr,
    secure: bool,
) -> Result<(Parts, IpAddr), LocalReply> {
    let mut parts = prepared(parts, config)?;
    let origin = head::address::origin(&mut parts.headers, source, None, secure, &config.remote_address);
    Ok((parts, origin.remote.ip()))
}

/// Follows a request to its end.
pub fn request<'s>(snapshot: &'s Snapshot, call: &Call<'_>) -> RequestSelection<'s> {
    let connection = select(snapshot, &call.connection);
    let outcome = connection.outcome.clone();
    let secure = connection.chain.is_some_and(|chain| chain.tls.is_some());
    let mut selection = RequestSelection {
        connection,
        host: None,
        route: None,
        verdicts: Vec::new(),
        refused_by: None,
        undecided: Vec::new(),
        faults: Vec::new(),
        offer: None,
        fate: Fate::NotReached,
    };
    if let Outcome::Http(connections) = outcome {
        selection.fate = in_connection(snapshot, connections, secure, call, &mut selection);
    }
    selection
}

/// Where a request is routed.
#[derive(Clone, Copy)]
pub(super) struct Found<'s> {
    pub(super) table: Option<&'s Arc<RouteTable>>,
    pub(super) host: Option<&'s Arc<VirtualHost>>,
    pub(super) route: Option<&'s Arc<Route>>,
    destination: Option<&'s Destination>,
    to_tls: bool,
}

impl<'s> Found<'s> {
    pub(super) fn of(table: Option<&'s Arc<RouteTable>>, request: &Request<'_>) -> Found<'s> {
        let host = table.and_then(|table| table.host(routing::authority(request.parts)));
        let to_tls = host.is_some_and(|host| host.demands_tls(request.parts));
        let route = host.filter(|_| !to_tls).and_then(|host| host.route(request));
        let destination = route.and_then(|route| weighted(route, request.random));
        Found { table, host, route, destination, to_tls }
    }

    /// What is changed in the filter of this name.
    pub(super) fn change(&self, filter: &str) -> Option<&'s Override> {
        change(filter, self.destination, self.route, self.host, self.table)
    }
}

fn in_connection<'s>(
    snapshot: &'s Snapshot,
    connections: &'s HttpConnectionManager,
    secure: bool,
    call: &Call<'_>,
    selection: &mut RequestSelection<'s>,
) -> Fate<'s> {
    let shown = secure && !call.connection.identities.is_empty();
    let tls = secure.then_some(TlsFacts { presented: shown, validated: shown });
    let mut parts = call.parts.clone();
    let table = snapshot.routes_of(connections);
    let found = Found::of(table, &Request { parts: &parts, tls, random: call.connection.random });
    (selection.host, selection.route) = (found.host, found.route);
    let mut asked = Asked { call, tls, found, metadata: call.metadata.clone() };
    if let Some(reply) = ask(&connections.filters, &mut asked, &mut parts, selection) {
        return Fate::Answered(reply);
    }
    let found = asked.found;
    (selection.host, selection.route) = (found.host, found.route);
    if found.to_tls {
        return Fate::Answered(LocalReply::to(StatusCode::MOVED_PERMANENTLY, routing::tls_location(&parts)));
    }
    match found.route {
        Some(route) => in_route(snapshot, route, &found, call, parts),
        None => Fate::Answered(LocalReply::new(StatusCode::NOT_FOUND, "", Some(Flag::NoRouteFound), "route_not_found")),
    }
}

fn in_route<'s>(
    snapshot: &'s Snapshot,
    route: &'s Route,
    found: &Found<'s>,
    call: &Call<'_>,
    parts: Parts,
) -> Fate<'s> {
    match &route.action {
        Action::Redirect(redirect) => {
            let location = routing::location(&parts, &route.matches.path, redirect);
            Fate::Answered(LocalReply::to(redirect.status, location))
        }
        Action::Respond(response) => Fate::Answered(LocalReply {
            body: Cow::Owned(response.body.to_vec()),
            ..LocalReply::new(response.status, "", None, "direct_response")
        }),
        Action::Forward(action) => forwarded(snapshot, (route, action), found, call, parts),
    }
}

fn forwarded<'s>(
    snapshot: &'s Snapshot,
    (route, action): (&'s Route, &'s RouteAction),
    found: &Found<'s>,
    call: &Call<'_>,
    parts: Parts,
) -> Fate<'s> {
    let destination = found.destination;
    let name = match (&action.cluster, destination) {
        (_, Some(destination)) => Some(&*destination.cluster),
        (ClusterSource::Single(name), None) => Some(&**name),
        (ClusterSource::Header(name), None) => parts.headers.get(name).and_then(|value| value.to_str().ok()),
        (ClusterSource::Weighted(_), None) => None,
    };
    let Some(cluster) = name.and_then(|name| snapshot.cluster(name)) else {
        return Fate::Answered(LocalReply::new(action.not_found, "", Some(Flag::NoClusterFound), "cluster_not_found"));
    };
    let Outcome::Proxied { targets, .. } = in_cluster(snapshot, cluster, &call.connection) else {
        return Fate::Answered(LocalReply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            NO_ENDPOINT,
            Some(Flag::NoHealthyUpstream),
            "no_healthy_upstream",
        ));
    };
    let path = routing::rewritten_path(&parts, route, action);
    let authority = routing::rewritten_authority(&parts, action, destination).map(Cow::into_owned);
    let of_endpoint = matches!(action.host, HostRewrite::Endpoint);
    let mut headers = parts.headers.clone();
    if let (Some(table), Some(host)) = (found.table, found.host) {
        Changes::new(table, host, route, destination).request(&mut headers, |_| String::new());
    }
    Fate::Forwarded {
        cluster,
        targets,
        path: path.unwrap_or_else(|| routing::full_path(&parts).to_owned()),
        authority: authority.or_else(|| (!of_endpoint).then(|| routing::authority(&parts).to_owned())),
        headers,
    }
}

/// The weighted cluster of a request, where its route has some.
fn weighted(route: &Route, random: u64) -> Option<&Destination> {
    match &route.action {
        Action::Forward(action) => match &action.cluster {
            ClusterSource::Weighted(weighted) => Some(weighted.pick(random)),
            ClusterSource::Single(_) | ClusterSource::Header(_) => None,
        },
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// What is changed in a filter: the most specific that says something of it counts.
pub fn change<'s>(
    filter: &str,
    destination: Option<&'s Destination>,
    route: Option<&'s Arc<Route>>,
    host: Option<&'s Arc<VirtualHost>>,
    table: Option<&'s Arc<RouteTable>>,
) -> Option<&'s Override> {
    let destination = destination.and_then(|d| d.overrides.of(filter));
    let route = || route.and_then(|r| r.overrides.of(filter));
    let host = || host.and_then(|h| h.overrides.of(filter));
    let table = || table.and_then(|t| t.overrides.of(filter));
    destination.or_else(route).or_else(host).or_else(table)
}

/// The rules that an RBAC filter has for a request; `None` if it does nothing.
pub fn in_force<'s>(own: &'s Arc<HttpRbac>, disabled: bool, change: Option<&'s Override>) -> Option<&'s Arc<HttpRbac>> {
    match change {
        None if disabled => None,
        None | Some(Override::Enabled) => Some(own),
        Some(Override::Disabled | Override::Rbac(None)) => None,
        Some(Override::Rbac(Some(other))) => Some(other),
        // It is meant for a filter of another kind.
        Some(_) => Some(own),
    }
}
