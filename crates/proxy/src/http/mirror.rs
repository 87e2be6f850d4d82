//! Copies of requests, whose answers nobody reads.

use std::rc::Rc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Version};

use super::body::RequestBody;
use super::errand;
use super::exchange::{Exchange, Found};
use super::head::{address, names};
use super::trace;
use crate::config::http::{Mirror, RouteAction};
use crate::upstream::Establish;

/// Sends the copies of a request that goes upstream like this. Of its body they get what the endpoint gets.
pub(super) fn send(
    exchange: &Exchange,
    parts: &Parts,
    found: &Found,
    action: &RouteAction,
    (room, timeout): (usize, Option<Duration>),
) {
    let levels = [&action.mirrors, &found.host.mirrors, &found.table.mirrors];
    let Some(mirrors) = levels.into_iter().find(|mirrors| !mirrors.is_empty()) else { return };
    let worker = &exchange.connection.worker;
    let current = worker.current();
    for mirror in mirrors.iter().filter(|mirror| mirror.share.includes(fastrand::u64(..))) {
        let Some(cluster) = current.cluster(worker, &mirror.cluster) else { continue };
        let own = worker.own_address().map(|address| address.to_string());
        let head = head(parts, mirror, own.as_deref());
        let body = match &exchange.upload {
            Some(upload) => RequestBody::Copy(upload.copy(room)),
            None => RequestBody::Nothing,
        };
        tokio::task::spawn_local(carry(cluster, Request::from_parts(head, body), timeout));
    }
}

/// Carries a copy to the end of its answer.
async fn carry(cluster: Rc<Establish>, request: Request<RequestBody>, timeout: Option<Duration>) {
    let whole = async {
        match errand::send(&cluster, request).await {
            Ok(answer) => answer.discard().await,
            Err(failure) => {
                tracing::debug!(cluster = %cluster.upstream.config.name, %failure, "a copy did not arrive");
            }
        }
    };
    match timeout {
        None => whole.await,
        Some(timeout) => {
            if tokio::time::timeout(timeout, whole).await.is_err() {
                cluster.stats.rq_timeout.inc();
            }
        }
    }
}

/// The head of a copy. Whoever gets it can tell it from the request by its authority.
fn head(parts: &Parts, mirror: &Mirror, own: Option<&str>) -> Parts {
    let mut head = parts.clone();
    head.version = if parts.version == Version::HTTP_2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let headers = &mut head.headers;
    headers.remove(header::EXPECT);
    if mirror.shadow_suffix {
        shadow(headers);
    }
    headers.insert(names::X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    if let Some(own) = own {
        address::append(headers, names::X_FORWARDED_FOR, own);
    }
    if mirror.traced == Some(false) {
        trace::forget(headers);
    }
    head
}

/// Adds `-shadow` to the name of the authority.
fn shadow(headers: &mut HeaderMap) {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return };
    let colon = host.rfind(':').filter(|colon| host.get(colon + 1..).is_some_and(|port| !port.contains(']')));
    let (name, port) = host.split_at(colon.unwrap_or(host.len()));
    if let Ok(host) = HeaderValue::from_str(&format!("{name}-shadow{port}")) {
        headers.insert(header::HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_another_authority() {
        for (host, copied) in [("a.b", "a.b-shadow"), ("a:80", "a-shadow:80"), ("[::1]", "[::1]-shadow")] {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            shadow(&mut headers);
            assert_eq!(headers[header::HOST], copied);
        }
    }
}
