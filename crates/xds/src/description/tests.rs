//! A small world, described.

use serde_json::Value;

use super::*;
use crate::Objects;

const WORLD: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {selector: {app: reviews}, clusterIP: 10.0.0.1, ports: [{name: http, port: 9080, targetPort: 8080}, {name: admin, port: 81}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: reviews-1, namespace: shop}}]
ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, namespace: shop, labels: {app: reviews, version: v1, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: door-1, namespace: istio-system, labels: {istio: door, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: istio-proxy, args: [proxy, router]}]}
status: {podIP: 10.1.0.2}
---
{apiVersion: v1, kind: Service, metadata: {name: door, namespace: istio-system}, spec: {selector: {istio: door}, clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}, status: {loadBalancer: {ingress: [{ip: 198.18.1.2}]}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule, namespace: shop}
spec: {host: reviews, trafficPolicy: {tls: {mode: DISABLE}}, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: shop}
spec: {hosts: [reviews], http: [{match: [{headers: {end-user: {exact: jason}}}], fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}}, route: [{destination: {host: reviews, subset: v1}}]}, {route: [{destination: {host: reviews, subset: v9}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: shop}
spec: {hosts: [shop.example.com], gateways: [door], http: [{match: [{uri: {prefix: /reviews}}], route: [{destination: {host: reviews}}]}, {route: [{destination: {host: other}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec: {selector: {istio: door}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example.com", other.test]}]}
---
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: strict, namespace: shop}, spec: {mtls: {mode: STRICT}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {selector: {matchLabels: {app: reviews}}, action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]}
---
{apiVersion: rbac.istio.io/v1alpha1, kind: ClusterRbacConfig, metadata: {name: default}, spec: {mode: ON}}
---
{apiVersion: rbac.istio.io/v1alpha1, kind: ServiceRole, metadata: {name: viewer, namespace: shop}, spec: {rules: [{services: ["*"]}]}}
"#;

fn mesh() -> Mesh {
    let all: Vec<Value> = serde_saphyr::from_multiple(WORLD).unwrap();
    let mut objects = Objects::default();
    all.into_iter().for_each(|object| objects.insert(object));
    Mesh::new(&objects)
}

#[test]
fn a_pod_is_described_with_everything_that_applies_to_it() {
    let pod = pod(&mesh(), &NamespacedName::new("shop", "reviews-1")).unwrap();
    assert_eq!((pod.proxy, pod.ports[0].port), (Some("sidecar"), 8080));
    let [service] = pod.services.as_slice() else { panic!("{:?}", pod.services) };
    let ports: Vec<_> = service.ports.iter().map(|p| (p.port, p.protocol, p.target.as_str(), p.endpoints)).collect();
    assert_eq!(ports, [(9080, "HTTP", "8080", 1), (81, "auto-detect", "81", 0)]);
    assert_eq!(service.ports[0].client_tls, "none, by the DestinationRule");
    let rule = service.destination_rule.as_ref().unwrap();
    let subsets: Vec<_> = rule.subsets.iter().map(|subset| (subset.name.as_str(), subset.matches)).collect();
    assert_eq!((rule.object.as_str(), subsets), ("DestinationRule shop/rule", vec![("v1", true), ("v2", false)]));
    let rules = &service.virtual_service.as_ref().unwrap().rules;
    assert_eq!(rules[0].matches, ["header end-user=jason"]);
    assert_eq!(
        (&rules[0].to[0], &rules[0].also),
        (&"host \"reviews\" subset \"v1\" with weight 100%".to_owned(), &vec!["fault: delay"])
    );
    let roles = service.roles.as_ref().unwrap();
    assert!(roles.enforced && roles.roles == ["ServiceRole shop/viewer"], "{roles:?}");
    assert_eq!(pod.policy.mutual_tls, "STRICT");
    assert_eq!(pod.policy.peer_authentications, ["PeerAuthentication shop/strict"]);
    assert_eq!(pod.policy.authorization_policies, ["DENY AuthorizationPolicy shop/readers"]);
    for warning in [
        "port 81 of Service shop/reviews says no protocol",
        "callers of port 9080 do not use mutual TLS, as DestinationRule shop/rule says",
        "VirtualService shop/inside spec.http[1].route[0].destination",
    ] {
        assert!(pod.warnings.iter().any(|found| found.starts_with(warning)), "{warning}: {:#?}", pod.warnings);
    }
}

#[test]
fn a_service_is_exposed_by_the_rules_that_lead_to_it() {
    let all = services(&mesh(), &NamespacedName::new("shop", "reviews"));
    let [ServiceDescription { service, workloads }] = all.as_slice() else { panic!("{all:?}") };
    let [exposure] = service.exposures.as_slice() else { panic!("{:?}", service.exposures) };
    assert_eq!(
        (exposure.gateway.as_str(), exposure.addresses.as_slice()),
        ("Gateway shop/door", &["198.18.1.2".to_owned()][..])
    );
    assert_eq!(exposure.servers, ["80/HTTP *.example.com"]);
    let routes = exposure.routes.as_ref().unwrap();
    assert_eq!((routes.object.as_str(), routes.rules.len()), ("VirtualService shop/outside", 1));
    assert_eq!(routes.rules[0].matches, ["/reviews*"]);
    assert_eq!((workloads.len(), workloads[0].pods.as_slice()), (1, &["reviews-1".to_owned()][..]));
    assert!(
        service.warnings.iter().any(|w| w == "port 81 of Service shop/reviews has no endpoint"),
        "{:?}",
        service.warnings
    );
    assert!(services(&mesh(), &NamespacedName::new("default", "reviews")).is_empty());
}

#[test]
fn a_pod_without_a_sidecar_is_told_apart() {
    let mut objects = mesh().objects().clone();
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: shop}, spec: {containers: []}, status: {podIP: 10.1.0.9}}";
    objects.insert(serde_saphyr::from_str(pod).unwrap());
    let bare = super::pod(&Mesh::new(&objects), &NamespacedName::new("shop", "bare")).unwrap();
    assert!(bare.proxy.is_none() && bare.warnings[0].contains("no sidecar"), "{bare:?}");
    assert!(super::pod(&mesh(), &NamespacedName::new("shop", "nobody")).is_none());
}
