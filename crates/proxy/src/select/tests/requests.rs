//! Requests through a gateway as Istio configures it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy::TypeUrl;

use super::super::request::{Call, Fate, RequestSelection, request};
use super::super::{Arrival, Connection, Outcome};
use crate::tests::accept;
use crate::{DynamicMetadata, Snapshot};

const LISTENER: &str = "name: 0.0.0.0_8080\naddress: {socket_address: {address: 0.0.0.0, port_value: 8080}}\n\
    filter_chains: [{filters: [{name: http, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
    stat_prefix: s, rds: {config_source: {ads: {}}, route_config_name: http.8080}, http_filters: [{name: rbac, \
    typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, \
    policies: {'ns[foo]-policy[p]-rule[0]': {permissions: [{url_path: {path: {prefix: /admin}}}], principals: [{any: \
    true}]}}}}}, {name: router, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]\n";

const ROUTES: &str = "name: http.8080\nvirtual_hosts:\n\
    - name: reviews\n  domains: ['reviews', '*.reviews.com']\n  routes:\n  \
    - {match: {prefix: /admin/open}, route: {cluster: v1}, typed_per_filter_config: {rbac: {\"@type\": \
      type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute}}}\n  \
    - {name: jason, match: {prefix: /, headers: [{name: end-user, string_match: {exact: jason}}]}, route: {cluster: \
      v2, prefix_rewrite: /r/, host_rewrite_literal: other}}\n  \
    - {match: {path: /gone}, route: {cluster: nowhere}}\n  \
    - {match: {path: /empty}, route: {cluster: empty}}\n  \
    - {match: {path: /old}, redirect: {path_redirect: /new}}\n  \
    - {match: {path: /teapot}, direct_response: {status: 418, body: {inline_string: short}}}\n  \
    - {name: split, match: {prefix: /split}, route: {weighted_clusters: {clusters: [{name: v1, weight: 90}, {name: \
      v2, weight: 10, host_rewrite_literal: canary}]}}}\n\
    - name: secure\n  domains: [secure]\n  require_tls: ALL\n  routes: [{match: {prefix: /}, route: {cluster: v1}}]\n";

fn cluster(name: &str, endpoint: &str) -> String {
    let endpoints = match endpoint {
        "" => String::new(),
        ip => format!(
            "{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: 80}}}}}}}}]}}"
        ),
    };
    format!("name: {name}\nload_assignment: {{cluster_name: {name}, endpoints: [{endpoints}]}}\n")
}

fn gateway() -> Snapshot {
    let clusters = [cluster("v1", "10.0.0.1"), cluster("v2", "10.0.0.2"), cluster("empty", "")];
    let snapshot = clusters.iter().fold(Snapshot::default(), |s, yaml| accept(&s, TypeUrl::Cluster, yaml));
    let snapshot = accept(&snapshot, TypeUrl::Listener, LISTENER);
    accept(&snapshot, TypeUrl::Route, ROUTES)
}

/// What comes of a request, in a few words.
fn fate(selection: &RequestSelection<'_>) -> String {
    match &selection.fate {
        Fate::NotReached => "not reached".to_owned(),
        Fate::Answered(reply) => {
            let flag = reply.flag.map_or("-", |flag| flag.short());
            let body = String::from_utf8_lossy(&reply.body);
            let location = reply.location.as_deref().unwrap_or_default();
            format!("{} {flag} {} {body}{location}", reply.status.as_u16(), reply.details)
        }
        Fate::Forwarded { cluster, targets, path, authority, .. } => {
            format!("{} {} {}{path}", cluster.name, targets[0].address, authority.as_deref().unwrap_or("?"))
        }
    }
}

fn of(snapshot: &Snapshot, random: u64, target: &str, user: &str) -> String {
    let address: SocketAddr = "10.0.0.9:8080".parse().unwrap();
    let connection = Connection {
        arrival: Arrival::At(address),
        destination: address,
        source: "10.0.0.7:1234".parse().unwrap(),
        spoken: None,
        hello: None,
        identities: &[],
        random,
    };
    let builder = http::Request::builder().uri(target).header("end-user", user);
    let parts = builder.body(()).unwrap().into_parts().0;
    let remote: IpAddr = "10.0.0.7".parse().unwrap();
    let selection = request(
        snapshot,
        &Call { connection, parts: &parts, remote, metadata: &DynamicMetadata::default(), time: Duration::ZERO },
    );
    assert!(matches!(selection.connection.outcome, Outcome::Http(_)));
    fate(&selection)
}

#[test]
fn a_request_is_followed_to_its_end() {
    let snapshot = gateway();
    let cases = [
        ("http://reviews/x?q", "jason", "v2 10.0.0.2:80 other/r/x?q"),
        ("http://a.reviews.com/split", "", "v1 10.0.0.1:80 a.reviews.com/split"),
        ("http://reviews/gone", "", "503 NC cluster_not_found "),
        ("http://reviews/empty", "", "503 UH no_healthy_upstream no healthy upstream"),
        ("http://reviews/none", "", "404 NR route_not_found "),
        ("http://nobody/", "", "404 NR route_not_found "),
        ("http://reviews/old?q", "", "301 - direct_response http://reviews/new?q"),
        ("http://reviews/teapot", "", "418 - direct_response short"),
        (
            "http://reviews/admin",
            "jason",
            "403 - rbac_access_denied_matched_policy[ns[foo]-policy[p]-rule[0]] RBAC: access denied",
        ),
        ("http://reviews/admin/open", "jason", "v1 10.0.0.1:80 reviews/admin/open"),
        ("http://secure/a?b", "", "301 - direct_response https://secure/a?b"),
    ];
    for (target, user, expected) in cases {
        assert_eq!(of(&snapshot, 0, target, user), expected, "{target}");
    }
    assert_eq!(of(&snapshot, 90, "http://reviews/split", ""), "v2 10.0.0.2:80 canary/split");
}

#[test]
fn without_its_routes_a_listener_answers_that_there_is_none() {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, LISTENER);
    let snapshot = snapshot.without_endpoints(Duration::ZERO, |_, _| Duration::ZERO);
    assert_eq!(of(&snapshot, 0, "http://reviews/", ""), "404 NR route_not_found ");
}
