//! Other protocols, over HTTP/1 and over HTTP/2.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http::{any, ask_on, read_message};
use super::{Plane, connect, server};

const UPGRADES: &str = "upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}], \
    http2_protocol_options: {allow_connect: true}";

const OVER_HTTP2: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
    {http2_protocol_options: {}}}}";

/// A server that changes its protocol, says how it was asked, and then what it hears.
fn chat() -> SocketAddr {
    server(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(request) = read_message(&mut reader, true) else { return };
        let status = if request.start.starts_with("CONNECT ") { "200 OK" } else { "101 Switching Protocols" };
        let said = format!("{} {} {};", request.start, request.header("upgrade"), request.header("connection"));
        let headers = if status.starts_with("101") { "connection: upgrade\r\nupgrade: websocket\r\n" } else { "" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}\r\n{said}");
        let mut heard = [0; 4];
        if reader.read_exact(&mut heard).is_ok() {
            let _ = stream.write_all(&heard);
        }
    })
}

/// A plane whose listener sends `/outer` over HTTP/2 to itself, and everything else to a server that changes its protocol.
fn plane() -> (Plane, SocketAddr) {
    let mut plane = Plane::start();
    let routes = "{match: {connect_matcher: {}}, route: {cluster: c}}, \
        {match: {prefix: /outer}, route: {cluster: self, prefix_rewrite: /inner}}, \
        {match: {prefix: /}, route: {cluster: c}}";
    let address = plane.cluster("c", &[chat()], "").http(&any(routes), UPGRADES).go();
    plane.cluster("self", &[address], OVER_HTTP2).go();
    (plane, address)
}

/// Asks over HTTP/2 for a WebSocket, or for a tunnel if there is no protocol, and says `ping`; returns the statuses of
/// that and of another request on the same connection, and what is said until nothing follows.
fn over_http2(address: SocketAddr, target: &str, protocol: Option<&'static str>) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::connect(target).body(Empty::<Bytes>::new()).unwrap();
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        let mut response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        if status != 200 {
            return (status, String::new());
        }
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(b"ping").await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        (status, all)
    })
}

const ASKS: &str = "GET /outer HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping";

#[test]
fn a_websocket_passes_between_http1_and_http2() {
    let (plane, address) = plane();
    let expected = "GET /inner HTTP/1.1 websocket upgrade;ping";
    let mut stream = connect(address);
    stream.write_all(ASKS.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    let said = over_http2(address, "http://a.example/outer", Some("websocket"));
    assert_eq!(said, (200, expected.to_owned()));
    let said = over_http2(address, "http://a.example/direct", Some("websocket"));
    assert_eq!(said, (200, "GET /direct HTTP/1.1 websocket upgrade;ping".to_owned()));
    plane.logged("GET /direct HTTP/2 101 - via_upstream 4/");
    plane.reaches("self", "upstream_rq_active", 0);
    plane.reaches("c", "upstream_rq_active", 0);
}

#[test]
fn a_protocol_that_is_not_allowed_is_refused_over_http2() {
    let (_plane, address) = plane();
    assert_eq!(over_http2(address, "http://a.example/", Some("foo")).0, 403);
}

#[test]
fn a_tunnel_is_made_where_there_may_be_one() {
    let (_plane, address) = plane();
    let expected = "CONNECT b.example:1 HTTP/1.1  ;ping";
    assert_eq!(over_http2(address, "b.example:1", None), (200, expected.to_owned()));
    let mut stream = connect(address);
    stream.write_all(b"CONNECT b.example:1 HTTP/1.1\r\nhost: b.example:1\r\n\r\nping").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
}

#[test]
fn without_leave_there_is_no_tunnel() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[chat()], "").http(&super::http::to("c"), "").go();
    let answer = ask_on(&connect(address), "CONNECT b.example:1 HTTP/1.1\r\nhost: b.example:1\r\n\r\n");
    assert_eq!((answer.start.as_str(), answer.header("connection")), ("HTTP/1.1 403 Forbidden", "close"));
    assert_eq!(over_http2(address, "b.example:1", None).0, 403);
}
