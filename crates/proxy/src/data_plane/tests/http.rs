//! Requests of HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Plane, cluster, connect, listener, nobody, server};
use crate::metrics::Scope;

const FORMAT: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED%/%BYTES_SENT% %UPSTREAM_CLUSTER% %ROUTE_NAME% \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n";

impl Plane {
    /// A listener `in` whose connection manager has these virtual hosts, and `rest`.
    pub(super) fn http(&mut self, hosts: &str, rest: &str) -> &mut Plane {
        let manager = self.manager(&format!("route_config: {{name: table, virtual_hosts: [{hosts}]}}"), rest);
        self.listener(&listener("in", "127.0.0.1", "", &[format!("{{name: chain, filters: [{manager}]}}")]))
    }

    pub(super) fn manager(&self, routes: &str, rest: &str) -> String {
        let log = self.log_path();
        let router = "http_filters: [{name: router, typed_config: {\"@type\": \
            type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]";
        let filters = if rest.contains("http_filters") { "" } else { router };
        let separator = if rest.is_empty() || filters.is_empty() { "" } else { ", " };
        format!(
            "{{name: http, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: http, {routes}, {filters}{separator}{rest}, \
             access_log: [{{name: file, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {log:?}, log_format: \
             {{text_format_source: {{inline_string: {FORMAT:?}}}}}}}}}]}}}}"
        )
        .replace(", , ", ", ")
    }
}

/// A virtual host for everything, with these routes.
pub(super) fn any(routes: &str) -> String {
    format!("{{name: any, domains: [\"*\"], routes: [{routes}]}}")
}

/// A route of everything to a cluster.
pub(super) fn to(cluster: &str) -> String {
    any(&format!("{{name: default, match: {{prefix: /}}, route: {{cluster: {cluster}}}}}"))
}

/// A request or a response, as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) start: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Message {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }
}

/// Reads a message to its end; `None` if nothing comes.
pub(super) fn read_message(reader: &mut BufReader<TcpStream>, no_body: bool) -> Option<Message> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut message = Message { start: line.trim_end().to_owned(), ..Message::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let known = message.headers.entry(name.to_ascii_lowercase()).or_default();
        *known = if known.is_empty() { value.to_owned() } else { format!("{known},{value}") };
    }
    if no_body {
        return Some(message);
    }
    let mut body = Vec::new();
    if message.header("transfer-encoding") == "chunked" {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Ok(length) = message.header("content-length").parse() {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    }
    message.body = String::from_utf8(body).unwrap();
    Some(message)
}

/// A server that answers every request with what `answer` makes of it.
pub(super) fn web(answer: impl Fn(&Message) -> String + Clone + Send + 'static) -> SocketAddr {
    server(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_message(&mut reader, false) {
            if writer.write_all(answer(&request).as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A whole response with a body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A server that answers with the request that it got.
pub(super) fn mirror() -> SocketAddr {
    web(|request| {
        let mut text = format!("{}\n", request.start);
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\n");
        }
        ok(&(text + "\n" + &request.body))
    })
}

/// Asks on a connection that may be used again.
pub(super) fn ask_on(stream: &TcpStream, request: &str) -> Message {
    let mut writer = stream;
    writer.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    read_message(&mut reader, request.starts_with("HEAD")).unwrap_or_default()
}

pub(super) fn get(address: SocketAddr, path: &str, headers: &str) -> Message {
    ask_on(&connect(address), &format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n{headers}\r\n"))
}

#[test]
fn a_request_goes_to_its_cluster_and_back() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), "").go();
    let stream = connect(address);
    for _ in 0..2 {
        let answer = ask_on(&stream, "POST /a?b HTTP/1.1\r\nhost: a.example\r\ncontent-length: 3\r\n\r\nxyz");
        assert_eq!(answer.start, "HTTP/1.1 200 OK");
        assert_eq!(answer.header("server"), "envoy");
        assert!(answer.headers.contains_key("x-envoy-upstream-service-time") && answer.headers.contains_key("date"));
        let (head, body) = answer.body.split_once("\n\n").unwrap();
        assert_eq!(body, "xyz");
        for line in ["POST /a?b HTTP/1.1", "host: a.example", "content-length: 3", "x-forwarded-proto: http"] {
            assert!(head.lines().any(|l| l == line), "{line} is not in {head}");
        }
        assert!(head.contains("x-request-id: "), "{head}");
    }
    drop(stream);
    plane.reaches("c", "upstream_rq_total", 2);
    plane.reaches("c", "upstream_rq_active", 0);
    plane.reaches("c", "upstream_cx_total", 1);
    plane.reaches("c", "upstream_rq_2xx", 2);
    let line = plane.logged("POST");
    assert!(line.starts_with("POST /a?b HTTP/1.1 200 - via_upstream 3/"), "{line}");
    assert!(line.ends_with(" c default 1"), "{line}");
}

#[test]
fn a_header_that_is_added_to_an_answer_may_quote_its_status() {
    let mut plane = Plane::start();
    let added = "response_headers_to_add: [{header: {key: x-status, value: '%RESPONSE_CODE%'}}]";
    let routes = any(&format!("{{match: {{prefix: /}}, route: {{cluster: c}}, {added}}}"));
    let upstream = web(|_| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
    let address = plane.cluster("c", &[upstream], "").http(&routes, "").go();
    assert_eq!(get(address, "/", "").header("x-status"), "404");
}

#[test]
fn a_request_without_an_answer_gets_one_of_the_proxy() {
    let mut plane = Plane::start();
    let routes = [
        "{match: {path: /said}, direct_response: {status: 418, body: {inline_string: short}}}",
        "{match: {path: /moved}, redirect: {host_redirect: b.example, response_code: FOUND}}",
        "{match: {path: /nowhere}, route: {cluster: nowhere}}",
        "{match: {path: /empty}, route: {cluster: empty}}",
        "{match: {path: /dead}, route: {cluster: dead}}",
    ];
    plane.cluster("empty", &[], "").cluster("dead", &[nobody()], "");
    let address = plane.http(&any(&routes.join(", ")), "").go();
    let refused = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    for (path, start, body, log) in [
        ("/said", "HTTP/1.1 418 I'm a teapot", "short", "418 - direct_response"),
        ("/moved", "HTTP/1.1 302 Found", "", "302 - direct_response"),
        ("/nowhere", "HTTP/1.1 503 Service Unavailable", "", "503 NC cluster_not_found"),
        ("/empty", "HTTP/1.1 503 Service Unavailable", "no healthy upstream", "503 UH no_healthy_upstream"),
        ("/dead", "HTTP/1.1 503 Service Unavailable", refused, "503 UF upstream_reset_before_response_started{"),
        ("/none", "HTTP/1.1 404 Not Found", "", "404 NR route_not_found"),
    ] {
        let answer = get(address, path, "");
        assert_eq!((answer.start.as_str(), answer.body.as_str()), (start, body), "{path}");
        let line = plane.logged(&format!("GET {path} "));
        assert!(line.contains(log), "{line}");
    }
    assert_eq!(get(address, "/moved", "").header("location"), "http://b.example/moved");
}

#[test]
fn a_status_that_is_worth_it_is_tried_again_elsewhere() {
    let bad = || web(|_| "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned());
    let mut plane = Plane::start();
    let policy = "retry_on: \"connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes\", \
        num_retries: 2, retriable_status_codes: [503], host_selection_retry_max_attempts: 5, retry_host_predicate: \
        [{name: p, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]";
    let route = format!("{{match: {{prefix: /}}, route: {{cluster: c, retry_policy: {{{policy}}}}}}}");
    plane.cluster("c", &[bad(), bad(), web(|request| ok(&request.body))], "lb_policy: ROUND_ROBIN");
    let address = plane.http(&any(&route), "").go();
    let stream = connect(address);
    for _ in 0..6 {
        let answer = ask_on(&stream, "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nagain");
        assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 200 OK", "again"));
    }
    let retries = plane.number(&Scope::Cluster("c".into()), "upstream_rq_retry");
    assert!(retries > 0 && retries <= 12, "{retries}");
    assert_eq!(plane.number(&Scope::Cluster("c".into()), "upstream_rq_5xx"), retries);
}

#[test]
fn an_endpoint_that_takes_too_long_is_not_waited_for() {
    let (_release, never) = std::sync::mpsc::channel::<()>();
    let never = std::sync::Arc::new(std::sync::Mutex::new(never));
    let slow = server(move |_stream| {
        let _ = never.lock().unwrap().recv();
    });
    let mut plane = Plane::start();
    let route = "{match: {prefix: /}, route: {cluster: c, timeout: 0.05s}}";
    let address = plane.cluster("c", &[slow], "").http(&any(route), "").go();
    let answer = get(address, "/", "");
    assert_eq!(
        (answer.start.as_str(), answer.body.as_str()),
        ("HTTP/1.1 504 Gateway Timeout", "upstream request timeout")
    );
    plane.logged("504 UT response_timeout");
    plane.reaches("c", "upstream_rq_timeout", 1);
    plane.reaches("c", "upstream_cx_active", 0);
}

#[test]
fn heads_that_are_malformed_are_refused() {
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), "request_headers_timeout: 0.05s").go();
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    for (request, start, body) in [
        ("GET /late HTTP/1.1\r\nho", "HTTP/1.1 408 Request Timeout", "request header timeout"),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request", ""),
        ("GET /f#g HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 400 Bad Request", ""),
        ("GET / HTTP/3.0\r\nhost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required", "Upgrade Required"),
        ("BOGUS / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 400 Bad Request", "Bad Request"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}", "HTTP/1.1 400 Bad Request", "Bad Request"),
        (&large, "HTTP/1.1 431 Request Header Fields Too Large", "Request Header Fields Too Large"),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 Bad Request",
            "Bad Request",
        ),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "HTTP/1.1 426 Upgrade Required", "Upgrade Required"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "HTTP/1.1 400 Bad Request", "Bad Request"),
    ] {
        let answer = ask_on(&connect(address), request);
        let start = if request.contains("HTTP/1.0") { start.replace("1.1", "1.0") } else { start.to_owned() };
        assert_eq!(
            (answer.start.clone(), answer.body.as_str(), answer.header("connection")),
            (start, body, "close"),
            "{request}"
        );
        assert_eq!(answer.header("server"), "envoy", "{request}");
    }
    for line in [
        "- - HTTP/1.1 400 DPE http1.content_length_and_chunked_not_allowed 0/11",
        "- - HTTP/1.1 431 DPE http1.headers_too_large 0/31",
        "- - HTTP/1.1 426 DPE low_version 0/16",
        "- - HTTP/1.1 400 DPE http1.codec_error 0/11",
        "- - HTTP/1.1 408 - request_header_timeout 0/22",
        "- - HTTP/1.1 400 - path_normalization_failed 0/0",
    ] {
        plane.logged(line);
    }
}

#[test]
fn several_hosts_are_one_that_nobody_has() {
    let mut plane = Plane::start();
    let hosts = "{name: a, domains: [a], routes: [{match: {prefix: /}, route: {cluster: c}}]}";
    let address = plane.cluster("c", &[mirror()], "").http(hosts, "").go();
    let answer = ask_on(&connect(address), "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    assert_eq!(answer.start, "HTTP/1.1 404 Not Found");
}

#[test]
fn who_must_come_over_tls_is_asked_by_filters_first() {
    let mut plane = Plane::start();
    let hosts = "{name: a, domains: [\"*\"], require_tls: ALL, routes: [{match: {prefix: /}, route: {cluster: c}}]}";
    let rbac = "{name: rbac, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, \
        rules: {action: DENY, policies: {secret: {permissions: [{url_path: {path: {prefix: /secret}}}], principals: \
        [{any: true}]}}}}}";
    let address = plane.cluster("c", &[mirror()], "").http(hosts, &filters(rbac)).go();
    assert_eq!(get(address, "/secret", "").start, "HTTP/1.1 403 Forbidden");
    let moved = get(address, "/x", "");
    assert_eq!(
        (moved.start.as_str(), moved.header("location")),
        ("HTTP/1.1 301 Moved Permanently", "https://a.example/x")
    );
}

#[test]
fn requests_of_one_connection_share_one_to_upstream_until_it_closes() {
    let mut plane = Plane::start();
    let closing = web(|_| "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi".to_owned());
    plane.set(envoy::TypeUrl::Cluster, &cluster("c", &[closing], ""));
    let address = plane.http(&to("c"), "").go();
    let stream = connect(address);
    for _ in 0..3 {
        let answer = ask_on(&stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((answer.body.as_str(), answer.header("connection")), ("hi", ""));
    }
    plane.reaches("c", "upstream_cx_total", 3);
}

/// The filters of a connection manager, without the router that ends them.
pub(super) fn filters(list: &str) -> String {
    format!(
        "http_filters: [{list}, {{name: router, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]"
    )
}

#[test]
fn filters_are_asked_before_the_route_is_taken() {
    let mut plane = Plane::start();
    let list = "{name: rbac, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, \
        rules: {action: DENY, policies: {secret: {permissions: [{url_path: {path: {prefix: /secret}}}], principals: \
        [{any: true}]}}}}}, \
        {name: fault, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 555, percentage: \
        {numerator: 100}}, headers: [{name: end-user, string_match: {exact: jason}}]}}, \
        {name: cors, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}";
    let policy = "typed_per_filter_config: {cors: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy, allow_origin_string_match: [{exact: \
        \"http://b.example\"}], allow_methods: GET}}";
    let routes = any(&format!("{{match: {{prefix: /}}, route: {{cluster: c}}, {policy}}}"));
    let address = plane.cluster("c", &[mirror()], "").http(&routes, &filters(list)).go();
    let denied = get(address, "/secret?x", "");
    assert_eq!((denied.start.as_str(), denied.body.as_str()), ("HTTP/1.1 403 Forbidden", "RBAC: access denied"));
    plane.logged("403 - rbac_access_denied_matched_policy[secret]");
    let aborted = get(address, "/x", "end-user: jason\r\n");
    assert!(aborted.start.starts_with("HTTP/1.1 555") && aborted.body == "fault filter abort", "{aborted:?}");
    plane.logged("555 FI fault_filter_abort");
    let called = get(address, "/x", "origin: http://b.example\r\n");
    assert_eq!(called.header("access-control-allow-origin"), "http://b.example");
    let preflight =
        "OPTIONS /x HTTP/1.1\r\nhost: a\r\norigin: http://b.example\r\naccess-control-request-method: GET\r\n\r\n";
    let answer = ask_on(&connect(address), preflight);
    assert_eq!((answer.header("access-control-allow-methods"), answer.body.as_str()), ("GET", ""));
    assert_eq!(get(address, "/x", "").header("access-control-allow-origin"), "");
}

#[test]
fn somebody_else_decides_and_sees_the_body() {
    let judge = web(|request| {
        if request.body == "open" && request.start.starts_with("POST /door ") {
            "HTTP/1.1 200 OK\r\nx-judged: yes\r\ncontent-length: 0\r\n\r\n".to_owned()
        } else {
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno".to_owned()
        }
    });
    let mut plane = Plane::start();
    let list = "{name: judge, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, transport_api_version: V3, with_request_body: \
        {max_request_bytes: 100}, http_service: {server_uri: {uri: \"http://judge\", cluster: judge, timeout: 5s}, \
        authorization_response: {allowed_upstream_headers: {patterns: [{exact: x-judged}]}}}}}";
    plane.cluster("c", &[mirror()], "").cluster("judge", &[judge], "");
    let address = plane.http(&to("c"), &filters(list)).go();
    let post = |body: &str| {
        let length = body.len();
        ask_on(&connect(address), &format!("POST /door HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    let allowed = post("open");
    assert!(allowed.start.contains(" 200 ") && allowed.body.contains("x-judged: yes"), "{allowed:?}");
    assert!(allowed.body.ends_with("\n\nopen"), "{allowed:?}");
    let denied = post("break");
    assert_eq!((denied.start.as_str(), denied.body.as_str()), ("HTTP/1.1 401 Unauthorized", "no"));
    plane.logged("401 UAEX ext_authz_denied");
    assert!(post(&"x".repeat(101)).start.contains(" 413 "));
}

#[test]
fn a_request_changes_its_protocol_only_if_it_may() {
    let chat = server(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let request = read_message(&mut reader, true).unwrap();
        assert_eq!((request.header("upgrade"), request.header("connection")), ("websocket", "upgrade"));
        let _ = stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi ");
        let mut said = [0; 4];
        reader.read_exact(&mut said).unwrap();
        let _ = stream.write_all(&said);
    });
    let asks = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[chat], "").http(&to("c"), "upgrade_configs: [{upgrade_type: websocket}]").go();
    let mut stream = connect(address);
    stream.write_all(asks.as_bytes()).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && answer.ends_with("\r\n\r\nhi ping"),
        "{answer}"
    );
    plane.logged("GET /chat HTTP/1.1 101 - via_upstream 4/7");
    let address = plane.http(&to("c"), "").go();
    let refused = ask_on(&connect(address), asks);
    assert_eq!((refused.start.as_str(), refused.header("connection")), ("HTTP/1.1 403 Forbidden", "close"));
}

#[test]
fn a_connection_whose_protocol_was_not_changed_ends_with_the_answer() {
    let mut plane = Plane::start();
    let rest = "upgrade_configs: [{upgrade_type: websocket}]";
    let address = plane.cluster("c", &[mirror()], "").http(&to("c"), rest).go();
    let stream = connect(address);
    let asks = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = ask_on(&stream, &format!("{asks}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
    assert_eq!((answer.start.as_str(), answer.header("connection")), ("HTTP/1.1 200 OK", "close"));
    let mut rest = String::new();
    (&stream).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    plane.reaches("c", "upstream_rq_total", 1);
}

#[test]
fn a_protocol_that_nobody_asked_for_is_none() {
    let wrong = web(|_| "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n".to_owned());
    let mut plane = Plane::start();
    let address = plane.cluster("c", &[wrong], "").http(&to("c"), "").go();
    assert_eq!(get(address, "/", "").start, "HTTP/1.1 502 Bad Gateway");
}

/// Asks over HTTP/2, without TLS; returns the status and the body.
fn get_http2(address: SocketAddr, path: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        let body = http_body_util::Full::new(hyper::body::Bytes::from_static(b"hello"));
        let request = http::Request::post(format!("http://a.example{path}")).body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    })
}

#[test]
fn http2_goes_in_and_out() {
    let mut plane = Plane::start();
    let routes = "{match: {prefix: /again}, route: {cluster: self, prefix_rewrite: /once}}, \
        {match: {prefix: /}, route: {cluster: c}}";
    let address = plane.cluster("c", &[mirror()], "").http(&any(routes), "").go();
    let http2 = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
        {http2_protocol_options: {}}}}";
    plane.cluster("self", &[address], http2).go();
    let (status, body) = get_http2(address, "/x");
    assert!(status == 200 && body.starts_with("POST /x HTTP/1.1\n") && body.ends_with("\n\nhello"), "{status} {body}");
    assert!(body.contains("\nhost: a.example\n"), "{body}");
    let (status, body) = get_http2(address, "/again");
    assert!(
        status == 200 && body.starts_with("POST /once HTTP/1.1\n") && body.ends_with("\n\nhello"),
        "{status} {body}"
    );
    assert!(body.contains("\nx-envoy-original-path: /again\n"), "{body}");
    plane.reaches("self", "upstream_cx_http2_total", 1);
    plane.reaches("self", "upstream_rq_active", 0);
    plane.logged("POST /again HTTP/2 200 - via_upstream 5/");
}
