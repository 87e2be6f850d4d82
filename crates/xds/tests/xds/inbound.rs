//! What a workload accepts.

use crate::call::{Caller, arrive, ends_tls as ends_tls_of, proxied, snapshot};
use crate::world::{assert_found, chains, node, told, world};

const SLEEP: &str = "spiffe://cluster.local/ns/foo/sa/sleep";

fn peer(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}, \
         creationTimestamp: '2026-11-{:02}T00:00:00Z'}}\nspec: {spec}\n",
        name.len()
    )
}

/// What becomes of mutual TLS, of TLS that is not the mesh's, and of plaintext at a port.
fn at(objects: &str, port: u16) -> [String; 3] {
    let snapshot = snapshot(&told("tcp-echo", objects));
    let own = Caller { sni: Some("example.com"), ..Caller::default() };
    [proxied(SLEEP), own, Caller::default()].map(|caller| {
        let outcome = arrive(&snapshot, port, &caller);
        outcome.split(' ').next().unwrap().to_owned()
    })
}

const PASS: &str = "InboundPassthroughCluster";

#[test]
fn permissive_takes_everything() {
    for port in [9000, 9001] {
        let own = format!("inbound|{port}||");
        assert_eq!(at("", port), [own.as_str(), &own, &own]);
    }
    assert_eq!(at("", 9002), [PASS; 3]);
    let looping = arrive(&snapshot(&told("tcp-echo", "")), 15006, &Caller::default());
    assert_eq!(looping, "no endpoint in BlackHoleCluster");
    let resources = told("tcp-echo", "");
    let expected = [
        "virtualInbound-blackhole: port=15006 tcp_proxy",
        "0.0.0.0_9000-mtls: port=9000 tls alpn mtls tcp_proxy",
        "0.0.0.0_9000-tls: port=9000 tls tcp_proxy",
        "0.0.0.0_9000: port=9000 raw_buffer tcp_proxy",
        "0.0.0.0_9001-mtls: port=9001 tls alpn mtls tcp_proxy",
        "0.0.0.0_9001-tls: port=9001 tls tcp_proxy",
        "0.0.0.0_9001: port=9001 raw_buffer tcp_proxy",
        "virtualInbound-http-mtls: tls alpn=istio-http/1.0,istio-http/1.1,istio-h2 mtls http_connection_manager(router)",
        "virtualInbound-mtls: tls alpn=istio-peer-exchange,istio mtls tcp_proxy",
        "virtualInbound-tls: tls tcp_proxy",
        "virtualInbound-http: raw_buffer alpn=http/1.0,http/1.1,h2c http_connection_manager(router)",
        "virtualInbound: raw_buffer tcp_proxy",
    ];
    assert_eq!(chains(&resources, "virtualInbound"), expected);
}

/// A second service of the server, which says of its port that it speaks `protocol`.
fn speaks(protocol: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: by-{protocol}, namespace: foo}}\nspec: {{clusterIP: 10.96.0.8, \
         selector: {{app: tcp-echo}}, ports: [{{name: {protocol}, port: {port}}}]}}\n"
    )
}

#[test]
fn permissive_takes_everything_whatever_is_spoken() {
    for (protocol, becomes) in [
        ("http", "HTTP"),
        ("grpc", "HTTP"),
        ("tcp", "inbound|8080||"),
        ("tls", "inbound|8080||"),
        ("unknown", "inbound|8080||"),
    ] {
        let objects = speaks(protocol, 8080);
        assert_eq!(at(&objects, 8080), [becomes; 3], "{protocol}");
        assert_eq!(ends_tls(&objects, 8080), [true, false, false], "{protocol}");
    }
    assert_eq!(ends_tls("", 9002), [true, false, false]);
    let expected = [
        "0.0.0.0_8080-mtls: port=8080 alpn mtls http_connection_manager(router)",
        "0.0.0.0_8080: port=8080 http_connection_manager(router)",
    ];
    assert_eq!(chains(&told("tcp-echo", &speaks("http", 8080)), "virtualInbound")[1..3], expected);
}

/// Whether the proxy ends TLS at a port: that of the mesh, TLS that is not the mesh's, and plaintext.
fn ends_tls(objects: &str, port: u16) -> [bool; 3] {
    let snapshot = snapshot(&told("tcp-echo", objects));
    let own = Caller { sni: Some("example.com"), ..Caller::default() };
    [proxied(SLEEP), own, Caller::default()].map(|caller| ends_tls_of(&snapshot, port, &caller))
}

#[test]
fn strict_takes_mutual_tls_alone() {
    let mesh = peer("default", "istio-system", "{mtls: {mode: STRICT}}");
    let refused = |port| {
        let [mutual, tls, plain] = at(&mesh, port);
        (mutual, tls == "tls:", plain == "no")
    };
    assert_eq!(refused(9000), ("inbound|9000||".to_owned(), true, true));
    assert_eq!(refused(9002), (PASS.to_owned(), true, true));
    for (protocol, becomes) in [("http", "HTTP"), ("tcp", "inbound|8080||"), ("unknown", "inbound|8080||")] {
        let [mutual, tls, plain] = at(&format!("{mesh}{}", speaks(protocol, 8080)), 8080);
        assert_eq!((mutual.as_str(), tls.as_str(), plain.as_str()), (becomes, "tls:", "no"), "{protocol}");
    }
}

#[test]
fn what_cannot_be_read_is_strict() {
    let broken = peer("default", "foo", "{mtls: {mode: STRIKT}}");
    assert_eq!(at(&broken, 9000)[2], "no");
    assert_found("tcp-echo", &broken, "Error [Malformed] (PeerAuthentication foo/default) spec.mtls.mode: ");
}

#[test]
fn disable_terminates_nothing_and_lets_servers_speak_first() {
    let spec =
        "{selector: {matchLabels: {app: tcp-echo}}, mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: DISABLE}}}";
    let objects = peer("x", "foo", spec);
    assert_eq!(at(&objects, 9000), ["inbound|9000||"; 3]);
    let resources = told("tcp-echo", &objects);
    let inspector = &resources.listeners["virtualInbound"].listener_filters[1];
    assert!(format!("{:?}", inspector.filter_disabled).contains("start: 9000, end: 9001"));
    assert_eq!(chains(&resources, "virtualInbound")[1], "0.0.0.0_9000: port=9000 tcp_proxy");
}

#[test]
fn the_most_specific_wins_and_unset_inherits() {
    let mesh = peer("default", "istio-system", "{mtls: {mode: STRICT}}");
    let namespace = peer("default", "foo", "{mtls: {mode: PERMISSIVE}}");
    let unset = peer("default", "foo", "{}");
    let is_strict = |objects: &str, port| at(objects, port)[2] == "no";
    assert!(is_strict(&format!("{mesh}{unset}"), 9000));
    assert!(!is_strict(&format!("{mesh}{namespace}"), 9000));
    let workload = peer(
        "w",
        "foo",
        "{selector: {matchLabels: {app: tcp-echo}}, mtls: {mode: UNSET}, \
        portLevelMtls: {9000: {mode: PERMISSIVE}, 9001: {}, 9002: {mode: PERMISSIVE}}}",
    );
    let all = format!("{mesh}{workload}");
    assert!(!is_strict(&all, 9000) && is_strict(&all, 9001) && !is_strict(&all, 9002) && is_strict(&all, 9003));
    let says = |objects: &str, port| world(objects).accepted(&node("tcp-echo"), port).1.map(|o| o.to_string());
    assert_eq!(says(&all, 9000).unwrap(), "PeerAuthentication foo/w");
    assert_eq!(says(&all, 9001).unwrap(), "PeerAuthentication istio-system/default");
    assert_eq!(says("", 9001), None);
    let elsewhere = peer("default", "bar", "{mtls: {mode: STRICT}}");
    assert!(!is_strict(&elsewhere, 9000));
}

#[test]
fn the_oldest_wins_and_the_other_is_told() {
    let objects = format!(
        "{}{}",
        peer("long-name", "foo", "{mtls: {mode: PERMISSIVE}}"),
        peer("older", "foo", "{mtls: {mode: STRICT}}")
    );
    assert_eq!(at(&objects, 9000)[2], "no");
    let expected = "Warning [Conflict] (PeerAuthentication foo/long-name) spec.selector: has no effect: the older \
        PeerAuthentication foo/older";
    assert_found("tcp-echo", &objects, expected);
    let ports = peer("x", "foo", "{portLevelMtls: {9000: {mode: STRICT}}}");
    assert_found("tcp-echo", &ports, "spec.portLevelMtls: has no effect without a selector");
}

#[test]
fn a_port_by_name_is_the_pods() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: named, namespace: foo}\nspec: {clusterIP: 10.96.0.7, \
        selector: {app: tcp-echo}, ports: [{port: 80, targetPort: nowhere}, {name: x, port: 81, targetPort: first}]}\n";
    assert_found("tcp-echo", service, "spec.ports[0].targetPort: the pod tcp-echo has no port of this name");
}
