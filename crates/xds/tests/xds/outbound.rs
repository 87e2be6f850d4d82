//! Where calls go.

use crate::call::{leave, snapshot};
use crate::world::{assert_found, chains, told};

fn calls(objects: &str) -> impl Fn(&str) -> String {
    let snapshot = snapshot(&told("sleep", objects));
    move |destination| leave(&snapshot, destination, None)
}

const MESH: &str = "outbound|9000||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000) tlsMode-istio";

fn entry(rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: foo}}\nspec: {rest}\n"
    )
}

fn routes(rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: foo}}\nspec: {rest}\n"
    )
}

#[test]
fn services_are_called_in_mutual_tls_and_the_rest_passes() {
    let call = calls("");
    assert_eq!(call("10.96.0.9:9000"), MESH);
    assert_eq!(call("10.0.0.2:9002"), "PassthroughCluster Ip(10.0.0.2:9002)");
    assert_eq!(call("10.96.0.9:15001"), "no endpoint in BlackHoleCluster");
}

#[test]
fn registry_only_refuses_the_rest() {
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: \
        'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'\n";
    let call = calls(config);
    assert_eq!(call("10.96.0.9:9000"), MESH);
    assert_eq!(call("1.1.1.1:80"), "no endpoint in BlackHoleCluster");
    let sidecar = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: foo}\nspec: \
        {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n";
    assert_eq!(calls(&format!("{config}{sidecar}"))("1.1.1.1:80"), "PassthroughCluster Ip(1.1.1.1:80)");
}

#[test]
fn an_endpoint_without_a_proxy_is_called_in_plaintext() {
    let disabled = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: foo}\nspec: \
        {selector: {matchLabels: {app: tcp-echo}}, portLevelMtls: {9000: {mode: DISABLE}}}\n";
    let call = calls(disabled);
    assert!(call("10.96.0.9:9000").ends_with("tlsMode-disabled"));
    assert!(call("10.96.0.9:9001").ends_with("tlsMode-istio"));
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {mesh: 'enableAutoMtls: false'}\n";
    assert_eq!(calls(config)("10.96.0.9:9000"), "outbound|9000||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000)");
}

#[test]
fn headless_services_are_called_endpoint_by_endpoint() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: foo}\nspec: {clusterIP: None, selector: \
        {app: tcp-echo}, ports: [{name: tcp, port: 5432}]}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: db, namespace: foo, labels: {kubernetes.io/service-name: db}}\naddressType: IPv4\nports: \
        [{name: tcp, port: 5432}]\nendpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.3], conditions: {ready: false}}]\n";
    let call = calls(service);
    assert_eq!(call("10.0.0.2:5432"), "outbound|5432||db.foo.svc.cluster.local Ip(10.0.0.2:5432)");
    assert_eq!(call("10.0.0.3:5432"), "PassthroughCluster Ip(10.0.0.3:5432)");
}

#[test]
fn entries_are_found_by_address_range_and_name() {
    let ports = "ports: [{number: 8000, name: tcp, protocol: TCP}]";
    let single = entry(&format!(
        "{{hosts: [a.b], addresses: [240.0.0.2], resolution: DNS, {ports}, endpoints: \
        [{{address: gateway.b, ports: {{tcp: 32001}}}}]}}"
    ));
    let expected = "outbound|8000||a.b Name { host: \"gateway.b\", port: 32001 }";
    assert_eq!(calls(&single)("240.0.0.2:8000"), expected);
    let range = entry(&format!("{{hosts: [a.b], addresses: [192.0.2.0/24], resolution: NONE, {ports}}}"));
    let call = calls(&range);
    assert_eq!(call("192.0.2.7:8000"), "outbound|8000||a.b Ip(192.0.2.7:8000)");
    assert_eq!(call("192.0.3.7:8000"), "PassthroughCluster Ip(192.0.3.7:8000)");
    let anywhere = entry(&format!("{{hosts: [a.b], resolution: NONE, {ports}}}"));
    assert_eq!(calls(&anywhere)("192.0.3.7:8000"), "outbound|8000||a.b Ip(192.0.3.7:8000)");
    assert_found("sleep", &anywhere, "Warning [Unsafe] (ServiceEntry foo/e) spec.addresses: a.b has no address");
}

#[test]
fn tls_is_routed_by_server_name() {
    let tls = entry(
        "{hosts: ['*.example.com', www.example.org], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}",
    );
    let resources = told("sleep", &tls);
    let snapshot = snapshot(&resources);
    let call = |sni| leave(&snapshot, "192.0.2.1:443", sni);
    assert_eq!(call(Some("a.example.com")), "outbound|443||*.example.com Ip(192.0.2.1:443)");
    assert_eq!(call(Some("www.example.org")), "outbound|443||www.example.org Ip(192.0.2.1:443)");
    assert_eq!(call(Some("example.com")), "PassthroughCluster Ip(192.0.2.1:443)");
    assert_eq!(call(None), "PassthroughCluster Ip(192.0.2.1:443)");
    let expected = [
        "outbound|443||*.example.com: sni=*.example.com tls tcp_proxy",
        "outbound|443||www.example.org: sni=www.example.org tls tcp_proxy",
        "default PassthroughFilterChain: tcp_proxy",
    ];
    assert_eq!(chains(&resources, "0.0.0.0_443"), expected);
}

#[test]
fn a_route_moves_server_names_elsewhere() {
    let tls = entry("{hosts: [a.example], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}");
    let route = routes(
        "{hosts: [a.example], tls: [{match: [{port: 443, sni_hosts: [a.example]}], route: [{destination: \
        {host: tcp-echo, port: {number: 9001}}}]}]}",
    );
    let snapshot = snapshot(&told("sleep", &format!("{tls}{route}")));
    let outcome = leave(&snapshot, "192.0.2.1:443", Some("a.example"));
    assert_eq!(outcome, "outbound|9001||tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9001) tlsMode-istio");
}

#[test]
fn routes_split_by_weight_port_and_caller() {
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: foo}\nspec: \
        {host: tcp-echo, subsets: [{name: v1, labels: {version: v1}}, {name: all}]}\n";
    let route = routes(
        "{hosts: [tcp-echo], tcp: [{match: [{port: 9001}], route: [{destination: {host: tcp-echo, subset: \
        v1}}]}, {match: [{sourceLabels: {app: other}}], route: [{destination: {host: nowhere}}]}, {route: [{destination: \
        {host: tcp-echo, subset: v1}, weight: 75}, {destination: {host: tcp-echo, subset: all}, weight: 25}, {destination: \
        {host: nowhere}}]}]}",
    );
    let resources = told("sleep", &format!("{rule}{route}"));
    let call = snapshot(&resources);
    let to = |port| leave(&call, &format!("10.96.0.9:{port}"), None);
    assert!(to(9001).starts_with("outbound|9001|v1|tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9001)"), "{}", to(9001));
    assert!(to(9000).starts_with("outbound|9000|v1|tcp-echo.foo.svc.cluster.local Ip(10.0.0.2:9000)"), "{}", to(9000));
    let chain = format!("{:?}", resources.listeners["10.96.0.9_9000"].filter_chains);
    assert!(!chain.contains("nowhere"), "a destination without weight is left out");
}

#[test]
fn what_routes_name_must_be_there() {
    let unknown = routes("{hosts: [tcp-echo], tcp: [{route: [{destination: {host: tcp-echo, subset: v9}}]}]}");
    let outcome = calls(&unknown)("10.96.0.9:9000");
    assert_eq!(outcome, "no cluster outbound|9000|v9|tcp-echo.foo.svc.cluster.local");
    assert_found(
        "sleep",
        &unknown,
        "Error [ReferenceNotFound] (VirtualService foo/v) spec.tcp[0].route[0].destination",
    );
    let port = routes("{hosts: [tcp-echo], tcp: [{match: [{port: 1}], route: [{destination: {host: tcp-echo}}]}]}");
    assert_found("sleep", &port, "spec.tcp[0].match[0].port: no service of these hosts has the port 1");
    assert_found("sleep", &routes("{hosts: ['*'], tcp: [{}]}"), "the host * is for gateways alone");
    assert_found("sleep", &routes("{hosts: [none.example], tcp: [{}]}"), "no service has the host none.example");
    let older = routes("{hosts: [tcp-echo], tcp: [{route: [{destination: {host: tcp-echo}}]}]}");
    let both = format!("{older}{}", older.replace("name: v", "name: w"));
    assert_found(
        "sleep",
        &both,
        "(VirtualService foo/w) spec.hosts[0]: has no effect where the older VirtualService foo/v",
    );
}

#[test]
fn the_older_service_keeps_an_address() {
    let clash = entry(
        "{hosts: [late.example], addresses: [10.96.0.9], resolution: STATIC, endpoints: [{address: \
        192.0.2.1}], ports: [{number: 9000, name: tcp, protocol: TCP}]}",
    );
    assert_eq!(calls(&clash)("10.96.0.9:9000"), MESH);
    let expected =
        "Warning [Conflict] (ServiceEntry foo/e) spec.ports: Service foo/tcp-echo is older and has 10.96.0.9_9000";
    assert_found("sleep", &clash, expected);
}

#[test]
fn a_service_consists_of_workload_entries_too() {
    let entries = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm, namespace: foo}\nspec: {address: \
        192.0.2.9, labels: {app: vm}, serviceAccount: vm}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: vm, namespace: \
        foo}\nspec: {clusterIP: 10.96.0.8, selector: {app: vm}, ports: [{name: tcp, port: 80, targetPort: 8080}]}\n";
    let expected = "outbound|80||vm.foo.svc.cluster.local Ip(192.0.2.9:8080) tlsMode-istio";
    assert_eq!(calls(entries)("10.96.0.8:80"), expected);
    let selected = entry(
        "{hosts: [vm.example], addresses: [240.0.0.7], resolution: STATIC, location: MESH_INTERNAL, workloadSelector: {labels: {app: \
        vm}}, ports: [{number: 80, name: tcp, targetPort: 81}]}",
    );
    let outcome = calls(&format!("{entries}{selected}"))("240.0.0.7:80");
    assert_eq!(outcome, "outbound|80||vm.example Ip(192.0.2.9:81) tlsMode-istio");
}

#[test]
fn an_external_address_is_called_by_name_of_its_service() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: c2-31400, namespace: foo}\nspec: {type: ExternalName, \
        externalName: 198.18.0.2, ports: [{name: tcp, port: 31400}]}\n";
    let expected = "outbound|31400||c2-31400.foo.svc.cluster.local Ip(198.18.0.2:31400)";
    assert_eq!(calls(service)("198.18.0.2:31400"), expected);
}

#[test]
fn silly_values_are_refused_by_name_and_the_proxy_takes_the_rest() {
    let label = "a".repeat(60);
    let long = [label.as_str(); 4].join(".");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: \
        '{connectTimeout: 0s, dnsRefreshRate: 0s}'\n";
    let objects = [
        config.to_owned(),
        entry("{hosts: ['*a.b', 'a|b', ''], resolution: NONE, ports: [{number: 1, name: tls, protocol: TLS}]}"),
        entry("{hosts: [zero.b], addresses: ['0.0.0.0', 10.0.0.0/33], resolution: NONE, ports: [{number: 15001, name: tcp}]}"),
        entry(&format!(
            "{{hosts: [{long}], addresses: [240.0.0.9], resolution: STATIC, location: MESH_INTERNAL, ports: [{{number: 1, name: \
             tcp}}, {{number: 0}}, {{number: 2, protocol: FTP}}], endpoints: [{{address: 192.0.2.1, weight: 4294967295}}, \
             {{address: 192.0.2.2, weight: 4294967295}}, {{address: name.b}}, {{}}, {{address: 'unix:///x'}}]}}"
        )),
        entry("{hosts: ['*.dns.b'], resolution: DNS, ports: [{number: 1, name: tcp}]}"),
        entry("{hosts: [one.b], addresses: [240.0.0.8], resolution: DNS_ROUND_ROBIN, ports: [{number: 1, name: tcp}], \
            endpoints: [{address: a.b}, {address: c.d}]}"),
        routes("{hosts: [tcp-echo], tcp: [{match: [{destinationSubnets: [x]}], route: [{destination: {host: tcp-echo}}]}, \
            {route: []}, {route: [{destination: {host: tcp-echo}, weight: 4294967295}, {destination: {host: tcp-echo}, \
            weight: 4294967295}]}], tls: [{match: [{sniHosts: ['a.*', '*a.b', '']}, {}], route: [{}]}]}"),
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: foo}\nspec: {host: \
         tcp-echo, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s, maxConnections: 0, maxConnectionDuration: 0s, \
         tcpKeepalive: {time: 0s}}}, outlierDetection: {interval: 0s, baseEjectionTime: 0s, maxEjectionPercent: 400, \
         minHealthPercent: 300, consecutive5xxErrors: 0}}}\n"
            .to_owned(),
    ];
    let objects: String =
        objects.iter().enumerate().map(|(i, o)| o.replace("name: e,", &format!("name: e{i},"))).collect();
    let call = calls(&objects);
    assert_eq!(call("240.0.0.9:1"), format!("outbound|1||{long} Ip(192.0.2.1:1) tlsMode-disabled"));
    for said in [
        "data.mesh.connectTimeout: must be at least 1ms",
        "(ServiceEntry foo/e1) spec.hosts[0]: \"*a.b\" is not a host",
        "(ServiceEntry foo/e1) spec.hosts[1]: \"a|b\" is not a host",
        "(ServiceEntry foo/e2) spec.addresses[0]: ",
        "(ServiceEntry foo/e2) spec.addresses: zero.b needs single addresses",
        "is too long to be a server name",
        "spec.ports[1].number: the port has no effect",
        "spec.ports[2].protocol: \"FTP\" is not a known protocol",
        "spec.endpoints[2].address: the endpoint has no effect: resolution STATIC takes addresses",
        "*.dns.b cannot be looked up",
        "there must only be 0 or 1 endpoint",
        "spec.tcp[0].match.destinationSubnets: \"x\" is neither",
        "spec.tcp[1].route: has no effect",
        "spec.tls[0].match[0].sniHosts[0]: \"a.*\" is not a host",
    ] {
        assert_found("sleep", &objects, said);
    }
}
