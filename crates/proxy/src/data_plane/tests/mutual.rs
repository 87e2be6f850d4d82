//! Mutual TLS between two data planes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::authority::{Ca, Leaf, downstream, upstream};
use super::{INSPECTOR, LIMIT, Plane, ask, cluster, connect, echo, is_over, listener, summary, talk};
use crate::metrics::Scope;

pub(super) const CLIENT: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/foo/sa/echo";

/// A proxy before `application`, which takes mutual TLS only.
pub(super) fn inbound(ca: &Ca, leaf: &Leaf, filters: &str, application: SocketAddr) -> (Plane, SocketAddr) {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: app", "");
    let tls = downstream("istio-peer-exchange, h2, http/1.1");
    let chain = format!("{{name: mtls, {tls}filters: [{filters}{tcp}]}}");
    plane.secret(&leaf.secret()).secret(&ca.trust()).cluster("app", &[application], "");
    let address = plane
        .listener(&listener("in", "127.0.0.1", &format!("{INSPECTOR}\ntraffic_direction: INBOUND"), &[chain]))
        .go();
    (plane, address)
}

/// A proxy that speaks mutual TLS to `server`, of which it expects the identity `name`.
pub(super) fn outbound(ca: &Ca, leaf: &Leaf, name: &str, server: SocketAddr) -> (Plane, SocketAddr) {
    let mut plane = Plane::start();
    let socket = format!("transport_socket: {}", upstream(name, "istio", ""));
    plane.secret(&leaf.secret()).secret(&ca.trust()).cluster("out", &[server], &socket);
    let address = plane.simple("", "", "out").go();
    (plane, address)
}

fn pair(application: SocketAddr) -> (Plane, Plane, SocketAddr) {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", application);
    let (client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    (client, server, address)
}

#[test]
fn both_ends_prove_who_they_are() {
    let (client, server, address) = pair(echo("hello "));
    assert_eq!(ask(address, "world"), "hello world");
    client.logged("- -; up: -; down: -; peer: -; 5/11 out - -");
    let line = server.logged("5/11");
    let name = "outbound_.9000_._.echo.foo.svc.cluster.local";
    assert_eq!(line, format!("- -; up: -; down: -; peer: {CLIENT}; 5/11 app {name} TLSv1.3"));
    client.reaches("out", "ssl.handshake", 1);
}

#[test]
fn half_closed_connections_go_through_tls() {
    let (_client, _server, address) = pair(summary());
    assert_eq!(ask(address, "four"), "4 bytes");
}

#[test]
fn a_server_may_speak_first_and_a_client_may_wait() {
    let (_client, _server, address) = pair(echo("welcome"));
    let mut stream = connect(address);
    assert_eq!(talk(&mut stream, "", 7), "welcome");
    assert_eq!(talk(&mut stream, "ping", 4), "ping");
    assert_eq!(talk(&mut stream, "pong", 4), "pong");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(is_over(&mut stream));
}

#[test]
fn many_bytes_arrive_unchanged() {
    let (_client, _server, address) = pair(echo(""));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 5 / 3) as u8).collect();
    let mut stream = connect(address);
    let mut writer = stream.try_clone().unwrap();
    let all = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn sessions_are_resumed() {
    let (client, server, address) = pair(echo(""));
    for _ in 0..3 {
        assert_eq!(ask(address, "x"), "x");
    }
    // A resumed session still says who the client is.
    client.reaches("out", "ssl.handshake", 3);
    testkit::until("three lines", LIMIT, || (server.log().len() == 3).then_some(()));
    assert!(server.log().iter().all(|line| line.contains(CLIENT)), "{:?}", server.log());
}

#[test]
fn a_certificate_is_replaced_without_a_lost_connection() {
    let ca = Ca::new("mesh");
    let (mut server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo(""));
    let (mut client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    let mut old = connect(address);
    assert_eq!(talk(&mut old, "1", 1), "1");
    for round in 0..10 {
        client.secret(&ca.spiffe(CLIENT).secret()).go();
        server.secret(&ca.spiffe(SERVER).secret()).go();
        assert_eq!(ask(address, "new"), "new", "in round {round}");
        assert_eq!(talk(&mut old, "still", 5), "still");
    }
}

#[test]
fn a_client_whose_certificate_is_revoked_is_refused() {
    let ca = Ca::new("mesh");
    let (mut server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo(""));
    let (_client, address) = outbound(&ca, &ca.numbered(CLIENT, 7), SERVER, at);
    server.secret(&ca.trust_but_for(8)).go();
    assert_eq!(ask(address, "x"), "x");
    server.secret(&ca.trust_but_for(7)).go();
    testkit::until("a refusal", LIMIT, || (ask(address, "x") != "x").then_some(()));
    server.logged("the_peer's_certificate_has_been_revoked");
}

#[test]
fn a_server_whose_certificate_is_revoked_is_refused() {
    let ca = Ca::new("mesh");
    let (_server, at) = inbound(&ca, &ca.numbered(SERVER, 7), "", echo(""));
    let (mut client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    client.secret(&ca.trust_but_for(8)).go();
    assert_eq!(ask(address, "x"), "x");
    client.secret(&ca.trust_but_for(7)).go();
    testkit::until("a refusal", LIMIT, || (ask(address, "x") != "x").then_some(()));
    client.logged("the_peer's_certificate_has_been_revoked");
}

#[test]
fn the_new_certificate_is_the_one_that_is_shown() {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo(""));
    let (mut client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    assert_eq!(ask(address, "x"), "x");
    let other = "spiffe://cluster.local/ns/bar/sa/sleep";
    client.secret(&ca.spiffe(other).secret()).go();
    testkit::until("the other identity", LIMIT, || {
        ask(address, "x");
        server.log().iter().any(|line| line.contains(other)).then_some(())
    });
}

#[test]
fn protocols_that_nobody_shares_are_no_obstacle() {
    let ca = Ca::new("mesh");
    let (_server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo(""));
    // The client offers `istio` only, which the server does not speak.
    let (_client, address) = outbound(&ca, &ca.spiffe(CLIENT), SERVER, at);
    assert_eq!(ask(address, "x"), "x");
}

#[test]
fn tls_1_2_is_spoken() {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo("hi "));
    let mut client = Plane::start();
    let old = ", tls_params: {tls_maximum_protocol_version: TLSv1_2}";
    let socket = format!("transport_socket: {}", upstream(SERVER, "istio", old));
    client.secret(&ca.spiffe(CLIENT).secret()).secret(&ca.trust()).cluster("out", &[at], &socket);
    let address = client.simple("", "", "out").go();
    for _ in 0..2 {
        assert_eq!(ask(address, "there"), "hi there");
    }
    server.logged("TLSv1.2");
}

#[test]
fn endpoints_choose_their_transport_by_their_metadata() {
    let ca = Ca::new("mesh");
    let (server, at) = inbound(&ca, &ca.spiffe(SERVER), "", echo("tls "));
    let mut client = Plane::start();
    let tls = upstream(SERVER, "istio", "");
    let matches = format!(
        "transport_socket_matches: [{{name: tlsMode-istio, match: {{tlsMode: istio}}, transport_socket: {tls}}}, \
         {{name: tlsMode-disabled, match: {{}}, transport_socket: {{name: raw, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}}}}]"
    );
    let metadata = "metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}, endpoint:";
    let yaml = cluster("out", &[at], &matches).replace("endpoint:", metadata);
    client.secret(&ca.spiffe(CLIENT).secret()).secret(&ca.trust()).set(envoy::TypeUrl::Cluster, &yaml);
    let address = client.cluster("raw", &[echo("raw ")], &matches).simple("", "", "out").go();
    assert_eq!(ask(address, "x"), "tls x");
    server.logged(CLIENT);
    client.simple("", "", "raw").go();
    testkit::until("the plain endpoint", LIMIT, || (ask(address, "x") == "raw x").then_some(()));
}

#[test]
fn istios_metrics_name_the_peers() {
    let (client, server, address) = pair(echo(""));
    assert_eq!(ask(address, "12345"), "12345");
    server.logged("5/5");
    client.logged("5/5");
    let samples = crate::metrics::collect(&server.plane.metrics());
    let text = crate::metrics::prometheus_text(&samples);
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    for (name, value) in [("istio_tcp_received_bytes_total", " 5"), ("istio_tcp_connections_opened_total", " 1")] {
        assert!(line(name).contains(&format!("source_principal=\"{CLIENT}\"")), "{text}");
        assert!(line(name).ends_with(value), "{}", line(name));
    }
    assert_eq!(server.number(&Scope::Cluster("app".into()), "upstream_cx_rx_bytes_total"), 5);
}
