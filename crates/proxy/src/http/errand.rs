//! Requests of the proxy's own, over the connections that all requests share.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};

use super::body::RequestBody;
use super::failure::Failure;
use super::pool::{Lease, Protocol, STALE, Sent, Want};
use crate::config::http::UpstreamProtocol;
use crate::upstream::{Carried, Establish, Greeting, Host, LbContext, Outcome, UnderWay};

/// How large an answer may be, in bytes.
const LARGEST: usize = 1 << 20;

/// What somebody behind a cluster has answered, as far as the end of the head.
pub(crate) struct Answer {
    response: Response<Incoming>,
    lease: Lease,
    counted: Counted,
}

/// Counts a request for as long as it is there.
struct Counted {
    cluster: Rc<Establish>,
    _under_way: UnderWay,
    _carried: Carried,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.cluster.stats.rq_active.dec();
    }
}

/// Sends a request to an endpoint of a cluster, once.
pub(crate) async fn send(cluster: &Rc<Establish>, request: Request<RequestBody>) -> Result<Answer, Failure> {
    let stats = &cluster.stats;
    let Some(under_way) = cluster.request() else {
        stats.pending_overflow.inc();
        return Err(Failure::Overflow);
    };
    let Some(choice) = cluster.upstream.choose(&LbContext::default()) else {
        stats.cx_none_healthy.inc();
        return Err(Failure::Connect("no endpoint takes it".into()));
    };
    if choice.panic {
        stats.lb_healthy_panic.inc();
    }
    let host = choice.host;
    stats.rq_total.inc();
    stats.rq_active.inc();
    let counted = Counted { cluster: cluster.clone(), _under_way: under_way, _carried: Carried::new(&host) };
    let sent = over_connections(cluster, &host, request).await;
    let report = |outcome| cluster.upstream.report(&host, outcome);
    match sent {
        Ok((response, lease)) => {
            stats.answered(response.status());
            report(Outcome::Response(response.status()));
            Ok(Answer { response, lease, counted })
        }
        Err(failure) => {
            if !matches!(failure, Failure::Connect(_) | Failure::ConnectTimeout | Failure::Overflow) {
                stats.rq_rx_reset.inc();
                report(Outcome::Failed);
            }
            Err(failure)
        }
    }
}

async fn over_connections(
    cluster: &Rc<Establish>,
    host: &Arc<Host>,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), Failure> {
    let protocol = match cluster.upstream.config.http.protocol {
        UpstreamProtocol::Http2 => Protocol::Http2,
        _ if request.version() == Version::HTTP_2 => Protocol::Http2,
        UpstreamProtocol::Http1 | UpstreamProtocol::Downstream => Protocol::Http1,
    };
    let want = Want { protocol, greeting: Greeting::default() };
    let (mut parts, body) = request.into_parts();
    protocol.shape(&mut parts, false);
    let mut request = Request::from_parts(parts, body);
    for _ in 0..STALE {
        let mut lease = cluster.pool.lease(cluster, host, &want).await?;
        match lease.send(request).await {
            Sent::Answered(response) => return Ok((response, lease)),
            Sent::Unsent(again) => request = again,
            Sent::Broken(e) => return Err(Failure::of(&e)),
        }
    }
    Err(Failure::Terminated)
}

/// Asks, and waits for the whole answer; trailers are among its headers. `None` if none came in time.
pub(crate) async fn call(
    cluster: &Rc<Establish>,
    mut question: Request<Bytes>,
    within: Duration,
) -> Option<Response<Bytes>> {
    // So does Envoy mark what it asks on its own account.
    question.headers_mut().insert("x-envoy-internal", HeaderValue::from_static("true"));
    let whole = async {
        let answer = send(cluster, question.map(RequestBody::Text)).await.map_err(|failure| failure.to_string())?;
        answer.read(LARGEST).await
    };
    let name = &cluster.upstream.config.name;
    match tokio::time::timeout(within, whole).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(reason)) => {
            tracing::debug!(cluster = %name, %reason, "a question was not answered");
            None
        }
        Err(_) => {
            cluster.stats.rq_timeout.inc();
            tracing::debug!(cluster = %name, "a question was not answered in time");
            None
        }
    }
}

/// A call of a method of gRPC with one message. `path` is that of the method.
pub(crate) fn grpc(
    authority: &str,
    path: &str,
    timeout: Option<Duration>,
    message: &impl prost::Message,
) -> Result<Request<Bytes>, http::Error> {
    let mut body = vec![0];
    body.extend(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(message.encode_to_vec());
    // The name of a cluster may have characters that no authority has.
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':') { c } else { '_' };
    let authority: String = authority.chars().map(plain).collect();
    let mut call = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{authority}{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    if let Some(timeout) = timeout {
        call = call.header("grpc-timeout", format!("{}m", timeout.as_millis()));
    }
    call.body(body.into())
}

impl Answer {
    /// Reads all of it, up to a limit in bytes; trailers are among its headers.
    pub(crate) async fn read(self, limit: usize) -> Result<Response<Bytes>, String> {
        let Answer { response, lease, counted } = self;
        let (mut head, body) = response.into_parts();
        let collected = Limited::new(body, limit).collect().await.map_err(|e| e.to_string())?;
        lease.complete();
        drop(counted);
        head.headers.extend(collected.trailers().cloned().unwrap_or_default());
        Ok(Response::from_parts(head, collected.to_bytes()))
    }

    /// Reads all of it, so that the connection is free again.
    pub(crate) async fn discard(self) {
        let Answer { response, lease, counted } = self;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return;
            }
        }
        lease.complete();
        drop(counted);
    }
}
