//! Servers of several Gateways at one pod, and what is said of those that have no effect.

use envoy::envoy::config::core::v3::transport_socket::ConfigType;
use envoy::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use prost::Message;
use xds::{Mesh, Resources};

use crate::world::{chains, told_pod, world};

/// A gateway's pod whose Service has the ports 80, 443 and 5000, of which the first two lead to others.
const EDGE: &str = "---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: gates, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: gates}
spec:
  clusterIP: 10.96.2.4
  selector: {istio: edge}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443, targetPort: 8443}, {name: tcp, port: 5000}]
";

/// A Gateway in `gates` for the pod; of several the one with the shorter name is older.
fn gateway(name: &str, servers: &str) -> String {
    let day = name.len();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: gates, \
         creationTimestamp: '2026-11-{day:02}T00:00:00Z'}}\nspec: {{selector: {{istio: edge}}, servers: [{servers}]}}\n"
    )
}

fn server(number: u16, protocol: &str, rest: &str) -> String {
    format!("{{port: {{number: {number}, name: {}-{number}, protocol: {protocol}}}, {rest}}}", protocol.to_lowercase())
}

/// A virtual service of `foo` for the Gateway `g`.
fn routes(rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: foo}}\nspec: \
         {{gateways: [gates/g], {rest}}}\n"
    )
}

const CERTIFICATE: &str = "tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}";
const TO_ECHO: &str = "route: [{destination: {host: tcp-echo, port: {number: 9000}}}]";

fn edge(more: &str) -> (Mesh, Resources) {
    let mesh = world(&format!("{EDGE}{more}"));
    let resources = told_pod(&mesh, "gates", "edge");
    (mesh, resources)
}

fn listeners(more: &str) -> Vec<String> {
    edge(more).1.listeners.into_keys().collect()
}

/// How TLS ends at the port 443.
fn context(resources: &Resources) -> DownstreamTlsContext {
    let socket = resources.listeners["0.0.0.0_8443"].filter_chains[0].transport_socket.clone().unwrap();
    let Some(ConfigType::TypedConfig(any)) = socket.config_type else { panic!("no TLS") };
    DownstreamTlsContext::decode(any.value.as_slice()).unwrap()
}

#[track_caller]
fn assert_found(more: &str, expected: &str) {
    let (mesh, resources) = edge(more);
    let found: Vec<String> = mesh.diagnostics().union(&resources.diagnostics).map(ToString::to_string).collect();
    assert!(found.iter().any(|f| f.contains(expected)), "{expected:?} is not in {found:#?}");
}

#[test]
fn a_server_listens_where_the_service_leads() {
    let all = format!(
        "{}, {}, {}",
        server(80, "HTTP", "hosts: [a]"),
        server(443, "HTTPS", &format!("hosts: [a], {CERTIFICATE}")),
        server(9999, "HTTP2", "hosts: [a], bind: 127.0.0.1"),
    );
    assert_eq!(listeners(&gateway("g", &all)), ["0.0.0.0_8080", "0.0.0.0_8443", "127.0.0.1_9999"]);
    let (_, resources) = edge(&gateway("g", &all));
    let names: Vec<&String> = resources.routes.keys().collect();
    assert_eq!(names, ["http.8080", "http.9999.127.0.0.1", "https.443.https-443.g.gates"]);
    let host = &resources.routes["http.8080"].virtual_hosts[0];
    assert_eq!((host.name.as_str(), host.routes.len()), ("blackhole:8080", 0));
}

#[test]
fn a_server_without_a_route_for_bytes_is_closed() {
    for closed in [
        server(5000, "TCP", "hosts: ['*']"),
        server(443, "TLS", "hosts: ['*'], tls: {mode: PASSTHROUGH}"),
        server(443, "TLS", &format!("hosts: ['*'], {CERTIFICATE}")),
        server(443, "HTTPS", "hosts: ['*'], tls: {mode: SIMPLE}"),
        server(443, "HTTPS", "hosts: ['*']"),
        server(443, "HTTPS", "hosts: ['*'], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k}"),
        server(443, "UDP", "hosts: ['*']"),
        server(80, "HTTP", "hosts: ['*'], bind: example.com"),
    ] {
        assert_eq!(listeners(&gateway("g", &closed)), [""; 0], "{closed}");
        assert_found(&gateway("g", &closed), "closed");
    }
}

#[test]
fn of_servers_that_exclude_one_another_the_oldest_listens() {
    let one = gateway("g", &server(80, "HTTP", "hosts: [a]"));
    let other = |server: &str| format!("{one}{}", gateway("gg", server));
    let tcp = other(&server(80, "TCP", "hosts: ['*']"));
    assert_found(
        &tcp,
        "(Gateway gates/gg) spec.servers[0].port: Gateway gates/g is older and has 0.0.0.0_8080 for another protocol",
    );
    let tls = other(&server(80, "HTTPS", &format!("hosts: [b], {CERTIFICATE}")));
    assert_eq!(chains(&edge(&tls).1, "0.0.0.0_8080"), chains(&edge(&one).1, "0.0.0.0_8080"));
    let named = |host: &str| server(443, "HTTPS", &format!("hosts: [{host}], {CERTIFICATE}"));
    let same = format!("{}{}", gateway("g", &named("a.b")), gateway("gg", &named("A.b, c.d")));
    assert_eq!(chains(&edge(&same).1, "0.0.0.0_8443").len(), 1);
    assert_found(&same, "(Gateway gates/gg) spec.servers[0].hosts: Gateway gates/g is older and has the host a.b");
    let wide = format!("{}{}", gateway("g", &named("a.b")), gateway("gg", &named("'*.b'")));
    assert_eq!(chains(&edge(&wide).1, "0.0.0.0_8443").len(), 2);
    let twice = gateway("g", &format!("{}, {}", named("a.b"), named("c.d")));
    assert_found(&twice, "port names in servers must be unique: duplicate name https-443");
}

#[test]
fn without_privilege_low_ports_are_closed() {
    let objects = gateway("g", &format!("{}, {}", server(81, "HTTP", "hosts: [a]"), server(80, "HTTP", "hosts: [a]")));
    assert_eq!(listeners(&objects), ["0.0.0.0_8080", "0.0.0.0_81"]);
    let env = "args: [proxy, router], env: [{name: ISTIO_META_UNPRIVILEGED_POD, value: 'true'}]";
    let mesh = world(&format!("{}{objects}", EDGE.replace("args: [proxy, router]", env)));
    let resources = told_pod(&mesh, "gates", "edge");
    assert_eq!(resources.listeners.keys().collect::<Vec<_>>(), ["0.0.0.0_8080"]);
    assert!(resources.diagnostics.iter().any(|d| d.to_string().contains("so 81 is closed")));
}

#[test]
fn routes_are_bound_where_namespaces_see_them() {
    let open = |hosts: &str, more: &str| {
        let routes = routes(&format!("hosts: [a.b], {more}http: [{{{TO_ECHO}}}]"));
        let (_, resources) =
            edge(&format!("{}{routes}", gateway("g", &server(80, "HTTP", &format!("hosts: [{hosts}]")))));
        resources.routes["http.8080"].virtual_hosts[0].name.clone()
    };
    for hosts in ["a.b", "'*.b'", "'*'", "foo/a.b", "'*/*.b'"] {
        assert_eq!(open(hosts, ""), "a.b:8080", "{hosts}");
    }
    for hosts in ["gates/a.b", "./a.b", "'*.a.b'", "c"] {
        assert_eq!(open(hosts, ""), "blackhole:8080", "{hosts}");
    }
    assert_eq!(open("a.b", "exportTo: ['.'], "), "blackhole:8080");
    assert_eq!(open("a.b", "exportTo: [gates], "), "a.b:8080");
}

#[test]
fn what_is_bound_to_nothing_is_said() {
    let bound = |more: &str| routes(&format!("{more}, http: [{{{TO_ECHO}}}]"));
    let plain = gateway("g", &server(80, "HTTP", "hosts: [a.b]"));
    assert_found(
        &bound("hosts: [a.b]"),
        "Error [ReferenceNotFound] (VirtualService foo/v) spec.gateways[0]: there is no Gateway gates/g",
    );
    assert_found(
        &format!("{plain}{}", bound("hosts: [c.d]")),
        "spec.gateways[0]: no server of the Gateway gates/g has a host of [c.d]",
    );
    let elsewhere = gateway("g", &server(80, "HTTP", "hosts: [a.b]")).replace("istio: edge", "istio: none");
    assert_found(&elsewhere, "(Gateway gates/g) spec.selector: no workload has the labels istio=none");
    let lost = bound("hosts: [a.b]").replace("number: 9000", "number: 9003");
    assert_found(
        &format!("{plain}{lost}"),
        "there is no outbound|9003||tcp-echo.foo.svc.cluster.local for this caller",
    );
    let subset = bound("hosts: [a.b]").replace("host: tcp-echo", "host: tcp-echo, subset: v9");
    assert_found(&format!("{plain}{subset}"), "there is no outbound|9000|v9|tcp-echo");
    let port = routes(&format!("hosts: [a.b], http: [{{match: [{{port: 81}}], {TO_ECHO}}}]"));
    assert_found(&format!("{plain}{port}"), "spec.http[0].match[0].port: no server of these gateways has the port 81");
    let names = "hosts: [a.b], tls: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: tcp-echo}}]}]";
    let passing = gateway("g", &server(443, "TLS", "hosts: [a.b], tls: {mode: PASSTHROUGH}"));
    assert_found(
        &format!("{passing}{}", routes(names)),
        "spec.tls[0].match[0].sniHosts: Gateway gates/g has none of these names",
    );
}

#[test]
fn tls_is_as_strict_as_the_server_says() {
    let tls = "tls: {mode: MUTUAL, credentialName: cert, minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256], \
        subjectAltNames: [spiffe://a/b], verifyCertificateHash: [ab], caCrl: /crl}";
    let (_, resources) = edge(&gateway("g", &server(443, "HTTPS", &format!("hosts: ['*'], {tls}"))));
    assert!(resources.secrets.contains("kubernetes://cert") && resources.secrets.contains("kubernetes://cert-cacert"));
    let context = context(&resources);
    assert_eq!(context.require_client_certificate, Some(true));
    let common = context.common_tls_context.unwrap();
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
    let parameters = common.tls_params.unwrap();
    assert_eq!(parameters.tls_minimum_protocol_version(), TlsProtocol::TlSv13);
    assert_eq!(parameters.cipher_suites, ["ECDHE-RSA-AES128-GCM-SHA256"]);
    let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type else {
        panic!("nobody is verified");
    };
    let own = combined.default_validation_context.unwrap();
    assert_eq!((own.match_typed_subject_alt_names.len(), own.crl.is_some()), (1, true));
    assert_eq!(own.verify_certificate_hash, ["ab"]);
    let files = "tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /ca, caCrl: /crl}";
    let (_, resources) = edge(&gateway("g", &server(443, "HTTPS", &format!("hosts: ['*'], {files}"))));
    assert!(resources.secrets.contains("file-root:/ca~/crl"), "{:?}", resources.secrets);
    let own = "tls: {mode: MUTUAL, credentialName: cert, caCertCredentialName: ca}";
    let (_, resources) = edge(&gateway("g", &server(443, "HTTPS", &format!("hosts: ['*'], {own}"))));
    assert!(
        resources.secrets.contains("kubernetes://ca-cacert") && !resources.secrets.contains("kubernetes://cert-cacert")
    );
    let mesh = "tls: {mode: MUTUAL, serverCertificate: /etc/certs/cert-chain.pem, privateKey: /etc/certs/key.pem, \
        caCertificates: /etc/certs/root-cert.pem}";
    let (_, resources) = edge(&gateway("g", &server(443, "HTTPS", &format!("hosts: ['*'], {mesh}"))));
    assert_eq!(resources.secrets.into_iter().collect::<Vec<_>>(), ["ROOTCA", "default"]);
}
