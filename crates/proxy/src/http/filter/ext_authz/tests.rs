use envoy::envoy::service::auth::v3 as wire;
use http::Method;
use prost::Message;
use prost_types::value::Kind;

use super::*;
use crate::config::http::Append;
use crate::config::http::HttpFilter;
use crate::http::filter::tests::{filter, head, refused};

const KIND: &str = "ext_authz.v3.ExtAuthz";

fn config(rest: &str) -> std::sync::Arc<ExtAuthz> {
    let HttpFilter::ExtAuthz(config) = filter(KIND, &format!(", transport_api_version: V3, {rest}")) else {
        panic!("{rest}")
    };
    config
}

fn grpc(rest: &str) -> std::sync::Arc<ExtAuthz> {
    config(&format!("grpc_service: {{envoy_grpc: {{cluster_name: 'outbound|9000||authz'}}, timeout: 1s}}{rest}"))
}

fn plain(service: &str, rest: &str) -> std::sync::Arc<ExtAuthz> {
    let uri = "server_uri: {uri: 'http://authz', cluster: authz, timeout: 1s}";
    config(&format!("http_service: {{{uri}{service}}}{rest}"))
}

fn text(text: &str) -> prost_types::Value {
    prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn known() -> DynamicMetadata {
    let policy = "istio_ext_authz_x_shadow_effective_policy_id";
    let facts = Struct { fields: [(policy.to_owned(), text("istio-ext-authz-ns[a]"))].into() };
    let mut known = DynamicMetadata::default();
    known.add("envoy.filters.http.rbac", facts);
    known
}

fn circumstances<'a>(body: Option<&'a [u8]>, metadata: &'a DynamicMetadata) -> Circumstances<'a> {
    Circumstances {
        source: "10.0.0.1:4000".parse().unwrap(),
        destination: "10.0.0.2:8000".parse().unwrap(),
        peer_identity: Some("spiffe://cluster.local/ns/a/sa/b"),
        own_identity: None,
        id: 7,
        time: SystemTime::UNIX_EPOCH,
        body,
        metadata,
    }
}

fn request() -> Parts {
    let headers = [("host", "httpbin:8000"), ("x-ext-authz", "allow"), ("cookie", "a=b"), ("authorization", "Basic x")];
    head(Method::POST, "/headers?a=b", &headers)
}

fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Bytes> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

fn framed(message: &wire::CheckResponse) -> Response<Bytes> {
    let encoded = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    body.extend(encoded);
    answer(200, &[("grpc-status", "0")], body)
}

fn denial(decision: Decision) -> Reply {
    let Decision::Denied(reply) = decision else { panic!("{decision:?}") };
    assert!(reply.flags.contains(Flag::UnauthorizedExternalService));
    reply
}

fn failure(decision: Decision) -> Reply {
    let Decision::Failed(reply) = decision else { panic!("{decision:?}") };
    assert!(reply.flags.contains(Flag::UnauthorizedExternalService));
    reply
}

fn permission(decision: Decision) -> Changes {
    let Decision::Allowed(changes) = decision else { panic!("{decision:?}") };
    *changes
}

#[test]
fn only_requests_that_the_rules_found_are_asked_about() {
    let metadata = ", filter_enabled_metadata: {filter: envoy.filters.http.rbac, path: [{key: \
                    istio_ext_authz_x_shadow_effective_policy_id}], value: {string_match: {prefix: istio-ext-authz}}}";
    let filter = grpc(metadata);
    assert_eq!(filter.asks(None, &known(), 0), Asked::Yes { body: false });
    assert_eq!(filter.asks(None, &DynamicMetadata::default(), 0), Asked::Disabled(None));
    assert_eq!(filter.asks(Some(&AuthzOverride::Disabled), &known(), 0), Asked::No);
    let strict = grpc(&format!("{metadata}, deny_at_disable: {{default_value: true, runtime_key: x}}"));
    let Asked::Disabled(Some(reply)) = strict.asks(None, &DynamicMetadata::default(), 0) else { panic!("not refused") };
    assert_eq!((reply.status.as_u16(), &*reply.details), (403, "ext_authz_error"));
    let with_body = grpc(", with_request_body: {max_request_bytes: 10}");
    assert_eq!(with_body.asks(None, &known(), 0), Asked::Yes { body: true });
}

#[test]
fn over_http_little_is_told() {
    let filter = plain(
        ", path_prefix: /check, authorization_request: {allowed_headers: {patterns: [{exact: x-ext-authz}]}, \
         headers_to_add: [{key: x-by, value: proxy}]}",
        "",
    );
    let question =
        filter.question(&request(), &circumstances(Some(b"body"), &DynamicMetadata::default()), None).unwrap();
    assert_eq!((question.method(), question.uri().to_string().as_str()), (&Method::POST, "/check/headers?a=b"));
    let text = |name: &str| question.headers().get(name).map(|v| v.to_str().unwrap());
    assert_eq!((text("host"), text("x-ext-authz"), text("x-by")), (Some("httpbin:8000"), Some("allow"), Some("proxy")));
    assert_eq!((text("authorization"), text("cookie")), (Some("Basic x"), None));
    assert_eq!((text("content-length"), &question.body()[..]), (Some("4"), &b"body"[..]));
}

#[test]
fn an_answer_over_http_changes_the_request_or_is_the_answer() {
    let filter = plain(
        ", authorization_response: {allowed_upstream_headers: {patterns: [{exact: x-user}]}, \
         allowed_upstream_headers_to_append: {patterns: [{exact: x-more}]}, allowed_client_headers_on_success: \
         {patterns: [{prefix: x-c}]}, allowed_client_headers: {patterns: [{exact: x-why}]}, \
         dynamic_metadata_from_headers: {patterns: [{prefix: x-m-}]}}",
        "",
    );
    let headers = [
        ("x-user", "me"),
        ("x-more", "2"),
        ("x-c", "3"),
        ("x-m-a", "4"),
        ("server", "s"),
        ("x-envoy-auth-headers-to-remove", "cookie, host"),
    ];
    let changes = permission(filter.decision(answer(200, &headers, Vec::new())));
    let mut parts = request();
    parts.headers.insert("x-more", HeaderValue::from_static("1"));
    assert!(changes.apply(&mut parts));
    assert_eq!(parts.headers["x-user"], "me");
    assert_eq!(parts.headers["x-more"], "1,2");
    assert!(!parts.headers.contains_key("cookie") && parts.headers.contains_key("host"));
    assert_eq!((changes.response.add.len(), changes.response.add[0].append), (1, Append::AppendOrAdd));
    assert_eq!(changes.facts.fields["x-m-a"], text("4"));
    let denied = [("x-why", "w"), ("x-user", "me"), ("location", "/login"), ("content-length", "2")];
    let reply = denial(filter.decision(answer(302, &denied, b"no".to_vec())));
    assert_eq!((reply.status.as_u16(), &*reply.body, &*reply.details), (302, &b"no"[..], "ext_authz_denied"));
    let names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-why", "location"]);
}

#[test]
fn without_an_answer_the_filter_decides() {
    let strict = plain("", ", status_on_error: {code: ServiceUnavailable}");
    let reply = failure(strict.decision(answer(500, &[], Vec::new())));
    assert_eq!((reply.status.as_u16(), reply.body.len(), &*reply.details), (503, 0, "ext_authz_error"));
    assert_eq!(plain("", "").failure().status, StatusCode::FORBIDDEN);
    let silent = grpc("");
    for bad in [answer(200, &[("grpc-status", "14")], Vec::new()), answer(200, &[("grpc-status", "0")], vec![0, 0])] {
        assert_eq!(failure(silent.decision(bad)).details, "ext_authz_error");
    }
}

#[test]
fn over_grpc_the_whole_request_is_told() {
    let filter = grpc(
        ", with_request_body: {max_request_bytes: 10}, metadata_context_namespaces: \
                       [envoy.filters.http.rbac, other]",
    );
    let known = known();
    let context = AuthzOverride::Settings { context: [("k".to_owned(), "v".to_owned())].into(), without_body: false };
    let question = filter.question(&request(), &circumstances(Some(b"body"), &known), Some(&context)).unwrap();
    assert_eq!(question.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
    assert_eq!(question.uri().authority().unwrap().as_str(), "outbound_9000__authz");
    assert_eq!(question.headers()["te"], "trailers");
    let message = wire::CheckRequest::decode(&question.body()[5..]).unwrap();
    let length = u32::try_from(message.encoded_len()).unwrap().to_be_bytes();
    assert_eq!(question.body()[..5], [&[0][..], &length].concat());
    let attributes = message.attributes.unwrap();
    let http = attributes.request.unwrap().http.unwrap();
    assert_eq!(
        (http.method.as_str(), http.path.as_str(), http.host.as_str()),
        ("POST", "/headers?a=b", "httpbin:8000")
    );
    assert_eq!((http.headers["x-ext-authz"].as_str(), http.headers[":path"].as_str()), ("allow", "/headers?a=b"));
    assert_eq!((http.body.as_str(), http.protocol.as_str()), ("body", "HTTP/1.1"));
    assert_eq!(attributes.source.unwrap().principal, "spiffe://cluster.local/ns/a/sa/b");
    assert_eq!(attributes.context_extensions["k"], "v");
    assert_eq!(attributes.metadata_context.unwrap().filter_metadata.len(), 1);
}

#[expect(deprecated, reason = "services still say it as it was said before")]
#[test]
fn an_answer_over_grpc_changes_the_request_or_is_the_answer() {
    use envoy::envoy::config::core::v3::{self as core, HeaderValue as Header, HeaderValueOption};
    let option = |key: &str, append| HeaderValueOption {
        header: Some(Header { key: key.to_owned(), value: "v".to_owned(), raw_value: Vec::new() }),
        append,
        ..HeaderValueOption::default()
    };
    let filter = grpc("");
    let ok = wire::OkHttpResponse {
        headers: vec![option("x-set", None), option("X-Append", Some(true))],
        response_headers_to_add: vec![option("x-a", None), option("x-b", Some(false))],
        query_parameters_to_set: vec![core::QueryParameter { key: "b".to_owned(), value: "new v".to_owned() }],
        query_parameters_to_remove: vec!["gone".to_owned()],
        headers_to_remove: vec!["cookie".to_owned()],
        ..wire::OkHttpResponse::default()
    };
    let allowed = wire::CheckResponse {
        http_response: Some(wire::check_response::HttpResponse::OkResponse(ok)),
        ..wire::CheckResponse::default()
    };
    let changes = permission(filter.decision(framed(&allowed)));
    assert_eq!((changes.set[0].0.as_str(), changes.append[0].0.as_str()), ("x-set", "x-append"));
    assert_eq!(changes.remove, ["cookie"]);
    let appends: Vec<Append> = changes.response.add.iter().map(|addition| addition.append).collect();
    assert_eq!(appends, [Append::AppendOrAdd, Append::OverwriteOrAdd]);
    let mut parts = head(Method::GET, "/p?z&b=1&gone=2&a=%20&b=2", &[("x-append", "old")]);
    assert!(changes.apply(&mut parts));
    // As Envoy 1.40 answers the same.
    assert_eq!(crate::routing::full_path(&parts), "/p?a=%20&b=new%20v&z=");
    assert_eq!(
        (&parts.headers["x-append"], &parts.headers["x-set"]),
        (&"old,v".parse().unwrap(), &"v".parse().unwrap())
    );
    let denied = wire::DeniedHttpResponse {
        status: Some(envoy::envoy::r#type::v3::HttpStatus { code: 401 }),
        headers: vec![option("x-ext-authz-check-result", None)],
        body: "denied by ext_authz".to_owned(),
    };
    let unsure = wire::CheckResponse {
        status: Some(envoy::google::rpc::Status { code: 13, ..Default::default() }),
        http_response: Some(wire::check_response::HttpResponse::ErrorResponse(denied.clone())),
        ..wire::CheckResponse::default()
    };
    let reply = failure(filter.decision(framed(&unsure)));
    assert_eq!((reply.status.as_u16(), &*reply.details), (401, "ext_authz_error"));
    let refused = wire::CheckResponse {
        status: Some(envoy::google::rpc::Status { code: 7, ..Default::default() }),
        http_response: Some(wire::check_response::HttpResponse::DeniedResponse(denied)),
        ..wire::CheckResponse::default()
    };
    let reply = denial(filter.decision(framed(&refused)));
    assert_eq!((reply.status.as_u16(), &*reply.body), (401, &b"denied by ext_authz"[..]));
    assert_eq!(reply.headers[0].0, "x-ext-authz-check-result");
    let bare = wire::CheckResponse { http_response: None, ..refused };
    assert_eq!(denial(filter.decision(framed(&bare))).status, StatusCode::FORBIDDEN);
}

#[test]
fn what_is_not_supported_is_refused() {
    for (config, expected) in [
        ("transport_api_version: V2, http_service: {}", "transport_api_version: must be V3"),
        ("transport_api_version: V3", "services: is required"),
        (
            "transport_api_version: V3, grpc_service: {google_grpc: {target_uri: x, stat_prefix: x}}",
            "grpc_service.google_grpc: is not supported",
        ),
        (
            "transport_api_version: V3, http_service: {server_uri: {uri: x, timeout: 1s}}",
            "http_service.server_uri.cluster: must not be empty",
        ),
    ] {
        assert_eq!(refused(KIND, &format!(", {config}")), expected);
    }
}
