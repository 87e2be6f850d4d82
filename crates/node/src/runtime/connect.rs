//! The connection subresources of a pod: log, exec, attach, and the refusal of portforward.

mod log;
mod session;
mod stdio;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::ApiError;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::session::Session;
use self::stdio::{Stdio, Wanted};
use super::container::Command;
use super::kubelet::Kubelet;
use super::sandbox::Sandbox;
use super::sandbox::protocol::{Record, Request as PodRequest};
use super::sandbox::record::{self, Records};

/// The response body of the API server.
pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Subprotocols in order of preference; the fifth can close standard input alone.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// The query of a request; the last value of a repeated name counts, but `command` may be repeated.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Incoming>) -> Query {
        let query = request.uri().query().unwrap_or_default();
        Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "true" | "1" | "t" | "T" | "True" | "TRUE"))
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let wrong =
            |v: &str| ApiError::bad_request(format!("{name}: Invalid value: {v:?}: must be a number of 0 or more"));
        self.get(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
    }
}

/// A pod as the API has it.
struct Subject<'a> {
    kubelet: &'a Kubelet,
    pod: &'a Value,
}

impl<'a> Subject<'a> {
    fn text(&self, pointer: &str) -> &'a str {
        self.pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn name(&self) -> &'a str {
        self.text("/metadata/name")
    }

    fn names(&self, list: &str) -> Vec<&'a str> {
        let containers = self.pod.pointer(list).and_then(Value::as_array);
        containers.into_iter().flatten().filter_map(|c| c.get("name").and_then(Value::as_str)).collect()
    }

    /// The container that is meant: the only one, unless it is named.
    fn container(&self, asked: Option<&str>) -> Result<String, ApiError> {
        let (own, init) = (self.names("/spec/containers"), self.names("/spec/initContainers"));
        let pod = self.name();
        match (asked, own.as_slice()) {
            (Some(name), _) if own.contains(&name) || init.contains(&name) => Ok(name.to_owned()),
            (Some(name), _) => Err(ApiError::bad_request(format!("container {name} is not valid for pod {pod}"))),
            (None, [only]) => Ok((*only).to_owned()),
            (None, several) => {
                let list = several.join(" ");
                let init = match init.as_slice() {
                    [] => String::new(),
                    init => format!(" or one of the init containers: [{}]", init.join(" ")),
                };
                let message =
                    format!("a container name must be specified for pod {pod}, choose one of: [{list}]{init}");
                Err(ApiError::bad_request(message))
            }
        }
    }

    fn directory(&self) -> std::path::PathBuf {
        self.kubelet.directory(self.text("/metadata/uid"))
    }

    fn records(&self) -> Result<Records, ApiError> {
        record::load(&self.directory()).map_err(ApiError::internal)
    }

    /// The running container, and the pod process that runs it.
    async fn running(&self, container: &str) -> Result<(Record, Sandbox), ApiError> {
        let latest = self.records()?.remove(container).and_then(|mut attempts| attempts.pop());
        let running = latest.filter(|record| record.ended.is_none());
        match (running, Sandbox::find(&self.directory()).await) {
            (Some(record), Some(sandbox)) => Ok((record, sandbox)),
            _ => {
                Err(ApiError::bad_request(format!("unable to upgrade connection: container not found ({container:?})")))
            }
        }
    }
}

impl Kubelet {
    /// Serves `pods/log`.
    pub(super) async fn logs(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        log::serve(&Subject { kubelet: self, pod: &pod }, &Query::of(&request))
    }

    /// Serves `pods/exec`.
    pub(super) async fn exec(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let query = Query::of(&request);
        let subject = Subject { kubelet: self, pod: &pod };
        let container = subject.container(query.get("container"))?;
        let argv = query.all("command");
        if argv.is_empty() {
            return Err(ApiError::bad_request("you must specify at least one command for the container"));
        }
        let (record, sandbox) = subject.running(&container).await?;
        let protocol = web_socket_protocol(&request)?;
        let tty = query.flag("tty");
        let (stdio, streams) = Stdio::open(Wanted::of(&query)).map_err(ApiError::internal)?;
        let command = Command { container: record.id, argv, environment: self.exec_environment(tty), tty };
        upgrade(request, protocol, move |socket| async move {
            let mut session = Session::new(socket, protocol);
            if let Some(terminal) = streams.first().filter(|_| tty) {
                session.size_terminal(terminal).await;
            }
            let connection = sandbox.connect(PodRequest::Exec(Box::new(command)), streams).await;
            session.run_command(connection, stdio).await;
        })
    }

    /// Serves `pods/attach`.
    pub(super) async fn attach(&self, pod: Arc<Value>, request: Request<Incoming>) -> Result<Response<Body>, ApiError> {
        let query = Query::of(&request);
        let subject = Subject { kubelet: self, pod: &pod };
        let container = subject.container(query.get("container"))?;
        let (record, sandbox) = subject.running(&container).await?;
        let protocol = web_socket_protocol(&request)?;
        // The terminal, if there is one, is the container's own and lies with the pod process.
        let (stdio, streams) = Stdio::open(Wanted { tty: false, ..Wanted::of(&query) }).map_err(ApiError::internal)?;
        upgrade(request, protocol, move |socket| async move {
            let connection = sandbox.connect(PodRequest::Attach { id: record.id }, streams).await;
            Session::new(socket, protocol).run_attached(connection, stdio).await;
        })
    }

    /// What commands see on top of their container's environment.
    fn exec_environment(&self, tty: bool) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        if tty {
            environment.insert("TERM".to_owned(), "xterm".to_owned());
        }
        if !self.maps_users() {
            // `kubectl cp` unpacks with tar, which would fail to give files to users that do not exist here.
            environment.insert("TAR_OPTIONS".to_owned(), "--no-same-owner".to_owned());
        }
        environment
    }
}

/// Refuses `pods/portforward`, which needs SPDY.
pub(super) fn refuse_port_forward() -> ApiError {
    ApiError::bad_request(
        "port-forward is not supported by this server; reach the pod with `isthmus run -- COMMAND`, or give it a \
         Service of type NodePort or LoadBalancer, whose addresses `isthmus status` shows",
    )
}

/// The subprotocol to speak, or why the request cannot be served.
///
/// This is the last thing to check: kubectl asks again by SPDY when a WebSocket is refused, and shows the second answer.
fn web_socket_protocol(request: &Request<Incoming>) -> Result<&'static str, ApiError> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let upgrade = header(header::UPGRADE);
    if upgrade.to_ascii_lowercase().starts_with("spdy/") {
        return Err(ApiError::bad_request("this server speaks WebSocket only; use kubectl 1.31 or newer"));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") || header(header::SEC_WEBSOCKET_KEY).is_empty() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|list| list.split(',')).map(str::trim).collect();
    let spoken = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol));
    spoken.ok_or_else(|| {
        let message = format!("none of the subprotocols {offered:?} is supported; this server speaks {PROTOCOLS:?}");
        ApiError::bad_request(message)
    })
}

/// Accepts a WebSocket and serves it in the background.
fn upgrade<F>(
    mut request: Request<Incoming>,
    protocol: &'static str,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response<Body>, ApiError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(stream) => {
                serve(WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await).await;
            }
            Err(error) => tracing::debug!(%error, "a client went away before its connection was upgraded"),
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, key.unwrap_or_default())
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    response.body(Empty::new().map_err(|never| match never {}).boxed_unsync()).map_err(ApiError::internal)
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;
