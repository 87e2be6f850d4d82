//! The way of a request: its head is made ready, filters are asked, a route is found, and something answers.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::Uri;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Bytes, Incoming};

use super::connection::Connection;
use super::exchange::{Exchange, Found};
use super::forward;
use super::head::{self, names};
use super::reply::{self, Reply};
use super::response::{self, ResponseBody};
use super::screening;
use super::tunnel;
use super::watch::Lapse;
use crate::access_log::Flag;
use crate::config::http::{Action, ClusterSource, DirectResponse, RouteAction};
use crate::routing;
use crate::worker::Current;

/// Why a stream is broken off without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the stream is broken off")]
pub(crate) struct BrokenOff;

/// Answers a request.
pub(crate) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BrokenOff> {
    let mut exchange = Exchange::new(&connection, request.version());
    let (mut parts, incoming) = request.into_parts();
    exchange.grpc = reply::is_grpc(&parts.headers);
    if incoming.is_end_stream() {
        exchange.watch.request_is_whole();
    }
    exchange.incoming = Some(incoming);
    exchange.upgrade = parts.extensions.remove();
    exchange.changing |= tunnel::receive(&mut parts);
    if let Some(refusal) = connection.refusal() {
        exchange.unread = true;
        connection.manager.stats.cx_protocol_error.inc();
        return Ok(response::from_reply(exchange, refusal));
    }
    let watch = exchange.watch.clone();
    let answer = tokio::select! {
        biased;
        answer = handle(&mut exchange, &mut parts) => answer,
        lapse = watch.lapse() => Err(expire(&exchange, lapse)),
    };
    match answer {
        Ok(response) => Ok(response::from_upstream(exchange, response)),
        Err(reply) => {
            if !exchange.has_gone_on() {
                exchange.keep_request(&parts);
            }
            Ok(response::from_reply(exchange, reply))
        }
    }
}

/// The answer to a request that has exceeded a limit of time: whose fault that is its status says.
fn expire(exchange: &Exchange, lapse: Lapse) -> Reply {
    let late =
        if exchange.watch.has_whole_request() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
    let stats = &exchange.connection.manager.stats;
    match lapse {
        Lapse::Idle => {
            stats.rq_idle_timeout.inc();
            Reply::new(late, "stream_idle_timeout").body("stream timeout").flag(Flag::StreamIdleTimeout)
        }
        Lapse::Request => {
            stats.rq_timeout.inc();
            Reply::new(StatusCode::REQUEST_TIMEOUT, "request_overall_timeout").body("request timeout")
        }
        Lapse::Duration => {
            stats.rq_max_duration_reached.inc();
            Reply::new(late, "max_duration_timeout").body("downstream duration timeout")
        }
    }
}

async fn handle(exchange: &mut Exchange, parts: &mut Parts) -> Result<Response<Incoming>, Reply> {
    let connection = exchange.connection.clone();
    let origin = head::prepare(parts, &connection)?;
    exchange.remote = origin.remote;
    exchange.secure = routing::scheme(parts) == "https";
    exchange.recognise(parts);
    let current = connection.worker.current();
    tunnel::check_connect(exchange, parts)?;
    find(exchange, parts, &current)?;
    screening::screen(exchange, parts, &current).await?;
    if exchange.must_come_over_tls {
        // Filters come first: whom they refuse is not told where to go.
        return Err(sent_elsewhere(StatusCode::MOVED_PERMANENTLY, &routing::tls_location(parts)));
    }
    let Some(found) = exchange.found.clone() else {
        connection.manager.stats.no_route.inc();
        return Err(Reply::new(StatusCode::NOT_FOUND, "route_not_found").flag(Flag::NoRouteFound));
    };
    if let Some((trace, decorator)) = exchange.trace.as_mut().zip(found.route.decorator.as_ref()) {
        trace.decorate(decorator, connection.listener.config.direction, &mut parts.headers);
    }
    match &found.route.action {
        Action::Respond(answer) => Err(respond(&connection, answer)),
        Action::Redirect(redirect) => {
            connection.manager.stats.rq_redirect.inc();
            let location = routing::location(parts, &found.route.matches.path, redirect);
            Err(sent_elsewhere(redirect.status, &location))
        }
        Action::Forward(action) => {
            tunnel::check(exchange, parts, action)?;
            choose_cluster(exchange, parts, action, &current)?;
            rewrite(exchange, &found, parts, action)?;
            // What a replaced snapshot holds is not kept by requests.
            drop(current);
            forward::forward(exchange, parts, &found, action).await
        }
    }
}

/// Finds the virtual host and the route of a request, if it has one.
pub(super) fn find(exchange: &mut Exchange, parts: &Parts, current: &Current) -> Result<(), Reply> {
    let connection = &exchange.connection;
    let snapshot = &current.prepared.snapshot;
    let Some(table) = snapshot.routes_of(&connection.manager.config) else { return Ok(()) };
    let Some(host) = table.host(routing::authority(parts)) else { return Ok(()) };
    exchange.found = None;
    exchange.must_come_over_tls = host.demands_tls(parts);
    if exchange.must_come_over_tls {
        return Ok(());
    }
    let request = exchange.asked(parts);
    if let Some(route) = host.route(&request) {
        let found = Found { table: table.clone(), host: host.clone(), route: route.clone(), random: exchange.random };
        if let Action::Forward(action) = &route.action {
            exchange.watch.heed(&action.timeouts);
        }
        exchange.found = Some(Rc::new(found));
    }
    Ok(())
}

fn respond(connection: &Connection, answer: &DirectResponse) -> Reply {
    connection.manager.stats.rq_direct_response.inc();
    Reply::new(answer.status, "direct_response").body(Bytes::copy_from_slice(&answer.body))
}

fn sent_elsewhere(status: StatusCode, location: &str) -> Reply {
    match HeaderValue::from_str(location) {
        Ok(location) => Reply::new(status, "direct_response").header(header::LOCATION, location),
        Err(_) => Reply::new(StatusCode::BAD_REQUEST, "http.invalid_path").standard_body(),
    }
}

/// Finds the cluster of a request.
fn choose_cluster(
    exchange: &mut Exchange,
    parts: &Parts,
    action: &RouteAction,
    current: &Current,
) -> Result<(), Reply> {
    let worker = &exchange.connection.worker;
    let cluster = match &action.cluster {
        ClusterSource::Single(name) => current.cluster(worker, name),
        ClusterSource::Weighted(weighted) => current.cluster(worker, &weighted.pick(exchange.random).cluster),
        ClusterSource::Header(name) => {
            let name = parts.headers.get(name).and_then(|value| value.to_str().ok());
            name.and_then(|name| current.cluster(worker, &Arc::from(name)))
        }
    };
    if cluster.is_none() {
        exchange.connection.manager.stats.no_cluster.inc();
        return Err(Reply::new(action.not_found, "cluster_not_found").flag(Flag::NoClusterFound));
    }
    exchange.cluster = cluster;
    Ok(())
}

/// Changes path, authority and headers as the route says.
fn rewrite(exchange: &Exchange, found: &Found, parts: &mut Parts, action: &RouteAction) -> Result<(), Reply> {
    let invalid = || Reply::new(StatusCode::BAD_REQUEST, "http.invalid_path").standard_body();
    let authority = routing::rewritten_authority(parts, action, found.destination()).map(|a| HeaderValue::from_str(&a));
    let path = routing::rewritten_path(parts, &found.route, action);
    // What operators show is the head as it came.
    let before = found.has_formats().then(|| parts.clone());
    found.changes().request(&mut parts.headers, |text| exchange.rendered(text, before.as_ref()));
    if let Some(authority) = authority {
        let old = parts.headers.insert(header::HOST, authority.map_err(|_| invalid())?);
        if let Some(old) = old {
            tell_original_host(exchange, parts, action, old);
        }
    }
    if let Some(path) = path {
        let old = HeaderValue::from_str(routing::full_path(parts));
        parts.uri = Uri::try_from(path).map_err(|_| invalid())?;
        if let Ok(old) = old
            && !exchange.connection.manager.config.router.suppress_envoy_headers
        {
            parts.headers.insert(names::X_ENVOY_ORIGINAL_PATH, old);
        }
    }
    Ok(())
}

/// Says in headers which authority a request had.
fn tell_original_host(exchange: &Exchange, parts: &mut Parts, action: &RouteAction, old: HeaderValue) {
    if !exchange.connection.manager.config.router.suppress_envoy_headers {
        parts.headers.insert(names::X_ENVOY_ORIGINAL_HOST, old.clone());
    }
    if action.append_forwarded_host {
        parts.headers.insert(names::X_FORWARDED_HOST, old);
    }
}
