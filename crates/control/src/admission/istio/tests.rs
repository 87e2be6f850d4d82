use super::*;
use serde_json::json;

/// The errors and warnings about a spec in YAML.
fn found(check: fn(&Subject<'_>, &mut Findings), spec: &str) -> Findings {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let mut findings = Findings::default();
    check(&Subject { name: "x", namespace: "ns", spec: &spec }, &mut findings);
    findings
}

/// Each of `cases` is a spec and the one error in it; an empty text is no error.
#[track_caller]
fn table(check: fn(&Subject<'_>, &mut Findings), cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        let errors = found(check, spec).errors;
        let one: &[&str] = if expected.is_empty() { &[] } else { &[expected] };
        assert_eq!(errors, one, "{spec}");
    }
}

#[test]
fn authorization_policies() {
    table(
        authorization_policy::check,
        &[
            ("{}", ""),
            ("{rules: [{}]}", ""),
            ("{action: DENY, rules: [{to: [{operation: {ports: ['9000'], methods: [GET]}}]}]}", ""),
            ("{rules: [{from: []}]}", "invalid policy x.ns: `from` must not be empty, found at rule 0"),
            ("{rules: [{from: [{}]}]}", "invalid policy x.ns: `from.source` must not be nil, found at rule 0"),
            (
                "{rules: [{}, {to: [{operation: {}}]}]}",
                "invalid policy x.ns: `to.operation` must not be empty, found at rule 1",
            ),
            (
                "{rules: [{from: [{source: {principals: ['']}}]}]}",
                "invalid policy x.ns: empty value not allowed, found in Principals",
            ),
            ("{rules: [{from: [{source: {ipBlocks: [1.2.3]}}]}]}", "invalid policy x.ns: bad IP address (1.2.3)"),
            (
                "{rules: [{from: [{source: {principals: [a*b]}}]}]}",
                "invalid policy x.ns: wildcard is only allowed at the start or end, found in Principals: \"a*b\"",
            ),
            (
                "{rules: [{to: [{operation: {ports: [http]}}]}]}",
                "invalid policy x.ns: bad port (http): it is not a number of 0 to 65535",
            ),
            (
                "{rules: [{when: [{key: source.ip}]}]}",
                "invalid policy x.ns: at least one of `values` or `notValues` must be set for key source.ip",
            ),
            (
                "{rules: [{when: [{key: source.ip, values: [a]}]}]}",
                "invalid policy x.ns: invalid `value` for `key` source.ip: bad IP address (a)",
            ),
            ("{action: CUSTOM, rules: [{}]}", "invalid policy x.ns: `provider.name` must not be empty"),
        ],
    );
    let nothing = found(authorization_policy::check, "{action: DENY}").errors;
    assert!(nothing[0].contains("DENY action without `rules` is meaningless"), "{nothing:?}");
    let unknown = found(authorization_policy::check, "{rules: [{when: [{key: source.name, values: [a]}]}]}").errors;
    assert!(
        unknown[0].ends_with("invalid `value` for `key` source.name: unknown attribute: source.name"),
        "{unknown:?}"
    );
    let warned = |rule: &str| {
        !found(authorization_policy::check, &format!("{{action: DENY, rules: [{rule}]}}")).warnings.is_empty()
    };
    assert!(warned("{to: [{operation: {methods: [GET]}}]}"), "on TCP it denies everything");
    assert!(!warned("{to: [{operation: {methods: [GET], ports: ['80']}}]}"));
}

#[test]
fn peer_authentications() {
    table(
        peer_authentication::check,
        &[
            ("{mtls: {mode: STRICT}}", ""),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'80': {mode: DISABLE}}}", ""),
            ("{portLevelMtls: {'80': {}}}", "mesh/namespace peer authentication cannot have port level mTLS"),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'70000': {}}}", "port must be in range 1..65535"),
        ],
    );
}

#[test]
fn request_authentications() {
    let case = |rest: &str, expected: &str| {
        table(request_authentication::check, &[(&format!("{{jwtRules: [{{issuer: a, {rest}}}]}}"), expected)]);
    };
    case("jwksUri: 'https://a.b/keys'", "");
    case("jwks: '{\"keys\": []}'", "");
    case("jwksUri: 'ftp://a.b/keys'", "URI scheme \"ftp\" is not supported");
    case("jwks: '[]'", "jwks is not a JSON Web Key Set");
    case("jwksUri: 'http://a', jwks: '{\"keys\": []}'", "only one of jwks or jwksUri can be set");
    case("fromHeaders: [{prefix: x}]", "location header name must be non-empty string");
    table(request_authentication::check, &[("{jwtRules: [{}]}", "issuer must be non-empty string")]);
}

#[test]
fn telemetries() {
    let case = |spec: &str, expected: &str| table(telemetry::check, &[(spec, expected)]);
    case("{accessLogging: [{providers: [{name: envoy}], disabled: true}]}", "");
    case("{accessLogging: [{providers: [{}]}]}", "accessLogging: provider name is required");
    case(
        "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: x}}}]}]}",
        "tagOverrides.a: tag value must not be set when operation is REMOVE",
    );
    case("{tracing: [{customTags: {a: {literal: {value: ''}}}}]}", "literal tag value may not be empty");
}

#[test]
fn envoy_filters() {
    let case = |patch: &str, expected: &str| {
        table(envoy_filter::check, &[(&format!("{{configPatches: [{{{patch}}}]}}"), expected)]);
    };
    let value = "patch: {operation: INSERT_BEFORE, value: {name: x}}";
    case(&format!("applyTo: NETWORK_FILTER, match: {{listener: {{portNumber: 80}}}}, {value}"), "");
    case("applyTo: CLUSTER", "Envoy filter: missing patch");
    case("applyTo: CLUSTER, patch: {value: {name: x}}", "Envoy filter: missing patch operation");
    case("applyTo: CLUSTER, patch: {operation: MERGE}", "Envoy filter: missing patch value for non-remove operation");
    case(
        &format!("applyTo: HTTP_FILTER, match: {{cluster: {{}}}}, {value}"),
        "Envoy filter: applyTo for listener class objects cannot have non listener match",
    );
    case(
        &format!(
            "applyTo: HTTP_FILTER, match: {{listener: {{filterChain: {{filter: {{name: a, subFilter: {{name: b}}}}}}}}}}, {value}"
        ),
        "Envoy filter: subfilter match requires filter match with envoy.filters.network.http_connection_manager",
    );
    table(
        envoy_filter::check,
        &[
            ("{filters: [{filterType: HTTP, filterName: a, filterConfig: {}}]}", ""),
            (
                "{filters: [{filterType: HTTP, filterName: a, filterConfig: {}, insertPosition: {index: BEFORE}}]}",
                "Envoy filter: missing relativeTo filter with BEFORE/AFTER index",
            ),
        ],
    );
}

#[test]
fn roles_of_old() {
    table(
        legacy_rbac::check_role,
        &[
            ("{rules: [{services: ['*']}]}", ""),
            ("{}", "at least 1 rule must be specified"),
            ("{rules: [{}]}", "at least 1 service must be specified for rule 0"),
            (
                "{rules: [{services: [a], constraints: [{values: [b]}]}]}",
                "key cannot be empty for constraint 0 in rule 0",
            ),
            (
                "{rules: [{services: [a], constraints: [{key: b}]}]}",
                "at least 1 value must be specified for constraint 0 in rule 0",
            ),
        ],
    );
    table(
        legacy_rbac::check_binding,
        &[
            ("{subjects: [{properties: {source.namespace: a}}], roleRef: {kind: ServiceRole, name: r}}", ""),
            ("{roleRef: {kind: ServiceRole, name: r}}", "at least 1 subject must be specified"),
            ("{subjects: [{}], role: r}", "empty subjects are not allowed. Found an empty subject at index 0"),
            ("{subjects: [{user: '*'}]}", "exactly one of `roleRef`, `role`, or `actions` must be specified"),
        ],
    );
    table(
        legacy_rbac::check_cluster_config,
        &[("{mode: ON}", "ClusterRbacConfig has invalid name(x), name must be \"default\"")],
    );
}

#[test]
fn authentication_of_old() {
    table(
        legacy_authentication::check,
        &[
            ("{targets: [{name: a, ports: [{number: 80}]}], peers: [{mtls: {}}]}", ""),
            ("{peers: [{mtls: {}}]}", "authentication policy \"x\" without target rules must be named \"default\""),
            ("{targets: [{name: a}], origins: [{jwt: {}}]}", "issuer must be non-empty string"),
        ],
    );
    table(
        legacy_authentication::check_mesh,
        &[("{}", "cluster-scoped authentication policy name must be \"default\", found \"x\"")],
    );
}

#[test]
fn service_entries() {
    let entry = |rest: &str| format!("{{hosts: [a.b], ports: [{{number: 80, name: http, protocol: HTTP}}], {rest}}}");
    let case = |rest: &str, expected: &str| table(service_entry::check, &[(&entry(rest), expected)]);
    case("resolution: DNS", "");
    case(
        "addresses: [10.0.0.0/8], resolution: DNS",
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
    );
    case("endpoints: [{address: 1.2.3.4}]", "no endpoints should be provided for resolution type none");
    case("resolution: STATIC, endpoints: [{address: a.b}]", "endpoint address \"a.b\" is not a valid IP address");
    case(
        "resolution: DNS, endpoints: [{address: c.d, ports: {tcp: 9}}]",
        "endpoint port 9 is not defined by the service entry",
    );
    case(
        "resolution: STATIC, endpoints: [], workloadSelector: {labels: {a: b}}",
        "only one of WorkloadSelector or Endpoints is allowed in Service Entry",
    );
    case("exportTo: ['*', a]", "cannot have both public (*) and non-public exportTo values for a resource");
    case("exportTo: [., ns]", "duplicate entries in exportTo for entry ns");
    case("exportTo: ['~']", "");
    table(
        service_entry::check,
        &[
            ("{hosts: []}", "service entry must have at least one host"),
            ("{hosts: ['*']}", "invalid host *"),
            (
                "{hosts: ['*.a'], resolution: DNS}",
                "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode DNS, domain name \"*.a\" invalid (label \"*\" invalid)",
            ),
            (
                "{hosts: [a.b, c.d], resolution: DNS, addresses: [1.1.1.1], ports: [{number: 9, name: tcp, protocol: TCP}]}",
                "multiple hosts provided with non-HTTP, non-TLS ports",
            ),
        ],
    );
}

#[test]
fn destination_rules() {
    table(
        destination_rule::check,
        &[
            ("{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}", ""),
            ("{host: a b}", "domain name \"a b\" invalid (label \"a b\" invalid)"),
            ("{host: a, trafficPolicy: {}}", "traffic policy must have at least one field"),
            ("{host: a, subsets: [{name: v1}, {name: v1}]}", "duplicate subset names: v1"),
            ("{host: a, subsets: [{name: V_1}]}", "subset name is invalid: V_1"),
            (
                "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}",
                "port traffic policy must have at least one field",
            ),
            (
                "{host: a, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: c}}}",
                "private key required for mutual tls",
            ),
            (
                "{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
                "percentage 101 is not in range 0..100",
            ),
        ],
    );
    let warnings = found(destination_rule::check, "{host: a, trafficPolicy: {tls: {}}}").warnings;
    assert!(warnings[0].contains("turns off mutual TLS"), "{warnings:?}");
}

#[test]
fn virtual_services() {
    let tcp = "tcp: [{route: [{destination: {host: a}}]}]";
    let case = |spec: String, expected: &str| table(virtual_service::check, &[(&spec, expected)]);
    case(format!("{{hosts: [a], {tcp}}}"), "");
    case(format!("{{hosts: ['*'], gateways: [gw], {tcp}}}"), "");
    case(
        format!("{{hosts: ['*'], {tcp}}}"),
        "wildcard host * is not allowed for virtual services bound to the mesh gateway",
    );
    case(format!("{{hosts: ['*.b', a.b], {tcp}}}"), "duplicate hosts in virtual service: *.b & a.b");
    table(
        virtual_service::check,
        &[
            ("{hosts: [a]}", "http, tcp or tls must be provided in virtual service"),
            ("{hosts: [a], tcp: [{}]}", "TCP route is required"),
            ("{hosts: [a], http: [{}]}", "HTTP route, redirect or direct_response is required"),
            (
                "{hosts: [a], tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
                "total destination weight = 0",
            ),
            ("{hosts: [a], tcp: [{route: [{weight: 1}]}]}", "destination is required"),
            (
                "{hosts: [a.b], tls: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: a}}]}]}",
                "SNI host \"c.d\" is not a compatible subset of any of the virtual service hosts: [a.b]",
            ),
        ],
    );
}

#[test]
fn sidecars() {
    table(
        sidecar::check,
        &[
            ("{egress: [{hosts: ['./*', 'istio-system/*', '~/*']}]}", ""),
            ("{}", "sidecar: empty configuration provided"),
            ("{egress: [{hosts: []}]}", "sidecar: egress listener must contain at least one host"),
            (
                "{egress: [{hosts: ['./*']}, {port: {number: 80, protocol: HTTP}, hosts: ['./*']}]}",
                "sidecar: the egress listener with empty port should be the last listener in the list",
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP}, defaultEndpoint: '10.0.0.1:80'}]}",
                "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset",
            ),
        ],
    );
}

#[test]
fn gateways() {
    let server = |rest: &str| {
        format!("{{servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], {rest}}}]}}")
    };
    let case = |rest: &str, expected: &str| table(gateway::check, &[(&server(rest), expected)]);
    case("tls: {mode: SIMPLE, credentialName: c}", "");
    case("tls: {mode: PASSTHROUGH}", "");
    case("bind: ''", "server must have TLS settings for HTTPS/TLS protocols");
    case("tls: {mode: MUTUAL, serverCertificate: a, privateKey: b}", "MUTUAL TLS requires a client CA bundle");
    case("tls: {mode: ISTIO_MUTUAL, credentialName: c}", "ISTIO_MUTUAL TLS cannot have associated credentialName");
    table(
        gateway::check,
        &[
            ("{}", "gateway must have at least one server"),
            (
                "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: []}]}",
                "server config must contain at least one host",
            ),
        ],
    );
}

#[test]
fn several_errors_are_listed() {
    let findings = Findings { errors: vec!["a".to_owned(), "b".to_owned()], warnings: Vec::new() };
    assert_eq!(findings.verdict().unwrap(), "2 errors occurred:\n\t* a\n\t* b\n\n");
}

#[test]
fn what_the_schema_does_not_know_is_refused_by_name() {
    let mut findings = Findings::default();
    let rule = json!({"spec": {"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "soon"}}}}});
    decode::<istio::DestinationRule>(&rule, &mut findings);
    assert!(
        findings.errors[0].starts_with("spec.trafficPolicy.connectionPool.tcp.connectTimeout: \"soon\""),
        "{:?}",
        findings.errors
    );
}

#[test]
fn files_are_validated_as_writes_are() {
    let found = |object: Value| -> Vec<(String, String)> {
        let found = validate(&object);
        found.into_iter().map(|f| (format!("{} {}", f.code, f.field), f.message)).collect()
    };
    let object = |spec: Value| {
        json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule", "spec": spec,
            "metadata": {"name": "a", "namespace": "ns"}})
    };
    let duplicate = json!({"host": "a", "subsets": [{"name": "v1"}, {"name": "v1"}]});
    let expected = ("IST0106 spec".to_owned(), "Schema validation error: duplicate subset names: v1".to_owned());
    assert_eq!(found(object(duplicate)), [expected]);
    let timeout = json!({"host": "a", "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "soon"}}}});
    assert_eq!(found(object(timeout))[0].0, "IST0106 spec.trafficPolicy.connectionPool.tcp.connectTimeout");
    let doubtful = json!({"host": "a", "trafficPolicy": {"tls": {}}});
    assert!(found(object(doubtful))[0].0.starts_with("IST0133"));
    assert!(found(json!({"apiVersion": "v1", "kind": "Service"})).is_empty());
}
