//! HTTP filters, asked about requests.

use std::convert::Infallible;
use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use envoy::envoy::config::core::v3::{HeaderValue as WireHeader, HeaderValueOption, QueryParameter};
use envoy::envoy::service::auth::v3::check_response::HttpResponse;
use envoy::envoy::service::auth::v3::{CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};
use testkit::until;

use super::http::{any, ask_on, filters, get, mirror, ok, to, web};
use super::{LIMIT, Plane, connect, nobody, server};
use crate::metrics::{HttpFilterName, Scope};

/// A filter; `kind` is the end of its type.
fn filter(name: &str, kind: &str, config: &str) -> String {
    format!("{{name: {name}, typed_config: {}}}", typed(kind, config))
}

fn typed(kind: &str, config: &str) -> String {
    format!("{{\"@type\": type.googleapis.com/envoy.extensions.filters.http.{kind}{config}}}")
}

impl Plane {
    /// Waits for a number of the connection manager.
    fn counts(&self, scope: &Scope, name: &str, value: u64) {
        until(&format!("{name} to be {value}"), LIMIT, || (self.number(scope, name) == value).then_some(()));
    }
}

fn manager() -> Scope {
    Scope::Http("http".into())
}

fn named(prefix: &str) -> HttpFilterName {
    HttpFilterName { manager: "http".into(), prefix: prefix.into() }
}

#[test]
fn requests_suffer_as_their_route_says() {
    let mut plane = Plane::start();
    let delay = ", delay: {fixed_delay: 0.01s, percentage: {numerator: 100}}";
    let abort = typed("fault.v3.HTTPFault", ", abort: {grpc_status: 10, percentage: {numerator: 100}}");
    let both =
        typed("fault.v3.HTTPFault", &format!("{delay}, abort: {{http_status: 418, percentage: {{numerator: 100}}}}"));
    let route = |path: &str, more: &str| format!("{{match: {{path: {path}}}, route: {{cluster: c}}{more}}}");
    let with = |fault: &str| format!(", typed_per_filter_config: {{faults: {fault}}}");
    let off = with("{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}");
    let routes =
        [route("/slow", ""), route("/abort", &with(&abort)), route("/both", &with(&both)), route("/off", &off)];
    let list = filter("faults", "fault.v3.HTTPFault", delay);
    let address = plane.cluster("c", &[mirror()], "").http(&any(&routes.join(", ")), &filters(&list)).go();
    assert_eq!(get(address, "/slow", "").start, "HTTP/1.1 200 OK");
    plane.logged("GET /slow HTTP/1.1 200 DI via_upstream");
    assert_eq!(get(address, "/off", "").start, "HTTP/1.1 200 OK");
    plane.logged("GET /off HTTP/1.1 200 - via_upstream");
    assert_eq!(get(address, "/both", "").start, "HTTP/1.1 418 I'm a teapot");
    plane.logged("GET /both HTTP/1.1 418 DI,FI fault_filter_abort");
    // A client of gRPC is told the status that was asked for, and not the one that follows from HTTP's.
    let aborted = get(address, "/abort", "content-type: application/grpc\r\n");
    assert_eq!((aborted.start.as_str(), aborted.header("grpc-status")), ("HTTP/1.1 200 OK", "10"));
    assert_eq!(aborted.header("grpc-message"), "fault filter abort");
    for (name, value) in [("delays_injected", 2), ("aborts_injected", 2), ("active_faults", 0)] {
        plane.counts(&manager(), &format!("fault.{name}"), value);
    }
}

#[test]
fn other_origins_are_told_what_their_route_allows() {
    let mut plane = Plane::start();
    let policy = typed(
        "cors.v3.CorsPolicy",
        ", allow_origin_string_match: [{exact: \"http://b.example\"}], allow_methods: \"GET,POST\", allow_credentials: \
         true",
    );
    let allowing =
        format!("{{match: {{path: /open}}, route: {{cluster: c}}, typed_per_filter_config: {{cors: {policy}}}}}");
    let other = "{match: {prefix: /}, route: {cluster: c}}";
    let list = filter("cors", "cors.v3.Cors", "");
    let address = plane.cluster("c", &[mirror()], "").http(&any(&format!("{allowing}, {other}")), &filters(&list)).go();
    let preflight = |path: &str, origin: &str| {
        let text = format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\r\n"
        );
        ask_on(&connect(address), &text)
    };
    let answer = preflight("/open", "http://b.example");
    assert_eq!((answer.start.as_str(), answer.body.as_str()), ("HTTP/1.1 200 OK", ""));
    assert_eq!(answer.header("access-control-allow-methods"), "GET,POST");
    assert_eq!(answer.header("access-control-allow-origin"), "http://b.example");
    plane.logged("OPTIONS /open HTTP/1.1 200 - cors_response");
    // One that is not allowed is upstream's to answer, and so is one where nothing is said.
    for (path, origin) in [("/open", "http://c.example"), ("/other", "http://b.example")] {
        let answer = preflight(path, origin);
        assert!(answer.body.starts_with("OPTIONS") && answer.header("access-control-allow-origin").is_empty());
    }
    let call = get(address, "/open", "origin: http://b.example\r\n");
    assert_eq!(call.header("access-control-allow-origin"), "http://b.example");
    assert_eq!(call.header("access-control-allow-credentials"), "true");
    assert_eq!(get(address, "/open", "").header("access-control-allow-origin"), "");
    plane.counts(&manager(), "cors.origin_valid", 2);
    plane.counts(&manager(), "cors.origin_invalid", 1);
}

fn keys() -> String {
    json!({"keys": [{"kty": "oct", "kid": "one", "k": BASE64_URL_SAFE_NO_PAD.encode("secret")}]}).to_string()
}

fn token(claims: &Value) -> String {
    let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(b"secret")).unwrap()
}

#[test]
fn what_a_token_says_is_known_to_the_filters_that_follow() {
    let mut plane = Plane::start();
    let provider = "{issuer: me, remote_jwks: {http_uri: {uri: \"http://keys/jwks\", cluster: keys, timeout: 5s}}, \
        payload_in_metadata: payload}";
    let jwt = filter(
        "jwt",
        "jwt_authn.v3.JwtAuthentication",
        &format!(
            ", stat_prefix: tokens, providers: {{p: {provider}}}, rules: [{{match: {{prefix: /open}}}}, {{match: \
             {{prefix: /}}, requires: {{provider_name: p}}}}], bypass_cors_preflight: true"
        ),
    );
    let group = "{metadata: {filter: envoy.filters.http.jwt_authn, path: [{key: payload}, {key: group}], value: \
        {string_match: {exact: ops}}}}";
    let rules =
        format!("{{action: ALLOW, policies: {{ops: {{permissions: [{{any: true}}], principals: [{group}]}}}}}}");
    let list = format!("{jwt}, {}", filter("rbac", "rbac.v3.RBAC", &format!(", rules: {rules}")));
    plane.cluster("c", &[mirror()], "").cluster("keys", &[web(|_| ok(&keys()))], "");
    let address = plane.http(&to("c"), &filters(&list)).go();
    let missing = get(address, "/a?b", "");
    assert_eq!((missing.start.as_str(), missing.body.as_str()), ("HTTP/1.1 401 Unauthorized", "Jwt is missing"));
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"http://a.example/a?b\"");
    plane.logged("GET /a?b HTTP/1.1 401 - jwt_authn_access_denied{Jwt_is_missing}");
    let with = |path: &str, claims: Value| get(address, path, &format!("authorization: Bearer {}\r\n", token(&claims)));
    let expired = with("/old", json!({"iss": "me", "group": "ops", "exp": 1}));
    assert_eq!((expired.start.as_str(), expired.body.as_str()), ("HTTP/1.1 401 Unauthorized", "Jwt is expired"));
    let outside = with("/outside", json!({"iss": "me", "group": "dev"}));
    assert_eq!((outside.start.as_str(), outside.body.as_str()), ("HTTP/1.1 403 Forbidden", "RBAC: access denied"));
    let inside = with("/inside", json!({"iss": "me", "group": "ops"}));
    assert!(inside.start.ends_with("200 OK") && inside.body.starts_with("GET /inside "), "{inside:?}");
    assert!(!inside.body.contains("authorization"), "{inside:?}");
    assert!(get(address, "/open", "").start.contains("403"));
    let scope = Scope::JwtAuthn(named("tokens"));
    plane.counts(&scope, "denied", 2);
    plane.counts(&scope, "allowed", 3);
    plane.counts(&scope, "jwks_fetch_failed", 0);
    // Each worker has keys of its own.
    assert!((1..=2).contains(&plane.number(&scope, "jwks_fetch_success")));
}

fn judging(service: &str, rest: &str) -> String {
    let uri = "server_uri: {uri: \"http://judge\", cluster: judge, timeout: 5s}";
    let config = format!(", transport_api_version: V3, http_service: {{{uri}{service}}}{rest}");
    filter("judge", "ext_authz.v3.ExtAuthz", &config)
}

#[test]
fn somebody_else_changes_request_and_response() {
    let judge = web(|request| match request.start.contains("/secret") {
        false => "HTTP/1.1 200 OK\r\nx-tier: gold\r\nx-seen: judge\r\ncontent-length: 0\r\n\r\n".to_owned(),
        true => "HTTP/1.1 302 Found\r\nlocation: /login\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
            content-length: 0\r\n\r\n"
            .to_owned(),
    });
    // Headers that were changed choose the route again only if that is wanted.
    for (clear, body) in [(true, "gold"), (false, "others")] {
        let mut plane = Plane::start();
        plane.cluster("gold", &[web(|_| ok("gold"))], "").cluster("others", &[web(|_| ok("others"))], "");
        let gold =
            "{match: {prefix: /, headers: [{name: x-tier, string_match: {exact: gold}}]}, route: {cluster: gold}}";
        let off = format!(
            "{{match: {{prefix: /free}}, route: {{cluster: others}}, typed_per_filter_config: {{judge: {}}}}}",
            typed("ext_authz.v3.ExtAuthzPerRoute", ", disabled: true")
        );
        let routes = any(&format!("{off}, {gold}, {{match: {{prefix: /}}, route: {{cluster: others}}}}"));
        let service = ", authorization_response: {allowed_upstream_headers: {patterns: [{exact: x-tier}]}, \
            allowed_client_headers_on_success: {patterns: [{exact: x-seen}]}}";
        let list = judging(service, &format!(", stat_prefix: judge, clear_route_cache: {clear}"));
        let address = plane.cluster("judge", &[judge], "").http(&routes, &filters(&list)).go();
        let allowed = get(address, "/x", "");
        assert_eq!((allowed.body.as_str(), allowed.header("x-seen")), (body, "judge"));
        let free = get(address, "/free", "");
        assert_eq!((free.body.as_str(), free.header("x-seen")), ("others", ""));
        let denied = get(address, "/secret", "");
        assert_eq!((denied.start.as_str(), denied.header("location")), ("HTTP/1.1 302 Found", "/login"));
        assert_eq!(denied.header("set-cookie"), "a=1,b=2");
        plane.logged("GET /secret HTTP/1.1 302 UAEX ext_authz_denied");
        let scope = Scope::ExtAuthz(named("judge"));
        plane.counts(&scope, "ok", 1);
        plane.counts(&scope, "denied", 1);
    }
}

#[test]
fn without_an_answer_the_filter_says_what_becomes_of_a_request() {
    for (rest, status) in [
        (", failure_mode_allow: true, failure_mode_allow_header_add: true", "200"),
        (", status_on_error: {code: ServiceUnavailable}", "503"),
        ("", "403"),
    ] {
        let mut plane = Plane::start();
        plane.cluster("c", &[mirror()], "").cluster("judge", &[nobody()], "");
        let address = plane.http(&to("c"), &filters(&judging("", rest))).go();
        let answer = get(address, "/x", "");
        assert_eq!(answer.start.split(' ').nth(1), Some(status));
        let allowed = status == "200";
        assert_eq!(answer.body.contains("x-envoy-auth-failure-mode-allowed: true"), allowed, "{answer:?}");
        plane.logged(&format!("{status} {}", if allowed { "- via_upstream" } else { "UAEX ext_authz_error" }));
        let scope = Scope::ExtAuthz(named(""));
        plane.counts(&scope, "error", 1);
        plane.counts(&scope, "failure_mode_allowed", allowed.into());
    }
}

/// Somebody who is asked over gRPC.
fn authority(answer: impl Fn(&CheckRequest) -> CheckResponse + Clone + Send + Sync + 'static) -> SocketAddr {
    server(move |stream| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let answer = answer.clone();
            async move {
                assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let message = answer(&CheckRequest::decode(&body[5..]).unwrap()).encode_to_vec();
                let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                let framed = [&[0][..], &length, &message].concat();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let body = Full::new(Bytes::from(framed)).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
                Ok::<_, Infallible>(http::Response::new(body))
            }
        });
        runtime.block_on(async move {
            stream.set_nonblocking(true).unwrap();
            let io = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        });
    })
}

#[test]
fn somebody_else_is_asked_over_grpc() {
    let header = |key: &str, value: &str| HeaderValueOption {
        header: Some(WireHeader { key: key.to_owned(), value: value.to_owned(), ..WireHeader::default() }),
        ..HeaderValueOption::default()
    };
    let judge = authority(move |request| {
        let http = request.attributes.clone().unwrap().request.unwrap().http.unwrap();
        let context = request.attributes.clone().unwrap().context_extensions;
        let status = |code| Some(envoy::google::rpc::Status { code, ..Default::default() });
        if http.headers.get("x-user").map(String::as_str) != Some("me") || context["door"] != "front" {
            let body = format!("not {}", http.path);
            let denied = DeniedHttpResponse { headers: vec![header("x-why", "who")], body, status: None };
            let http_response = Some(HttpResponse::DeniedResponse(denied));
            return CheckResponse { status: status(7), http_response, ..CheckResponse::default() };
        }
        let ok = OkHttpResponse {
            headers: vec![header("x-user", "known")],
            headers_to_remove: vec!["cookie".to_owned()],
            response_headers_to_add: vec![header("x-seen", "judge")],
            query_parameters_to_set: vec![QueryParameter { key: "by".to_owned(), value: "judge".to_owned() }],
            query_parameters_to_remove: vec!["token".to_owned()],
            ..OkHttpResponse::default()
        };
        let level = prost_types::Value { kind: Some(Kind::StringValue(http.method)) };
        CheckResponse {
            status: status(0),
            http_response: Some(HttpResponse::OkResponse(ok)),
            dynamic_metadata: Some(prost_types::Struct { fields: [("level".to_owned(), level)].into() }),
        }
    });
    let mut plane = Plane::start();
    let ask = filter(
        "judge",
        "ext_authz.v3.ExtAuthz",
        ", transport_api_version: V3, grpc_service: {envoy_grpc: {cluster_name: judge}, timeout: 5s}",
    );
    // What was answered is known to the filters that follow.
    let level = "{metadata: {filter: envoy.filters.http.ext_authz, path: [{key: level}], value: {string_match: {exact: \
        GET}}}}";
    let rules = format!("{{action: ALLOW, policies: {{p: {{permissions: [{{any: true}}], principals: [{level}]}}}}}}");
    let list = format!("{ask}, {}", filter("rbac", "rbac.v3.RBAC", &format!(", rules: {rules}")));
    let settings = typed("ext_authz.v3.ExtAuthzPerRoute", ", check_settings: {context_extensions: {door: front}}");
    let routes = any(&format!(
        "{{match: {{prefix: /}}, route: {{cluster: c}}, typed_per_filter_config: {{judge: {settings}}}}}"
    ));
    let address =
        plane.cluster("c", &[mirror()], "").cluster("judge", &[judge], "").http(&routes, &filters(&list)).go();
    let allowed = get(address, "/x?token=1&a=2", "x-user: me\r\ncookie: c\r\n");
    assert!(allowed.body.starts_with("GET /x?a=2&by=judge HTTP/1.1\n"), "{allowed:?}");
    assert!(allowed.body.contains("x-user: known\n") && !allowed.body.contains("cookie"), "{allowed:?}");
    assert_eq!(allowed.header("x-seen"), "judge");
    let denied = get(address, "/x", "");
    assert_eq!((denied.start.as_str(), denied.body.as_str()), ("HTTP/1.1 403 Forbidden", "not /x"));
    assert_eq!((denied.header("x-why"), denied.header("x-seen")), ("who", ""));
    plane.logged("GET /x HTTP/1.1 403 UAEX ext_authz_denied");
    let level = ask_on(&connect(address), "PUT /x HTTP/1.1\r\nhost: a\r\nx-user: me\r\ncontent-length: 0\r\n\r\n");
    assert_eq!((level.body.as_str(), level.header("x-seen")), ("RBAC: access denied", "judge"));
}
