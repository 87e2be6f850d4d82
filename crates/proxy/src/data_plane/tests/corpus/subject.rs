//! What the requests of the corpus are sent to.

use serde_json::{Value, json};

use super::super::cluster;
use super::upstream::Upstreams;

/// Listeners, and what is special about the connection manager of each.
pub(super) const LISTENERS: [(&str, &str); 14] = [
    // What Istio sets up for a sidecar, with each value of `pathNormalization`.
    ("none", "normalize_path: false"),
    ("base", "normalize_path: true"),
    ("merge", "normalize_path: true, merge_slashes: true"),
    ("decode", "normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"),
    ("rejecting", "normalize_path: true, path_with_escaped_slashes_action: REJECT_REQUEST"),
    ("redirecting", "normalize_path: true, path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"),
    ("underscores-refused", "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}"),
    ("underscores-dropped", "common_http_protocol_options: {headers_with_underscores_action: DROP_HEADER}"),
    ("http10", "http_protocol_options: {accept_http_10: true, default_host_for_http_10: a.example}"),
    ("narrow", "common_http_protocol_options: {max_headers_count: 10}, max_request_headers_kb: 2"),
    ("upgrading", "upgrade_configs: [{upgrade_type: websocket}], http2_protocol_options: {allow_connect: true}"),
    ("stripping", "strip_any_host_port: true, strip_trailing_host_dot: true"),
    ("hurried", "request_headers_timeout: 0.2s"),
    ("few-streams", "http2_protocol_options: {max_concurrent_streams: 2}"),
];

/// Denies `/admin` and everything beneath it, and what has a header `x-denied`.
const RBAC: &str = "{name: envoy.filters.http.rbac, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, policies: {p: {permissions: \
    [{url_path: {path: {prefix: /admin}}}, {header: {name: x-denied, present_match: true}}], principals: [{any: \
    true}]}}}}}";

pub(super) const ROUTER: &str = "{name: envoy.filters.http.router, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

const ROUTES: &str = "{name: table, virtual_hosts: [\
    {name: probe, domains: [probe], routes: [{match: {path: /probe}, direct_response: {status: 200, body: \
    {inline_string: probe}}}]}, \
    {name: other, domains: [other.example, '*.other.example'], routes: [{match: {prefix: /}, route: {cluster: other}}]}, \
    {name: any, domains: ['*'], routes: [\
    {match: {path: /exact}, route: {cluster: special}}, \
    {match: {prefix: /special/}, route: {cluster: special}}, \
    {match: {connect_matcher: {}}, direct_response: {status: 405, body: {inline_string: no tunnels}}}, \
    {match: {prefix: /}, route: {cluster: default}}]}]}";

pub(super) const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A listener whose connection manager has these options.
pub(super) fn listener(name: &str, options: &str) -> String {
    // Each has an address of its own, at which the kernel chooses a port.
    let number = LISTENERS.iter().position(|(known, _)| *known == name).unwrap() + 1;
    format!(
        "name: {name}\naddress: {{socket_address: {{address: 127.0.2.{number}, port_value: 0}}}}\nfilter_chains: [{{name: chain, \
         filters: [{{name: http, typed_config: {{\"@type\": {MANAGER}, stat_prefix: {name}, \
         delayed_close_timeout: 0.05s, route_config: {ROUTES}, \
         http_filters: [{RBAC}, {ROUTER}], {options}}}}}]}}]\n"
    )
}

/// What Envoy starts with to be the same.
pub(super) fn bootstrap(upstreams: &Upstreams) -> String {
    let value = |yaml: &str| -> Value { serde_saphyr::from_str(yaml).unwrap() };
    let listeners: Vec<Value> = LISTENERS.iter().map(|(name, options)| value(&listener(name, options))).collect();
    let clusters: Vec<Value> = upstreams.addresses().map(|(name, at)| value(&cluster(name, &[at], ""))).collect();
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
    .to_string()
}
