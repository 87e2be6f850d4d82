use std::sync::Arc;

use envoy::TypeUrl;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::{Asking, Peer};
use crate::config::http::HttpFilter;
use crate::config::{RbacFilter, Terminal};
use crate::tests::accept;
use crate::{DynamicMetadata, Snapshot};

/// The filter with these fields.
fn filter(fields: &str) -> RbacFilter {
    let yaml = format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 1}}}}\n\
         filter_chains: [{{filters: [{{name: rbac, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: 's.', {fields}}}}}, \
         {{name: tcp, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: \
         c}}}}]}}]\n"
    );
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &yaml);
    snapshot.listener("l").unwrap().chains[0].rbac[0].clone()
}

/// What a filter with the policies `a` and `b` of an action says to a peer with an identity.
fn verdict(action: &str, permission: &str, principal: &str, identity: &str) -> String {
    let policy = |permission: &str| format!("{{permissions: [{permission}], principals: [{principal}]}}");
    let filter = filter(&format!(
        "rules: {{action: {action}, policies: {{a: {}, b: {}}}}}",
        policy("{destination_port: 1}"),
        policy(permission)
    ));
    let identities: &[Arc<str>] = &[identity.into()];
    let peer = Peer {
        destination: "10.0.0.9:9000".parse().unwrap(),
        source: "10.0.0.1".parse().unwrap(),
        server_name: "outbound_.9000_._.echo",
        tls: !identity.is_empty(),
        identities: if identity.is_empty() { &[] } else { identities },
    };
    filter.verdict(&peer).unwrap().to_string()
}

const SLEEP: &str = "spiffe://cluster.local/ns/default/sa/sleep";
const ANY: &str = "{any: true}";

#[test]
fn allow_denies_what_no_policy_matches_and_deny_allows_it() {
    let port = "{destination_port: 9000}";
    assert_eq!(verdict("ALLOW", port, ANY, ""), "rbac_access_allowed_matched_policy[b]");
    assert_eq!(verdict("ALLOW", "{destination_port: 9}", ANY, ""), "rbac_access_denied_matched_policy[none]");
    assert_eq!(verdict("DENY", port, ANY, ""), "rbac_access_denied_matched_policy[b]");
    assert_eq!(verdict("DENY", "{destination_port: 9}", ANY, ""), "rbac_access_allowed_matched_policy[none]");
    assert_eq!(verdict("LOG", port, ANY, ""), "rbac_access_allowed_matched_policy[b]");
}

#[test]
fn without_rules_everything_passes_and_without_policies_allow_passes_nothing() {
    let peer = Peer {
        destination: "10.0.0.9:9000".parse().unwrap(),
        source: "10.0.0.1".parse().unwrap(),
        server_name: "",
        tls: false,
        identities: &[],
    };
    assert!(filter("shadow_rules: {}").verdict(&peer).is_none());
    assert!(!filter("rules: {action: ALLOW}").verdict(&peer).unwrap().allowed);
    assert!(filter("rules: {action: DENY}").verdict(&peer).unwrap().allowed);
}

#[test]
fn permissions_look_at_the_destination_and_the_server_name() {
    let allowed = |permission: &str| verdict("ALLOW", permission, ANY, "").contains("allowed");
    assert!(allowed("{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 24}}"));
    assert!(!allowed("{destination_ip: {address_prefix: 10.0.1.0, prefix_len: 24}}"));
    assert!(allowed("{destination_port_range: {start: 9000, end: 9001}}"));
    assert!(!allowed("{destination_port_range: {start: 8000, end: 9000}}"));
    assert!(allowed("{requested_server_name: {suffix: .echo}}"));
    assert!(allowed("{not_rule: {destination_port: 9}}"));
    assert!(!allowed("{and_rules: {rules: [{any: true}, {destination_port: 9}]}}"));
}

#[test]
fn principals_look_at_the_verified_identity_and_the_source() {
    let allowed = |principal: &str, identity: &str| verdict("ALLOW", ANY, principal, identity).contains("allowed");
    let named = |matcher: &str| format!("{{authenticated: {{principal_name: {{{matcher}}}}}}}");
    assert!(allowed(&named(&format!("exact: '{SLEEP}'")), SLEEP));
    assert!(allowed(&named("safe_regex: {regex: '.*/ns/default/.*'}"), SLEEP));
    assert!(allowed(&named("contains: /NS/, ignore_case: true"), SLEEP));
    assert!(!allowed(&named("safe_regex: {regex: '/ns/default/'}"), SLEEP));
    assert!(!allowed(&named("safe_regex: {regex: '.*'}"), ""), "plaintext has no identity");
    assert!(allowed("{not_id: {authenticated: {}}}", ""));
    assert!(allowed("{direct_remote_ip: {address_prefix: 10.0.0.1, prefix_len: 32}}", ""));
    assert!(!allowed("{or_ids: {ids: [{remote_ip: {address_prefix: 10.0.0.2, prefix_len: 32}}]}}", ""));
}

/// What the HTTP filter with one policy says to a request of somebody.
fn of_request(permission: &str, principal: &str, request: &str) -> String {
    let yaml = format!(
        "name: l\naddress: {{socket_address: {{address: 0.0.0.0, port_value: 1}}}}\n\
         filter_chains: [{{filters: [{{name: http, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, route_config: {{}}, http_filters: [{{name: rbac, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {{policies: {{p: {{permissions: \
         [{permission}], principals: [{principal}]}}}}}}}}}}, {{name: router, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}]}}]\n"
    );
    let snapshot = accept(&Snapshot::default(), TypeUrl::Listener, &yaml);
    let Terminal::Http(connections) = &snapshot.listener("l").unwrap().chains[0].terminal else { panic!("HTTP") };
    let HttpFilter::Rbac(filter) = &connections.filters[0].filter else { panic!("RBAC") };
    let mut lines = request.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut head = http::Request::builder().method(method).uri(target);
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        head = head.header(name, value);
    }
    let parts = head.body(()).unwrap().into_parts().0;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let roles = Value { kind: Some(Kind::ListValue(ListValue { values: vec![text("dev"), text("ops")] })) };
    let claims = Struct { fields: [("iss".to_owned(), text("me")), ("roles".to_owned(), roles)].into() };
    let mut metadata = DynamicMetadata::default();
    let payload = Value { kind: Some(Kind::StructValue(claims)) };
    metadata.add("envoy.filters.http.jwt_authn", Struct { fields: [("payload".to_owned(), payload)].into() });
    let identities: &[Arc<str>] = &[SLEEP.into()];
    let peer = Peer {
        destination: "10.0.0.9:9000".parse().unwrap(),
        source: "10.0.0.1".parse().unwrap(),
        server_name: "",
        tls: true,
        identities,
    };
    let asking = Asking { peer, remote: "192.0.2.7".parse().unwrap(), parts: &parts, metadata: &metadata };
    filter.verdict(&asking).unwrap().to_string()
}

#[test]
fn requests_are_authorized_by_their_heads() {
    let claim = |path: &str, value: &str| {
        format!(
            "{{metadata: {{filter: envoy.filters.http.jwt_authn, path: [{{key: payload}}, {path}], value: {value}}}}}"
        )
    };
    let cases = [
        ("{header: {name: ':method', string_match: {exact: GET}}}", ANY, true),
        ("{header: {name: ':method', string_match: {exact: POST}}}", ANY, false),
        ("{header: {name: ':authority', string_match: {exact: H, ignore_case: true}}}", ANY, true),
        ("{header: {name: x-b, present_match: true}}", ANY, false),
        ("{not_rule: {header: {name: x-b, present_match: true}}}", ANY, true),
        ("{url_path: {path: {exact: /a/b}}}", ANY, true),
        ("{url_path: {path: {prefix: /a/b?}}}", ANY, false),
        (
            "{uri_template: {name: t, typed_config: {\"@type\": \
             type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: \
             '/a/*'}}}",
            ANY,
            true,
        ),
        (ANY, "{remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}", true),
        (ANY, "{direct_remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}", false),
        (ANY, "{source_ip: {address_prefix: 10.0.0.1, prefix_len: 32}}", true),
        (ANY, "{header: {name: x-a, string_match: {suffix: '1'}}}", true),
        (ANY, "{url_path: {path: {exact: /}}}", false),
        (ANY, &claim("{key: iss}", "{string_match: {exact: me}}"), true),
        (ANY, &claim("{key: iss}", "{string_match: {exact: you}}"), false),
        (ANY, &claim("{key: roles}", "{list_match: {one_of: {string_match: {exact: ops}}}}"), true),
        (ANY, &claim("{key: none}", "{present_match: true}"), false),
        ("{destination_port: 9000}", "{authenticated: {principal_name: {prefix: 'spiffe://'}}}", true),
    ];
    for (permission, principal, allowed) in cases {
        let verdict = of_request(permission, principal, "GET http://h/a/b?c=d\nx-a: 1");
        let expected =
            if allowed { "rbac_access_allowed_matched_policy[p]" } else { "rbac_access_denied_matched_policy[none]" };
        assert_eq!(verdict, expected, "{permission} {principal}");
    }
}
