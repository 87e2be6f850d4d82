//! Trailers of HTTP/1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::http::to;
use super::{LIMIT, Plane, connect, server};

const REQUEST: &str = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
    3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\nconnection: close\r\n\r\n\
    2\r\nok\r\n0\r\nx-end: 2\r\n\r\n";

/// A server that answers with trailers, and what stood behind the last chunk of each request that it got.
fn with_trailers() -> (SocketAddr, Receiver<Vec<String>>) {
    let (sends, seen) = channel();
    let sends = Arc::new(Mutex::new(sends));
    let address = server(move |mut stream| {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let behind: Vec<String> =
            lines.by_ref().skip_while(|line| line != "0").skip(1).take_while(|l| !l.is_empty()).collect();
        let _ = sends.lock().unwrap().send(behind);
        let _ = stream.write_all(ANSWER.as_bytes());
    });
    (address, seen)
}

fn ask(address: SocketAddr) -> String {
    let mut stream = connect(address);
    stream.write_all(REQUEST.replace("host: a\r\n", "host: a\r\nconnection: close, te\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn trailers_pass_where_both_ends_are_told_to_have_them() {
    const OPTIONS: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
        {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
        explicit_http_config: {http_protocol_options: {enable_trailers: true}}}}";
    const BELOW: &str = "http_protocol_options: {enable_trailers: true}";
    for (options, below, pass) in [("", "", false), (OPTIONS, "", false), ("", BELOW, false), (OPTIONS, BELOW, true)] {
        let (endpoint, seen) = with_trailers();
        let mut plane = Plane::start();
        let address = plane.cluster("c", &[endpoint], options).http(&to("c"), below).go();
        let answer = ask(address);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("ok"), "{answer}");
        let behind = seen.recv_timeout(LIMIT).unwrap();
        assert_eq!(behind == ["x-sum: 1"], pass, "{options} {below}: {behind:?}");
        assert_eq!(answer.contains("x-end: 2"), pass, "{options} {below}: {answer}");
        assert!(pass || behind.is_empty());
        plane.logged("POST / HTTP/1.1 200 -");
    }
}
