//! Requests as Istio's metrics report them.

use std::net::SocketAddr;

use testkit::until;

use super::authority::{Ca, downstream, upstream};
use super::http::{ask_on, filters, get, mirror, to};
use super::mutual::{CLIENT, SERVER};
use super::{INSPECTOR, LIMIT, Plane, connect, listener};
use crate::metrics::{Workload, collect, prometheus_text};

fn workload(app: &str) -> Workload {
    Workload {
        name: format!("{app}-v1").into(),
        namespace: "foo".into(),
        app: app.into(),
        version: "v1".into(),
        cluster: "c1".into(),
        canonical_service: app.into(),
        canonical_revision: "v1".into(),
        ..Workload::default()
    }
}

const SERVICE: &str = "metadata: {filter_metadata: {istio: {services: [{host: echo.foo.svc.cluster.local, name: echo, \
    namespace: foo}]}}}";

/// A proxy before an application, which denies what is secret, and a proxy that calls it.
fn pair() -> (Plane, Plane, SocketAddr) {
    let ca = Ca::new("mesh");
    let mut server = Plane::of(LIMIT, workload("echo"));
    let rbac = "{name: rbac, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, \
        rules: {action: DENY, policies: {secret: {permissions: [{url_path: {path: {prefix: /secret}}}], principals: \
        [{any: true}]}}}}}";
    let routes = format!("route_config: {{name: table, virtual_hosts: [{}]}}", to("app"));
    let manager = server.manager(&routes, &filters(rbac));
    let chain = format!("{{name: mtls, {}filters: [{manager}]}}", downstream("istio-http/1.1"));
    server.secret(&ca.spiffe(SERVER).secret()).secret(&ca.trust()).cluster("app", &[mirror()], SERVICE);
    server.listener(&listener("in", "127.0.0.1", &format!("{INSPECTOR}\ntraffic_direction: INBOUND"), &[chain]));
    let at = server.go();
    let mut client = Plane::of(LIMIT, workload("sleep"));
    let socket = format!("{SERVICE}\ntransport_socket: {}", upstream(SERVER, "istio-http/1.1", ""));
    client.secret(&ca.spiffe(CLIENT).secret()).secret(&ca.trust()).cluster("out", &[at], &socket);
    let routes = format!("route_config: {{name: table, virtual_hosts: [{}]}}", to("out"));
    let chain = format!("{{name: chain, filters: [{}]}}", client.manager(&routes, ""));
    client.listener(&listener("in", "127.0.0.1", "traffic_direction: OUTBOUND", &[chain]));
    let address = client.go();
    (client, server, address)
}

/// The line of a counter with all of these parts.
fn line(plane: &Plane, name: &str, parts: &[&str]) -> String {
    until(&format!("{name} with {parts:?}"), LIMIT, || {
        let text = prometheus_text(&collect(&plane.plane.metrics()));
        let found = |line: &&str| line.starts_with(&format!("{name}{{")) && parts.iter().all(|p| line.contains(p));
        text.lines().find(found).map(str::to_owned)
    })
}

#[test]
fn both_ends_report_a_request_and_know_each_other() {
    let (client, server, address) = pair();
    let stream = connect(address);
    for _ in 0..2 {
        let answer = ask_on(&stream, "POST / HTTP/1.1\r\nhost: echo\r\ncontent-length: 3\r\n\r\nabc");
        assert!(answer.start.contains(" 200 ") && !answer.body.contains("peer-metadata"), "{answer:?}");
        assert!(!answer.headers.keys().any(|name| name.contains("peer-metadata")), "{answer:?}");
    }
    assert!(get(address, "/secret", "").start.contains(" 403 "));
    let both = format!(
        "source_workload=\"sleep-v1\",source_canonical_service=\"sleep\",source_canonical_revision=\"v1\",\
         source_workload_namespace=\"foo\",source_principal=\"{CLIENT}\",source_app=\"sleep\",source_version=\"v1\",\
         source_cluster=\"c1\",destination_workload=\"echo-v1\",destination_workload_namespace=\"foo\",\
         destination_principal=\"{SERVER}\",destination_app=\"echo\",destination_version=\"v1\",\
         destination_service=\"echo.foo.svc.cluster.local\",destination_canonical_service=\"echo\",\
         destination_canonical_revision=\"v1\",destination_service_name=\"echo\",\
         destination_service_namespace=\"foo\",destination_cluster=\"c1\",request_protocol=\"http\","
    );
    let rest = |status, security| {
        format!(
            "response_code=\"{status}\",grpc_response_status=\"\",response_flags=\"-\",\
             connection_security_policy=\"{security}\"}}"
        )
    };
    for (plane, reporter, security) in [(&client, "source", "unknown"), (&server, "destination", "mutual_tls")] {
        for (status, count) in [(200, 2), (403, 1)] {
            let labels = format!("{{reporter=\"{reporter}\",{both}{}", rest(status, security));
            line(plane, "istio_requests_total", &[&labels, &format!("}} {count}")]);
            let labels = labels.trim_end_matches('}');
            line(plane, "istio_request_duration_milliseconds_count", &[labels, &format!("}} {count}")]);
            line(plane, "istio_response_bytes_bucket", &[labels, "le=\"+Inf\"", &format!("}} {count}")]);
        }
    }
}

#[test]
fn what_is_not_known_is_called_what_the_client_calls_it() {
    let mut plane = Plane::of(LIMIT, workload("sleep"));
    let routes = format!("route_config: {{name: table, virtual_hosts: [{}]}}", to("PassthroughCluster"));
    let chain = format!("{{name: chain, filters: [{}]}}", plane.manager(&routes, ""));
    plane.cluster("PassthroughCluster", &[super::nobody()], "");
    plane.listener(&listener("in", "127.0.0.1", "traffic_direction: OUTBOUND", &[chain]));
    let address = plane.go();
    assert!(get(address, "/", "x-envoy-peer-metadata: x\r\n").start.contains(" 503 "));
    let expected = [
        "destination_workload=\"unknown\"",
        "destination_service=\"a.example\"",
        "destination_service_name=\"PassthroughCluster\"",
        "destination_service_namespace=\"unknown\"",
        "response_code=\"503\",grpc_response_status=\"\",response_flags=\"UF\"",
    ];
    line(&plane, "istio_requests_total", &expected);
}

#[test]
fn a_server_must_be_what_requests_call_it() {
    let ca = Ca::new("mesh");
    let leaf = ca.issue(Some(SERVER), |params| {
        params.subject_alt_names.push(rcgen::SanType::DnsName("a.example".try_into().unwrap()));
    });
    let mut server = Plane::start();
    let routes = format!("route_config: {{name: table, virtual_hosts: [{}]}}", to("app"));
    let chain = format!("{{name: tls, {}filters: [{}]}}", downstream("http/1.1"), server.manager(&routes, ""));
    server.secret(&leaf.secret()).secret(&ca.trust()).cluster("app", &[mirror()], "");
    let at = server.listener(&listener("in", "127.0.0.1", INSPECTOR, &[chain])).go();
    let mut client = Plane::start();
    let socket = "transport_socket: {name: tls, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
        {tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}], \
        validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}}}}\n\
        typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, upstream_http_protocol_options: \
        {auto_sni: true, auto_san_validation: true}, explicit_http_config: {http_protocol_options: {}}}}";
    client.secret(&ca.spiffe(CLIENT).secret()).secret(&ca.trust());
    let address = client.cluster("out", &[at], socket).http(&to("out"), "").go();
    assert!(get(address, "/", "").start.contains(" 200 "));
    let other = ask_on(&connect(address), "GET /other HTTP/1.1\r\nhost: b.example\r\n\r\n");
    assert!(other.start.contains(" 503 "), "{other:?}");
    client.logged("GET /other HTTP/1.1 503 UF");
    client.reaches("out", "ssl.fail_verify_san", 1);
}
