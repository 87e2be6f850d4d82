//! Who may come through a gateway, and what is told of it.

use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails;
use prost::Message;
use xds::Resources;

use crate::call::snapshot;
use crate::gateway::{EAST, SOUTH, arrive, tls};
use crate::world::{chains, text_of, told_pod, world};

fn ingress(objects: &str) -> Resources {
    told_pod(&world(objects), "gates", "ingress")
}

/// Who of EAST and SOUTH gets through the ports 31400 and 31401, as `+` and `-`.
fn through(objects: &str) -> String {
    let snapshot = snapshot(&ingress(objects));
    let open = |(port, identity)| {
        let outcome = arrive(&snapshot, port, tls("west.example", identity), None);
        if outcome.starts_with("outbound|") { '+' } else { '-' }
    };
    [(31400, EAST), (31400, SOUTH), (31401, EAST), (31401, SOUTH)].into_iter().map(open).collect()
}

#[track_caller]
fn assert_found(objects: &str, expected: &str) {
    let found: Vec<String> = ingress(objects).diagnostics.iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|f| f.contains(expected)), "{expected:?} is not in {found:#?}");
}

#[test]
fn what_authorizes_never_leaves_a_gateway_open() {
    let objects = text_of("gateway_tcp_ingress");
    assert_eq!(through(&objects), "+--+");
    let lost = objects.replace("{name: mixer}", "{name: nothing}");
    assert_eq!(through(&lost), "+--+", "what has no place is put first");
    assert_found(&lost, "have no filter \"nothing\": it authorizes, so it is put first");
    let stray = objects.replace("portNumber: 31401", "portNumber: 31499");
    assert_eq!(through(&stray), "+--+", "the other port is guarded, this one is left");
    assert_found(&stray, "no server and no Service of the gateway has the port 31499");
    let both = stray.replace("portNumber: 31400", "portNumber: 31498");
    assert_eq!(through(&both), "----");
    let unreadable = objects.replace("stat_prefix", "stat_prefixx");
    assert_eq!(through(&unreadable), "----");
    let of_requests = objects.replace("applyTo: NETWORK_FILTER", "applyTo: HTTP_FILTER");
    assert_eq!(through(&of_requests), "----");
    let never_read = objects.replace("  configPatches:\n", "  priority: rbac\n  configPatches:\n");
    assert_eq!(through(&never_read), "----", "until it can be read");
}

#[test]
fn a_port_that_is_not_served_now_disturbs_no_other() {
    let objects = text_of("gateway_tcp_ingress");
    let (before, after) = objects.split_once("  - port: {number: 31401").unwrap();
    let (_, after) = after.split_once("---").unwrap();
    assert_eq!(through(&format!("{before}---{after}")), "+---");
}

#[test]
fn patches_may_name_where_the_pods_listen() {
    let moved = text_of("gateway_tcp_ingress")
        .replace("{name: tls-1, port: 31400}", "{name: tls-1, port: 3140, targetPort: 31400}")
        .replace("{number: 31400, name", "{number: 3140, name")
        .replace("[{port: 31400}]", "[{port: 3140}]");
    assert_eq!(through(&moved), "+--+");
}

#[test]
fn policies_hold_at_gateways() {
    let objects = text_of("gateway_tcp_ingress");
    let open = objects.split("---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter").next().unwrap();
    assert_eq!(through(open), "++++");
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: gates}\nspec: \
        {selector: {matchLabels: {istio: private-ingress}}, rules: [{from: [{source: {principals: [east.example/egress]}}], \
        to: [{operation: {ports: ['31400']}}]}]}\n";
    assert_eq!(through(&format!("{open}{policy}")), "+---");
    let tokens = "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: t, namespace: gates}\nspec: \
        {selector: {matchLabels: {istio: private-ingress}}, jwtRules: [{issuer: me, jwks: '{\"keys\": []}'}]}\n";
    let requests = text_of("gateway_http_ingress");
    let filters = chains(&ingress(&format!("{requests}{policy}{tokens}")), "0.0.0.0_15443");
    let filters = filters[0].split_once("http_connection_manager").unwrap().1;
    assert!(filters.starts_with("(rbac jwt_authn rbac") && filters.ends_with("cors router)"), "{filters}");
}

fn manager(resources: &Resources) -> HttpConnectionManager {
    let Filter { config_type: Some(ConfigType::TypedConfig(any)), .. } =
        &resources.listeners["0.0.0.0_15443"].filter_chains[0].filters[0]
    else {
        panic!("no filter");
    };
    HttpConnectionManager::decode(any.value.as_slice()).unwrap()
}

#[test]
fn what_stands_before_a_gateway_is_believed_as_far_as_it_is_said() {
    let objects = text_of("gateway_http_ingress");
    let alone = manager(&ingress(&objects));
    assert_eq!((alone.use_remote_address, alone.xff_num_trusted_hops), (Some(true), 0));
    assert_eq!(alone.forward_client_cert_details(), ForwardClientCertDetails::SanitizeSet);
    assert_eq!(alone.server_name, "istio-envoy");
    let config = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
        accessLogFile: /dev/stdout\n    defaultConfig: {gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}}\n";
    let behind = manager(&ingress(&format!("{objects}{config}")));
    assert_eq!((behind.xff_num_trusted_hops, behind.access_log.len()), (2, 1));
    assert_eq!(behind.forward_client_cert_details(), ForwardClientCertDetails::AppendForward);
    let own = "name: ingress, namespace: gates, annotations: {proxy.istio.io/config: 'gatewayTopology: {numTrustedProxies: 1}'}, labels: {app";
    let pod = objects.replacen("name: ingress, namespace: gates, labels: {app", own, 1);
    assert_eq!(manager(&ingress(&format!("{pod}{config}"))).xff_num_trusted_hops, 1);
}
