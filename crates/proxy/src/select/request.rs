//! What becomes of a request of HTTP, and why.
//!
//! Of the filters, authorization has a say here: its verdict follows from the configuration and the request alone.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;

use super::{Connection, Outcome, Selection, Target, in_cluster, select};
use crate::access_log::Flag;
use crate::config::http::{
    Action, ClusterSource, Destination, HostRewrite, HttpConnectionManager, HttpFilter, HttpRbac, Override, Route,
    RouteAction, RouteTable, VirtualHost,
};
use crate::config::{Cluster, FilterChain};
use crate::http::head;
use crate::rbac::{Asking, Peer, Verdict};
use crate::routing::{self, Request, TlsFacts};
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
    /// What comes of it.
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
    fn new(status: StatusCode, body: &'static str, flag: Option<Flag>, details: &'static str) -> LocalReply {
        LocalReply { status, body: Cow::Borrowed(body.as_bytes()), location: None, flag, details: details.into() }
    }

    fn to(status: StatusCode, location: String) -> LocalReply {
        LocalReply { location: Some(location), ..LocalReply::new(status, "", None, "direct_response") }
    }
}

/// A head as everything that decides about a request reads it: with its authority in `host`, and with its path normalised.
///
/// # Errors
/// The answer to a request that goes no further for its head.
pub fn prepared(parts: Parts, config: &HttpConnectionManager) -> Result<Parts, LocalReply> {
    let mut parts = parts;
    match head::check(&mut parts, config) {
        Ok(()) => Ok(parts),
        Err(reply) => Err(LocalReply {
            location: reply.headers.iter().find_map(|(_, location)| location.to_str().ok().map(str::to_owned)),
            status: reply.status,
            body: Cow::Owned(reply.body.to_vec()),
            flag: reply.flags.iter().next(),
            details: reply.details,
        }),
    }
}

/// Follows a request to its end.
pub fn request<'s>(snapshot: &'s Snapshot, call: &Call<'_>) -> RequestSelection<'s> {
    let connection = select(snapshot, &call.connection);
    let (outcome, chain) = (connection.outcome.clone(), connection.chain);
    let mut selection =
        RequestSelection { connection, host: None, route: None, verdicts: Vec::new(), fate: Fate::NotReached };
    if let (Outcome::Http(connections), Some(chain)) = (outcome, chain) {
        selection.fate = in_connection(snapshot, connections, chain, call, &mut selection);
    }
    selection
}

fn in_connection<'s>(
    snapshot: &'s Snapshot,
    connections: &'s HttpConnectionManager,
    chain: &FilterChain,
    call: &Call<'_>,
    selection: &mut RequestSelection<'s>,
) -> Fate<'s> {
    let Connection { destination, source, hello, identities, random, .. } = call.connection;
    let tls = chain.tls.is_some();
    let shown = tls && !identities.is_empty();
    let facts = tls.then_some(TlsFacts { presented: shown, validated: shown });
    let table = snapshot.routes_of(connections);
    let host = table.and_then(|table| table.host(routing::authority(call.parts)));
    let to_tls = host.is_some_and(|host| host.demands_tls(call.parts));
    let route = host.filter(|_| !to_tls).and_then(|h| h.route(&Request { parts: call.parts, tls: facts, random }));
    (selection.host, selection.route) = (host, route);
    let destination_of_route = route.and_then(|route| weighted(route, random));
    let peer = Peer {
        destination,
        source: source.ip(),
        server_name: hello.and_then(|h| h.server_name.as_deref()).unwrap_or_default(),
        tls,
        identities: if tls { identities } else { &[] },
    };
    let asking = Asking { peer, remote: call.remote, parts: call.parts, metadata: call.metadata };
    for filter in &connections.filters {
        let HttpFilter::Rbac(own) = &filter.filter else { continue };
        let change = change(&filter.name, destination_of_route, route, host, table);
        let Some(rbac) = in_force(own, filter.disabled, change) else { continue };
        let Some(verdict) = rbac.verdict(&asking) else { continue };
        selection.verdicts.push(verdict);
        if !verdict.allowed {
            let reply = LocalReply::new(StatusCode::FORBIDDEN, DENIED, None, "");
            return Fate::Answered(LocalReply { details: verdict.to_string().into(), ..reply });
        }
    }
    if to_tls {
        return Fate::Answered(LocalReply::to(StatusCode::MOVED_PERMANENTLY, routing::tls_location(call.parts)));
    }
    match route {
        Some(route) => in_route(snapshot, route, destination_of_route, call),
        None => Fate::Answered(LocalReply::new(StatusCode::NOT_FOUND, "", Some(Flag::NoRouteFound), "route_not_found")),
    }
}

fn in_route<'s>(
    snapshot: &'s Snapshot,
    route: &'s Route,
    destination: Option<&'s Destination>,
    call: &Call<'_>,
) -> Fate<'s> {
    let parts = call.parts;
    match &route.action {
        Action::Redirect(redirect) => {
            let location = routing::location(parts, &route.matches.path, redirect);
            Fate::Answered(LocalReply::to(redirect.status, location))
        }
        Action::Respond(response) => Fate::Answered(LocalReply {
            body: Cow::Owned(response.body.to_vec()),
            ..LocalReply::new(response.status, "", None, "direct_response")
        }),
        Action::Forward(action) => forwarded(snapshot, route, action, destination, call),
    }
}

fn forwarded<'s>(
    snapshot: &'s Snapshot,
    route: &'s Route,
    action: &'s RouteAction,
    destination: Option<&'s Destination>,
    call: &Call<'_>,
) -> Fate<'s> {
    let parts = call.parts;
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
    let path = routing::rewritten_path(parts, route, action);
    let authority = routing::rewritten_authority(parts, action, destination).map(Cow::into_owned);
    let of_endpoint = matches!(action.host, HostRewrite::Endpoint);
    Fate::Forwarded {
        cluster,
        targets,
        path: path.unwrap_or_else(|| routing::full_path(parts).to_owned()),
        authority: authority.or_else(|| (!of_endpoint).then(|| routing::authority(parts).to_owned())),
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
