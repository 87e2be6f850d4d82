mod order;
mod real_envoy;

use std::sync::Arc;

use envoy::TypeUrl;
use http::request::Parts;

use super::{Changes, Request, TlsFacts, hash, location, rewritten_authority, rewritten_path};
use crate::Snapshot;
use crate::config::http::{Action, Route, RouteAction, RouteTable};
use crate::tests::{accept, refuse};

/// A table with these fields, in YAML.
pub(super) fn table(fields: &str) -> Arc<RouteTable> {
    let snapshot = accept(&Snapshot::default(), TypeUrl::Route, &format!("name: r\n{fields}\n"));
    snapshot.routes()["r"].config.clone()
}

/// A table whose only virtual host, which takes all authorities, has these routes.
pub(super) fn routes(routes: &str) -> Arc<RouteTable> {
    table(&format!("virtual_hosts: [{{name: v, domains: ['*'], routes: [{routes}]}}]"))
}

/// The head of a request: `GET http://host/path` and headers, each on a line of its own.
pub(super) fn parts(text: &str) -> Parts {
    let mut lines = text.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

pub(super) fn plain(parts: &Parts) -> Request<'_> {
    Request { parts, tls: None, random: 0 }
}

/// The name of the route that takes a request.
fn taken<'t>(table: &'t RouteTable, text: &str) -> Option<&'t str> {
    let parts = parts(text);
    let host = table.host(super::authority(&parts))?;
    host.route(&plain(&parts)).map(|route| &*route.name)
}

fn only_action(table: &RouteTable) -> (&Route, &RouteAction) {
    let route = &table.hosts[0].routes[0];
    let Action::Forward(action) = &route.action else { panic!("it forwards") };
    (route, action)
}

fn route(name: &str, matches: &str) -> String {
    format!("{{name: {name}, match: {{{matches}}}, route: {{cluster: c}}}}")
}

#[test]
fn an_authority_is_taken_by_the_most_specific_domain() {
    let host = |name: &str, domains: &str| format!("{{name: {name}, domains: [{domains}]}}");
    let hosts = [
        host("any", "'*'"),
        host("suffix", "'*.example.com'"),
        host("longer", "'*.b.example.com', '*-x.example.com'"),
        host("prefix", "'www.*', 'www.ex*'"),
        host("exact", "www.Example.com, 'h:80', '[::1]'"),
    ];
    let table = table(&format!("ignore_port_in_host_matching: true\nvirtual_hosts: [{}]", hosts.join(", ")));
    let cases = [
        ("www.example.com", "exact"),
        ("WWW.EXAMPLE.COM:8080", "exact"),
        ("[::1]:80", "exact"),
        ("a.example.com", "suffix"),
        (".example.com", "any"),
        ("example.com", "any"),
        ("a.b.example.com", "longer"),
        ("a-x.example.com", "longer"),
        ("www.other.org", "prefix"),
        ("www.", "any"),
        ("h:80", "any"),
        ("", "any"),
    ];
    for (authority, expected) in cases {
        assert_eq!(&*table.host(authority).unwrap().name, expected, "{authority}");
    }
}

#[test]
fn a_domain_belongs_to_one_virtual_host() {
    let yaml = "name: r\nvirtual_hosts: [{name: a, domains: [x, Ab]}, {name: b, domains: [z, aB]}]\n";
    let refused = refuse(TypeUrl::Route, yaml).to_string();
    assert_eq!(refused, "virtual_hosts[1].domains[1]: is a domain of this table already");
    let refused = refuse(TypeUrl::Route, "name: r\nvirtual_hosts: [{name: a, domains: ['a*b']}]\n").to_string();
    assert!(refused.starts_with("virtual_hosts[0].domains[0]: \"a*b\" has a wildcard"), "{refused}");
}

#[test]
fn the_first_route_that_matches_takes_a_request() {
    let list = [
        route("regex", "safe_regex: {regex: '/v[0-9]+/.*'}"),
        route("long", "prefix: /a/b"),
        route("exact", "path: /a/b/c"),
        route("folded", "prefix: /UP, case_sensitive: false"),
        route("segments", "path_separated_prefix: /seg"),
        route("post", "prefix: /, headers: [{name: ':method', string_match: {exact: POST}}]"),
        route("jason", "prefix: /, headers: [{name: end-user, string_match: {exact: jason}}]"),
        route("range", "prefix: /, headers: [{name: num, range_match: {start: -1, end: 3}}]"),
        route("without", "prefix: /w, headers: [{name: x, string_match: {exact: a}, invert_match: true}]"),
        route(
            "empty",
            "prefix: /w, headers: [{name: x, string_match: {exact: a}, invert_match: true, \
                        treat_missing_header_as_empty: true}]",
        ),
        route("query", "prefix: /, query_parameters: [{name: q, string_match: {prefix: a}}, {name: r}]"),
        route("grpc", "prefix: /, grpc: {}"),
        route("rest", "prefix: /rest"),
    ];
    let table = routes(&list.join(", "));
    let cases = [
        ("GET http://h/v1/a/b/c", Some("regex")),
        ("GET http://h/a/b/c?x=/v1/", Some("long")),
        ("GET http://h/upper", Some("folded")),
        ("GET http://h/seg", Some("segments")),
        ("GET http://h/seg/x?y", Some("segments")),
        ("GET http://h/segment", None),
        ("POST http://h/x", Some("post")),
        ("GET http://h/x\nend-user: jason", Some("jason")),
        ("GET http://h/x\nend-user: other\nend-user: jason", Some("jason")),
        ("GET http://h/x\nnum: 2", Some("range")),
        ("GET http://h/x\nnum: 3", None),
        ("GET http://h/w\nx: b", Some("without")),
        ("GET http://h/w", Some("empty")),
        ("GET http://h/w\nx: a", None),
        ("GET http://h/x?r&q=ab", Some("query")),
        ("GET http://h/x?q=ba&q=ab&r=", None),
        ("GET http://h/x\ncontent-type: application/grpc+proto", Some("grpc")),
        ("GET http://h/x\ncontent-type: application/grpc-web", None),
        ("GET http://h/rest/x", Some("rest")),
        ("CONNECT h:443", None),
    ];
    for (request, expected) in cases {
        assert_eq!(taken(&table, request), expected, "{request}");
    }
}

#[test]
fn a_share_and_tls_choose_routes_too() {
    let list = [
        route("share", "prefix: /, runtime_fraction: {default_value: {numerator: 10}}"),
        route("shown", "prefix: /, tls_context: {presented: true, validated: true}"),
        route("plain", "prefix: /, tls_context: {presented: false}"),
    ];
    let table = routes(&list.join(", "));
    let parts = parts("GET http://h/");
    let name = |tls, random| table.hosts[0].route(&Request { parts: &parts, tls, random }).map(|r| r.name.to_string());
    let shown = |presented, validated| Some(TlsFacts { presented, validated });
    assert_eq!(name(None, 9).unwrap(), "share");
    assert_eq!(name(None, 10).unwrap(), "plain");
    assert_eq!(name(shown(true, true), 10).unwrap(), "shown");
    assert_eq!(name(shown(false, false), 10).unwrap(), "plain");
    assert_eq!(name(shown(true, false), 10), None);
}

#[test]
fn paths_are_rewritten() {
    let cases = [
        (
            "prefix: /bookinfo/myreviews/v2/",
            "prefix_rewrite: /",
            "/bookinfo/myreviews/v2/reviews/0?a=/b",
            "/reviews/0?a=/b",
        ),
        ("prefix: /", "prefix_rewrite: /a/", "/x", "/a/x"),
        ("prefix: /A, case_sensitive: false", "prefix_rewrite: /b", "/a/x", "/b/x"),
        ("path: /a", "prefix_rewrite: /b", "/a?q", "/b?q"),
        ("safe_regex: {regex: '/a.*'}", "prefix_rewrite: /b", "/abc?q", "/b?q"),
        ("path_separated_prefix: /a", "prefix_rewrite: /", "/a/b", "//b"),
        (
            "prefix: /",
            "regex_rewrite: {pattern: {regex: '^/service/([^/]+)(/.*)$'}, substitution: '\\2/instance/\\1'}",
            "/service/foo/v1?q=/service/x/y",
            "/v1/instance/foo?q=/service/x/y",
        ),
    ];
    for (matches, rewrite, path, expected) in cases {
        let table = routes(&format!("{{match: {{{matches}}}, route: {{cluster: c, {rewrite}}}}}"));
        let (route, action) = only_action(&table);
        let parts = parts(&format!("GET http://h{path}"));
        assert_eq!(rewritten_path(&parts, route, action).as_deref(), Some(expected), "{matches} {rewrite}");
    }
}

#[test]
fn authorities_are_rewritten() {
    let cases = [
        ("host_rewrite_literal: other", Some("other")),
        ("host_rewrite_header: x-host", Some("named")),
        ("host_rewrite_header: x-none", None),
        ("host_rewrite_path_regex: {pattern: {regex: '^/(.+)/.+$'}, substitution: '\\1.h'}", Some("a.h")),
        ("auto_host_rewrite: true", None),
    ];
    for (rewrite, expected) in cases {
        let table = routes(&format!("{{match: {{prefix: /}}, route: {{cluster: c, {rewrite}}}}}"));
        let parts = parts("GET http://h/a/b?c\nx-host: named");
        let (_, action) = only_action(&table);
        assert_eq!(rewritten_authority(&parts, action, None).as_deref(), expected, "{rewrite}");
    }
}

#[test]
fn a_redirect_keeps_what_it_does_not_say() {
    let cases = [
        ("https_redirect: true", "http://h:80/a?q", "https://h/a?q"),
        ("https_redirect: true", "http://h:8080/a", "https://h:8080/a"),
        ("https_redirect: true, port_redirect: 8443", "http://h:80/a", "https://h:8443/a"),
        ("host_redirect: other", "http://h:80/a", "http://other/a"),
        ("path_redirect: /b", "http://h/a?q", "http://h/b?q"),
        ("path_redirect: '/b?r'", "http://h/a?q", "http://h/b?r"),
        ("path_redirect: /b, strip_query: true", "http://h/a?q", "http://h/b"),
        ("prefix_rewrite: /c", "http://h/a/b?q", "http://h/c/b?q"),
        ("regex_rewrite: {pattern: {regex: a}, substitution: x}, strip_query: true", "http://h/aa?q", "http://h/xx"),
        ("port_redirect: 8080", "http://[::1]:80/a", "http://[::1]:8080/a"),
    ];
    for (redirect, target, expected) in cases {
        let table = routes(&format!("{{match: {{prefix: /a}}, redirect: {{{redirect}}}}}"));
        let route = &table.hosts[0].routes[0];
        let Action::Redirect(redirect) = &route.action else { panic!("it redirects") };
        let parts = parts(&format!("GET {target}"));
        assert_eq!(location(&parts, &route.matches.path, redirect), expected, "{redirect:?}");
    }
}

#[test]
fn headers_change_from_the_most_specific_to_the_least() {
    let add = |value: &str, action: &str| format!("{{header: {{key: x, value: {value}}}, append_action: {action}}}");
    let yaml = |wins: bool| {
        format!(
            "most_specific_header_mutations_wins: {wins}\nrequest_headers_to_add: [{}]\n\
             virtual_hosts: [{{name: v, domains: ['*'], request_headers_to_remove: [gone], routes: [{{match: {{prefix: \
             /}}, route: {{cluster: c}}, request_headers_to_add: [{}, {}, {{header: {{key: e}}, keep_empty_value: \
             true}}, {{header: {{key: f}}}}, {{header: {{key: g, value: '100%%'}}}}]}}]}}]",
            add("table", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("route", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("'%PROTOCOL%'", "APPEND_IF_EXISTS_OR_ADD"),
        )
    };
    let changed = |wins: bool| {
        let table = table(&yaml(wins));
        let mut parts = parts("GET http://h/\nx: before\ngone: a");
        let host = &table.hosts[0];
        let changes = Changes::new(&table, host, &host.routes[0], None);
        changes.request(&mut parts.headers, |_| "formatted".to_owned());
        let mut all: Vec<String> = parts.headers.iter().map(|(k, v)| format!("{k}={}", v.to_str().unwrap())).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(changed(false), "e= g=100% x=table");
    assert_eq!(changed(true), "e= g=100% x=formatted x=route");
}

#[test]
fn requests_are_hashed_by_what_their_route_says() {
    let table = routes(
        "{match: {prefix: /}, route: {cluster: c, hash_policy: [{header: {header_name: x}, terminal: true}, {cookie: \
         {name: c, ttl: 0s}}, {query_parameter: {name: q}}, {connection_properties: {source_ip: true}}]}}",
    );
    let (_, action) = only_action(&table);
    let source = "10.0.0.1".parse().unwrap();
    let hashed = |text: &str| hash(&action.hash_policies, &parts(text), source, 7);
    let of_header = hashed("GET http://h/\nx: a");
    assert_eq!(of_header.hash, Some(xxhash_rust::xxh64::xxh64(b"a", 0)));
    assert_eq!(of_header.cookie, None);
    assert_eq!(hashed("GET http://h/\nx: a\nx: b"), hashed("GET http://h/?q=1\nx: b\nx: a"));
    assert_ne!(hashed("GET http://h/\ncookie: c=1"), hashed("GET http://h/\ncookie: a=1; c=2"));
    assert_ne!(hashed("GET http://h/?q=1\ncookie: c=1").hash, hashed("GET http://h/?q=2\ncookie: c=1").hash);
    let made = hashed("GET http://h/");
    let value = made.cookie_value().unwrap();
    assert_eq!(made.hash, hashed(&format!("GET http://h/\ncookie: c=\"{value}\"")).hash);
}

#[test]
fn what_a_table_cannot_do_is_refused_with_its_path() {
    let at = "virtual_hosts[0].routes[0]";
    let cases = [
        ("match: {prefix: /}", format!("{at}.action: is required")),
        ("match: {}, route: {cluster: c}", format!("{at}.match.path_specifier: is required")),
        (
            "match: {prefix: /}, route: {cluster: c, priority: HIGH}",
            format!("{at}.route.priority: only DEFAULT is supported"),
        ),
        (
            "match: {prefix: /, headers: [{name: x, string_match: {prefix: ''}}]}, route: {cluster: c}",
            format!("{at}.match.headers[0].string_match.prefix: must not be empty"),
        ),
        (
            "match: {safe_regex: {regex: '('}}, route: {cluster: c}",
            format!("{at}.match.safe_regex.regex: is not a usable regular expression"),
        ),
        (
            "match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}",
            format!("{at}.route.weighted_clusters.clusters: the weights must add up to more than zero"),
        ),
        (
            "match: {prefix: /}, route: {cluster: c, retry_policy: {retry_on: 'bogus'}}",
            format!("{at}.route.retry_policy.retry_on: \"bogus\" is not a condition of retries"),
        ),
        (
            "match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{header: {key: host, value: a}}]",
            format!("{at}.request_headers_to_add[0].header.key: \"host\" may not be changed here"),
        ),
        (
            "match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {f: {\"@type\": \
             type.googleapis.com/envoy.config.core.v3.Node}}",
            format!("{at}.typed_per_filter_config[\"f\"]: extension type"),
        ),
        (
            "match: {prefix: /}, direct_response: {status: 99}",
            format!("{at}.direct_response.status: must be from 200 to 599"),
        ),
    ];
    for (fields, expected) in cases {
        let yaml = format!("name: r\nvirtual_hosts: [{{name: v, domains: ['*'], routes: [{{{fields}}}]}}]\n");
        let refused = refuse(TypeUrl::Route, &yaml).to_string();
        assert!(refused.starts_with(&expected), "{refused}");
    }
}
