//! The port for those who watch the control plane: readiness, metrics, and what it knows.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::ControlPlane;
use super::{debug as documents, metrics};

/// How long a client may take, or be idle, until the head of the next request is there.
const REQUEST_HEAD: Duration = Duration::from_secs(30);
/// The pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(
    plane: &ControlPlane,
    listener: std::net::TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return Ok(()),
        };
        match accepted {
            Ok((stream, address)) => {
                let plane = plane.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let uri = request.uri();
                    let answer = answer(&plane, request.method(), uri.path(), uri.query().unwrap_or_default());
                    async move { Ok::<_, Infallible>(answer.map(|text| Full::new(Bytes::from(text)))) }
                });
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD);
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                connections.spawn(stop.clone().run_until_cancelled_owned(async move {
                    if let Err(error) = connection.await {
                        debug!(%address, %error, "a connection ended with an error");
                    }
                }));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The page at a path.
pub(super) fn answer(plane: &ControlPlane, method: &Method, path: &str, query: &str) -> Response<String> {
    let (status, kind, text) = match *method {
        Method::GET | Method::HEAD => page(plane, path, query),
        _ => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET is served\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn page(plane: &ControlPlane, path: &str, query: &str) -> (StatusCode, &'static str, String) {
    match path {
        "/ready" | "/healthz/ready" if *plane.0.built.borrow() => (StatusCode::OK, PLAIN, "ready\n".to_owned()),
        "/ready" | "/healthz/ready" => {
            let message = "the mesh's objects have not been read yet\n".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, PLAIN, message)
        }
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::text(plane)),
        "/version" => json_page(Ok(json!({ "version": env!("CARGO_PKG_VERSION"), "status": "Clean" }))),
        path => json_page(documents::document(plane, path, query)),
    }
}

fn json_page(document: Result<Value, (u16, String)>) -> (StatusCode, &'static str, String) {
    match document {
        Ok(document) => (StatusCode::OK, JSON, format!("{document:#}\n")),
        Err((status, why)) => {
            (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), PLAIN, format!("{why}\n"))
        }
    }
}
