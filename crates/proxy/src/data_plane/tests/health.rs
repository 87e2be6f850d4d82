//! Endpoints that are asked whether they are well.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::until;

use super::http::{ask_on, get, ok, to, web};
use super::{LIMIT, Plane, connect, is_over, nobody, server};
use crate::tests::refuse;

const OFTEN: &str =
    "timeout: 5s, interval: 0.01s, no_traffic_interval: 0.01s, unhealthy_threshold: 2, healthy_threshold: 2";
const NO_PANIC: &str = "common_lb_config: {healthy_panic_threshold: {value: 0}}";

/// What has the endpoints of a cluster asked like this.
fn check(times: &str, question: &str) -> String {
    format!("health_checks: [{{{times}, {question}}}]\n{NO_PANIC}")
}

/// A cluster `c` whose endpoints are asked like this.
fn asked(plane: &mut Plane, endpoints: &[SocketAddr], times: &str, question: &str, rest: &str) -> SocketAddr {
    let rest = format!("{}\n{rest}", check(times, question));
    plane.cluster("c", endpoints, &rest).http(&to("c"), "").go()
}

impl Plane {
    /// Waits until these endpoints of the cluster are not well, and the others are.
    fn unwell(&self, expected: &[SocketAddr]) {
        until(&format!("{expected:?} to be unwell"), LIMIT, || {
            let states = self.plane.endpoints();
            let found = states["c"].iter().filter(|state| state.failed_check).map(|state| state.address);
            (found.collect::<Vec<_>>() == expected).then_some(())
        });
    }
}

/// A server that answers questions for its health with a status, and others with its name.
fn fickle(status: &Arc<AtomicU16>) -> SocketAddr {
    let status = status.clone();
    web(move |request| {
        if request.start == "GET /health HTTP/1.1" && request.header("host") == "c" {
            return format!("HTTP/1.1 {} x\r\ncontent-length: 0\r\n\r\n", status.load(Ordering::Relaxed));
        }
        ok("fickle")
    })
}

/// Waits until these are the answers that requests get.
fn answers(address: SocketAddr, expected: &[&str]) {
    until(&format!("answers of {expected:?}"), LIMIT, || {
        let mut found: Vec<String> = (0..8).map(|_| get(address, "/", "").body).collect();
        found.sort();
        found.dedup();
        (found == expected).then_some(())
    });
}

#[test]
fn an_endpoint_gets_nothing_while_it_says_that_it_is_unwell() {
    let status = Arc::new(AtomicU16::new(200));
    let (good, fickle) = (web(|_| ok("good")), fickle(&status));
    let mut plane = Plane::start();
    let question = "http_health_check: {path: /health, retriable_statuses: [{start: 500, end: 501}]}";
    let address = asked(&mut plane, &[good, fickle], OFTEN, question, "");
    plane.unwell(&[]);
    answers(address, &["fickle", "good"]);
    // A status that may pass counts, another is believed at once.
    for bad in [500, 503] {
        status.store(bad, Ordering::Relaxed);
        plane.unwell(&[fickle]);
        answers(address, &["good"]);
        status.store(200, Ordering::Relaxed);
        plane.unwell(&[]);
        answers(address, &["fickle", "good"]);
    }
    let scope = crate::metrics::Scope::Cluster("c".into());
    assert!(plane.number(&scope, "health_check.failure") >= 3);
    assert_eq!(plane.number(&scope, "health_check.network_failure"), 0);
}

#[test]
fn connections_to_an_endpoint_that_is_unwell_end_where_the_cluster_wants_that() {
    let status = Arc::new(AtomicU16::new(200));
    let mut plane = Plane::start();
    let rest = check(OFTEN, "http_health_check: {path: /health}");
    let rest = format!("{rest}\nclose_connections_on_host_health_failure: true");
    let address = plane.cluster("c", &[fickle(&status)], &rest).simple("", "", "c").go();
    plane.unwell(&[]);
    let mut stream = connect(address);
    assert_eq!(ask_on(&stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").body, "fickle");
    status.store(503, Ordering::Relaxed);
    assert!(is_over(&mut stream));
}

#[test]
fn an_endpoint_is_unwell_until_it_has_answered() {
    let mut plane = Plane::start();
    let nobody = nobody();
    let address = asked(&mut plane, &[nobody], OFTEN, "tcp_health_check: {}", "");
    plane.unwell(&[nobody]);
    let answer = get(address, "/", "");
    assert_eq!(
        (answer.start.as_str(), answer.body.as_str()),
        ("HTTP/1.1 503 Service Unavailable", "no healthy upstream")
    );
}

#[test]
fn what_was_found_survives_a_change_of_the_cluster() {
    let mut plane = Plane::start();
    let once = "timeout: 5s, interval: 3600s, no_traffic_interval: 3600s, unhealthy_threshold: 2, healthy_threshold: 2";
    let good = web(|_| ok("good"));
    asked(&mut plane, &[good], once, "http_health_check: {path: /}", "");
    plane.unwell(&[]);
    let address = asked(&mut plane, &[good], once, "http_health_check: {path: /}", "connect_timeout: 3s");
    assert_eq!(get(address, "/", "").body, "good");
}

#[test]
fn bytes_may_be_said_and_heard() {
    let polite = server(|mut stream| {
        let mut heard = [0; 4];
        while stream.read_exact(&mut heard).is_ok() && heard == *b"ping" {
            let _ = stream.write_all(b"well, pong!");
        }
    });
    let rude = server(|mut stream| {
        let _ = stream.write_all(b"go away");
    });
    let mut plane = Plane::start();
    let question = "tcp_health_check: {send: {text: '70696E67'}, receive: [{text: '706f'}, {binary: 'bmc='}]}";
    asked(&mut plane, &[polite, rude], OFTEN, question, "");
    plane.unwell(&[rude]);
}

/// A server of `grpc.health.v1.Health` that has this status for every service called `known`.
fn grpc(status: u8) -> SocketAddr {
    server(move |stream| {
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect().await?.to_bytes();
            let known = asked.ends_with(b"\x0a\x05known");
            let code = http::HeaderValue::from_static(if known { "0" } else { "5" });
            let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code)]);
            let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]);
            let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
            Ok::<_, hyper::Error>(http::Response::new(body))
        });
        runtime.block_on(async {
            let io = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        });
    })
}

#[test]
fn services_of_grpc_are_asked_in_their_own_way() {
    let http2 = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
        {http2_protocol_options: {}}}}";
    let (serving, not_serving) = (grpc(1), grpc(2));
    let mut plane = Plane::start();
    let endpoints = [serving, not_serving];
    asked(&mut plane, &endpoints, OFTEN, "grpc_health_check: {service_name: known}", http2);
    plane.unwell(&[not_serving]);
    asked(&mut plane, &endpoints, OFTEN, "grpc_health_check: {service_name: other}", http2);
    plane.unwell(&endpoints);
}

#[test]
fn a_check_that_cannot_be_made_is_refused() {
    for (check, expected) in [
        ("{timeout: 1s, interval: 1s}", "health_checks[0].unhealthy_threshold: is required"),
        (
            "{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}",
            "health_checks[0].health_checker: is required",
        ),
        (
            "{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, grpc_health_check: {}}",
            "health_checks[0].grpc_health_check: the cluster must speak HTTP/2",
        ),
        (
            "{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {send: {text: abc}}}",
            "health_checks[0].tcp_health_check.send.text: must be bytes in base 16",
        ),
    ] {
        let yaml = format!("name: c\nhealth_checks: [{check}]\n");
        let refused = refuse(envoy::TypeUrl::Cluster, &yaml).to_string();
        assert_eq!(refused, expected);
    }
}
