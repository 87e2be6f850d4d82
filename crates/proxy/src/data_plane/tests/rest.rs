//! Connections of HTTP/1 that rest between requests.

use std::io::{Read, Write};

use super::http::{ask_on, mirror, to};
use super::{LIMIT, Plane, connect, is_over};
use crate::metrics::Scope;
use testkit::until;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

impl Plane {
    fn rest(&self, count: u64) {
        let scope = Scope::Http("http".into());
        let resting = || (self.number(&scope, "downstream_cx_resting") == count).then_some(());
        until(&format!("{count} connections to rest"), LIMIT, resting);
    }
}

#[test]
fn a_connection_that_has_rested_goes_on_as_before() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), "").go();
    let mut stream = connect(address);
    for _ in 0..2 {
        assert_eq!(ask_on(&stream, GET).start, "HTTP/1.1 200 OK");
        plane.rest(1);
    }
    stream.write_all(format!("{GET}BOGUS / HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert!(answers.starts_with("HTTP/1.1 200 OK") && answers.contains("HTTP/1.1 400 Bad Request"), "{answers}");
    plane.rest(0);
    let scope = Scope::Http("http".into());
    assert_eq!(plane.number(&scope, "downstream_cx_total"), 1);
    assert_eq!(plane.number(&scope, "downstream_rq_total"), 4);
}

#[test]
fn half_a_request_keeps_a_connection_from_resting() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), "").go();
    let (whole, mut half) = (connect(address), connect(address));
    assert_eq!(ask_on(&half, GET).start, "HTTP/1.1 200 OK");
    half.write_all(b"GET /b HTTP/1.1\r\nho").unwrap();
    assert_eq!(ask_on(&whole, GET).start, "HTTP/1.1 200 OK");
    plane.rest(1);
    assert_eq!(ask_on(&half, "st: a\r\n\r\n").start, "HTTP/1.1 200 OK");
}

#[test]
fn a_connection_that_rests_ends_in_time() {
    let mut plane = Plane::start();
    let options = "common_http_protocol_options: {idle_timeout: 3s}";
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), options).go();
    let mut stream = connect(address);
    assert_eq!(ask_on(&stream, GET).start, "HTTP/1.1 200 OK");
    plane.rest(1);
    assert!(is_over(&mut stream));
    let scope = Scope::Http("http".into());
    assert_eq!(plane.number(&scope, "downstream_cx_idle_timeout"), 1);
}

#[test]
fn a_connection_that_has_rested_does_not_change_its_protocol() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), "").go();
    let stream = connect(address);
    assert_eq!(ask_on(&stream, GET).start, "HTTP/1.1 200 OK");
    plane.rest(1);
    let answer = ask_on(&stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(answer.start.starts_with("HTTP/1.1 4"), "{answer:?}");
    let scope = Scope::Http("http".into());
    assert_eq!(plane.number(&scope, "downstream_rq_http2_total"), 0);
}
