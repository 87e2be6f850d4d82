use std::time::Duration;

use envoy::TypeUrl;

use crate::config::{ClusterChoice, Discovery, DnsFamily, FilterChain, LoadBalancer, Socket, TcpProxy, Terminal};
use crate::tests::{accept, certificate, certificate_secret, refuse};
use crate::{Offered, Snapshot, Update};

const TCP_PROXY: &str = "{name: tcp, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}";

/// A listener whose only chain has these further fields, as a flow mapping without braces.
fn chain(fields: &str) -> String {
    format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 15001}}}}\n\
         filter_chains: [{{{fields}, filters: [{TCP_PROXY}]}}]\n"
    )
}

/// A listener whose TCP proxy has these further fields.
fn tcp_proxy(fields: &str) -> String {
    chain("name: x").replace("cluster: c", fields)
}

/// A listener with an RBAC filter with these rules.
fn rbac(rules: &str) -> String {
    let filter = "{name: rbac, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: 's.', rules: RULES}}, ";
    chain("name: x").replace("filters: [", &format!("filters: [{}", filter.replace("RULES", rules)))
}

fn policy(permission: &str, principal: &str) -> String {
    rbac(&format!("{{policies: {{p: {{permissions: [{permission}], principals: [{principal}]}}}}}}"))
}

fn cluster(fields: &str) -> String {
    format!("name: c\n{fields}\n")
}

fn tcp(chain: &FilterChain) -> &TcpProxy {
    let Terminal::Tcp(proxy) = &chain.terminal else { panic!("it ends in the TCP proxy") };
    proxy
}

#[track_caller]
fn refused(type_url: TypeUrl, yaml: &str, expected: &str) {
    assert_eq!(refuse(type_url, yaml).to_string(), expected);
}

#[test]
fn a_refused_listener_names_the_path_of_the_field() {
    let cases = [
        (chain("use_proxy_proto: true"), "filter_chains[0].use_proxy_proto: is not supported"),
        (
            chain("filter_chain_match: {address_suffix: x}"),
            "filter_chains[0].filter_chain_match.address_suffix: is not supported",
        ),
        (
            chain("filter_chain_match: {server_names: [a, '*b.com']}"),
            "filter_chains[0].filter_chain_match.server_names[1]: \"*b.com\" is not a wildcard of the form \
             *.example.com",
        ),
        (
            chain("filter_chain_match: {destination_port: 70000}"),
            "filter_chains[0].filter_chain_match.destination_port: 70000 is not a port",
        ),
        (
            tcp_proxy("cluster: c, max_connect_attempts: 0"),
            "filter_chains[0].filters[0].typed_config.max_connect_attempts: must be at least 1",
        ),
        (
            tcp_proxy("cluster: c, metadata_match: {filter_metadata: {x: {y: z}}}"),
            "filter_chains[0].filters[0].typed_config.metadata_match: is not supported",
        ),
        (tcp_proxy("cluster: ''"), "filter_chains[0].filters[0].typed_config.cluster: must not be empty"),
        (
            tcp_proxy("weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b}]}"),
            "filter_chains[0].filters[0].typed_config.weighted_clusters.clusters[1].weight: must be at least 1",
        ),
        (
            tcp_proxy("cluster: c, idle_timeout: -1s"),
            "filter_chains[0].filters[0].typed_config.idle_timeout: must not be negative",
        ),
        (
            chain("name: x").replace(TCP_PROXY, ""),
            "filter_chains[0].filters: must end in a terminal filter (tcp_proxy or http_connection_manager)",
        ),
        (
            chain("name: x").replace(TCP_PROXY, &format!("{TCP_PROXY}, {TCP_PROXY}")),
            "filter_chains[0].filters[1]: no filter may follow the terminal filter",
        ),
    ];
    for (yaml, expected) in cases {
        refused(TypeUrl::Listener, &yaml, expected);
    }
}

#[test]
fn rules_that_a_connection_cannot_answer_are_refused() {
    let path = "filter_chains[0].filters[0].typed_config.rules.policies[\"p\"]";
    let cases = [
        (
            policy("{any: true}", "{header: {name: x, present_match: true}}"),
            ".principals[0].header: is only known of HTTP requests, not of connections",
        ),
        (
            policy("{not_rule: {url_path: {path: {exact: /}}}}", "{any: true}"),
            ".permissions[0].not_rule.url_path: is only known of HTTP requests, not of connections",
        ),
        (
            policy("{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 33}}", "{any: true}"),
            ".permissions[0].destination_ip.prefix_len: 33 is too long for 10.0.0.0",
        ),
        (
            policy("{any: true}", "{and_ids: {ids: [{authenticated: {principal_name: {prefix: ''}}}]}}"),
            ".principals[0].and_ids.ids[0].authenticated.principal_name.prefix: must not be empty",
        ),
        (policy("", "{any: true}"), ": permissions and principals must not be empty"),
    ];
    for (yaml, expected) in cases {
        refused(TypeUrl::Listener, &yaml, &format!("{path}{expected}"));
    }
}

#[test]
fn extensions_of_unknown_type_are_refused() {
    let filter = r#"{name: x, typed_config: {"@type": type.googleapis.com/envoy.config.core.v3.Node}}"#;
    let yaml = chain("name: x").replace(TCP_PROXY, filter);
    let expected = "filter_chains[0].filters[0].typed_config: extension type \
                    \"type.googleapis.com/envoy.config.core.v3.Node\" is not supported";
    refused(TypeUrl::Listener, &yaml, expected);
}

#[test]
fn two_chains_that_take_the_same_connections_are_refused() {
    let one = |protocols: &str| {
        format!("{{filter_chain_match: {{application_protocols: [{protocols}]}}, filters: [{TCP_PROXY}]}}")
    };
    let yaml = format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 15001}}}}\n\
         filter_chains: [{}, {}]\n",
        one("a, b"),
        one("c, b")
    );
    let expected = "filter_chains[1].filter_chain_match: matches the same connections as filter_chains[0]";
    refused(TypeUrl::Listener, &yaml, expected);
}

#[test]
fn a_refused_cluster_names_the_path_of_the_field() {
    let cases = [
        ("type: EDS", "eds_cluster_config: is required"),
        (
            "type: EDS\neds_cluster_config: {eds_config: {path_config_source: {path: /x}}}",
            "eds_cluster_config.eds_config.path_config_source: is not supported",
        ),
        ("lb_policy: LOAD_BALANCING_POLICY_CONFIG", "lb_policy: LOAD_BALANCING_POLICY_CONFIG is not supported"),
        (
            "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 2, maximum_ring_size: 1}",
            "ring_hash_lb_config.minimum_ring_size: must not be more than maximum_ring_size",
        ),
        (
            "lb_policy: RING_HASH\nring_hash_lb_config: {hash_function: MURMUR_HASH_2}",
            "ring_hash_lb_config.hash_function: only XX_HASH is supported",
        ),
        (
            "lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 100}",
            "maglev_lb_config.table_size: must be a prime number of at most 5000011",
        ),
        ("lb_policy: RANDOM\nmaglev_lb_config: {}", "lb_config: does not belong to RANDOM"),
        (
            "round_robin_lb_config: {slow_start_config: {slow_start_window: 1s, min_weight_percent: {value: 101}}}",
            "round_robin_lb_config.slow_start_config.min_weight_percent: must be from 0 to 100",
        ),
        (
            "outlier_detection: {base_ejection_time: 3s, max_ejection_time: 2s}",
            "outlier_detection.max_ejection_time: must not be less than base_ejection_time",
        ),
        ("lb_policy: CLUSTER_PROVIDED", "lb_policy: CLUSTER_PROVIDED belongs to the type ORIGINAL_DST"),
        ("type: ORIGINAL_DST", "lb_policy: must be CLUSTER_PROVIDED for the type ORIGINAL_DST"),
        ("dns_refresh_rate: 1s", "dns_refresh_rate: is not supported"),
        ("type: LOGICAL_DNS", "load_assignment: LOGICAL_DNS takes exactly one endpoint"),
        ("connect_timeout: 0s", "connect_timeout: must be more than zero"),
        (
            "circuit_breakers: {thresholds: [{}, {priority: HIGH}]}",
            "circuit_breakers.thresholds[1].priority: only DEFAULT is supported",
        ),
        (
            "outlier_detection: {max_ejection_percent: 101}",
            "outlier_detection.max_ejection_percent: must be at most 100",
        ),
        (
            "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
             {address: example.com, port_value: 80}}}}]}]}",
            "load_assignment: \"example.com\" is not an IP address; only DNS clusters resolve names",
        ),
        (
            "load_assignment: {cluster_name: c, endpoints: [{priority: 1}]}",
            "load_assignment.endpoints: priority 0 is missing",
        ),
        (
            "transport_socket: {name: tls, typed_config: {\"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
             {tls_params: {cipher_suites: [RC4-MD5]}}}}",
            "transport_socket.typed_config.common_tls_context.tls_params.cipher_suites[0]: \"RC4-MD5\" is not a known \
             cipher suite",
        ),
    ];
    for (fields, expected) in cases {
        refused(TypeUrl::Cluster, &cluster(fields), expected);
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (_, other) = certificate();
    let yaml = certificate_secret("default");
    let key = yaml.find("private_key").unwrap();
    let yaml = format!("{}private_key: {{inline_string: {other:?}}}\n", &yaml[..key]);
    assert_eq!(refuse(TypeUrl::Secret, &yaml).field, "tls_certificate.private_key");
}

#[test]
fn demands_on_names_without_a_trusted_ca_are_refused() {
    let yaml = cluster(
        "transport_socket: {name: tls, typed_config: {\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
         {validation_context: {match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: x}}]}}}}",
    );
    let expected = "transport_socket.typed_config.common_tls_context.validation_context.\
                    match_typed_subject_alt_names: without trusted_ca anybody could issue these names";
    refused(TypeUrl::Cluster, &yaml, expected);
}

#[test]
fn a_validation_that_takes_anybody_is_refused() {
    let secret = "name: ROOTCA\nvalidation_context: {}\n";
    let expected = "validation_context.trusted_ca: is required: without it any certificate would do";
    refused(TypeUrl::Secret, secret, expected);
    let (chain_pem, key) = certificate();
    let listener = chain(&format!(
        "transport_socket: {{name: tls, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, \
         require_client_certificate: true, common_tls_context: {{tls_certificates: [{{certificate_chain: \
         {{inline_string: {chain_pem:?}}}, private_key: {{inline_string: {key:?}}}}}], validation_context: \
         {{allow_expired_certificate: true}}}}}}}}"
    ));
    let expected = "filter_chains[0].transport_socket.typed_config.common_tls_context.validation_context: without \
                    trusted_ca any certificate would do";
    refused(TypeUrl::Listener, &listener, expected);
}

#[test]
fn what_the_configuration_leaves_open_is_as_in_envoy() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, &cluster("type: STATIC"));
    let cluster = snapshot.cluster("c").unwrap();
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!((cluster.limits.max_connections, cluster.limits.max_retries), (1024, 3));
    assert_eq!(cluster.load_balancer, LoadBalancer::RoundRobin { slow_start: None });
    assert!(matches!(cluster.socket, Socket::Raw));
    assert!(matches!(&cluster.discovery, Discovery::Static(e) if e.endpoints().count() == 0));
    let snapshot = accept(&snapshot, TypeUrl::Listener, &chain("name: x"));
    let listener = snapshot.listener("l").unwrap();
    let proxy = tcp(&listener.chains[0]);
    assert_eq!(listener.listener_filters_timeout, Some(Duration::from_secs(15)));
    assert_eq!(proxy.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(proxy.max_connect_attempts.get(), 1);
    assert_eq!(&*listener.stat_prefix, "0.0.0.0_15001");
}

#[test]
fn a_time_out_of_zero_is_none() {
    let yaml = tcp_proxy("cluster: c, idle_timeout: 0s") + "listener_filters_timeout: 0s\n";
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &yaml);
    let listener = snapshot.listener("l").unwrap();
    assert_eq!(listener.listener_filters_timeout, None);
    assert_eq!(tcp(&listener.chains[0]).idle_timeout, None);
}

#[test]
fn weights_share_the_random_numbers_exactly() {
    let yaml = tcp_proxy("weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: 3}]}");
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &yaml);
    let choice = &tcp(&snapshot.listener("l").unwrap().chains[0]).cluster;
    let picked: Vec<&str> = (0..8).map(|random| &**choice.pick(random)).collect();
    assert_eq!(picked, ["a", "b", "b", "b", "a", "b", "b", "b"]);
    let weights: Vec<_> = choice.clusters().map(|(name, weight)| (&**name, weight)).collect();
    assert_eq!(weights, [("a", 1), ("b", 3)]);
    assert!(matches!(choice, ClusterChoice::Weighted(_)));
}

#[test]
fn dns_clusters_take_names() {
    let yaml = cluster(
        "type: STRICT_DNS\ndns_lookup_family: V4_ONLY\ndns_refresh_rate: 60s\nrespect_dns_ttl: true\n\
         load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
         {address: example.com, port_value: 80}}}}]}]}",
    );
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, &yaml);
    let Discovery::StrictDns(endpoints, dns) = &snapshot.cluster("c").unwrap().discovery else { panic!("{yaml}") };
    assert_eq!(endpoints.endpoints().next().unwrap().2.address.to_string(), "example.com:80");
    assert_eq!((dns.family, dns.refresh, dns.respect_ttl), (DnsFamily::V4, Duration::from_secs(60), true));
}

#[test]
fn the_debug_output_of_a_secret_does_not_show_the_key() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Secret, &certificate_secret("default"));
    let shown = format!("{:?}", snapshot.secrets()["default"].config);
    assert!(shown.contains("key redacted") && !shown.contains("PRIVATE"), "{shown}");
}

/// Good resources of every type that has the most parts.
fn rich() -> Vec<(TypeUrl, &'static str, String)> {
    let rules = policy(
        "{and_rules: {rules: [{destination_port: 1}, {not_rule: {requested_server_name: {suffix: a}}}]}}",
        "{or_ids: {ids: [{source_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}, {authenticated: {principal_name: \
         {safe_regex: {regex: '.*/ns/[a-z]+/.*'}}}}]}}",
    );
    let listener = rules.replace("name: x", "name: x, filter_chain_match: {server_names: ['*.a', b]}")
        + "access_log: [{name: f, typed_config: {\"@type\": \
           type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/stdout, log_format: \
           {text_format_source: {inline_string: \"%START_TIME% %REQ(A?B):9% %BYTES_SENT%\\n\"}}}}]\n\
           listener_filters: [{name: f, filter_disabled: {destination_port_range: {start: 1, end: 2}}, typed_config: \
           {\"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]\n";
    let (root, _) = certificate();
    let endpoint = "{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}, metadata: \
                    {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}}";
    let assignment = format!("endpoints: [{{locality: {{region: r}}, priority: 0, lb_endpoints: [{endpoint}]}}]");
    let cluster = cluster(&format!(
        "transport_socket_matches: [{{name: m, match: {{tlsMode: istio}}, transport_socket: {{name: tls, typed_config: \
         {{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a, \
         common_tls_context: {{tls_params: {{cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]}}, validation_context: \
         {{trusted_ca: {{inline_string: {root:?}}}}}}}}}}}}}]\noutlier_detection: {{consecutive_5xx: 3}}\n\
         load_assignment: {{cluster_name: c, {assignment}}}\n"
    ));
    vec![
        (TypeUrl::Listener, "l", listener),
        (TypeUrl::Cluster, "c", cluster),
        (TypeUrl::Endpoint, "c", format!("cluster_name: c\n{assignment}\n")),
        (TypeUrl::Secret, "default", certificate_secret("default")),
    ]
}

/// Bytes that nobody meant to be a resource are refused or accepted, but never end the process.
#[test]
fn mutilated_resources_do_no_harm() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap()
    };
    for (type_url, name, yaml) in rich() {
        accept(&Snapshot::default(), type_url, &yaml);
        let good = crate::tests::message(type_url, &yaml);
        let mut accepted = 0;
        for _ in 0..5_000 {
            let mut message = good.clone();
            for _ in 0..=random() % 3 {
                let at = random() % message.value.len();
                message.value[at] = random().to_le_bytes()[0];
            }
            if random().is_multiple_of(4) {
                message.value.truncate(random() % good.value.len());
            }
            let resource = Offered { name: name.to_owned(), version: "1".to_owned(), message: Some(message) };
            let update = Update { type_url, resources: vec![resource], removed: Vec::new() };
            accepted += usize::from(Snapshot::default().apply(update).1.is_empty());
        }
        assert!((1..5_000).contains(&accepted), "{accepted} of {type_url}");
    }
}
