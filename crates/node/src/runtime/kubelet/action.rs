//! What probes and hooks do to a container: run a command, make a request, open a connection.

mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::network::ClusterNetwork;
use crate::runtime::container::Command;
use crate::runtime::sandbox::Sandbox;
use crate::runtime::sandbox::protocol::Request as PodRequest;

/// Output and bodies are read up to here; a message shows that much at most.
const MOST_READ: usize = 10 << 10;
const AGENT: &str = concat!("kube-probe/1.33 isthmus/", env!("CARGO_PKG_VERSION"));

/// A running container, as the node reaches it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) network: ClusterNetwork,
    pub(super) sandbox: Sandbox,
    pub(super) address: IpAddr,
    pub(super) container: Arc<Container>,
    /// The container's own ID.
    pub(super) id: String,
}

impl Target {
    /// Runs a command and gives its output; an error when it fails.
    pub(super) async fn exec(&self, argv: &[String]) -> Result<String, String> {
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(|e| e.to_string())?;
        let null = std::fs::File::open("/dev/null").map_err(|e| e.to_string())?;
        let second = theirs.try_clone().map_err(|e| e.to_string())?;
        let command =
            Command { container: self.id.clone(), argv: argv.to_vec(), environment: Default::default(), tty: false };
        let request = PodRequest::Exec(Box::new(command));
        let connection = self.sandbox.connect(request, vec![null.into(), theirs, second]).await;
        let (mut exits, resizes) = connection.map_err(|e| e.message)?.split();
        let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(output).map_err(|e| e.to_string())?;
        let (text, exit) = tokio::join!(read_some(reader), exits.wait());
        drop(resizes);
        let text = text.map_err(|e| e.to_string())?;
        match exit.map_err(|e| e.to_string())?.code() {
            0 => Ok(text),
            code if text.is_empty() => Err(format!("command exited with code {code}")),
            _ => Err(text),
        }
    }

    /// The address of a port by number or name.
    fn socket(&self, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
        let wrong = || format!("invalid port {port:?} of container {}", self.container.name);
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|p| p.name.as_deref() == Some(name)).map(|p| p.container_port);
                named.or_else(|| name.parse().ok()).ok_or_else(wrong)?
            }
        };
        let address = match host.filter(|host| !host.is_empty()) {
            Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an address"))?,
            None => self.address,
        };
        Ok(SocketAddr::new(address, u16::try_from(number).map_err(|_| wrong())?))
    }

    /// Opens a connection and closes it.
    pub(super) async fn tcp(&self, host: Option<&str>, port: &IntOrString) -> Result<(), String> {
        let socket = self.socket(host, port)?;
        self.network.connect(socket).await.map(drop).map_err(|e| dial_error(socket, &e))
    }

    /// Makes a GET request; success is a status of 200 to 399, as kubelet has it.
    pub(super) async fn http(&self, action: &HTTPGetAction) -> Result<(), String> {
        let socket = self.socket(action.host.as_deref(), &action.port)?;
        let secure = action.scheme.as_deref() == Some("HTTPS");
        let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let url = format!("{}://{socket}{path}", if secure { "https" } else { "http" });
        let failed = |e: &dyn std::fmt::Display| format!("Get {url:?}: {e}");
        let mut request = Request::get(&path).header(header::USER_AGENT, AGENT).header(header::ACCEPT, "*/*");
        let mut host = socket.to_string();
        for given in action.http_headers.iter().flatten() {
            if given.name.eq_ignore_ascii_case("host") {
                host.clone_from(&given.value);
                continue;
            }
            let name: HeaderName = given.name.parse().map_err(|e| failed(&e))?;
            let value: HeaderValue = given.value.parse().map_err(|e| failed(&e))?;
            request = request.header(name, value);
        }
        let request = request.header(header::HOST, host).header(header::CONNECTION, "close");
        let request = request.body(Full::<Bytes>::default()).map_err(|e| failed(&e))?;
        let stream = self.network.connect(socket).await.map_err(|e| failed(&dial_error(socket, &e)))?;
        let status = if secure {
            get(tls::connect(stream, socket.ip()).await.map_err(|e| failed(&e))?, request).await
        } else {
            get(stream, request).await
        };
        let status = status.map_err(|e| failed(&e))?;
        if (200..400).contains(&status) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
    }

    /// Asks `grpc.health.v1.Health/Check`.
    pub(super) async fn grpc(&self, action: &GRPCAction) -> Result<(), String> {
        let socket = self.socket(None, &IntOrString::Int(action.port))?;
        let stream = self.network.connect(socket).await.map_err(|e| dial_error(socket, &e))?;
        let failed = |e: &dyn std::fmt::Display| format!("service unhealthy: {e}");
        let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|e| failed(&e))?;
        let driver = tokio::spawn(connection);
        let uri = format!("http://{socket}/grpc.health.v1.Health/Check");
        let request = Request::post(uri.parse::<Uri>().map_err(|e| failed(&e))?)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, AGENT)
            .body(Full::new(health_request(action.service.as_deref().unwrap_or_default())))
            .map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let body = Limited::new(response.into_body(), MOST_READ).collect().await.map_err(|e| failed(&e))?.to_bytes();
        driver.abort();
        // A frame's five bytes of header, then the field `status`, of which 1 is SERVING.
        if body.get(5..) == Some(&[0x08, 0x01]) { Ok(()) } else { Err(failed(&"it is not SERVING")) }
    }
}

/// `HealthCheckRequest { service }` as a gRPC message.
fn health_request(service: &str) -> Bytes {
    let name = service.as_bytes().get(..service.len().min(127)).unwrap_or_default();
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend_from_slice(&[0x0a, name.len() as u8]);
        message.extend_from_slice(name);
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame.into()
}

fn dial_error(socket: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {socket}: {why}")
}

async fn get<S>(stream: S, request: Request<Full<Bytes>>) -> Result<u16, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    // Read so that servers do not see their answer cut off; a body that is long or slow is.
    let body = Limited::new(response.into_body(), MOST_READ).collect();
    if tokio::time::timeout(Duration::from_millis(500), body).await.is_err() {
        tracing::debug!("a probe's answer did not end in time");
    }
    driver.abort();
    Ok(status)
}

/// Reads to the end but keeps only so much.
async fn read_some(mut reader: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = reader.read(&mut chunk).await?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        let room = MOST_READ.saturating_sub(text.len()).min(read);
        text.extend_from_slice(chunk.get(..room).unwrap_or_default());
    }
}
