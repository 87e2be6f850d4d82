//! What filters say of requests.

use std::time::Duration;

use envoy::TypeUrl;
use http::{HeaderMap, HeaderValue};

use super::super::request::{Call, Fate, RequestSelection, request};
use super::super::{Arrival, Connection};
use crate::tests::accept;
use crate::{DynamicMetadata, Snapshot};

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http";

/// A gateway with one filter before the router, or more of them.
fn gateway(filters: &str) -> Snapshot {
    let router = format!("{{name: router, typed_config: {{\"@type\": {FILTER}.router.v3.Router}}}}");
    let manager =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let routes = "name: r\nrequest_headers_to_add: [{header: {key: x-added, value: 'yes'}}]\nvirtual_hosts: [{name: all, \
                  domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: up}}]}]\n";
    let listener = format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 80}}}}\nfilter_chains: [{{filters: [{{name: \
         http, typed_config: {{\"@type\": {manager}, stat_prefix: s, rds: {{config_source: {{ads: {{}}}}, \
         route_config_name: r}}, http_filters: [{filters}, {router}]}}}}]}}]\n"
    );
    let cluster = "name: up\nload_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: \
                   {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}\n";
    let snapshot = accept(&Snapshot::default(), TypeUrl::Cluster, cluster);
    let snapshot = accept(&snapshot, TypeUrl::Listener, &listener);
    accept(&snapshot, TypeUrl::Route, routes)
}

fn ask<T>(filters: &str, target: &str, headers: &[(&str, &str)], then: impl Fn(&RequestSelection<'_>) -> T) -> T {
    let snapshot = gateway(filters);
    let address = "10.0.0.9:80".parse().unwrap();
    let connection = Connection {
        arrival: Arrival::At(address),
        destination: address,
        source: "10.0.0.7:1234".parse().unwrap(),
        spoken: None,
        hello: None,
        identities: &[],
        random: 0,
    };
    let head = http::Request::builder().uri(target);
    let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, *value));
    let parts = head.body(()).unwrap().into_parts().0;
    let metadata = DynamicMetadata::default();
    let time = Duration::from_secs(1_800_000_000);
    let call = Call { connection, parts: &parts, remote: connection.source.ip(), metadata: &metadata, time };
    then(&request(&snapshot, &call))
}

fn told(selection: &RequestSelection<'_>) -> String {
    let undecided: Vec<&str> = selection.undecided.iter().map(|filter| &*filter.name).collect();
    match &selection.fate {
        Fate::Answered(reply) => format!("{} {}", reply.status.as_u16(), reply.details),
        Fate::Forwarded { .. } => format!("on {}", undecided.join(",")).trim().to_owned(),
        Fate::NotReached => "not reached".to_owned(),
    }
}

/// As the control plane has it for an AuthorizationPolicy with the action CUSTOM.
const CUSTOM: &str = "{name: marks, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, \
    shadow_rules_stat_prefix: asked_, shadow_rules: {action: DENY, policies: {'istio-ext-authz-p': {permissions: [{url_path: \
    {path: {prefix: /secret}}}], principals: [{any: true}]}}}}}, {name: asks, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, transport_api_version: V3, grpc_service: \
    {envoy_grpc: {cluster_name: up}, timeout: 1s}, filter_enabled_metadata: {filter: envoy.filters.http.rbac, path: [{key: \
    asked_shadow_effective_policy_id}], value: {string_match: {prefix: istio-ext-authz-}}}}}";

#[test]
fn a_server_is_asked_about_requests_that_rules_have_marked() {
    assert_eq!(ask(CUSTOM, "http://host/secret/1", &[], told), "on asks");
    assert_eq!(ask(CUSTOM, "http://host/open", &[], told), "on");
}

#[test]
fn a_token_is_checked_with_keys_that_are_there() {
    let authn = |keys: &str| {
        format!(
            "{{name: jwt, typed_config: {{\"@type\": {FILTER}.jwt_authn.v3.JwtAuthentication, providers: {{p: {{issuer: me, \
             {keys}}}}}, rules: [{{match: {{prefix: /}}, requires: {{requires_any: {{requirements: [{{provider_name: p}}, \
             {{allow_missing: {{}}}}]}}}}}}]}}}}"
        )
    };
    let local = authn("local_jwks: {inline_string: '{\"keys\": []}'}");
    let uri = "uri: 'http://keys/', cluster: up, timeout: 1s";
    let remote = authn(&format!("remote_jwks: {{http_uri: {{{uri}}}}}"));
    // {"alg":"HS256"}.{"iss":"me"}, signed by nobody.
    let token = [("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJtZSJ9.AAAA")];
    assert_eq!(ask(&local, "http://host/", &[], told), "on");
    assert!(ask(&local, "http://host/", &token, told).starts_with("401 jwt_authn_access_denied{"));
    assert_eq!(ask(&remote, "http://host/", &[], told), "on");
    assert_eq!(ask(&remote, "http://host/", &token, told), "on jwt");
}

#[test]
fn a_fault_for_every_request_decides_and_one_for_some_is_told() {
    let fault = |percent: u32| {
        format!(
            "{{name: fault, typed_config: {{\"@type\": {FILTER}.fault.v3.HTTPFault, headers: [{{name: who, present_match: \
             true}}], abort: {{http_status: 555, percentage: {{numerator: {percent}}}}}}}}}"
        )
    };
    let injected = |s: &RequestSelection<'_>| (told(s), s.faults.len());
    assert_eq!(ask(&fault(100), "http://host/", &[("who", "x")], injected), ("555 fault_filter_abort".to_owned(), 1));
    assert_eq!(ask(&fault(100), "http://host/", &[], injected), ("on".to_owned(), 0));
    assert_eq!(ask(&fault(10), "http://host/", &[("who", "x")], injected), ("on".to_owned(), 1));
}

#[test]
fn upstream_gets_the_headers_that_routes_add() {
    let headers = |s: &RequestSelection<'_>| match &s.fate {
        Fate::Forwarded { headers, .. } => headers.clone(),
        _ => HeaderMap::new(),
    };
    let headers = ask(
        "{name: cors, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}",
        "http://host/",
        &[("a", "b")],
        headers,
    );
    assert_eq!(
        (&headers["a"], &headers["x-added"]),
        (&HeaderValue::from_static("b"), &HeaderValue::from_static("yes"))
    );
}
