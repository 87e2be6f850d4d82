use std::net::SocketAddr;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::*;

/// A server on a loopback port.
struct Served {
    harness: Harness,
    authority: pki::Authority,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn new() -> Served {
        let harness = Harness::new().await;
        let authority = pki::Authority::generate("ca").unwrap();
        let certificate = authority.issue_server(&["localhost"], &[]).unwrap();
        let tls = pki::server_config(&certificate, authority.certificate_pem()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(harness.api.serve(listener, tls, stop.clone()));
        Served { harness, authority, address, stop, task }
    }

    async fn tls(&self, user: Option<(&str, &str)>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match user {
            None => builder.with_no_client_auth(),
            Some((name, group)) => {
                let client = self.authority.issue_client(name, &[group]).unwrap();
                let chain = vec![CertificateDer::from_pem_slice(client.chain_pem.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(client.key_pem.unwrap().as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn client(&self, user: Option<(&str, &str)>) -> SendRequest<Full<Bytes>> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.tls(user).await)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// The code of a GET.
    async fn code(&self, user: Option<(&str, &str)>, path: &str) -> u16 {
        let request = Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
        self.client(user).await.send_request(request).await.unwrap().status().as_u16()
    }
}

const ADMIN: Option<(&str, &str)> = Some(("admin", "system:masters"));

#[tokio::test]
async fn a_client_certificate_says_who_asks() {
    let served = Served::new().await;
    assert_eq!(served.code(ADMIN, CONFIG_MAPS).await, 200);
    assert_eq!(served.code(Some(("jane", "devs")), CONFIG_MAPS).await, 403);
    assert_eq!(served.code(None, CONFIG_MAPS).await, 401);
    assert_eq!(served.code(None, "/healthz").await, 200);
}

#[tokio::test]
async fn watches_end_cleanly_when_the_server_stops() {
    let served = Served::new().await;
    let mut client = served.client(ADMIN).await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let request = Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
    let mut body = client.send_request(request).await.unwrap().into_body();
    served.harness.config_map("a", &json!({})).await;
    let line = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(line.starts_with(b"{\"type\":\"ADDED\""), "{line:?}");
    served.stop.cancel();
    assert!(body.frame().await.is_none(), "the stream ends without an error");
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), served.task).await.expect("it drains").unwrap().unwrap();
}

#[tokio::test]
async fn garbage_and_endless_heads_do_no_harm() {
    let served = Served::new().await;
    let mut plain = TcpStream::connect(served.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(plain.read_to_end(&mut Vec::new()).await.is_ok(), "no TLS, no answer but an alert");
    let mut garbage = served.tls(ADMIN).await;
    garbage.write_all(b"\0\x01nonsense\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    let mut endless = served.tls(ADMIN).await;
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(1 << 20));
    // The server may close before everything is written.
    let _ = endless.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    assert_eq!(served.code(ADMIN, CONFIG_MAPS).await, 200, "the server goes on");
}

#[tokio::test]
async fn a_large_list_and_a_large_body_pass() {
    let served = Served::new().await;
    let big = json!({"k": "x".repeat(1 << 20)});
    for name in ["a", "b", "c"] {
        served.harness.config_map(name, &big).await;
    }
    let request = Request::get(CONFIG_MAPS).header("host", "localhost").body(Full::default()).unwrap();
    let body = served.client(ADMIN).await.send_request(request).await.unwrap().into_body();
    let list: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(names(&list), ["a", "b", "c"]);
}
