//! How long requests may be silent, and how long they may take.

use std::io::{BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::http::{any, ask_on, get, ok, read_message, to};
use super::{Plane, connect, is_over, server};
use crate::metrics::Scope;

/// A server that says `beginning` to whoever asks, and then nothing.
fn stuck(beginning: &'static str) -> SocketAddr {
    server(move |mut stream| {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some);
        let _ = stream.write_all(beginning.as_bytes());
        while let Ok(1..) = stream.read(&mut some) {}
    })
}

const SLOW_POST: &str = "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab";

#[test]
fn a_stream_that_is_silent_for_too_long_ends() {
    let mut plane = Plane::start();
    let route = "{match: {prefix: /}, route: {cluster: c, timeout: 0s}}";
    let address = plane.cluster("c", &[stuck("")], "").http(&any(route), "stream_idle_timeout: 0.05s").go();
    let answer = get(address, "/g", "");
    assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 504 Gateway Timeout", "stream timeout"));
    plane.logged("GET /g HTTP/1.1 504 SI stream_idle_timeout 0/14");
    let answer = ask_on(&connect(address), SLOW_POST);
    assert_eq!((answer.start.as_str(), answer.header("connection")), ("HTTP/1.1 408 Request Timeout", "close"));
    plane.logged("POST /p HTTP/1.1 408 SI stream_idle_timeout 2/14");
    assert_eq!(plane.number(&Scope::Http("http".into()), "downstream_rq_idle_timeout"), 2);
}

#[test]
fn a_response_that_stops_in_the_middle_is_broken_off() {
    let mut plane = Plane::start();
    let half = stuck("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc");
    let routes = "{match: {path: /idle}, route: {cluster: c, timeout: 0s, idle_timeout: 1s}}, \
        {match: {path: /long}, route: {cluster: c, timeout: 0s, max_stream_duration: {max_stream_duration: 1s}}}";
    let address = plane.cluster("c", &[half], "").http(&any(routes), "").go();
    for (path, line) in [("/idle", "200 SI stream_idle_timeout 0/3"), ("/long", "200 - max_duration_timeout 0/3")] {
        let mut stream = connect(address);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.ends_with(b"\r\n\r\nabc"), "{}", String::from_utf8_lossy(&all));
        plane.logged(&format!("GET {path} HTTP/1.1 {line}"));
    }
}

#[test]
fn a_request_may_not_take_for_ever() {
    let mut plane = Plane::start();
    let routes = "{match: {path: /long}, route: {cluster: c, timeout: 0s, max_stream_duration: {max_stream_duration: \
        0.05s}}}, {match: {prefix: /}, route: {cluster: c, timeout: 0s}}";
    let address = plane.cluster("c", &[stuck("")], "").http(&any(routes), "request_timeout: 0.05s").go();
    let answer = get(address, "/long", "");
    assert_eq!(
        (answer.start.as_str(), answer.body.as_str()),
        ("HTTP/1.1 504 Gateway Timeout", "downstream duration timeout")
    );
    plane.logged("GET /long HTTP/1.1 504 - max_duration_timeout 0/27");
    let answer = ask_on(&connect(address), SLOW_POST);
    assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 408 Request Timeout", "request timeout"));
    plane.logged("POST /p HTTP/1.1 408 - request_overall_timeout 2/15");
}

#[test]
fn who_still_sends_can_read_why_it_was_refused() {
    let mut plane = Plane::start();
    let route = "{match: {prefix: /}, direct_response: {status: 403, body: {inline_string: never}}}";
    let address = plane.http(&any(route), "").go();
    let stream = connect(address);
    let mut writer = &stream;
    write!(writer, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n").unwrap();
    // More than all buffers on the way hold: most of it is on its way when the connection ends.
    let _ = writer.write_all(&vec![b'x'; 8 << 20]);
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let answer = read_message(&mut reader, false).unwrap();
    assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 403 Forbidden", "never"));
    assert_eq!(answer.header("connection"), "close");
}

#[test]
fn who_asks_while_things_change_is_answered_and_told_to_go() {
    let mut plane = Plane::start();
    let answer = |status: u16| any(&format!("{{match: {{prefix: /}}, direct_response: {{status: {status}}}}}"));
    let address = plane.http(&answer(200), "drain_timeout: 3600s").go();
    let (mut stream, mut silent) = (connect(address), connect(address));
    for stream in [&stream, &silent] {
        assert_eq!(ask_on(stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").start, "HTTP/1.1 200 OK");
    }
    let address = plane.http(&answer(403), "drain_timeout: 3600s").go();
    assert_eq!(get(address, "/", "").start, "HTTP/1.1 403 Forbidden");
    // The request may have been on its way already: closing the connection would have lost it.
    let last = ask_on(&stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((last.start.as_str(), last.header("connection")), ("HTTP/1.1 200 OK", "close"));
    assert!(is_over(&mut stream));
    assert!(is_over(&mut silent), "who says nothing does not keep what has changed");
}

/// What makes of requests from this machine those of the inside.
const INSIDE: &str =
    "use_remote_address: true, internal_address_config: {cidr_ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}";

/// A server that never answers the first request, and says to the others what of their headers is for proxies.
fn reluctant() -> SocketAddr {
    let first = Arc::new(AtomicBool::new(true));
    server(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_message(&mut reader, false) {
            if first.swap(false, Ordering::Relaxed) {
                continue;
            }
            let told = request.headers.iter().filter(|(name, _)| name.starts_with("x-envoy-"));
            let told: Vec<String> = told.map(|(name, value)| format!("{name}: {value}")).collect();
            let _ = writer.write_all(ok(&told.join("\n")).as_bytes());
        }
    })
}

#[test]
fn a_request_from_inside_may_say_how_long_an_attempt_takes() {
    let mut plane = Plane::start();
    let route = "{match: {prefix: /}, route: {cluster: c, timeout: 20s}}";
    let address = plane.cluster("c", &[reluctant()], "").http(&any(route), INSIDE).go();
    let asked = "x-envoy-retry-on: gateway-error\r\nx-envoy-upstream-rq-per-try-timeout-ms: 1000\r\n\
        x-envoy-upstream-alt-stat-name: x\r\nx-envoy-hedge-on-per-try-timeout: true\r\n";
    let answer = get(address, "/", asked);
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert_eq!(answer.body, "x-envoy-expected-rq-timeout-ms: 1000\nx-envoy-internal: true");
    plane.reaches("c", "upstream_rq_per_try_timeout", 1);
    // An attempt that may take all of the time has no limit of its own, and neither has anything without limits.
    for (asked, expected) in [
        ("x-envoy-upstream-rq-timeout-ms: 9000\r\nx-envoy-upstream-rq-per-try-timeout-ms: 9000\r\n", "9000"),
        ("x-envoy-upstream-rq-timeout-ms: 0\r\nx-envoy-upstream-rq-per-try-timeout-ms: 8000\r\n", "8000"),
        ("x-envoy-upstream-rq-per-try-timeout-ms: 0\r\n", "20000"),
    ] {
        let answer = get(address, "/", asked);
        assert_eq!(
            answer.body,
            format!("x-envoy-expected-rq-timeout-ms: {expected}\nx-envoy-internal: true"),
            "{asked}"
        );
    }
}

#[test]
fn nothing_is_said_of_a_timeout_where_a_request_wants_that() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[stuck("")], "").http(&to("c"), INSIDE).go();
    let asked = "x-envoy-upstream-rq-timeout-ms: 50\r\nx-envoy-upstream-rq-timeout-alt-response: 1\r\n";
    let answer = get(address, "/", asked);
    assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 204 No Content", ""));
    plane.logged("204 UT response_timeout");
}

#[test]
fn what_the_proxy_before_expects_may_be_heeded() {
    let mut plane = Plane::start();
    let router = "http_filters: [{name: router, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, respect_expected_rq_timeout: true}}]";
    let rest = format!("{INSIDE}, {router}");
    let address = plane.cluster("c", &[stuck("")], "").http(&to("c"), &rest).go();
    let answer = get(address, "/", "x-envoy-expected-rq-timeout-ms: 50\r\nx-envoy-upstream-rq-timeout-ms: 25000\r\n");
    assert_eq!(answer.start, "HTTP/1.1 504 Gateway Timeout");
}
