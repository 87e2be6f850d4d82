//! Traces, and what connections to upstream offer.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::until;

use super::http::{any, get, mirror, to};
use super::{LIMIT, Plane, server};

type Seen = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A server of gRPC that takes everything; returns what it has got.
fn collector() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let list = seen.clone();
    let address = server(move |stream| {
        let list = list.clone();
        stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = runtime.block_on(async move {
            let io = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let list = list.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    list.lock().unwrap().push((path, body));
                    let response = http::Response::builder().header("grpc-status", "0");
                    Ok::<_, hyper::Error>(response.body(Full::new(Bytes::new())).unwrap())
                }
            });
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        });
    });
    (address, seen)
}

#[test]
fn a_request_that_is_traced_is_told_to_the_collector() {
    let (address, seen) = collector();
    let mut plane = Plane::start();
    let http2 = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: \
        {http2_protocol_options: {}}}}";
    plane.cluster("c", &[mirror()], "").cluster("otel", &[address], http2);
    let tracing = "tracing: {random_sampling: {value: 0}, custom_tags: [{tag: who, request_header: {name: x-who, \
        default_value: nobody}}], provider: {name: otel, typed_config: {\"@type\": \
        type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig, service_name: page.default, grpc_service: \
        {envoy_grpc: {cluster_name: otel}}}}}";
    let route = "{match: {prefix: /}, route: {cluster: c}, decorator: {operation: \"page:80/*\"}}";
    let address = plane.http(&any(route), tracing).go();
    let unseen = get(address, "/not", "");
    assert!(unseen.body.contains("\ntraceparent: 00-") && unseen.body.contains("-00\n"), "{}", unseen.body);
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-who: me\r\n";
    let answer = get(address, "/seen?x", parent);
    assert!(answer.body.contains("\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{}", answer.body);
    assert!(!answer.body.contains("b7ad6b7169203331"), "{}", answer.body);
    assert!(answer.body.contains("\nx-envoy-decorator-operation: page:80/*\n"), "{}", answer.body);
    let (path, body) = until("a span", LIMIT, || seen.lock().unwrap().first().cloned());
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let text = String::from_utf8_lossy(&body);
    for part in ["service.name", "page.default", "page:80/*", "http://a.example/seen?x", "who", "me", "200"] {
        assert!(text.contains(part), "{part} is not in {text:?}");
    }
    assert!(!text.contains("/not"), "{text:?}");
    let forced =
        get(address, "/forced", "x-request-id: 00000000-0000-4000-8000-000000000000\r\nx-client-trace-id: 1\r\n");
    assert!(forced.body.contains("x-request-id: 00000000-0000-b000-8000-000000000000"), "{}", forced.body);
}

/// A server that keeps what it hears, and says nothing.
fn listening() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = heard.clone();
    let address = server(move |mut stream| {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).unwrap_or_default();
        list.lock().unwrap().extend_from_slice(&some[..read]);
    });
    (address, heard)
}

#[test]
fn a_server_may_be_called_what_requests_call_it() {
    let (tls, hello) = listening();
    let mut plane = Plane::start();
    let socket = "transport_socket: {name: tls, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}\n\
        typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": \
        type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, upstream_http_protocol_options: \
        {auto_sni: true}, explicit_http_config: {http_protocol_options: {}}}}";
    let address = plane.cluster("c", &[tls], socket).http(&to("c"), "").go();
    get(address, "/", "");
    let hello = hello.lock().unwrap().clone();
    assert!(hello.windows(9).any(|part| part == b"a.example"), "{hello:?}");
}

#[test]
fn a_filter_says_which_protocols_are_offered() {
    let (tls, hello) = listening();
    let mut plane = Plane::start();
    let socket = "transport_socket: {name: tls, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a.example, \
        common_tls_context: {alpn_protocols: [istio]}}}";
    plane.cluster("c", &[tls], socket);
    let list = "{name: alpn, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config, on_request_headers: [{object_key: \
        envoy.network.application_protocols, format_string: {text_format_source: {inline_string: \
        \"istio-http/1.1,istio,http/1.1\"}}}]}}";
    let address = plane.http(&to("c"), &super::http::filters(list)).go();
    get(address, "/", "");
    let hello = hello.lock().unwrap().clone();
    let offered = b"\x0eistio-http/1.1\x05istio\x08http/1.1";
    assert!(hello.windows(offered.len()).any(|part| part == offered), "{hello:?}");
}
