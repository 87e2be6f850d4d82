//! Small sets of objects, and what is said about them.

use serde_json::Value;

use super::*;

const WORLD: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio-injection: enabled}}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: two, namespace: shop}, spec: {ports: [{name: http, port: 80}, {name: tcp-b, port: 81}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: shop}
spec: {template: {metadata: {labels: {app: reviews, version: v1}}, spec: {containers: [{name: a, image: b}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: istio-system}
spec: {template: {metadata: {labels: {istio: ingressgateway}}, spec: {containers: [{name: a, image: b}]}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]}
";

fn parse(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// Severity, code, object and message of everything that is found in the world with `more`.
fn found(more: &str) -> Vec<String> {
    let objects: Vec<Value> = parse(WORLD).into_iter().chain(parse(more)).collect();
    let line = |f: &Finding| format!("{:?} [{}] ({}) {} @ {}", f.severity, f.code, f.object, f.message, f.field);
    analyze(&objects).iter().map(line).collect()
}

/// Each of these is found.
#[track_caller]
fn finds(more: &str, expected: &[&str]) {
    let all = found(more);
    for expected in expected {
        assert!(all.iter().any(|line| line.contains(expected)), "no {expected:?} in {all:#?}");
    }
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

#[test]
fn a_sound_world_has_nothing_wrong_with_it() {
    assert_eq!(found(""), Vec::<String>::new());
}

#[test]
fn destinations_that_are_not_there_are_told_in_istios_words() {
    let to = |destination: &str| {
        virtual_service("v", &format!("{{hosts: [reviews], http: [{{route: [{{destination: {destination}}}]}}]}}"))
    };
    finds(
        &to("{host: revews}"),
        &[
            "Error [IST0101] (VirtualService shop/v) Referenced host not found: \"revews\" @ spec.http[0].route[0].destination.host",
        ],
    );
    let subset =
        "Error [IST0101] (VirtualService shop/v) Referenced host+subset in destinationrule not found: \"reviews+v9\"";
    finds(&to("{host: reviews, subset: v9}"), &[subset]);
    finds(
        &to("{host: two}"),
        &["Error [IST0112] (VirtualService shop/v) This VirtualService routes to a service \"two\""],
    );
    let advice = |yaml: &str| {
        let objects: Vec<Value> = parse(WORLD).into_iter().chain(parse(yaml)).collect();
        analyze(&objects).into_iter().find(|f| f.code == "IST0101").and_then(|f| f.fix)
    };
    assert_eq!(advice(&to("{host: revews}")).as_deref(), Some("use \"reviews\""));
    assert_eq!(
        advice(&to("{host: reviews, subset: v9}")).as_deref(),
        Some("define the subset \"v9\", or use one of v1")
    );
    let sound = found(&to("{host: reviews, subset: v1}"));
    assert!(!sound.iter().any(|line| line.contains("IST0101") || line.contains("IST0112")), "{sound:?}");
}

#[test]
fn gateways_are_found_by_every_name_and_have_the_hosts() {
    let route = |gateway: &str, host: &str| {
        let http = "http: [{route: [{destination: {host: reviews}}]}]";
        virtual_service("v", &format!("{{hosts: [{host}], gateways: [{gateway}], {http}}}"))
    };
    for name in ["door", "shop/door", "./door", "door.shop", "door.shop.svc.cluster.local"] {
        assert_eq!(found(&route(name, "shop.example.com")), Vec::<String>::new(), "{name}");
    }
    finds(
        &route("window", "a.b"),
        &["Error [IST0101] (VirtualService shop/v) Referenced gateway not found: \"window\""],
    );
    finds(
        &route("door", "a.b"),
        &[
            "Warning [IST0132] (VirtualService shop/v) one or more host [a.b] defined in VirtualService shop/v not found in Gateway shop/door.",
        ],
    );
}

#[test]
fn a_gateway_needs_a_workload_and_a_certificate_and_its_port_for_itself() {
    let gateway = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let server = "port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]";
    finds(
        &gateway("g", &format!("{{selector: {{istio: nobody}}, servers: [{{{server}}}]}}")),
        &["Error [IST0101] (Gateway shop/g) Referenced selector not found: \"istio=nobody\""],
    );
    let both = gateway("g", &format!("{{selector: {{istio: ingressgateway}}, servers: [{{{server}}}]}}"));
    finds(
        &both,
        &[
            "Error [IST0145] (Gateway shop/g) Conflict with gateways shop/door (workload selector istio=ingressgateway, port 80, hosts shop.example.com).",
            "Error [IST0145] (Gateway shop/door) Conflict with gateways shop/g",
        ],
    );
    let tls = "{selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [x.y], tls: {mode: SIMPLE, credentialName: c}}]}";
    let absent = "Error [IST0101] (Gateway shop/g) Referenced credentialName not found: \"c\"";
    finds(&gateway("g", tls), &[absent]);
    let secret = |data: &str| {
        format!("---\n{{apiVersion: v1, kind: Secret, metadata: {{name: c, namespace: istio-system}}, data: {data}}}\n")
    };
    finds(&(gateway("g", tls) + &secret("{a: b}")), &["Error [IST0161] (Gateway shop/g)"]);
    assert_eq!(found(&(gateway("g", tls) + &secret("{tls.crt: a, tls.key: b}"))), Vec::<String>::new());
}

#[test]
fn virtual_services_for_one_host_conflict_where_both_are_seen() {
    let of = |name: &str, more: &str| {
        virtual_service(
            name,
            &format!("{{hosts: [reviews], {more} http: [{{route: [{{destination: {{host: reviews}}}}]}}]}}"),
        )
    };
    finds(
        &(of("a", "") + &of("b", "")),
        &[
            "Error [IST0109] (VirtualService shop/a) The VirtualServices shop/a,shop/b associated with mesh gateway define the same host reviews.shop.svc.cluster.local",
        ],
    );
    let apart = found(&(of("a", "exportTo: [mall],") + &of("b", "exportTo: [hall],")));
    assert!(!apart.iter().any(|line| line.contains("IST0109")), "{apart:?}");
}

#[test]
fn rules_behind_one_that_takes_everything_are_never_reached() {
    let to = "route: [{destination: {host: reviews}}]";
    let x = "match: [{uri: {prefix: /x}}]";
    finds(
        &virtual_service("v", &format!("{{hosts: [reviews], http: [{{{to}}}, {{{to}}}, {{{x}, {to}}}]}}")),
        &[
            "Warning [IST0130] (VirtualService shop/v) VirtualService rule #1 not used (only the last rule can have no matches).",
            "Warning [IST0130] (VirtualService shop/v) VirtualService rule #2 not used (#0 before it matches everything).",
        ],
    );
    finds(
        &virtual_service("v", &format!("{{hosts: [reviews], http: [{{name: first, {x}, {to}}}, {{{x}, {to}}}]}}")),
        &[
            "Warning [IST0130] (VirtualService shop/v) VirtualService rule #1 not used (all matches used by prior rules).",
            "Info [IST0131] (VirtualService shop/v) VirtualService rule #1 match #0 is not used (duplicate/overlapping match in rule \"first\").",
        ],
    );
}

#[test]
fn destination_rules_are_for_hosts_with_pods() {
    let rule = |spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: shop}}\nspec: {spec}\n"
        )
    };
    finds(
        &rule("{host: nobody.example.com}"),
        &[
            "Warning [IST0174] (DestinationRule shop/d) The host nobody.example.com defined in the DestinationRule does not match any services in the mesh.",
        ],
    );
    finds(
        &rule("{host: reviews, subsets: [{name: v7, labels: {version: v7}}]}"),
        &[
            "Warning [IST0173] (DestinationRule shop/d) The Subset v7 defined in the DestinationRule does not select any pods.",
        ],
    );
    finds(
        &rule(
            "{host: reviews, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 9080}, tls: {mode: MUTUAL, clientCertificate: a, privateKey: b}}]}}",
        ),
        &[
            "Error [IST0128] (DestinationRule shop/d) DestinationRule d in namespace shop has TLS mode set to SIMPLE",
            "Warning [IST0129] (DestinationRule shop/d) DestinationRule d in namespace shop has TLS mode set to MUTUAL",
        ],
    );
}

#[test]
fn selectors_and_sidecars() {
    let object = |kind: &str, name: &str, group: &str, spec: &str| {
        format!(
            "---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let policy =
        object("AuthorizationPolicy", "p", "security", "{selector: {matchLabels: {app: nobody}}, rules: [{}]}");
    finds(
        &policy,
        &[
            "Warning [IST0127] (AuthorizationPolicy shop/p) No matching workloads for this resource with the following labels: app=nobody @ spec.selector",
        ],
    );
    assert_eq!(found(&policy).len(), 1, "the control plane's own words are left out: {:?}", found(&policy));
    let sidecar = |name: &str, selector: &str| {
        object("Sidecar", name, "networking", &format!("{{{selector} egress: [{{hosts: ['./*']}}]}}"))
    };
    finds(
        &(sidecar("a", "") + &sidecar("b", "")),
        &["Error [IST0111] (Sidecar shop/a) The Sidecars [a b] in namespace \"shop\" have no workload selector"],
    );
    let one = "workloadSelector: {labels: {app: reviews}},";
    finds(
        &(sidecar("a", one) + &sidecar("b", one)),
        &["Error [IST0110] (Sidecar shop/b) The Sidecars [a b] in namespace \"shop\""],
    );
}

#[test]
fn pods_and_ports() {
    let pod = |containers: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: shop}}, spec: {{containers: [{containers}]}}}}\n"
        )
    };
    finds(&pod("{name: a}"), &["Warning [IST0103] (Pod shop/p) The pod shop/p is missing the Istio proxy."]);
    assert_eq!(found(&pod("{name: a}, {name: istio-proxy}")), Vec::<String>::new());
    let plain = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: plain}}\n---\n\
        {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: plain}, spec: {containers: [{name: a}]}}\n";
    finds(
        plain,
        &[
            "Info [IST0102] (Namespace /plain) The namespace is not enabled for Istio injection. Run 'kubectl label namespace plain istio-injection=enabled'",
        ],
    );
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {ports: [{name: web, port: 80, targetPort: 8080}]}}\n";
    finds(
        service,
        &[
            "Info [IST0118] (Service shop/s) Port name web (port: 80, targetPort: 8080) doesn't follow the naming convention of Istio port.",
        ],
    );
}

#[test]
fn operations_of_envoy_filters() {
    let filter = |target: &str, operation: &str, priority: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: shop}}\nspec: {{{priority} \
             configPatches: [{{applyTo: {target}, patch: {{operation: {operation}, value: {{name: x}}}}}}]}}\n"
        )
    };
    for (target, operation, code) in [
        ("HTTP_FILTER", "INSERT_BEFORE", "Warning [IST0151] (EnvoyFilter shop/f)"),
        ("CLUSTER", "REPLACE", "Error [IST0152] (EnvoyFilter shop/f)"),
        ("HTTP_ROUTE", "ADD", "Error [IST0153] (EnvoyFilter shop/f)"),
        ("ROUTE_CONFIGURATION", "REMOVE", "Error [IST0154] (EnvoyFilter shop/f)"),
    ] {
        finds(&filter(target, operation, ""), &[code]);
    }
    let prioritized = found(&filter("HTTP_FILTER", "INSERT_BEFORE", "priority: 10,"));
    assert!(!prioritized.iter().any(|line| line.contains("IST0151")), "{prioritized:?}");
}

#[test]
fn entries_for_tcp_need_addresses() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\n\
        spec: {hosts: [a.b], resolution: NONE, ports: [{number: 9, name: tcp, protocol: TCP}]}\n";
    finds(entry, &["Warning [IST0134] (ServiceEntry shop/e) ServiceEntry addresses are required for this protocol."]);
}

#[test]
fn findings_can_be_suppressed() {
    let objects: Vec<Value> = parse(WORLD).into_iter().chain(parse("---\n{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: shop, annotations: {galley.istio.io/analyze-suppress: 'IST0001, IST0103'}}, spec: {containers: [{name: a}]}}\n")).collect();
    let found = analyze(&objects);
    let finding = found.iter().find(|finding| finding.code == "IST0103").unwrap();
    let rule = |text: &str| text.parse::<Suppression>().unwrap().covers(finding);
    assert!(rule("IST0103=Pod p.shop") && rule("*=Pod *.shop") && rule("IST01*=* *"));
    assert!(!rule("IST0102=Pod p.shop") && !rule("IST0103=Pod p.mall"));
    assert!(Suppression::by_annotation(objects.last().unwrap(), finding));
}

/// Severity, code and start of what is found, only with the given code.
#[track_caller]
fn only(more: &str, code: &str, expected: &[&str]) {
    let all: Vec<String> = found(more).into_iter().filter(|line| line.contains(code)).collect();
    assert_eq!(all.len(), expected.len(), "{all:#?}");
    for expected in expected {
        assert!(all.iter().any(|line| line.contains(expected)), "no {expected:?} in {all:#?}");
    }
}

fn deployment(annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: shop}}\nspec: {{template: {{metadata: {{labels: \
         {{app: d}}, annotations: {annotations}}}, spec: {spec}}}}}\n"
    )
}

const CONTAINER: &str = "{containers: [{name: a, image: b}]}";

#[test]
fn annotations_are_known_in_their_place_and_of_the_right_form() {
    let on_service = |annotations: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: shop, annotations: {annotations}}}, spec: {{ports: []}}}}\n"
        )
    };
    let on_pods = |annotations: &str| deployment(annotations, CONTAINER);
    let cases = [
        (
            on_service("{sidecar.istio.io/proxyCPU: 10m}"),
            "IST0107",
            "Warning [IST0107] (Service shop/s) Misplaced annotation: sidecar.istio.io/proxyCPU can only be applied to Pod",
        ),
        (
            on_pods("{sidecar.istio.io/porxyCPU: 10m}"),
            "IST0108",
            "Warning [IST0108] (Deployment shop/d) Unknown annotation: sidecar.istio.io/porxyCPU",
        ),
        (
            on_pods("{traffic.sidecar.istio.io/excludeOutboundPorts: '80,http'}"),
            "IST0125",
            "Warning [IST0125] (Deployment shop/d) Invalid annotation traffic.sidecar.istio.io/excludeOutboundPorts: \"http\" is not a port",
        ),
        (on_pods("{traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/40}"), "IST0125", "is not a CIDR"),
        (on_pods("{sidecar.istio.io/interceptionMode: NEVER}"), "IST0125", "is not one of REDIRECT, TPROXY, NONE"),
        (
            on_pods("{sidecar.istio.io/inject: 'true'}"),
            "IST0135",
            "Info [IST0135] (Deployment shop/d) Annotation \"sidecar.istio.io/inject\" has been deprecated and may not work",
        ),
    ];
    for (yaml, code, expected) in cases {
        only(&yaml, code, &[expected]);
    }
    let sound = on_service("{networking.istio.io/exportTo: ., example.com/own: x}")
        + &on_pods(
            "{traffic.sidecar.istio.io/excludeOutboundPorts: '80, 81', traffic.sidecar.istio.io/includeOutboundIPRanges: '*'}",
        );
    assert_eq!(found(&sound), Vec::<String>::new());
}

#[test]
fn services_agree_about_a_workloads_ports() {
    let service = |name: &str, port: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, spec: {{selector: {{app: d}}, ports: [{port}]}}}}\n"
        )
    };
    let world = |a: &str, b: &str| deployment("{}", CONTAINER) + &service("a", a) + &service("b", b);
    only(
        &world("{name: http, port: 80, targetPort: 8080}", "{name: tcp, port: 80, targetPort: 8080}"),
        "IST0116",
        &[
            "Warning [IST0116] (Deployment shop/d) This deployment shop/d is associated with multiple services using port 8080 but different protocols: [shop/a shop/b]",
        ],
    );
    only(
        &world("{name: http, port: 80, targetPort: 8080}", "{name: http, port: 81, targetPort: 8080}"),
        "IST0137",
        &[
            "Warning [IST0137] (Deployment shop/d) This deployment shop/d is associated with multiple services [shop/a shop/b] using targetPort \"8080\" but different ports: [80 81].",
        ],
    );
    let sound = world("{name: http, port: 80, targetPort: 8080}", "{name: tcp, port: 81, targetPort: 8081}");
    assert_eq!(found(&sound), Vec::<String>::new());
}

#[test]
fn nobody_but_the_sidecar_is_user_1337() {
    let as_user = |container: &str| {
        deployment(
            "{}",
            &format!("{{containers: [{{name: {container}, image: b, securityContext: {{runAsUser: 1337}}}}]}}"),
        )
    };
    only(
        &as_user("a"),
        "IST0144",
        &[
            "Warning [IST0144] (Deployment shop/d) User ID (UID) 1337 is reserved for the sidecar proxy. @ spec.template.spec.containers[0].securityContext.runAsUser",
        ],
    );
    only(
        &deployment("{}", "{securityContext: {runAsUser: 1337}, containers: [{name: a}]}"),
        "IST0144",
        &["spec.template.spec.securityContext"],
    );
    only(&as_user("istio-proxy"), "IST0144", &[]);
}

#[test]
fn namespaces_say_once_whether_pods_get_sidecars() {
    let namespace =
        |labels: &str| format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: x, labels: {labels}}}}}\n");
    only(
        &namespace("{istio-injection: enabled, istio.io/rev: canary}"),
        "IST0123",
        &[
            "Warning [IST0123] (Namespace /x) The namespace has more than one type of injection labels [istio-injection istio.io/rev], which may lead",
        ],
    );
    only(&namespace("{istio.io/rev: canary}"), "IST0123", &[]);
}

#[test]
fn policies_need_a_sidecar() {
    let policy = "---\n{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: bare}, spec: {rules: [{}]}}\n";
    let pod = |container: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: bare}}, spec: {{containers: [{{name: {container}}}]}}}}\n"
        )
    };
    only(
        &(policy.to_owned() + &pod("a")),
        "IST0167",
        &[
            "Warning [IST0167] (AuthorizationPolicy bare/p) The policy has no impact: none of the selected workloads has a sidecar.",
        ],
    );
    only(&(policy.to_owned() + &pod("istio-proxy")), "IST0167", &[]);
    only(policy, "IST0167", &[]);
    let ambient = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: bare, labels: {istio.io/dataplane-mode: ambient}}}\n---\n\
        {apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s, namespace: bare}, spec: {}}\n";
    only(
        ambient,
        "IST0167",
        &["(Sidecar bare/s) The policy has no impact: namespace is in ambient mode, the policy has no impact."],
    );
}

#[test]
fn gateways_share_no_certificate_and_ask_for_tokens_by_which_routes_go() {
    let gateway = |name: &str, secret: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{istio: \
             ingressgateway}}, servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{name}.test], tls: {{mode: SIMPLE, \
             credentialName: {secret}}}}}]}}\n"
        )
    };
    let expected = "Duplicate certificate in multiple gateways [shop/g shop/h] may cause 404s if clients re-use HTTP2 connections.";
    only(&(gateway("g", "same") + &gateway("h", "same")), "IST0138", &[expected, expected]);
    only(&(gateway("g", "one") + &gateway("h", "two")), "IST0138", &[]);
    let route = virtual_service(
        "v",
        "{hosts: [shop.example.com], gateways: [door], http: [{match: [{headers: {'@request.auth.claims.group': {exact: a}}}], route: [{destination: {host: reviews}}]}]}",
    );
    only(
        &route,
        "IST0149",
        &[
            "Error [IST0149] (VirtualService shop/v) The virtual service uses the JWT claim based routing (key: @request.auth.claims.group) but found no request authentication for the gateway (shop/door) pod (istio=ingressgateway).",
        ],
    );
    let tokens = "---\n{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: r, namespace: istio-system}, spec: {selector: {matchLabels: {istio: ingressgateway}}, jwtRules: [{issuer: a, jwks: '{\"keys\":[]}'}]}}\n";
    only(&(route + tokens), "IST0149", &[]);
}

#[test]
fn routes_for_sidecars_do_not_hold_at_gateways() {
    let inside =
        virtual_service("inside", "{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}");
    let outside = |subset: &str| {
        virtual_service(
            "outside",
            &format!(
                "{{hosts: [shop.example.com], gateways: [door], http: [{{route: [{{destination: {{host: reviews{subset}}}}}]}}]}}"
            ),
        )
    };
    only(
        &(inside.clone() + &outside("")),
        "IST0140",
        &[
            "Warning [IST0140] (VirtualService shop/inside) Subset in virtual service shop/inside has no effect on ingress gateway shop/outside requests",
        ],
    );
    only(&(inside + &outside(", subset: v1")), "IST0140", &[]);
}

#[test]
fn ports_of_external_names_and_of_entries() {
    let external = |port: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: x, namespace: shop}}, spec: {{type: ExternalName, externalName: a.b, ports: [{{name: {port}, port: 80}}]}}}}\n"
        )
    };
    let invalid = "Warning [IST0150] (Service shop/x) Port name for ExternalName service is invalid. Proxy may prevent tcp named ports";
    only(&external("tcp"), "IST0150", &[invalid]);
    only(&external("web"), "IST0150", &[invalid]);
    assert_eq!(found(&external("http")), Vec::<String>::new());
    let entry = |name: &str, protocol: &str, export: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{hosts: [a.test], \
             {export} resolution: DNS, ports: [{{number: 443, name: p, protocol: {protocol}}}]}}\n"
        )
    };
    let both = "Multiple ServiceEntries (shop/a, shop/b) define the same host \"a.test\" and port 443 with conflicting protocols (HTTP, TLS).";
    only(&(entry("a", "HTTP", "") + &entry("b", "TLS", "")), "IST0177", &[both, both]);
    only(&(entry("a", "TLS", "") + &entry("b", "TLS", "")), "IST0177", &[]);
    only(&(entry("a", "HTTP", "exportTo: [mall],") + &entry("b", "TLS", "exportTo: [hall],")), "IST0177", &[]);
}

#[test]
fn patches_for_a_version_of_proxies_have_a_priority() {
    let filter = |proxy: &str, priority: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: shop}}\nspec: {{{priority} configPatches: \
             [{{applyTo: CLUSTER, match: {{proxy: {proxy}}}, patch: {{operation: MERGE, value: {{}}}}}}]}}\n"
        )
    };
    only(
        &filter("{proxyVersion: '^1.*'}", ""),
        "IST0155",
        &[
            "Warning [IST0155] (EnvoyFilter shop/f) This EnvoyFilter does not have a priority and has a relative patch operation",
        ],
    );
    only(&filter("{proxyVersion: '^1.*'}", "priority: 10,"), "IST0155", &[]);
    only(&filter("{}", ""), "IST0155", &[]);
}
