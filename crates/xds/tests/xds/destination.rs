//! How services are reached.

use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::core::v3::transport_socket::ConfigType;
use envoy::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use prost::Message;

use crate::world::{assert_found, told};

const HOST: &str = "tcp-echo.foo.svc.cluster.local";

fn rule(name: &str, namespace: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{{rest}}}\n"
    )
}

fn cluster(objects: &str, port: u16, subset: &str) -> Cluster {
    told("sleep", objects).clusters[&format!("outbound|{port}|{subset}|{HOST}")].clone()
}

fn most(cluster: &Cluster) -> u32 {
    cluster.circuit_breakers.as_ref().unwrap().thresholds[0].max_connections.unwrap()
}

fn limit(most: u32) -> String {
    format!("trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {most}}}}}}}")
}

fn context(cluster: &Cluster) -> UpstreamTlsContext {
    let Some(ConfigType::TypedConfig(config)) = cluster.transport_socket.clone().unwrap().config_type else {
        panic!("a socket has a configuration");
    };
    UpstreamTlsContext::decode(config.value.as_slice()).unwrap()
}

#[test]
fn the_clients_namespace_then_the_services_then_the_root() {
    let own = rule("own", "foo", &format!("host: '*.cluster.local', {}", limit(1)));
    let root = rule("root", "istio-system", &format!("host: {HOST}, {}", limit(3)));
    assert_eq!(most(&cluster(&root, 9000, "")), 3);
    assert_eq!(most(&cluster(&format!("{own}{root}"), 9000, "")), 1, "the level comes before how specific it is");
    let exact = rule("exact", "foo", &format!("host: tcp-echo, {}", limit(2)));
    assert_eq!(most(&cluster(&format!("{own}{exact}{root}"), 9000, "")), 2);
    let hidden = rule("hidden", "istio-system", &format!("host: {HOST}, exportTo: ['.'], {}", limit(4)));
    assert_eq!(most(&cluster(&hidden, 9000, "")), u32::MAX);
    let foreign = rule("foreign", "bar", &format!("host: {HOST}, {}", limit(5)));
    assert_eq!(most(&cluster(&foreign, 9000, "")), u32::MAX);
    let for_others = rule(
        "for-others",
        "foo",
        &format!("host: {HOST}, workloadSelector: {{matchLabels: {{app: x}}}}, {}", limit(6)),
    );
    assert_eq!(most(&cluster(&for_others, 9000, "")), u32::MAX);
    let for_us = for_others.replace("app: x", "app: sleep");
    assert_eq!(most(&cluster(&format!("{for_us}{exact}"), 9000, "")), 6);
}

#[test]
fn rules_for_one_host_are_merged() {
    let first = rule("a", "foo", &format!("host: tcp-echo, subsets: [{{name: one}}], {}", limit(1)));
    let second = rule("b", "foo", &format!("host: tcp-echo, subsets: [{{name: one}}, {{name: two}}], {}", limit(2)));
    let both = format!("{first}{second}");
    assert_eq!([most(&cluster(&both, 9000, "one")), most(&cluster(&both, 9000, "two"))], [1, 1]);
    assert_found(
        "sleep",
        &both,
        "(DestinationRule foo/b) spec.trafficPolicy: has no effect: the older DestinationRule foo/a",
    );
    assert_found("sleep", &both, "(DestinationRule foo/b) spec.subsets[0].name: has no effect");
}

#[test]
fn a_port_replaces_everything_and_a_subset_overlays() {
    let objects = rule(
        "r",
        "foo",
        "host: tcp-echo, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, tls: {mode: ISTIO_MUTUAL}, \
         portLevelSettings: [{port: {number: 9001}, loadBalancer: {simple: RANDOM}}]}, subsets: [{name: s, trafficPolicy: \
         {connectionPool: {tcp: {maxConnections: 2}}}}, {name: p, trafficPolicy: {portLevelSettings: [{port: {number: \
         9000}, tls: {mode: DISABLE}}]}}]",
    );
    let facts = |port, subset| {
        let cluster = cluster(&objects, port, subset);
        (most(&cluster), cluster.transport_socket.is_some(), cluster.transport_socket_matches.len())
    };
    assert_eq!(facts(9000, ""), (1, true, 0));
    assert_eq!(facts(9001, ""), (u32::MAX, false, 2), "the port's settings take the place of all others");
    assert_eq!(facts(9000, "s"), (2, true, 0));
    assert_eq!(facts(9001, "s"), (2, false, 2));
    assert_eq!(facts(9000, "p"), (u32::MAX, false, 0));
}

#[test]
fn tls_is_as_the_rule_says() {
    let tls =
        |tls: &str| cluster(&rule("r", "foo", &format!("host: tcp-echo, trafficPolicy: {{tls: {tls}}}")), 9000, "");
    let mutual = context(&tls("{mode: ISTIO_MUTUAL}"));
    assert_eq!(mutual.sni, format!("outbound_.9000_._.{HOST}"));
    let common = mutual.common_tls_context.unwrap();
    assert_eq!(common.alpn_protocols, ["istio-peer-exchange", "istio"]);
    assert!(format!("{common:?}").contains("spiffe://cluster.local/ns/foo/sa/tcp-echo"));
    assert_eq!(context(&tls("{mode: ISTIO_MUTUAL, sni: a.b}")).sni, "a.b");
    let files = context(&tls("{mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca, sni: x}"));
    let text = format!("{files:?}");
    assert!(text.contains("file-cert:/c~/k") && text.contains("file-root:/ca") && files.sni == "x");
    let old = "{mode: MUTUAL, clientCertificate: /etc/certs/cert-chain.pem, privateKey: /etc/certs/key.pem, caCertificates: \
        /etc/certs/root-cert.pem}";
    let text = format!("{:?}", context(&tls(old)));
    assert!(text.contains("\"default\"") && text.contains("\"ROOTCA\""));
    assert!(format!("{:?}", context(&tls("{mode: SIMPLE}"))).contains("file-root:system"));
    let plain = tls("{mode: DISABLE}");
    assert!(plain.transport_socket.is_none() && plain.transport_socket_matches.is_empty());
}

#[test]
fn near_endpoints_come_first_when_failures_are_noticed() {
    let far = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: far, namespace: foo, labels: \
        {kubernetes.io/service-name: tcp-echo}}\naddressType: IPv4\nports: [{name: tcp, port: 9000}]\nendpoints: \
        [{addresses: [10.0.1.2], zone: b}]\n";
    let priorities = |objects: &str| -> Vec<u32> {
        let resources = told("sleep", objects);
        resources.endpoints[&format!("outbound|9000||{HOST}")].endpoints.iter().map(|l| l.priority).collect()
    };
    assert_eq!(priorities(far), [0, 0]);
    let detect = rule("r", "foo", "host: tcp-echo, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}");
    assert_eq!(priorities(&format!("{far}{detect}")), [0, 1]);
    let off =
        detect.replace("trafficPolicy: {", "trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}, ");
    assert_eq!(priorities(&format!("{far}{off}")), [0, 0]);
    let share = detect.replace(
        "trafficPolicy: {",
        "trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: \
        eu/*, to: {'eu/*': 100}}]}}, ",
    );
    assert_eq!(priorities(&format!("{far}{share}")), [0], "places without a share get nothing");
}

#[test]
fn what_has_no_effect_is_said() {
    let said = |rest: &str, expected: &str| assert_found("sleep", &rule("r", "foo", rest), expected);
    said(
        "host: nowhere",
        "Warning [ReferenceNotFound] (DestinationRule foo/r) spec.host: no service has the host nowhere.foo.svc",
    );
    said(
        "host: tcp-echo, trafficPolicy: {tls: {}}",
        "Warning [Unsafe] (DestinationRule foo/r) spec.trafficPolicy.tls.mode",
    );
    said(
        "host: tcp-echo, trafficPolicy: {connectionPool: {http: {}}}",
        "Warning [OnlyHttp] (DestinationRule foo/r) spec.trafficPolicy.connectionPool.http",
    );
    said(
        "host: tcp-echo, trafficPolicy: {tunnel: {}}",
        "Warning [NotSupported] (DestinationRule foo/r) spec.trafficPolicy.tunnel",
    );
    said("host: tcp-echo, trafficPolicy: {portLevelSettings: [{port: {number: 1}}]}", "the service has no port 1");
    said("host: tcp-echo, subsets: [{name: x, labels: {version: v9}}]", "no endpoint of the service has these labels");
    said("host: tcp-echo, subsets: [{name: 'x|y'}]", "is not a subset's name");
    said("host: tcp-echo, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}", "Error [NotSupported]");
    said("host: tcp-echo, traficPolicy: {}", "Warning [UnknownField] (DestinationRule foo/r) spec.traficPolicy");
}
