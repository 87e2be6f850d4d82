//! Responses on their way to downstream.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::failure::Failure;
use super::head::{self, names};
use super::reply::Reply;
use super::tunnel;
use super::watch::Lapse;
use crate::access_log::Flag;
use crate::config::http::ServerHeader;

/// The body of a response. It ends the exchange.
pub(crate) struct ResponseBody {
    source: Source,
    /// Wakes it when it has been silent for too long.
    timer: Option<Pin<Box<Sleep>>>,
    /// `None` if it goes on without the response.
    exchange: Option<Box<Exchange>>,
}

/// Where a body comes from.
enum Source {
    Text(Bytes),
    /// What upstream sends, and whether trailers are read and handed on.
    Upstream(Incoming, Trailers),
}

/// At which ends there are trailers.
#[derive(Debug, Clone, Copy)]
struct Trailers {
    above: bool,
    below: bool,
}

impl ResponseBody {
    fn new(source: Source, mut exchange: Box<Exchange>) -> ResponseBody {
        let over = match &source {
            Source::Text(text) => text.is_empty(),
            Source::Upstream(incoming, _) => incoming.is_end_stream(),
        };
        if over {
            exchange.complete();
        }
        ResponseBody { source, timer: None, exchange: Some(exchange) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let ResponseBody { source, timer, exchange } = &mut *self;
        let frame = match source {
            Source::Text(text) if text.is_empty() => None,
            Source::Text(text) => Some(Ok(Frame::data(std::mem::take(text)))),
            Source::Upstream(incoming, trailers) => match poll_body(incoming, *trailers, cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let Some(exchange) = exchange else { return Poll::Pending };
                    let lapse = ready!(exchange.watch.clone().poll_lapse(timer, cx));
                    return Poll::Ready(Some(Err(break_off(exchange, lapse))));
                }
            },
        };
        let over = match source {
            Source::Text(_) => true,
            Source::Upstream(incoming, _) => incoming.is_end_stream(),
        };
        if let Some(exchange) = exchange {
            note(exchange, frame.as_ref(), over);
        }
        let below = !matches!(source, Source::Upstream(_, Trailers { below: false, .. }));
        let frame = frame.filter(|frame| below || !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(frame.map(|frame| frame.map_err(|e| Failure::of(&e))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Upstream(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(incoming, _) => incoming.size_hint(),
        }
    }
}

/// The next of what upstream sends that is not to be dropped unread.
fn poll_body(
    incoming: &mut Incoming,
    trailers: Trailers,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    loop {
        match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() && !trailers.above => {}
            frame => return Poll::Ready(frame),
        }
    }
}

/// Notes that a response that has begun has exceeded a limit of time.
fn break_off(exchange: &mut Exchange, lapse: Lapse) -> Failure {
    let stats = &exchange.connection.manager.stats;
    let (count, details) = match lapse {
        Lapse::Idle => (&stats.rq_idle_timeout, "stream_idle_timeout"),
        Lapse::Request => (&stats.rq_timeout, "request_overall_timeout"),
        Lapse::Duration => (&stats.rq_max_duration_reached, "max_duration_timeout"),
    };
    count.inc();
    stats.rq_tx_reset.inc();
    if lapse == Lapse::Idle {
        exchange.flags.set(Flag::StreamIdleTimeout);
    }
    exchange.details = Cow::Borrowed(details);
    exchange.broken_off = true;
    Failure::LocalReset
}

/// Notes what has come of a body.
fn note(exchange: &mut Exchange, frame: Option<&Result<Frame<Bytes>, hyper::Error>>, over: bool) {
    match frame {
        Some(Ok(frame)) => {
            exchange.watch.stir();
            exchange.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            if let Some(data) = frame.data_ref().filter(|_| exchange.grpc) {
                exchange.messages.follow(data);
            }
            if let Some(trailers) = frame.trailers_ref() {
                exchange.keep_trailers(trailers);
            }
            // Nothing follows trailers, and nobody asks whether there is anything.
            if over || frame.is_trailers() {
                exchange.complete();
            }
        }
        Some(Err(e)) => {
            // A body that ends too early is none, as Envoy has it.
            let failure = if is_cut_off(e) { Failure::Protocol } else { Failure::of(e) };
            exchange.flags.set(failure.flag());
            exchange.details = Cow::Owned(format!("upstream_reset_after_response_started{{{}}}", failure.name()));
        }
        None => exchange.complete(),
    }
}

/// Whether a connection has ended in the middle of a body, and not been broken.
fn is_cut_off(e: &hyper::Error) -> bool {
    let cause = std::error::Error::source(e).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// What upstream has answered, as downstream gets it.
pub(crate) fn from_upstream(mut exchange: Box<Exchange>, response: Response<Incoming>) -> Response<ResponseBody> {
    let mut response = response;
    // Headers that are added may quote it.
    exchange.status = Some(response.status());
    let changed = tunnel::is_change(&exchange, response.status());
    let extended = exchange.protocol() == Version::HTTP_2;
    let feigned = exchange.changing && extended && !changed && response.status().is_success();
    if changed && !exchange.changing || feigned {
        // Nobody has asked for that, and downstream goes on in HTTP; or downstream would take it that its protocol has
        // changed.
        let failure = Failure::Protocol;
        let details = format!("upstream_reset_before_response_started{{{}}}", failure.name());
        let reply = Reply::new(StatusCode::BAD_GATEWAY, details).standard_body();
        return from_reply(exchange, reply.flag(failure.flag()));
    }
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    head::hop_by_hop(response.headers_mut(), switching);
    if changed {
        exchange.connection.marks.decide(true);
        exchange.details = Cow::Borrowed("via_upstream");
        finish_head(response.headers_mut(), &mut exchange);
        exchange.keep_response(response.status(), response.headers());
        tunnel::join(exchange, &mut response);
        if extended {
            tunnel::extend(&mut response);
        }
        return response.map(|_| ResponseBody { source: Source::Text(Bytes::new()), timer: None, exchange: None });
    }
    let (mut parts, incoming) = response.into_parts();
    let connection = exchange.connection.clone();
    if !connection.manager.config.router.suppress_envoy_headers {
        let time = exchange.answered.zip(exchange.sent_up).map(|(answer, sent)| answer.saturating_duration_since(sent));
        let time = time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        parts.headers.insert(names::X_ENVOY_UPSTREAM_SERVICE_TIME, time.into());
    }
    if let Some((value, cookie)) = &exchange.cookie
        && let Ok(cookie) = HeaderValue::try_from(cookie.set(value))
    {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    if exchange.found.as_ref().is_some_and(|found| found.host.attempt_count_in_response) {
        parts.headers.insert(names::X_ENVOY_ATTEMPT_COUNT, exchange.attempts.into());
    }
    exchange.details = Cow::Borrowed("via_upstream");
    let trailers = Trailers { above: exchange.has_trailers_above(parts.version), below: exchange.has_trailers_below() };
    parts.version = Version::default();
    end_unchanged(&mut parts.headers, &exchange);
    finish_head(&mut parts.headers, &mut exchange);
    exchange.keep_response(parts.status, &parts.headers);
    Response::from_parts(parts, ResponseBody::new(Source::Upstream(incoming, trailers), exchange))
}

/// What the proxy itself answers.
pub(crate) fn from_reply(mut exchange: Box<Exchange>, reply: Reply) -> Response<ResponseBody> {
    exchange.flags = exchange.flags.union(reply.flags);
    exchange.details = reply.details.clone();
    exchange.lease = None;
    let status = reply.status;
    let (response, body) = reply.into_response(exchange.grpc);
    let (mut parts, ()) = response.into_parts();
    if exchange.protocol() == Version::HTTP_2 {
        parts.headers.remove(header::CONNECTION);
    } else if !exchange.watch.has_whole_request() {
        // What is still to come of the request nobody reads.
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    end_unchanged(&mut parts.headers, &exchange);
    finish_head(&mut parts.headers, &mut exchange);
    exchange.keep_response(if exchange.grpc { parts.status } else { status }, &parts.headers);
    let body = if exchange.method() == Method::HEAD { Bytes::new() } else { body };
    Response::from_parts(parts, ResponseBody::new(Source::Text(body), exchange))
}

/// Ends a connection that was to change its protocol and does not: whoever asked may speak that one already.
fn end_unchanged(headers: &mut HeaderMap, exchange: &Exchange) {
    if exchange.changing && exchange.protocol() != Version::HTTP_2 {
        exchange.connection.marks.decide(false);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What all responses have in common.
fn finish_head(headers: &mut HeaderMap, exchange: &mut Exchange) {
    if let Some(mut trace) = exchange.trace.take() {
        let decorator = exchange.found.as_ref().and_then(|found| found.route.decorator.as_ref());
        trace.respond(decorator, exchange.connection.listener.config.direction, headers);
        exchange.trace = Some(trace);
    }
    exchange.watch.stir();
    let exchange = &*exchange;
    if let Some(found) = &exchange.found {
        found.changes().response(headers, |text| exchange.rendered(text, None));
    }
    // A response passes the filters in the opposite order.
    for filter in exchange.on_response.iter().rev() {
        filter.apply(headers);
    }
    let connection = &exchange.connection;
    if exchange.asked_who
        && let Some(introduction) = connection.worker.reports.introduction(&connection.worker.setup.workload)
    {
        introduction.tell(headers);
    }
    let config = &connection.manager.config;
    match &config.server {
        ServerHeader::Overwrite(name) => {
            headers.insert(header::SERVER, name.clone());
        }
        ServerHeader::AppendIfAbsent(name) if !headers.contains_key(header::SERVER) => {
            headers.insert(header::SERVER, name.clone());
        }
        ServerHeader::AppendIfAbsent(_) | ServerHeader::PassThrough => {}
    }
    if let Some(id) = exchange.id.as_ref().filter(|_| config.request_id.in_response) {
        headers.insert(names::X_REQUEST_ID, id.clone());
    }
    if let Some(via) = &config.via {
        head::address::append(headers, header::VIA, via.to_str().unwrap_or_default());
    }
    let changed = exchange.status == Some(StatusCode::SWITCHING_PROTOCOLS);
    if connection.is_closing() && !changed && exchange.protocol() != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
