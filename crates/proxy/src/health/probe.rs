//! One question to an endpoint, over the transport of its cluster.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::{HealthCheck, HttpQuestion, Question};
use crate::http::{Local, grpc_call, names};
use crate::stream::Stream;
use crate::upstream::{Greeting, Host, Upstream, dial};

/// How much of an answer is read, in bytes.
const LARGEST: usize = 64 << 10;
/// Who asks, as with Envoy.
const ASKER: HeaderValue = HeaderValue::from_static("Envoy/HC");
/// The method that gRPC has for it (grpc.io, "Health Checking").
const METHOD: &str = "/grpc.health.v1.Health/Check";
/// What goes before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// `SERVING` among the statuses that gRPC has for it.
const SERVING: i32 = 1;

/// What was found of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    Good,
    /// It is well enough, but others should be asked first.
    Degraded,
    /// It says that it is not well.
    Worse,
    /// It says that it is not well, which may pass.
    Bad,
    /// It says nothing.
    Unreachable,
}

impl Finding {
    pub(super) fn is_good(self) -> bool {
        matches!(self, Finding::Good | Finding::Degraded)
    }
}

/// Asks one endpoint, if it may over the same connection.
#[derive(Default)]
pub(super) struct Prober {
    kept: Option<Kept>,
}

/// A connection that has carried a question.
enum Kept {
    Tcp(Stream),
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Prober {
    pub(super) async fn ask(&mut self, upstream: &Upstream, host: &Host, check: &HealthCheck) -> Finding {
        let kept = self.kept.take().filter(|_| check.reuse);
        let asking = async {
            match &check.question {
                Question::Tcp { send, receive } => tcp(kept, upstream, host, check, (&**send, &**receive)).await,
                Question::Http(question) => http(kept, upstream, host, check, question).await,
                Question::Grpc { service, authority } => {
                    grpc(kept, upstream, host, check, (&**service, authority.as_deref())).await
                }
            }
        };
        match tokio::time::timeout(check.timeout, asking).await {
            Ok(Some((finding, kept))) => {
                self.kept = kept;
                finding
            }
            Ok(None) | Err(_) => Finding::Unreachable,
        }
    }
}

/// What was found, and the connection if it carries another question; nothing if there was no answer.
type Answer = Option<(Finding, Option<Kept>)>;

/// Connects to where an endpoint is asked.
async fn connect(
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
    protocol: Option<&'static [u8]>,
) -> Option<Stream> {
    let port = host.endpoint.check.port.or(check.port).unwrap_or(host.address.port());
    let greeting = Greeting { otherwise: protocol, ..Greeting::default() };
    let dialled = dial(upstream, host, SocketAddr::new(host.address.ip(), port), &greeting).await;
    let mut stream = dialled.ok()?.stream;
    stream.hurry();
    Some(stream)
}

async fn tcp(
    kept: Option<Kept>,
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
    (send, receive): (&[u8], &[Box<[u8]>]),
) -> Answer {
    let mut stream = match kept {
        Some(Kept::Tcp(stream)) => stream,
        _ => connect(upstream, host, check, None).await?,
    };
    if !send.is_empty() {
        stream.write_all(send).await.ok()?;
        stream.flush().await.ok()?;
    }
    if receive.is_empty() {
        return Some((Finding::Good, None));
    }
    let mut heard = Vec::new();
    while !has_all(&heard, receive) {
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await.ok()?;
        heard.extend_from_slice(some.get(..read).unwrap_or_default());
        if read == 0 || heard.len() > LARGEST {
            return None;
        }
    }
    Some((Finding::Good, Some(Kept::Tcp(stream))))
}

/// Whether all of this was heard, one after the other.
fn has_all(heard: &[u8], parts: &[Box<[u8]>]) -> bool {
    let mut rest = heard;
    parts.iter().all(|part| {
        let found = (0..=rest.len()).find(|at| rest.get(*at..).is_some_and(|rest| rest.starts_with(part)));
        rest = found.and_then(|at| rest.get(at + part.len()..)).unwrap_or_default();
        found.is_some()
    })
}

async fn http(
    kept: Option<Kept>,
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
    question: &HttpQuestion,
) -> Answer {
    let named = HeaderValue::from_str(&host.endpoint.check.hostname).ok().filter(|name| !name.is_empty());
    let name = || HeaderValue::from_str(&upstream.config.name).ok();
    let authority = named.or_else(|| question.host.clone()).or_else(name)?;
    let mut request = Request::new(Full::default());
    *request.method_mut() = question.method.clone();
    request.headers_mut().insert(header::USER_AGENT, ASKER);
    let (response, kept) = if question.http2 {
        let authority = Authority::try_from(authority.as_bytes()).ok()?;
        let scheme = if upstream.transport(host).tls().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(question.path.clone());
        *request.uri_mut() = uri.build().ok()?;
        let mut sender = http2_sender(kept, upstream, host, check).await?;
        (sender.send_request(request).await.ok()?, Kept::Http2(sender))
    } else {
        request.headers_mut().insert(header::HOST, authority);
        *request.uri_mut() = Uri::from(question.path.clone());
        let mut sender = http1_sender(kept, upstream, host, check).await?;
        (sender.send_request(request).await.ok()?, Kept::Http1(sender))
    };
    let (status, headers, _) = whole(response).await?;
    let within = |ranges: &[std::ops::Range<u16>]| ranges.iter().any(|range| range.contains(&status.as_u16()));
    let finding = if within(&question.expected) {
        if headers.contains_key(names::X_ENVOY_DEGRADED) { Finding::Degraded } else { Finding::Good }
    } else if within(&question.retriable) {
        Finding::Bad
    } else {
        Finding::Worse
    };
    Some((finding, Some(kept)))
}

async fn grpc(
    kept: Option<Kept>,
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
    (service, authority): (&str, Option<&str>),
) -> Answer {
    let named = Some(&*host.endpoint.check.hostname).filter(|name| !name.is_empty());
    let authority = named.or(authority).unwrap_or(&upstream.config.name);
    let message = HealthCheckRequest { service: service.to_owned() };
    let request = grpc_call(authority, METHOD, None, &message).ok()?;
    let mut sender = http2_sender(kept, upstream, host, check).await?;
    let response = sender.send_request(request.map(Full::new)).await.ok()?;
    let (status, headers, body) = whole(response).await?;
    let said = body.get(PREFIX..).and_then(|message| HealthCheckResponse::decode(message).ok());
    let called = status == StatusCode::OK && headers.get(names::GRPC_STATUS).is_some_and(|status| status == "0");
    let serves = called && said.is_some_and(|said| said.status == SERVING);
    Some((if serves { Finding::Good } else { Finding::Worse }, Some(Kept::Http2(sender))))
}

async fn http1_sender(
    kept: Option<Kept>,
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
) -> Option<http1::SendRequest<Full<Bytes>>> {
    if let Some(Kept::Http1(mut sender)) = kept
        && sender.ready().await.is_ok()
    {
        return Some(sender);
    }
    let stream = connect(upstream, host, check, Some(b"http/1.1")).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with its sender; how, the question learns.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Some(sender)
}

async fn http2_sender(
    kept: Option<Kept>,
    upstream: &Upstream,
    host: &Host,
    check: &HealthCheck,
) -> Option<http2::SendRequest<Full<Bytes>>> {
    if let Some(Kept::Http2(mut sender)) = kept
        && sender.ready().await.is_ok()
    {
        return Some(sender);
    }
    let stream = connect(upstream, host, check, Some(b"h2")).await?;
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.ok()?;
    tokio::task::spawn_local(async move { drop(connection.await) });
    Some(sender)
}

/// All of an answer, its trailers among the headers.
async fn whole(response: Response<Incoming>) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let (mut head, body) = response.into_parts();
    let collected = Limited::new(body, LARGEST).collect().await.ok()?;
    head.headers.extend(collected.trailers().cloned().unwrap_or_default());
    Some((head.status, head.headers, collected.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_heard_is_heard_in_its_order() {
        let parts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().into()).collect::<Vec<Box<[u8]>>>();
        assert!(has_all(b"xxabyycd", &parts(&["ab", "cd"])));
        assert!(!has_all(b"cdab", &parts(&["ab", "cd"])));
        assert!(!has_all(b"abc", &parts(&["ab", "bc"])));
        assert!(!has_all(b"a", &parts(&["ab"])));
    }
}
