//! One HTTP/1.1 connection, with as little of its own between the measurement and the server as can be.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Where a server is, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None` speaks in clear.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Server {
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.begin(stream).await,
            Some(config) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.begin(TlsConnector::from(config.clone()).connect(name, stream).await?).await
            }
        }
    }

    async fn begin(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Connection> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors come back from the requests, too.
        tokio::spawn(async { drop(connection.await) });
        Ok(Connection { sender, host: format!("{}:{}", self.host, self.port) })
    }
}

impl Connection {
    /// Sends a request and gives the body of a successful answer, still to be read.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Incoming> {
        self.sender.ready().await?;
        let request = Request::builder().method(method.clone()).uri(path).header("host", &self.host);
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = request.header("content-type", kind).body(Full::new(body.into()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await?.to_bytes();
        bail!("{method} {path}: {}: {}", status.as_u16(), String::from_utf8_lossy(&body))
    }

    /// Sends a request and reads the whole of a successful answer.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Bytes> {
        Ok(self.open(method, path, body).await?.collect().await?.to_bytes())
    }

    /// Whether `path` answers 200.
    pub(crate) async fn is_ok(&mut self, path: &str) -> bool {
        self.sender.ready().await.is_ok()
            && match Request::get(path).header("host", &self.host).body(Full::default()) {
                Ok(request) => {
                    self.sender.send_request(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
                }
                Err(_) => false,
            }
    }
}
