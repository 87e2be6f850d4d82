mod filters;
mod requests;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use envoy::TypeUrl;

use super::{Arrival, Connection, HostSets, Outcome, Selection, select};
use crate::Snapshot;
use crate::config::{Direction, Health};
use crate::inspect::{Hello, Spoken};
use crate::tests::{accept, certificate, certificate_secret};

const SLEEP: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
/// What Istio's sidecars offer; a server tells a sidecar by it.
const ISTIO: &[&str] = &["istio-peer-exchange", "istio"];

const TLS: &str = "transport_socket: {name: tls, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: \
    true, common_tls_context: {tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}], \
    combined_validation_context: {default_validation_context: {match_typed_subject_alt_names: [{san_type: URI, \
    matcher: {prefix: 'spiffe://cluster.local/'}}]}, validation_context_sds_secret_config: {name: ROOTCA, sds_config: \
    {ads: {}}}}}}}, ";

/// A chain that ends at `cluster`, with an RBAC filter if there are rules.
fn chain(name: &str, matches: &str, tls: &str, rules: &str, cluster: &str) -> String {
    let rbac = match rules {
        "" => String::new(),
        rules => format!(
            "{{name: rbac, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: tcp., rules: {rules}}}}}, "
        ),
    };
    format!(
        "{{name: {name}, filter_chain_match: {{{matches}}}, {tls}filters: [{rbac}{{name: tcp, typed_config: \
         {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: \
         '{cluster}', cluster: '{cluster}'}}}}]}}"
    )
}

fn listener(name: &str, address: &str, port: u16, rest: &str) -> String {
    format!("name: {name}\naddress: {{socket_address: {{address: {address}, port_value: {port}}}}}\n{rest}\n")
}

/// Only identities of the namespace foo may connect to port 9000; 9001 is open to all.
const RULES: &str = "{policies: {'ns[foo]-policy[echo]-rule[0]': {permissions: [{destination_port: 9000}], principals: \
    [{authenticated: {principal_name: {safe_regex: {regex: '.*/ns/foo/.*'}}}}]}, 'ns[foo]-policy[echo]-rule[1]': \
    {permissions: [{destination_port: 9001}], principals: [{any: true}]}}}";

/// A sidecar as Istio configures it: port 9000 PERMISSIVE, 9001 STRICT, others pass, all under the rules.
fn inbound() -> String {
    let istio = "transport_protocol: tls, application_protocols: [istio, istio-peer-exchange]";
    let cluster = "InboundPassthroughCluster";
    let chains = [
        chain("9000-mtls", &format!("destination_port: 9000, {istio}"), TLS, RULES, "inbound|9000||"),
        chain("9000-tls", "destination_port: 9000, transport_protocol: tls", "", RULES, "inbound|9000||"),
        chain("9000-raw", "destination_port: 9000, transport_protocol: raw_buffer", "", RULES, "inbound|9000||"),
        chain("9001-mtls", "destination_port: 9001, transport_protocol: tls", TLS, RULES, "inbound|9001||"),
        chain("passthrough", "transport_protocol: raw_buffer", "", RULES, cluster),
        chain("loop", "destination_port: 15006", "", "", "BlackHoleCluster"),
    ];
    let filters = ["original_dst.v3.OriginalDst", "tls_inspector.v3.TlsInspector"].map(|kind| {
        format!(
            "{{name: f, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.listener.{kind}}}}}"
        )
    });
    let rest = format!(
        "traffic_direction: INBOUND\nlistener_filters: [{}]\nfilter_chains: [{}]\n",
        filters.join(", "),
        chains.join(", ")
    );
    listener("virtualInbound", "0.0.0.0", 15006, &rest)
}

fn outbound() -> [String; 2] {
    let loop_guard = chain("loop", "destination_port: 15001", "", "", "BlackHoleCluster");
    let pass = chain("PassthroughFilterChain", "", "", "", "PassthroughCluster");
    let capture = format!(
        "traffic_direction: OUTBOUND\nuse_original_dst: true\nfilter_chains: [{loop_guard}]\n\
         default_filter_chain: {pass}\n"
    );
    let echo = chain("echo", "", "", "", "outbound|9000||tcp-echo.foo.svc.cluster.local");
    let service = format!("traffic_direction: OUTBOUND\nbind_to_port: false\nfilter_chains: [{echo}]\n");
    [listener("virtualOutbound", "0.0.0.0", 15001, &capture), listener("10.96.0.9_9000", "10.96.0.9", 9000, &service)]
}

fn endpoint(address: &str, port: u16, rest: &str) -> String {
    format!("{{endpoint: {{address: {{socket_address: {{address: {address}, port_value: {port}}}}}}}{rest}}}")
}

fn clusters() -> Vec<String> {
    let own = |port: u16| {
        let endpoint = endpoint("127.0.0.1", port, "");
        format!(
            "name: inbound|{port}||\nload_assignment: {{cluster_name: x, endpoints: [{{lb_endpoints: [{endpoint}]}}]}}\n"
        )
    };
    let original = |name: &str| format!("name: {name}\ntype: ORIGINAL_DST\nlb_policy: CLUSTER_PROVIDED\n");
    let istio = ", metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}";
    let (injected, plain) = (endpoint("10.0.0.9", 9000, istio), endpoint("10.0.0.8", 9000, ""));
    let echo = format!(
        "name: outbound|9000||tcp-echo.foo.svc.cluster.local\n\
         transport_socket_matches: [{{name: tlsMode-istio, match: {{tlsMode: istio}}, transport_socket: {{name: tls, \
         typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: \
         outbound_.9000_._.tcp-echo.foo.svc.cluster.local, common_tls_context: {{tls_certificate_sds_secret_configs: \
         [{{name: default, sds_config: {{ads: {{}}}}}}]}}}}}}}}]\n\
         load_assignment: {{cluster_name: x, endpoints: [{{lb_endpoints: [{injected}, {plain}]}}]}}\n"
    );
    let black_hole = "name: BlackHoleCluster\n".to_owned();
    vec![own(9000), own(9001), original("PassthroughCluster"), original("InboundPassthroughCluster"), echo, black_hole]
}

static SIDECAR: LazyLock<Snapshot> = LazyLock::new(|| {
    let (root, _) = certificate();
    let root = format!("name: ROOTCA\nvalidation_context: {{trusted_ca: {{inline_string: {root:?}}}}}\n");
    let secrets = [certificate_secret("default"), root].map(|yaml| (TypeUrl::Secret, yaml));
    let clusters = clusters().into_iter().map(|yaml| (TypeUrl::Cluster, yaml));
    let listeners = [inbound()].into_iter().chain(outbound()).map(|yaml| (TypeUrl::Listener, yaml));
    let all = clusters.chain(listeners).chain(secrets);
    all.fold(Snapshot::default(), |snapshot, (type_url, yaml)| accept(&snapshot, type_url, &yaml))
});

/// What becomes of a connection to the sidecar's workload, over TLS if it offers protocols.
fn to_workload(port: u16, protocols: &[&str], identity: &str) -> String {
    let hello = Hello { server_name: None, application_protocols: protocols.iter().map(|p| Box::from(*p)).collect() };
    let identities: &[Arc<str>] = &[identity.into()];
    let connection = Connection {
        arrival: Arrival::Captured(Direction::Inbound),
        destination: SocketAddr::new([10, 0, 0, 7].into(), port),
        source: "10.0.0.1:40000".parse().unwrap(),
        spoken: None,
        hello: (!protocols.is_empty()).then_some(&hello),
        identities: if identity.is_empty() { &[] } else { identities },
        random: 0,
    };
    end(&select(&SIDECAR, &connection))
}

fn from_workload(destination: &str) -> String {
    let connection = Connection {
        arrival: Arrival::Captured(Direction::Outbound),
        destination: destination.parse().unwrap(),
        source: "10.0.0.7:40000".parse().unwrap(),
        spoken: None,
        hello: None,
        identities: &[],
        random: 0,
    };
    end(&select(&SIDECAR, &connection))
}

/// The sentence after its constant beginning.
fn end(selection: &Selection<'_>) -> String {
    selection.to_string().split_once(" is taken by ").unwrap().1.to_owned()
}

#[test]
fn a_permissive_port_takes_mutual_tls_plaintext_and_foreign_tls() {
    assert_eq!(
        to_workload(9000, ISTIO, SLEEP),
        "listener \"virtualInbound\", filter chain \"9000-mtls\", allowed because the ALLOW policy \
         \"ns[foo]-policy[echo]-rule[0]\" matches, and goes to cluster \"inbound|9000||\" at 127.0.0.1:9000 unchanged."
    );
    assert!(to_workload(9000, &["h2"], "").contains("filter chain \"9000-tls\""));
    assert!(to_workload(9000, &[], "").contains("filter chain \"9000-raw\""));
}

#[test]
fn an_identity_counts_only_where_tls_is_terminated() {
    let denied = "denied because no ALLOW policy matches.";
    assert!(to_workload(9000, &[], "").ends_with(denied));
    assert!(to_workload(9000, &["h2"], SLEEP).ends_with(denied));
    assert!(to_workload(9000, ISTIO, "spiffe://cluster.local/ns/bar/sa/sleep").ends_with(denied));
}

#[test]
fn a_strict_port_refuses_plaintext_and_strangers() {
    let refused = "refused in the TLS handshake: ";
    assert!(to_workload(9001, ISTIO, SLEEP).contains("cluster \"inbound|9001||\""));
    assert_eq!(
        to_workload(9001, &[], ""),
        "listener \"virtualInbound\", of whose filter chains none matches, and closed."
    );
    assert!(to_workload(9001, ISTIO, "").ends_with(&format!("{refused}the client has no certificate.")));
    let stranger = to_workload(9001, ISTIO, "spiffe://elsewhere/ns/foo/sa/sleep");
    assert!(stranger.ends_with(&format!("{refused}the client's certificate has none of the names that are demanded.")));
}

#[test]
fn an_undeclared_port_is_under_the_rules_too() {
    assert_eq!(
        to_workload(9002, &[], ""),
        "listener \"virtualInbound\", filter chain \"passthrough\", and denied because no ALLOW policy matches."
    );
    assert!(to_workload(15006, &[], "").ends_with("cluster \"BlackHoleCluster\" has no endpoint."));
}

#[test]
fn a_connection_out_goes_to_its_services_listener_or_passes() {
    assert_eq!(
        from_workload("10.96.0.9:9000"),
        "listener \"10.96.0.9_9000\", filter chain \"echo\", and goes to cluster \
         \"outbound|9000||tcp-echo.foo.svc.cluster.local\" at 10.0.0.9:9000 over mutual TLS or 10.0.0.8:9000 unchanged."
    );
    assert_eq!(
        from_workload("192.0.2.1:443"),
        "listener \"virtualOutbound\", default filter chain \"PassthroughFilterChain\", and goes to cluster \
         \"PassthroughCluster\" at 192.0.2.1:443 unchanged."
    );
    assert!(from_workload("10.0.0.7:15001").contains("filter chain \"loop\""));
}

#[test]
fn without_a_listener_or_a_cluster_nothing_is_proxied() {
    let connection = Connection {
        arrival: Arrival::At("127.0.0.1:1".parse().unwrap()),
        destination: "127.0.0.1:1".parse().unwrap(),
        source: "127.0.0.1:2".parse().unwrap(),
        spoken: None,
        hello: None,
        identities: &[],
        random: 0,
    };
    assert_eq!(end(&select(&SIDECAR, &connection)), "no listener.");
    let lone = listener("lone", "127.0.0.1", 1, &format!("filter_chains: [{}]", chain("a", "", "", "", "gone")));
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &lone);
    let selection = select(&snapshot, &connection);
    assert!(matches!(selection.outcome, Outcome::NoCluster(_)), "{selection}");
    assert_eq!(selection.outcome.flag().unwrap().short(), "NC");
}

/// Which of these chains takes a connection from 10.0.0.1 to 10.0.0.7:80 with a server name and one protocol.
fn taken(chains: &[(&str, &str)], server_name: &str, protocol: &str) -> String {
    let chains: Vec<String> = chains.iter().map(|(name, matches)| chain(name, matches, "", "", "c")).collect();
    let filter = "{name: f, typed_config: {\"@type\": \
                  type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}";
    let rest = format!("listener_filters: [{filter}]\nfilter_chains: [{}]", chains.join(", "));
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", "0.0.0.0", 80, &rest));
    let hello = Hello { server_name: Some(server_name.into()), application_protocols: [protocol.into()].into() };
    let (destination, source) = ("10.0.0.7:80".parse().unwrap(), "10.0.0.1:40000".parse().unwrap());
    let listener = snapshot.listener("l").unwrap();
    let facts = super::facts(listener, (destination, source), Some(&hello), None);
    super::chain(listener, &facts).map_or("none".to_owned(), |c| c.name.to_string())
}

#[test]
fn plaintext_is_told_apart_by_what_is_spoken_where_the_listener_looks() {
    let inspector = "listener_filters: [{name: f, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}]\n";
    let chains = [
        chain("one", "application_protocols: [http/1.0, http/1.1]", "", "", "c"),
        chain("two", "application_protocols: [h2c]", "", "", "c"),
        chain("bytes", "", "", "", "c"),
    ];
    let taken = |inspector: &str, spoken| {
        let rest = format!("{inspector}filter_chains: [{}]", chains.join(", "));
        let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &listener("l", "0.0.0.0", 80, &rest));
        let between = ("10.0.0.7:80".parse().unwrap(), "10.0.0.1:40000".parse().unwrap());
        let facts = super::facts(snapshot.listener("l").unwrap(), between, None, spoken);
        super::chain(snapshot.listener("l").unwrap(), &facts).unwrap().name.to_string()
    };
    let all = [Some(Spoken::Http10), Some(Spoken::Http11), Some(Spoken::Http2), None];
    assert_eq!(all.map(|spoken| taken(inspector, spoken)), ["one", "one", "two", "bytes"]);
    assert_eq!(all.map(|spoken| taken("", spoken)), ["bytes"; 4]);
}

#[test]
fn the_most_specific_server_name_wins() {
    let chains = [
        ("exact", "server_names: [a.example.com]"),
        ("near", "server_names: ['*.example.com']"),
        ("far", "server_names: ['*.com', '*.org']"),
        ("any", ""),
    ];
    assert_eq!(taken(&chains, "a.example.com", "h2"), "exact");
    assert_eq!(taken(&chains, "b.c.example.com", "h2"), "near");
    assert_eq!(taken(&chains, "example.com", "h2"), "far");
    assert_eq!(taken(&chains, "com", "h2"), "any");
}

#[test]
fn a_longer_prefix_wins_and_nothing_is_tried_again() {
    let net =
        |address: &str, length: u8| format!("prefix_ranges: [{{address_prefix: {address}, prefix_len: {length}}}]");
    let wide = net("10.0.0.0", 8);
    let narrow = format!("{}, application_protocols: [h2]", net("10.0.0.0", 24));
    let chains = [("wide", &*wide), ("narrow", &narrow)];
    assert_eq!(taken(&chains, "a", "h2"), "narrow");
    assert_eq!(taken(&chains, "a", "http/1.1"), "none");
}

#[test]
fn the_destination_port_comes_before_the_server_name() {
    let chains = [("port", "destination_port: 80"), ("name", "server_names: [a]")];
    assert_eq!(taken(&chains, "a", "h2"), "port");
}

#[test]
fn sources_are_told_by_prefix_port_and_kind() {
    let source = "source_prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: 24}]";
    assert_eq!(taken(&[("in", source), ("any", "")], "a", "h2"), "in");
    assert_eq!(taken(&[("port", "source_ports: [1, 40000]"), ("any", "")], "a", "h2"), "port");
    assert_eq!(
        taken(&[("local", "source_type: SAME_IP_OR_LOOPBACK"), ("far", "source_type: EXTERNAL")], "a", "h2"),
        "far"
    );
    let direct = "direct_source_prefix_ranges: [{address_prefix: 10.0.0.1, prefix_len: 32}]";
    assert_eq!(taken(&[("direct", direct)], "a", "h2"), "direct");
}

/// How 100 connections spread over the endpoints of a cluster, by port.
fn spread(cluster: &str, localities: &[&str], out_of_rotation: &[u16]) -> Vec<(u16, usize)> {
    let yaml =
        format!("name: c\n{cluster}load_assignment: {{cluster_name: c, endpoints: [{}]}}\n", localities.join(", "));
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, &yaml);
    let cluster = snapshot.cluster("c").unwrap();
    let port = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let health = |e: &crate::config::Endpoint| match out_of_rotation.contains(&port(&e.address.to_string())) {
        true => Health::Unhealthy,
        false => e.health,
    };
    let sets = HostSets::new(cluster, cluster.own_endpoints().unwrap(), |_, _, e| (e.clone(), health(e)));
    let mut counts = std::collections::BTreeMap::new();
    for random in 0..100_u64 {
        for endpoint in sets.candidates((random * 42_949_671) << 32 | random).endpoints {
            *counts.entry(port(&endpoint.address.to_string())).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}

fn locality(priority: u32, ports: &[u16], rest: &str) -> String {
    let endpoints: Vec<String> = ports.iter().map(|port| endpoint("10.0.0.1", *port, "")).collect();
    format!("{{priority: {priority}, lb_endpoints: [{}]{rest}}}", endpoints.join(", "))
}

#[test]
fn connections_spill_over_as_a_priority_gets_less_healthy() {
    let (first, second) = (locality(0, &[1, 2], ""), locality(1, &[3], ""));
    let localities = [&*first, &second];
    assert_eq!(spread("", &localities, &[]), [(1, 100), (2, 100)]);
    assert_eq!(spread("", &localities, &[1]), [(2, 70), (3, 30)]);
    assert_eq!(spread("", &localities, &[1, 2]), [(3, 100)]);
}

#[test]
fn with_too_few_healthy_endpoints_health_is_disregarded() {
    let only = locality(0, &[1, 2, 3], "");
    assert_eq!(spread("", &[&only], &[1, 2]), [(1, 100), (2, 100), (3, 100)]);
    let calm = "common_lb_config: {healthy_panic_threshold: {value: 0}}\n";
    assert_eq!(spread(calm, &[&only], &[1, 2]), [(3, 100)]);
    assert_eq!(spread(calm, &[&only], &[1, 2, 3]), []);
}

#[test]
fn localities_have_their_weights_if_they_are_asked_for() {
    let (near, far) =
        (locality(0, &[1], ", load_balancing_weight: 3"), locality(0, &[2], ", load_balancing_weight: 1"));
    let weighted = "common_lb_config: {locality_weighted_lb_config: {}}\n";
    assert_eq!(spread("", &[&near, &far], &[]), [(1, 100), (2, 100)]);
    let spread = spread(weighted, &[&near, &far], &[]);
    assert_eq!(spread.iter().map(|(_, n)| n).sum::<usize>(), 100);
    assert!((65..85).contains(&spread[0].1), "{spread:?}");
}
