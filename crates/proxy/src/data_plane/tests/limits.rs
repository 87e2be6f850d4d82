//! Choice of endpoints, and how much may be under way.

use std::collections::BTreeMap;
use std::net::TcpListener;

use testkit::until;

use super::{LIMIT, Plane, ask, connect, echo, is_over, listener, nobody, talk};

fn answers(plane: &mut Plane, times: usize) -> BTreeMap<String, usize> {
    let address = plane.go();
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(ask(address, "")).or_default() += 1;
    }
    counts
}

#[test]
fn endpoints_take_turns() {
    let mut plane = Plane::start();
    plane.cluster("c", &[echo("one"), echo("two")], "").simple("", "", "c");
    assert_eq!(answers(&mut plane, 10), BTreeMap::from([("one".to_owned(), 5), ("two".to_owned(), 5)]));
}

#[test]
fn connections_of_one_client_go_to_one_endpoint_if_they_are_hashed() {
    for policy in ["RING_HASH", "MAGLEV"] {
        let mut plane = Plane::start();
        let endpoints = ["1", "2", "3", "4"].map(echo);
        plane.cluster("c", &endpoints, &format!("lb_policy: {policy}"));
        let tcp = plane.tcp("cluster: c, hash_policy: [{source_ip: {}}]", "");
        plane.listener(&listener("in", "127.0.0.1", "", &[format!("{{filters: [{tcp}]}}")]));
        assert_eq!(answers(&mut plane, 10).len(), 1, "{policy}");
    }
}

#[test]
fn clusters_get_their_weight() {
    let mut plane = Plane::start();
    plane.cluster("often", &[echo("often")], "").cluster("never", &[echo("never")], "");
    let weights = "weighted_clusters: {clusters: [{name: often, weight: 4294967290}, {name: never, weight: 1}]}";
    let tcp = plane.tcp(weights, "");
    plane.listener(&listener("in", "127.0.0.1", "", &[format!("{{filters: [{tcp}]}}")]));
    assert_eq!(answers(&mut plane, 10), BTreeMap::from([("often".to_owned(), 10)]));
}

#[test]
fn the_less_busy_endpoint_is_taken() {
    let mut plane = Plane::start();
    let choices = "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {choice_count: 64}";
    let address = plane.cluster("c", &[echo("1"), echo("2")], choices).simple("", "", "c").go();
    // Whoever has fewer connections gets the next one, so that they stay level.
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = connect(address);
        talk(&mut stream, "", 1);
        open.push(stream);
    }
    let busy: Vec<u64> = plane.plane.endpoints()["c"].iter().map(|e| e.active).collect();
    assert_eq!(busy, [3, 3]);
}

#[test]
fn more_connections_than_allowed_are_refused() {
    let mut plane = Plane::start();
    let limits = "circuit_breakers: {thresholds: [{max_connections: 1}]}";
    let address = plane.cluster("c", &[echo("")], limits).simple("", "", "c").go();
    let mut first = connect(address);
    assert_eq!(talk(&mut first, "a", 1), "a");
    assert!(is_over(&mut connect(address)));
    plane.logged("UO -; ");
    drop(first);
    plane.reaches("c", "upstream_cx_active", 0);
    assert_eq!(ask(address, "again"), "again");
    plane.reaches("c", "upstream_cx_overflow", 1);
}

#[test]
fn an_endpoint_that_refuses_goes_out_of_rotation_and_comes_back() {
    let mut plane = Plane::start();
    let dead = nobody();
    let detection =
        "outlier_detection: {consecutive_5xx: 2, interval: 0.1s, base_ejection_time: 0.2s, max_ejection_percent: 50}";
    let address = plane.cluster("c", &[dead, echo("")], detection).simple("", "", "c").go();
    let is_ejected = |plane: &Plane| plane.plane.endpoints()["c"].iter().any(|e| e.ejected);
    until("the endpoint to go", LIMIT, || {
        ask(address, "x");
        is_ejected(&plane).then_some(())
    });
    until("the endpoint to come back", LIMIT, || (!is_ejected(&plane)).then_some(()));
    plane.reaches("c", "outlier_detection.ejections_active", 0);
}

#[test]
fn a_name_is_resolved() {
    let mut plane = Plane::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || drop(listener.accept()));
    let named = format!(
        "name: c\ntype: STRICT_DNS\ndns_lookup_family: V4_ONLY\nload_assignment: {{cluster_name: c, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: localhost, port_value: {port}}}}}}}}}]}}]}}\n"
    );
    plane.set(envoy::TypeUrl::Cluster, &named).simple("", "", "c").go();
    let found = until("the name to be resolved", LIMIT, || plane.plane.endpoints()["c"].first().cloned());
    assert_eq!((found.address.to_string(), &*found.hostname), (format!("127.0.0.1:{port}"), "localhost"));
}

#[test]
fn an_original_destination_is_only_followed_if_there_was_one() {
    let mut plane = Plane::start();
    let cluster = "name: c\ntype: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n";
    let address = plane.set(envoy::TypeUrl::Cluster, cluster).simple("", "", "c").go();
    // Otherwise the proxy would connect to itself, for ever.
    assert_eq!(ask(address, "x"), "");
    plane.logged("UH -; ");
}

#[test]
fn connections_end_with_their_endpoint_if_the_cluster_says_so() {
    let close = "close_connections_on_host_health_failure: true";
    for (rest, ends) in [(close, true), ("", false)] {
        let mut plane = Plane::start();
        let (old, new) = (echo("old"), echo("new"));
        let address = plane.cluster("c", &[old], rest).simple("", "", "c").go();
        let mut stream = connect(address);
        assert_eq!(talk(&mut stream, "", 3), "old");
        plane.cluster("c", &[new], rest).go();
        until("the new endpoint", LIMIT, || (ask(address, "") == "new").then_some(()));
        if ends {
            assert!(is_over(&mut stream));
        } else {
            assert_eq!(talk(&mut stream, "still", 5), "still");
        }
    }
}
