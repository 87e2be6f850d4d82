//! Patches in Envoy's own words.

use xds::Resources;

use crate::authorization::verdicts;
use crate::call::{Caller, proxied};
use crate::world::{assert_found, chains, found, node, told, world};

const C1: &str = "spiffe://cluster.local/ns/istio-private-gateways/sa/c1";
const OTHER: &str = "spiffe://cluster.local/ns/bar/sa/other";

fn filter(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: foo}}\nspec:\n{spec}"
    )
}

/// A filter of RBAC as walkthroughs of Istio 1.3 write it, beside another filter.
fn rbac_beside(neighbour: &str, rest: &str) -> String {
    filter(&format!(
        "  workloadLabels: {{app: tcp-echo}}
  configPatches:
  - applyTo: NETWORK_FILTER
    match: {{context: SIDECAR_INBOUND, listener: {{portNumber: 9000, filterChain: {{filter: {{name: {neighbour}}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.network.rbac
        config:
          {rest}
          rules:
            policies:
              c1:
                permissions: {{and_rules: {{rules: [{{destination_port: 9000}}]}}}}
                principals: {{and_ids: {{ids: [{{authenticated: {{principal_name: {{exact: '{C1}'}}}}}}]}}}}
"
    ))
}

#[track_caller]
fn assert_verdicts(objects: &str, c1: &str, other: &str) {
    assert_eq!(verdicts(objects, &proxied(C1)), c1, "{objects}");
    assert_eq!(verdicts(objects, &proxied(OTHER)), other, "{objects}");
}

#[test]
fn an_old_filter_of_rbac_stands_where_mixer_was() {
    let objects = rbac_beside("mixer", "stat_prefix: tcp.");
    let of_port = chains(&told("tcp-echo", &objects), "virtualInbound");
    let of_port: Vec<_> = of_port.iter().filter(|chain| chain.contains("port=9000")).collect();
    assert!(!of_port.is_empty() && of_port.iter().all(|chain| chain.ends_with("rbac tcp_proxy")), "{of_port:?}");
    assert_verdicts(&objects, "+++", "-++");
    assert_eq!(found("tcp-echo", &objects), [""; 0]);
}

#[test]
fn what_authorizes_never_leaves_a_listener_open() {
    let lost = rbac_beside("envoy.filters.network.none", "stat_prefix: tcp.");
    assert_verdicts(&lost, "+++", "-++");
    assert_found("tcp-echo", &lost, "have no filter \"envoy.filters.network.none\": it authorizes, so it is put first");
    let unreadable = rbac_beside("mixer", "stat_prefixx: tcp.");
    assert_verdicts(&unreadable, "-++", "-++");
    assert_found("tcp-echo", &unreadable, "it refuses everything instead");
    let of_requests = filter(
        "  filters:
  - listenerMatch: {portNumber: 9000, listenerType: SIDECAR_INBOUND}
    filterName: envoy.filters.http.rbac
    filterType: HTTP
    filterConfig: {rules: {action: ALLOW, policies: {a: {permissions: [{any: true}], principals: [{any: true}]}}}}
",
    );
    assert_verdicts(&of_requests, "-++", "-++");
    assert_found("tcp-echo", &of_requests, "which have no filters of requests: it authorizes");
}

#[test]
fn what_might_have_authorized_refuses_until_it_can_be_read() {
    let objects = filter("  workloadSelector: {labels: {app: tcp-echo}}\n  configPatches: {rbac: 1}\n");
    assert_verdicts(&objects, "---", "---");
    assert_found("tcp-echo", &objects, "Until it can be read, the workloads that it selects refuse everybody");
    assert_eq!(told("sleep", &objects).listeners, told("sleep", "").listeners);
}

#[test]
fn other_filters_without_their_place_do_nothing_and_say_so() {
    let objects = filter(
        "  configPatches:
  - applyTo: NETWORK_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: none}}}}
    patch: {operation: INSERT_BEFORE, value: {name: envoy.echo}}
",
    );
    assert_eq!(told("tcp-echo", &objects).listeners, told("tcp-echo", "").listeners);
    assert_found("tcp-echo", &objects, "have no filter \"none\": the patch has no effect there");
}

fn cluster<'a>(resources: &'a Resources, name: &str) -> &'a envoy::envoy::config::cluster::v3::Cluster {
    &resources.clusters[name]
}

#[test]
fn clusters_are_merged_removed_and_added_in_order() {
    const NAME: &str = "outbound|9000||tcp-echo.foo.svc.cluster.local";
    let objects = filter(&format!(
        "  configPatches:
  - applyTo: CLUSTER
    match: {{context: SIDECAR_OUTBOUND, cluster: {{service: tcp-echo.foo.svc.cluster.local, portNumber: 9001}}}}
    patch: {{operation: MERGE, value: {{connect_timeout: 3s, upstreamConnectionOptions: {{tcpKeepalive: {{}}}}}}}}
  - applyTo: CLUSTER
    match: {{context: SIDECAR_OUTBOUND, cluster: {{name: '{NAME}'}}}}
    patch: {{operation: REMOVE}}
  - applyTo: CLUSTER
    match: {{context: SIDECAR_OUTBOUND}}
    patch:
      operation: ADD
      value: {{name: '{NAME}', type: STRICT_DNS, connect_timeout: 1s, load_assignment: {{cluster_name: a, endpoints: []}}}}
"
    ));
    let patched = told("sleep", &objects);
    let merged = cluster(&patched, "outbound|9001||tcp-echo.foo.svc.cluster.local");
    assert_eq!(merged.connect_timeout.unwrap().seconds, 3);
    assert!(merged.upstream_connection_options.is_some() && merged.eds_cluster_config.is_some());
    assert_eq!(cluster(&patched, NAME).connect_timeout.unwrap().seconds, 1);
    assert!(!patched.endpoints.contains_key(NAME));
    let untouched = told("sleep", "");
    assert_eq!(cluster(&patched, "PassthroughCluster"), cluster(&untouched, "PassthroughCluster"));
}

#[test]
fn the_mesh_goes_before_the_namespace_and_priorities_before_ages() {
    let of = |namespace: &str, name: &str, priority: i32, timeout: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  priority: {priority}
  configPatches:
  - applyTo: CLUSTER
    match: {{cluster: {{name: PassthroughCluster}}}}
    patch: {{operation: MERGE, value: {{connect_timeout: {timeout}}}}}
"
        )
    };
    let last = |objects: &[String]| {
        let resources = told("sleep", &objects.concat());
        cluster(&resources, "PassthroughCluster").connect_timeout.unwrap().seconds
    };
    assert_eq!(last(&[of("foo", "a", 0, "1s"), of("istio-system", "b", 9, "2s")]), 1);
    assert_eq!(last(&[of("foo", "a", 5, "1s"), of("foo", "b", 0, "2s")]), 1);
    assert_eq!(last(&[of("foo", "a", 0, "1s"), of("foo", "b", 0, "2s")]), 2);
}

#[test]
fn only_the_selected_are_of_a_class_of_their_own() {
    let objects = rbac_beside("mixer", "stat_prefix: tcp.");
    let classes = |objects: &str| {
        let mesh = world(objects);
        (mesh.outbound_class(&node("sleep")), mesh.outbound_class(&node("tcp-echo")))
    };
    let (sleep, echo) = classes("");
    assert_eq!(sleep, echo);
    assert_eq!(classes(&objects).0, sleep);
    assert_ne!(classes(&objects).1, echo);
}

#[test]
fn equal_objects_make_equal_resources() {
    let objects = rbac_beside("mixer", "stat_prefix: tcp.");
    let first = told("tcp-echo", &objects);
    assert!((0..5).all(|_| told("tcp-echo", &objects) == first));
}

#[test]
fn what_cannot_be_patched_is_said() {
    for (kind, expected) in [("BOOTSTRAP", "is not supported"), ("EXTENSION_CONFIG", "is not supported")] {
        let objects =
            filter(&format!("  configPatches: [{{applyTo: {kind}, patch: {{operation: ADD, value: {{name: a}}}}}}]\n"));
        assert_found("tcp-echo", &objects, expected);
    }
    let objects = filter("  configPatches: [{applyTo: CLUSTER, patch: {operation: INSERT_FIRST, value: {name: a}}}]\n");
    assert_found("tcp-echo", &objects, "InsertFirst is not for clusters");
    assert_eq!(verdicts(&objects, &Caller::default()), "+++");
}
