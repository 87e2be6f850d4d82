//! What people and programs may ask the proxy, in Envoy's shapes.
//!
//! Pages that change something are for POST alone, so that no link and no crawler can. A connection has one request and
//! a bounded time, so that nobody who is slow holds one for long.

mod certs;
mod clusters;
mod config_dump;
mod listeners;
mod loggers;
mod print;
mod server;
mod stats;

use std::borrow::Cow;
use std::convert::Infallible;
use std::future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use regex::Regex;
use tokio::net::{TcpListener, TcpStream};

use crate::Proxy;

pub use loggers::Loggers;

/// How many connections one listener has; more wait until one of these has ended.
const MAX_CONNECTIONS: usize = 128;
/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How large the head of a request may be.
const MAX_HEAD: usize = 16 << 10;
/// The pause after a failed accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Proxy {
    /// Serves everything there is to ask, and to change, for ever. The listener must be for this pod alone.
    pub async fn serve_admin(&self, listener: TcpListener) -> Infallible {
        serve(self, listener, ADMIN).await
    }

    /// Serves readiness and the numbers for Prometheus, for ever, to anybody.
    pub async fn serve_status(&self, listener: TcpListener) -> Infallible {
        serve(self, listener, STATUS).await
    }
}

/// Something that can be asked.
struct Page {
    path: &'static str,
    /// Whether asking changes something.
    changes: bool,
    help: &'static str,
    answer: fn(&Proxy, &Query<'_>) -> Answer,
}

/// A page that only shows.
const fn shows(path: &'static str, help: &'static str, answer: fn(&Proxy, &Query<'_>) -> Answer) -> Page {
    Page { path, changes: false, help, answer }
}

/// A page that changes something.
const fn changes(path: &'static str, help: &'static str, answer: fn(&Proxy, &Query<'_>) -> Answer) -> Page {
    Page { path, changes: true, help, answer }
}

const PROMETHEUS: Page = shows("/stats/prometheus", "print server stats in prometheus format", stats::prometheus);

const ADMIN: &[Page] = &[
    shows("/", "print out list of admin commands", |_, _| Answer::text(help())),
    shows("/certs", "print certs on machine", certs::answer),
    shows("/clusters", "upstream cluster status; filter=REGEX, format=json", clusters::answer),
    shows("/config_dump", "dump current configs; resource=FIELD, name_regex=REGEX, include_eds", config_dump::answer),
    changes("/drain_listeners", "stop accepting connections", server::drain_listeners),
    changes("/healthcheck/fail", "cause the server to fail health checks", server::fail),
    changes("/healthcheck/ok", "cause the server to pass health checks", server::pass),
    shows("/help", "print out list of admin commands", |_, _| Answer::text(help())),
    shows("/listeners", "print listener info; format=json", listeners::answer),
    changes("/logging", "query/change logging levels; level=LEVEL, paths=NAME:LEVEL,..., NAME=LEVEL", loggers::answer),
    shows("/memory", "print current allocation/heap usage", server::memory),
    changes("/quitquitquit", "exit the server", server::quit),
    shows("/ready", "print server state, return 200 if LIVE, otherwise return 503", server::ready),
    changes("/reset_counters", "reset all counters to zero", stats::reset),
    shows("/server_info", "print server version/status information", server::info),
    shows("/stats", "print server stats; filter=REGEX, usedonly, format=(json|prometheus|text)", stats::answer),
    PROMETHEUS,
];

const STATUS: &[Page] = &[shows("/healthz/ready", "", server::ready), PROMETHEUS];

fn help() -> String {
    let line = |page: &Page| {
        let method = if page.changes { " (POST)" } else { "" };
        format!("  {}{method}: {}\n", page.path, page.help)
    };
    format!("admin commands are:\n{}", ADMIN.iter().map(line).collect::<String>())
}

/// The parameters of a request.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn new(text: &'a str) -> Query<'a> {
        Query(form_urlencoded::parse(text.as_bytes()).collect())
    }

    /// The value of a parameter, if it is there.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| &**value)
    }

    /// A parameter that is a regular expression, if it is there and says anything.
    fn regex(&self, name: &str) -> Result<Option<Regex>, Answer> {
        let pattern = self.get(name).filter(|p| !p.is_empty());
        let compiled = pattern.map(Regex::new).transpose();
        compiled.map_err(|e| Answer::error(StatusCode::BAD_REQUEST, format!("Invalid regex in {name}: {e}\n")))
    }
}

/// What is said.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(body: impl Into<String>) -> Answer {
        Answer { status: StatusCode::OK, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    fn json(value: &serde_json::Value) -> Answer {
        Answer { status: StatusCode::OK, content_type: "application/json", body: format!("{value:#}\n") }
    }

    fn error(status: StatusCode, body: impl Into<String>) -> Answer {
        Answer { status, ..Answer::text(body) }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        for (name, value) in [
            (CONTENT_TYPE, self.content_type),
            (CACHE_CONTROL, "no-cache, max-age=0"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (SERVER, "isthmus"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

async fn serve(proxy: &Proxy, listener: TcpListener, pages: &'static [Page]) -> Infallible {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => connections.push(connection(proxy, stream, pages)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(()) = connections.next() => {}
        }
    }
}

async fn connection(proxy: &Proxy, stream: TcpStream, pages: &'static [Page]) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(proxy, pages, &request);
        tracing::debug!("{} {} {}", request.method(), request.uri(), answer.status);
        future::ready(Ok::<_, Infallible>(answer.into_response()))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD).keep_alive(false);
    let served = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
        Err(_) => tracing::debug!("a connection was too slow"),
    }
}

fn answer<B>(proxy: &Proxy, pages: &[Page], request: &Request<B>) -> Answer {
    let path = request.uri().path();
    let Some(page) = pages.iter().find(|page| page.path == path) else {
        return Answer::error(StatusCode::NOT_FOUND, format!("invalid path. {}", help()));
    };
    let method = request.method();
    let allowed = match page.changes {
        true => method == Method::POST,
        false => [Method::GET, Method::HEAD, Method::POST].contains(method),
    };
    if !allowed {
        let required = if page.changes { "POST" } else { "GET" };
        let body = format!("Method {method} not allowed, {required} required.");
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, body);
    }
    (page.answer)(proxy, &Query::new(request.uri().query().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
