//! Questions of the proxy's own to somebody behind a cluster.

use std::rc::Rc;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use crate::config::http::UpstreamProtocol;
use crate::http::executor::Local;
use crate::http::wire::Wire;
use crate::upstream::{self, Establish, LbContext};

/// How large an answer may be, in bytes.
const LARGEST: usize = 1 << 20;

/// Asks, on a connection of its own, and waits for the whole answer; trailers are among its headers. `None` if none came
/// in time.
pub(crate) async fn call(
    cluster: &Rc<Establish>,
    question: Request<Bytes>,
    within: Duration,
) -> Option<Response<Bytes>> {
    let name = cluster.upstream.config.name.clone();
    match tokio::time::timeout(within, answer(cluster, question)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(reason)) => {
            tracing::debug!(cluster = %name, %reason, "a question was not answered");
            None
        }
        Err(_) => {
            tracing::debug!(cluster = %name, "a question was not answered in time");
            None
        }
    }
}

async fn answer(cluster: &Rc<Establish>, question: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let connected =
        upstream::connect(cluster, &LbContext::default(), 1).await.map_err(|failure| match failure.reason {
            Some(reason) => reason.to_string(),
            None => "no endpoint takes it".to_owned(),
        })?;
    let upstream::Connected { stream, open, .. } = connected;
    let io = TokioIo::new(Wire::upstream(stream, cluster.stats.clone()));
    let http2 =
        question.version() == Version::HTTP_2 || cluster.upstream.config.http.protocol == UpstreamProtocol::Http2;
    let question = if http2 { with_authority(question) } else { question }.map(Full::new);
    let broken = |e: hyper::Error| e.to_string();
    let answer: Response<Incoming> = if http2 {
        let (mut sender, connection) = http2::handshake(Local, io).await.map_err(broken)?;
        tokio::task::spawn_local(async move {
            // How it ended the question has learnt.
            drop(connection.await);
            drop(open);
        });
        sender.send_request(question).await.map_err(broken)?
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
        tokio::task::spawn_local(async move {
            drop(connection.await);
            drop(open);
        });
        sender.send_request(question).await.map_err(broken)?
    };
    let (mut head, body) = answer.into_parts();
    let collected = Limited::new(body, LARGEST).collect().await.map_err(|e| e.to_string())?;
    head.headers.extend(collected.trailers().cloned().unwrap_or_default());
    Ok(Response::from_parts(head, collected.to_bytes()))
}

/// A question as HTTP/2 has it: whom it is for stands in its target.
fn with_authority(mut question: Request<Bytes>) -> Request<Bytes> {
    *question.version_mut() = Version::HTTP_2;
    if question.uri().authority().is_none()
        && let Some(host) = question.headers_mut().remove(header::HOST)
    {
        let mut target = std::mem::take(question.uri_mut()).into_parts();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Authority::try_from(host.as_bytes()).ok();
        *question.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    }
    question
}
