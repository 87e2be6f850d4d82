//! The application's probes. The node sends them to port 15020, which is not captured, and the agent asks the application
//! instead; injection has written down what each path stands for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::{AgentError, METRICS_PORT, STATUS_PORT};

/// Connections from here to the pod's own address are not led to the proxy.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// How long a probe may take that does not say, as in Kubernetes.
const TIMEOUT: u64 = 1;
/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after the kernel has refused to hand out a connection, as when there are too many open files.
const PAUSE: Duration = Duration::from_millis(100);

type Reply = Response<Full<Bytes>>;

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prober {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Socket>,
    #[serde(default)]
    timeout_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Socket {
    port: u16,
}

/// The application beside the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    probers: BTreeMap<String, Prober>,
    address: IpAddr,
}

impl Application {
    /// Reads the variable `ISTIO_KUBE_APP_PROBERS`, if there is one; `address` is the pod's.
    pub(crate) fn read(probers: Option<&str>, address: &str) -> Result<Application, AgentError> {
        let probers = serde_json::from_str(probers.unwrap_or("{}"));
        let probers = probers.map_err(|e| AgentError::wrong("ISTIO_KUBE_APP_PROBERS", e))?;
        let address = address.parse().map_err(|e| AgentError::wrong("INSTANCE_IP", e))?;
        Ok(Application { probers, address })
    }

    /// Answers for ever.
    pub(crate) async fn serve(self: Arc<Application>, listener: TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve_one(stream))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn serve_one(self: Arc<Application>, stream: TcpStream) {
        let service = service_fn(move |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(&request).await) }
        });
        // Whoever goes away in the middle of an answer does not want it any more.
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false);
        let _ = http.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let own = |port, path: &str| HttpGet { path: path.to_owned(), port, http_headers: Vec::new() };
        let (proxy, limit) = (IpAddr::from(Ipv4Addr::LOCALHOST), Duration::from_secs(TIMEOUT));
        match request.uri().path() {
            path @ "/stats/prometheus" => within(limit, get(proxy, &own(METRICS_PORT, path), agent)).await,
            path @ "/healthz/ready" => within(limit, get(proxy, &own(STATUS_PORT, path), agent)).await,
            path => match self.probers.get(path) {
                Some(prober) => self.probe(prober, agent).await,
                None => reply(StatusCode::NOT_FOUND, format!("the application has no probe {path}\n")),
            },
        }
    }

    async fn probe(&self, prober: &Prober, agent: &str) -> Reply {
        let limit = Duration::from_secs(prober.timeout_seconds.max(TIMEOUT));
        match (&prober.http_get, &prober.tcp_socket) {
            (Some(action), _) => within(limit, get(self.address, action, agent)).await,
            (None, Some(socket)) => {
                let opened = async {
                    connect(SocketAddr::new(self.address, socket.port)).await?;
                    Ok(reply(StatusCode::OK, String::new()))
                };
                within(limit, opened).await
            }
            (None, None) => reply(StatusCode::NOT_FOUND, "the probe says neither httpGet nor tcpSocket\n".to_owned()),
        }
    }
}

/// The outcome of an action, or 500 with why there is none: that is what the node shows.
async fn within(limit: Duration, action: impl Future<Output = Result<Reply, Box<dyn Error + Send + Sync>>>) -> Reply {
    match tokio::time::timeout(limit, action).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => reply(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, format!("no answer within {limit:?}\n")),
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if to.is_ipv4() {
        socket.bind((SOURCE, 0).into())?;
    }
    socket.connect(to).await
}

/// What the application answers; redirects are an answer.
async fn get(address: IpAddr, action: &HttpGet, agent: &str) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    let to = SocketAddr::new(address, action.port);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connect(to).await?)).await?;
    // It ends with its sender.
    tokio::spawn(connection);
    let slash = if action.path.starts_with('/') { "" } else { "/" };
    let mut request = Request::get(format!("{slash}{}", action.path)).header(USER_AGENT, agent);
    if action.http_headers.iter().all(|header| !header.name.eq_ignore_ascii_case("host")) {
        request = request.header(HOST, to.to_string());
    }
    for Header { name, value } in &action.http_headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    Ok(reply)
}

fn reply(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = status;
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An application that answers once, and the request that it has got.
    async fn application(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!(peer.ip(), IpAddr::from(SOURCE));
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (port, task)
    }

    async fn ask(probers: &str, path: &str) -> (StatusCode, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let application = Arc::new(Application::read(Some(probers), "127.0.0.1").unwrap());
        tokio::spawn(application.serve(listener));
        let action = HttpGet { path: path.to_owned(), port: address.port(), http_headers: Vec::new() };
        let reply = get(address.ip(), &action, "kube-probe").await.unwrap();
        let status = reply.status();
        (status, String::from_utf8_lossy(&reply.into_body().collect().await.unwrap().to_bytes()).into_owned())
    }

    #[tokio::test]
    async fn requests_reach_the_application_as_the_node_would_send_them() {
        let (port, asked) = application("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy").await;
        let probers = format!(
            r#"{{"/app-health/a/readyz": {{"httpGet": {{"path": "/ok?x", "port": {port},
                "httpHeaders": [{{"name": "X-A", "value": "b"}}]}}}}}}"#
        );
        assert_eq!(ask(&probers, "/app-health/a/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, "busy".to_owned()));
        let request = asked.await.unwrap().to_lowercase();
        for part in ["get /ok?x http/1.1\r\n", "x-a: b\r\n", "user-agent: kube-probe\r\n"] {
            assert!(request.contains(part), "{request}");
        }
    }

    #[tokio::test]
    async fn ports_are_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probers = format!(r#"{{"/app-health/a/livez": {{"tcpSocket": {{"port": {port}}}}}}}"#);
        assert_eq!(ask(&probers, "/app-health/a/livez").await.0, StatusCode::OK);
        drop(listener);
        let (status, why) = ask(&probers, "/app-health/a/livez").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(why.contains("refused"), "{why}");
    }

    #[tokio::test]
    async fn unknown_paths_are_not_found() {
        assert_eq!(ask("{}", "/app-health/a/readyz").await.0, StatusCode::NOT_FOUND);
        assert!(Application::read(Some("[]"), "127.0.0.1").is_err() && Application::read(None, "nowhere").is_err());
    }
}
