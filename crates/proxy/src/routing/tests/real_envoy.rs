//! The same tables and requests given to a real Envoy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use testkit::RealEnvoy;

use super::{parts, plain, routes};
use crate::config::http::{Action, RouteTable};
use crate::routing;

/// Routes, and requests to them.
const CASES: &[(&str, &[&str])] = &[
    (
        "{match: {path: /a/b/c}, direct_response: {status: 200, body: {inline_string: exact}}}, \
         {match: {path_separated_prefix: /seg}, direct_response: {status: 200, body: {inline_string: segments}}}, \
         {match: {safe_regex: {regex: '/v[0-9]+/.*'}}, direct_response: {status: 200, body: {inline_string: regex}}}, \
         {match: {prefix: /UP, case_sensitive: false}, direct_response: {status: 200, body: {inline_string: folded}}}, \
         {match: {prefix: /a/}, direct_response: {status: 200, body: {inline_string: prefix}}}",
        &[
            "/a/b/c", "/a/b/c?x", "/a/b/c/", "/a/", "/a", "/seg", "/seg/", "/seg?x", "/segment", "/v1/x?y", "/v/x",
            "/upper", "/UPPER", "/U", "/x",
        ],
    ),
    (
        "{match: {prefix: /, headers: [{name: x, string_match: {exact: a}}]}, direct_response: {status: 200, body: \
         {inline_string: exact}}}, \
         {match: {prefix: /, headers: [{name: num, range_match: {start: -1, end: 3}}]}, direct_response: {status: 200, \
         body: {inline_string: range}}}, \
         {match: {prefix: /not, headers: [{name: other, string_match: {exact: a}, invert_match: true}]}, direct_response: \
         {status: 200, body: {inline_string: inverted}}}, \
         {match: {prefix: /absent, headers: [{name: other, present_match: true, invert_match: true}]}, direct_response: \
         {status: 200, body: {inline_string: absent}}}, \
         {match: {prefix: /empty, headers: [{name: other, string_match: {exact: ''}, treat_missing_header_as_empty: \
         true}]}, direct_response: {status: 200, body: {inline_string: empty}}}, \
         {match: {prefix: /, query_parameters: [{name: q, string_match: {prefix: a}}]}, direct_response: {status: 200, \
         body: {inline_string: query}}}, \
         {match: {prefix: /, query_parameters: [{name: r, present_match: true}]}, direct_response: {status: 200, body: \
         {inline_string: present}}}, \
         {match: {prefix: /, grpc: {}}, route: {cluster: c}}",
        &[
            "/\nx: a",
            "/\nx: a\nx: b",
            "/\nx: b\nx: a",
            "/not\nother: b\nother: a",
            "/\nnum: 9\nnum: 2",
            "/\nx: A",
            "/\nnum: 2",
            "/\nnum: 3",
            "/\nnum: -1",
            "/\nnum: 1x",
            "/not",
            "/not\nother: b",
            "/not\nother: a",
            "/absent",
            "/absent\nother: 1",
            "/empty",
            "/empty\nother: 1",
            "/?q=ab",
            "/?q=ba&q=ab",
            "/?r",
            "/?r=",
            "/?rr",
            "/?x=1&r=2",
            "/\ncontent-type: application/grpc",
            "/\ncontent-type: application/grpc+json",
            "/\ncontent-type: application/grpc-web",
        ],
    ),
    (
        "{match: {prefix: /https}, redirect: {https_redirect: true}}, \
         {match: {prefix: /port}, redirect: {port_redirect: 8443}}, \
         {match: {prefix: /host}, redirect: {host_redirect: other, response_code: FOUND}}, \
         {match: {prefix: /path}, redirect: {path_redirect: /b}}, \
         {match: {prefix: /query}, redirect: {path_redirect: '/b?r', strip_query: true}}, \
         {match: {prefix: /strip}, redirect: {strip_query: true, host_redirect: o}}, \
         {match: {prefix: /pre/}, redirect: {prefix_rewrite: /, response_code: PERMANENT_REDIRECT}}, \
         {match: {prefix: /re}, redirect: {regex_rewrite: {pattern: {regex: 'r(e+)'}, substitution: '\\1-'}}}",
        &["/https", "/https?x", "/port?x", "/host/a?b", "/path/c?d", "/query?x", "/strip?x", "/pre/a?b", "/reee/re?re"],
    ),
    (
        "{match: {prefix: /p/}, route: {cluster: c, prefix_rewrite: /}}, \
         {match: {path: /e}, route: {cluster: c, prefix_rewrite: /x/y, host_rewrite_literal: literal}}, \
         {match: {safe_regex: {regex: '/r.*'}}, route: {cluster: c, prefix_rewrite: /z}}, \
         {match: {prefix: /s}, route: {cluster: c, regex_rewrite: {pattern: {regex: '^/s/([^/]+)(/.*)$'}, \
         substitution: '\\2/i/\\1'}}}, \
         {match: {prefix: /h}, route: {cluster: c, host_rewrite_header: x-host}}, \
         {match: {prefix: /g}, route: {cluster: c, host_rewrite_path_regex: {pattern: {regex: '^/g/(.+)/.+$'}, \
         substitution: '\\1'}}}",
        &["/p/a?b=/p/", "/e?q", "/rest?q", "/s/foo/v1?q=/s/x/y", "/s/foo", "/h\nx-host: named", "/h", "/g/a/b?c", "/g"],
    ),
];

/// What we make of a request: the answer, or what upstream gets.
fn ours(table: &RouteTable, target: &str) -> String {
    let parts = parts(&format!("GET http://h:80{target}"));
    let Some(route) = table.host("h:80").and_then(|host| host.route(&plain(&parts))) else {
        return "404".to_owned();
    };
    match &route.action {
        Action::Respond(response) => String::from_utf8(response.body.to_vec()).unwrap(),
        Action::Redirect(redirect) => {
            format!("{} {}", redirect.status.as_u16(), routing::location(&parts, &route.matches.path, redirect))
        }
        Action::Forward(action) => {
            let path = routing::rewritten_path(&parts, route, action);
            let authority = routing::rewritten_authority(&parts, action, None);
            format!(
                "{} {}",
                authority.as_deref().unwrap_or("h:80"),
                path.as_deref().unwrap_or(routing::full_path(&parts))
            )
        }
    }
}

/// What Envoy makes of it; its upstream answers with the authority and the path that it gets.
fn envoys(listener: SocketAddr, target: &str) -> String {
    let (path, headers) = target.split_once('\n').unwrap_or((target, ""));
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    let mut stream = TcpStream::connect(listener).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: h:80\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    match head.lines().find_map(|line| line.strip_prefix("location: ")) {
        Some(location) => format!("{status} {location}"),
        None if status == "200" => body.to_owned(),
        None => status.to_owned(),
    }
}

/// Answers every request with its authority and its path.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(path) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else { continue };
            let headers = lines.take_while(|line| !line.is_empty());
            let host = headers.filter_map(|line| line.strip_prefix("host: ").map(str::to_owned)).last();
            let body = format!("{} {path}", host.unwrap_or_default());
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    address
}

/// An Envoy with a listener for the routes of each case.
fn start() -> Option<RealEnvoy> {
    let upstream = upstream();
    let listener = |(i, (routes, _)): (usize, &(&str, &[&str]))| {
        format!(
            "{{name: l{i}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{\
             filters: [{{name: http, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.network.\
             http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {{name: r, virtual_hosts: \
             [{{name: v, domains: ['*'], routes: [{routes}]}}]}}, http_filters: [{{name: router, typed_config: \
             {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}]}}]}}"
        )
    };
    let listeners: Vec<String> = CASES.iter().enumerate().map(listener).collect();
    let bootstrap = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\nstatic_resources:\n  \
         listeners: [{}]\n  clusters: [{{name: c, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: \
         [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}]}}]}}}}]\n",
        listeners.join(", "),
        upstream.port()
    );
    RealEnvoy::start(&bootstrap, CASES.len())
}

#[test]
fn a_real_envoy_makes_the_same_of_every_request() {
    let Some(envoy) = start() else { return };
    let mut differences = Vec::new();
    for (i, (list, targets)) in CASES.iter().enumerate() {
        let address = envoy.listener(&format!("l{i}"));
        let table: Arc<RouteTable> = routes(list);
        for target in *targets {
            let (ours, envoys) = (ours(&table, target), envoys(address, target));
            if ours != envoys {
                differences.push(format!("{target:?}: {ours:?}, but Envoy {envoys:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
