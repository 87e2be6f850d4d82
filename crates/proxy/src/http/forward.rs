//! A request on its way to an endpoint of its cluster, with as many attempts as it may have.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::body::RequestBody;
use super::deadline::{Deadline, Limits};
use super::exchange::{Exchange, Found};
use super::failure::Failure;
use super::head::names;
use super::mirror;
use super::peer;
use super::pool::{Protocol, STALE, Sent, Want};
use super::reply::Reply;
use super::retry::Retries;
use super::tunnel;
use crate::access_log::Flag;
use crate::config::http::{HostRewrite, HttpProtocolOptions, RetryPolicy, RouteAction, UpstreamProtocol};
use crate::routing;
use crate::upstream::{Carried, Establish, Greeting, Host, LbContext, Outcome, UnderWay};

/// What a request needs on its way.
struct Way<'a> {
    cluster: Rc<Establish>,
    found: &'a Found,
    action: &'a RouteAction,
    policy: Option<&'a RetryPolicy>,
    limits: Limits,
    protocol: Protocol,
    greeting: Greeting,
    hash: Option<u64>,
    tried: Vec<SocketAddr>,
    /// Counts the attempts after the first for as long as they last.
    retrying: Option<UnderWay>,
}

/// Sends a request upstream until something is answered that goes on to downstream.
pub(crate) async fn forward(
    exchange: &mut Exchange,
    parts: &mut Parts,
    found: &Found,
    action: &RouteAction,
) -> Result<Response<Incoming>, Reply> {
    let Some(cluster) = exchange.cluster.clone() else {
        return Err(Reply::new(action.not_found, "cluster_not_found").flag(Flag::NoClusterFound));
    };
    let policy = action.retry.as_deref().or(found.host.retry.as_deref());
    let mut retries = Retries::new(policy, parts);
    let limit = usize::try_from(exchange.connection.listener.config.buffer_limit).unwrap_or(usize::MAX);
    let upload = exchange.upload(retries.are_possible().then_some(limit));
    if let Some(upload) = upload.filter(|_| !retries.are_possible()) {
        upload.settle();
    }
    let limits = Limits::of_request(exchange, parts, action, policy);
    exchange.silent_timeout = parts.headers.contains_key(names::X_ENVOY_TIMEOUT_ALT_RESPONSE);
    limits.announce(&mut parts.headers, &exchange.connection.manager.config.router);
    mirror::send(exchange, parts, found, action, (limit, limits.whole));
    let Some(counted) = cluster.request() else {
        cluster.stats.pending_overflow.inc();
        exchange.keep_request(parts);
        return Err(reply(exchange, &Failure::Overflow));
    };
    cluster.stats.rq_total.inc();
    cluster.stats.rq_active.inc();
    exchange.under_way = Some(counted);
    let protocol = match cluster.upstream.config.http.protocol {
        UpstreamProtocol::Http1 => Protocol::Http1,
        UpstreamProtocol::Http2 => Protocol::Http2,
        UpstreamProtocol::Downstream if exchange.protocol() == Version::HTTP_2 => Protocol::Http2,
        UpstreamProtocol::Downstream => Protocol::Http1,
    };
    let trailers = exchange.has_trailers_below() && exchange.has_trailers_above(protocol.version());
    if let Some(upload) = exchange.upload.as_ref().filter(|_| !trailers) {
        upload.drop_trailers();
    }
    let hashed = routing::hash(&action.hash_policies, parts, exchange.remote.ip(), exchange.random);
    exchange.cookie = hashed.cookie_value().zip(hashed.cookie.map(|(cookie, _)| cookie.clone()));
    let hash = hashed.hash;
    let greeting = greeting(exchange, parts, &cluster.upstream.config.http);
    let mut way =
        Way { cluster, found, action, policy, limits, protocol, greeting, hash, tried: Vec::new(), retrying: None };
    exchange.deadline = limits.whole.map(|timeout| Deadline::new(timeout, exchange.upload.clone()));
    match exchange.deadline.clone() {
        None => attempts(exchange, parts, &mut way, &mut retries).await,
        Some(deadline) => tokio::select! {
            biased;
            answer = attempts(exchange, parts, &mut way, &mut retries) => answer,
            () = deadline.passed() => {
                way.cluster.stats.rq_timeout.inc();
                report(&way, exchange, Outcome::TimedOut);
                Err(reply(exchange, &Failure::Timeout))
            }
        },
    }
}

/// What connections say for a request: the server may be called what the request calls it.
fn greeting(exchange: &Exchange, parts: &Parts, options: &HttpProtocolOptions) -> Greeting {
    let mut greeting = Greeting { offer: exchange.offer.clone(), ..Greeting::default() };
    if options.auto_sni || options.auto_san_validation {
        let authority = parts.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let host = authority.map(|authority| Arc::<str>::from(authority.host()));
        let is_name = host.as_ref().is_some_and(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_err());
        greeting.server_name = host.clone().filter(|_| options.auto_sni && is_name);
        greeting.verified = host.filter(|_| options.auto_san_validation);
    }
    greeting
}

async fn attempts(
    exchange: &mut Exchange,
    parts: &mut Parts,
    way: &mut Way<'_>,
    retries: &mut Retries<'_>,
) -> Result<Response<Incoming>, Reply> {
    loop {
        exchange.attempts += 1;
        let last = !retries.are_possible();
        match attempt(exchange, parts, way, last).await {
            Ok(response) => {
                let status = response.status();
                let (code, headers) = (counted_as(status, response.headers()), response.headers());
                report(way, exchange, Outcome::Response(code));
                way.cluster.stats.answered(status);
                let again = retries.wants_after(status, headers) && again(exchange, way, retries).await;
                if !again {
                    if exchange.attempts > 1 && !retries.wants_after(status, headers) {
                        way.cluster.stats.rq_retry_success.inc();
                    }
                    if let Some(upload) = &exchange.upload {
                        upload.settle();
                    }
                    return Ok(response);
                }
                exchange.lease = None;
            }
            Err(Missed::NoHost) => {
                way.cluster.stats.cx_none_healthy.inc();
                let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no_healthy_upstream");
                exchange.keep_request(parts);
                return Err(reply.body("no healthy upstream").flag(Flag::NoHealthyUpstream));
            }
            Err(Missed::Failed(..)) if exchange.upload.as_ref().is_some_and(|upload| upload.is_malformed()) => {
                let reply = Reply::new(StatusCode::BAD_REQUEST, "http1.codec_error").standard_body();
                return Err(reply.flag(Flag::DownstreamProtocolError).closing());
            }
            Err(Missed::Failed(failure, sent)) => {
                match &failure {
                    // The connection was reported when it did not come about.
                    Failure::Connect(_) | Failure::ConnectTimeout | Failure::Overflow => {}
                    Failure::PerTryTimeout => {
                        exchange.timed_out = true;
                        way.cluster.stats.rq_per_try_timeout.inc();
                        report(way, exchange, Outcome::TimedOut);
                    }
                    _ => {
                        way.cluster.stats.rq_rx_reset.inc();
                        report(way, exchange, Outcome::Failed);
                    }
                }
                if !(retries.wants_after_failure(&failure, sent) && again(exchange, way, retries).await) {
                    if !exchange.has_gone_on() {
                        exchange.keep_request(parts);
                    }
                    return Err(reply(exchange, &failure));
                }
            }
        }
    }
}

/// Why an attempt brought no response.
enum Missed {
    NoHost,
    /// It failed, after the request was sent or before.
    Failed(Failure, bool),
}

/// One attempt to get a response.
async fn attempt(
    exchange: &mut Exchange,
    parts: &mut Parts,
    way: &mut Way<'_>,
    last: bool,
) -> Result<Response<Incoming>, Missed> {
    let avoid = way.policy.filter(|p| p.avoid_previous_hosts);
    let context = LbContext {
        hash: way.hash,
        tried: if avoid.is_some() { &way.tried } else { &[] },
        reselections: avoid.map_or(0, |p| p.selection_attempts),
        captured: exchange.connection.captured,
    };
    let choice = way.cluster.upstream.choose(&context).ok_or(Missed::NoHost)?;
    if choice.panic {
        way.cluster.stats.lb_healthy_panic.inc();
    }
    let host = choice.host;
    if avoid.is_some() {
        way.tried.push(host.address);
    }
    exchange.upstream_host = Some(host.address);
    exchange.upstream_local = None;
    exchange.carried = Some(Carried::new(&host));
    exchange.host = Some(host.clone());
    let sending = send(exchange, parts, way, &host, last);
    match way.limits.attempt {
        None => sending.await,
        Some(limit) => match tokio::time::timeout(limit, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Missed::Failed(Failure::PerTryTimeout, true)),
        },
    }
}

/// Sends a request to an endpoint, on a connection that is there or a new one.
async fn send(
    exchange: &mut Exchange,
    parts: &mut Parts,
    way: &Way<'_>,
    host: &Arc<Host>,
    last: bool,
) -> Result<Response<Incoming>, Missed> {
    let broken = || Missed::Failed(Failure::Terminated, true);
    let want = Want { protocol: way.protocol, greeting: way.greeting.clone() };
    let mut waiting: Option<Request<RequestBody>> = None;
    for _ in 0..STALE {
        let leased = way.cluster.pool.lease(&way.cluster, host, &want).await;
        let mut lease = leased.map_err(|e| Missed::Failed(e.into(), false))?;
        exchange.upstream_local = lease.carrier().local;
        exchange.carrier = Some(lease.carrier().clone());
        let mut request = match waiting.take() {
            Some(request) => request,
            None => {
                let body = match &exchange.upload {
                    Some(upload) => RequestBody::Upload(upload.again().ok_or_else(broken)?),
                    None => RequestBody::Nothing,
                };
                make(exchange, parts, way, host, last, body)
            }
        };
        exchange.sent_up = Some(Instant::now());
        let worker = exchange.connection.worker.clone();
        let introduction = worker.reports.introduction(&worker.setup.workload);
        if let Some(introduction) = introduction.filter(|_| lease.carrier().is_unknown()) {
            introduction.tell(request.headers_mut());
        }
        match lease.send(request).await {
            Sent::Answered(mut response) => {
                let said = peer::take(response.headers_mut());
                lease.carrier().introduce(said.as_ref(), &worker.reports);
                if let Some(asked) = &exchange.extended {
                    tunnel::answered(&mut response, asked);
                }
                exchange.answered = Some(Instant::now());
                exchange.lease = Some(lease);
                return Ok(response);
            }
            Sent::Unsent(request) => waiting = Some(request),
            Sent::Broken(e) => return Err(Missed::Failed(Failure::of(&e), true)),
        }
    }
    Err(broken())
}

/// The request as an endpoint gets it.
fn make(
    exchange: &mut Exchange,
    parts: &mut Parts,
    way: &Way<'_>,
    host: &Host,
    last: bool,
    body: RequestBody,
) -> Request<RequestBody> {
    if matches!(way.action.host, HostRewrite::Endpoint)
        && let Ok(name) = HeaderValue::from_str(&host.endpoint.hostname)
        && !name.is_empty()
    {
        parts.headers.insert(header::HOST, name);
    }
    if way.found.host.timeout_retry_header && exchange.timed_out {
        parts.headers.insert(names::X_ENVOY_IS_TIMEOUT_RETRY, HeaderValue::from_static("true"));
    }
    if way.found.host.attempt_count_in_request {
        parts.headers.insert(names::X_ENVOY_ATTEMPT_COUNT, exchange.attempts.into());
    }
    if exchange.attempts > 1 {
        let router = &exchange.connection.manager.config.router;
        way.limits.announce_again(&mut parts.headers, exchange.deadline.as_ref(), router);
    }
    exchange.keep_request(parts);
    let empty = || Request::new(()).into_parts().0;
    // What may have to be sent again is copied.
    let mut sent = if last { std::mem::replace(parts, empty()) } else { parts.clone() };
    if sent.headers.get(header::EXPECT).is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        sent.headers.remove(header::EXPECT);
    }
    join_cookies(&mut sent.headers);
    frame(&mut sent, way.protocol, body.size_hint().exact());
    way.protocol.shape(&mut sent, exchange.secure);
    exchange.extended = tunnel::send(&mut sent, way.protocol);
    Request::from_parts(sent, body)
}

/// Of several lines of cookies, in which HTTP/2 may bring them, one is made (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookies) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookies);
    }
}

/// Says in HTTP/1 where the body ends as Envoy says it: hyper would take it that some methods have none, and that
/// nobody misses a length of zero.
fn frame(parts: &mut Parts, protocol: Protocol, length: Option<u64>) {
    if protocol != Protocol::Http1 || parts.headers.contains_key(header::CONTENT_LENGTH) {
        return;
    }
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT];
    match length {
        None if !parts.headers.contains_key(header::UPGRADE) => {
            parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(0) if !bodiless.contains(&parts.method) => {
            parts.headers.insert(header::CONTENT_LENGTH, 0.into());
        }
        _ => {}
    }
}

/// Whether there is to be another attempt; if so, waits until its time has come.
async fn again(exchange: &mut Exchange, way: &mut Way<'_>, retries: &mut Retries<'_>) -> bool {
    let stats = &way.cluster.stats;
    if exchange.upload.as_ref().is_some_and(|u| !u.may_be_sent_again()) {
        return false;
    }
    if !retries.take() {
        stats.rq_retry_limit_exceeded.inc();
        exchange.flags.set(Flag::UpstreamRetryLimitExceeded);
        return false;
    }
    if way.retrying.is_none() {
        way.retrying = way.cluster.retry();
        if way.retrying.is_none() {
            stats.rq_retry_overflow.inc();
            return false;
        }
    }
    stats.rq_retry.inc();
    exchange.lease = None;
    tokio::time::sleep(retries.pause(fastrand::u64(..))).await;
    true
}

fn report(way: &Way<'_>, exchange: &Exchange, outcome: Outcome) {
    if let Some(host) = &exchange.host {
        way.cluster.upstream.report(host, outcome);
    }
}

/// The status that a response counts as: what gRPC says in its headers is what HTTP would say.
fn counted_as(status: StatusCode, headers: &HeaderMap) -> StatusCode {
    let said = headers.get(names::GRPC_STATUS).and_then(|value| value.to_str().ok());
    match said.and_then(|said| said.parse::<u16>().ok()) {
        Some(0) | None => status,
        Some(4 | 8 | 14) => StatusCode::SERVICE_UNAVAILABLE,
        Some(13 | 15 | 2) => StatusCode::INTERNAL_SERVER_ERROR,
        Some(_) => status,
    }
}

/// What downstream is told of a failure.
fn reply(exchange: &mut Exchange, failure: &Failure) -> Reply {
    exchange.upstream_failure = failure.transport().cloned();
    let name = failure.name();
    if matches!(failure, Failure::Timeout | Failure::PerTryTimeout) {
        let reply = match exchange.silent_timeout {
            true => Reply::new(StatusCode::NO_CONTENT, name),
            false => Reply::new(StatusCode::GATEWAY_TIMEOUT, name).body("upstream request timeout"),
        };
        return reply.flag(failure.flag());
    }
    let status =
        if matches!(failure, Failure::Protocol) { StatusCode::BAD_GATEWAY } else { StatusCode::SERVICE_UNAVAILABLE };
    let transport = failure.transport();
    let details = match transport {
        Some(transport) => format!("upstream_reset_before_response_started{{{name}|{transport}}}"),
        None => format!("upstream_reset_before_response_started{{{name}}}"),
    };
    let retried = if exchange.attempts > 1 { "retried and the latest " } else { "" };
    // What the transport says of it is for logs only.
    let body = format!("upstream connect error or disconnect/reset before headers. {retried}reset reason: {failure}");
    let reply = Reply::new(status, details).body(body).flag(failure.flag());
    match failure {
        Failure::Overflow => reply.header(names::X_ENVOY_OVERLOADED, HeaderValue::from_static("true")),
        _ => reply,
    }
}
