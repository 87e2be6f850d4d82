//! Configuration that changes while connections are open.

use std::net::TcpStream;
use std::time::Duration;

use testkit::until;

use super::{LIMIT, Plane, ask, connect, echo, is_over, listener, talk};
use crate::Drained;

#[test]
fn an_unchanged_listener_keeps_its_connections_and_a_changed_one_drains_them() {
    let mut plane = Plane::with_drain_time(Duration::from_millis(50));
    let address = plane.cluster("a", &[echo("")], "").cluster("b", &[echo("b")], "").simple("", "", "a").go();
    let mut stream = connect(address);
    assert_eq!(talk(&mut stream, "1", 1), "1");
    // Another cluster changes nothing for this listener.
    plane.cluster("c", &[], "").go();
    assert_eq!(talk(&mut stream, "2", 1), "2");
    assert_eq!(plane.simple("", "", "b").go(), address);
    assert!(is_over(&mut stream));
    assert_eq!(ask(address, "x"), "bx");
}

#[test]
fn a_connection_goes_on_during_the_drain_time() {
    let mut plane = Plane::start();
    let address = plane.cluster("a", &[echo("")], "").cluster("b", &[echo("b")], "").simple("", "", "a").go();
    let mut old = connect(address);
    assert_eq!(talk(&mut old, "1", 1), "1");
    plane.simple("", "", "b").go();
    until("new connections to go to the other cluster", LIMIT, || (ask(address, "x") == "bx").then_some(()));
    assert_eq!(talk(&mut old, "2", 1), "2");
}

#[test]
fn a_listener_that_is_removed_is_closed_and_its_port_is_free() {
    let mut plane = Plane::start();
    let address = plane.cluster("a", &[echo("")], "").simple("", "", "a").go();
    assert_eq!(ask(address, "x"), "x");
    let removed =
        crate::Update { type_url: envoy::TypeUrl::Listener, resources: Vec::new(), removed: vec!["in".to_owned()] };
    plane.snapshot = plane.snapshot.apply(removed).0;
    assert!(plane.install().is_empty());
    until("the socket to be closed", LIMIT, || TcpStream::connect(address).is_err().then_some(()));
    assert!(plane.plane.addresses().is_empty());
}

#[test]
fn an_address_that_is_taken_is_told_and_tried_again() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: a", "");
    let yaml = listener("in", "127.0.0.1", "", &[format!("{{filters: [{tcp}]}}")])
        .replace("port_value: 0", &format!("port_value: {}", taken.port()));
    plane.cluster("a", &[echo("")], "").listener(&yaml);
    let unbound = plane.install();
    assert_eq!((&*unbound[0].listener, unbound[0].address), ("in", taken));
    assert_eq!(unbound[0].error.kind(), std::io::ErrorKind::AddrInUse);
    drop(other);
    assert_eq!(plane.go(), taken);
    assert_eq!(ask(taken, "x"), "x");
}

#[test]
fn draining_closes_the_sockets_and_stopping_waits_for_connections() {
    let mut plane = Plane::start();
    let address = plane.cluster("a", &[echo("")], "").simple("", "", "a").go();
    let mut stream = connect(address);
    assert_eq!(talk(&mut stream, "1", 1), "1");
    plane.plane.drain(Drained::All);
    until("the socket to be closed", LIMIT, || TcpStream::connect(address).is_err().then_some(()));
    assert_eq!(talk(&mut stream, "2", 1), "2");
    assert_eq!(plane.plane.connections(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stopping = plane.plane.clone();
    let stopped = std::thread::spawn(move || runtime.block_on(stopping.stop(LIMIT)));
    assert_eq!(talk(&mut stream, "3", 1), "3");
    drop(stream);
    stopped.join().unwrap();
    assert_eq!(plane.plane.connections(), 0);
}

#[test]
fn draining_the_way_in_leaves_the_way_out() {
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: a", "");
    let chain = format!("{{filters: [{tcp}]}}");
    plane.listener(&listener("out", "127.0.0.2", "traffic_direction: OUTBOUND", std::slice::from_ref(&chain)));
    plane.listener(&listener("in", "127.0.0.1", "traffic_direction: INBOUND", &[chain]));
    let inbound = plane.cluster("a", &[echo("")], "").go();
    let outbound = plane.plane.addresses()["out"];
    plane.plane.drain(Drained::Inbound);
    until("the socket to be closed", LIMIT, || TcpStream::connect(inbound).is_err().then_some(()));
    assert!(plane.install().is_empty(), "another snapshot opens nothing again");
    assert!(TcpStream::connect(inbound).is_err());
    assert_eq!(ask(outbound, "x"), "x");
}

#[test]
fn draining_outlives_a_listener_without_a_socket() {
    let other = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    let mut plane = Plane::start();
    let tcp = plane.tcp("cluster: a", "");
    let chain = format!("{{filters: [{tcp}]}}");
    let out = listener("out", "127.0.0.2", "traffic_direction: OUTBOUND", std::slice::from_ref(&chain));
    plane.listener(&out.replace("port_value: 0", &format!("port_value: {taken}")));
    plane.listener(&listener("in", "127.0.0.1", "traffic_direction: INBOUND", &[chain]));
    plane.cluster("a", &[echo("")], "");
    assert_eq!(plane.install().len(), 1);
    let inbound = plane.plane.addresses()["in"];
    plane.plane.drain(Drained::Inbound);
    until("the socket to be closed", LIMIT, || TcpStream::connect(inbound).is_err().then_some(()));
}

#[test]
fn stopping_ends_connections_that_do_not_end() {
    let mut plane = Plane::start();
    let address = plane.cluster("a", &[echo("")], "").simple("", "", "a").go();
    let mut stream = connect(address);
    assert_eq!(talk(&mut stream, "1", 1), "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(plane.plane.clone().stop(Duration::ZERO));
    assert!(is_over(&mut stream));
    assert!(plane.logged("1/1").starts_with("- -; "));
}
