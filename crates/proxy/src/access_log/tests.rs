use std::time::{Duration, UNIX_EPOCH};

use prost_types::{Struct, Value, value::Kind};

use http::{HeaderMap, Version};

use crate::dynamic_metadata::DynamicMetadata;

use super::{Entry, Flag, Flags, Format, Headers, HttpEntry, RequestHead};

/// Istio's default format.
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn entry() -> Entry<'static> {
    Entry {
        start: UNIX_EPOCH + Duration::from_millis(1_763_719_200_042),
        duration: Duration::from_millis(1203),
        received: 12,
        sent: 18,
        flags: Flags::default(),
        details: None,
        termination: None,
        upstream_failure: None,
        downstream_failure: None,
        upstream_host: Some("10.0.0.9:9000".parse().unwrap()),
        cluster: Some("outbound|9000||tcp-echo.foo.svc.cluster.local"),
        cluster_stat_name: None,
        upstream_local: Some("10.0.0.1:40000".parse().unwrap()),
        downstream_local: "10.96.0.9:9000".parse().unwrap(),
        downstream_remote: "10.0.0.1:50000".parse().unwrap(),
        direct_remote: "10.0.0.1:50000".parse().unwrap(),
        server_name: None,
        peer_identity: None,
        peer_subject: None,
        peer_fingerprint: None,
        local_identity: None,
        tls_version: None,
        filter_chain: None,
        connection_id: 7,
        http: None,
    }
}

fn text(format: &str, entry: &Entry<'_>) -> String {
    let mut line = String::new();
    Format::text(format, false).unwrap().render(entry, &mut line);
    line
}

fn object(fields: &[(&str, &str)]) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    Struct { fields: fields.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect() }
}

fn json(fields: &[(&str, &str)], omit_empty: bool, entry: &Entry<'_>) -> String {
    let mut line = String::new();
    Format::json(&object(fields), omit_empty).unwrap().render(entry, &mut line);
    line
}

#[test]
fn a_connection_in_istios_format_is_as_envoy_writes_it() {
    assert_eq!(
        text(ISTIO, &entry()),
        "[2025-11-21T10:00:00.042Z] \"- - -\" 0 - - - \"-\" 12 18 1203 - \"-\" \"-\" \"-\" \"-\" \"10.0.0.9:9000\" \
         outbound|9000||tcp-echo.foo.svc.cluster.local 10.0.0.1:40000 10.96.0.9:9000 10.0.0.1:50000 - -\n"
    );
}

#[test]
fn flags_are_listed_in_envoys_order() {
    let flags = Flags::default().with(Flag::UpstreamRetryLimitExceeded).with(Flag::UpstreamConnectionFailure);
    let entry = Entry { flags, ..entry() };
    assert_eq!(text("%RESPONSE_FLAGS%", &entry), "UF,URX");
    assert_eq!(text("%RESPONSE_FLAGS_LONG%", &entry), "UpstreamConnectionFailure,UpstreamRetryLimitExceeded");
}

#[test]
fn every_flag_is_known_by_its_letters() {
    let all = ["LH", "UH", "UF", "UC", "UO", "NR", "DC", "URX", "DPE", "NC", "DF", "DR", "UDO"];
    for short in all {
        let flag = Flag::parse(short).unwrap();
        assert_eq!(Flags::default().with(flag).to_string(), short);
        assert!(!Flags::default().contains(flag));
    }
}

#[test]
fn json_keeps_numbers_and_escapes_text() {
    let fields = [("sent", "%BYTES_SENT%"), ("why", "%CONNECTION_TERMINATION_DETAILS%"), ("to", "<%UPSTREAM_HOST%>")];
    let entry = Entry { termination: Some(&"a \"b\"\n"), ..entry() };
    let line = json(&fields, false, &entry);
    assert_eq!(line, "{\"sent\":18,\"to\":\"<10.0.0.9:9000>\",\"why\":\"a \\\"b\\\"\\n\"}\n");
}

#[test]
fn what_is_missing_is_null_or_left_out() {
    let fields = [("a", "%ROUTE_NAME%"), ("b", "%CONNECTION_ID%"), ("c", "%REQUESTED_SERVER_NAME%")];
    assert_eq!(json(&fields, false, &entry()), "{\"a\":null,\"b\":7,\"c\":null}\n");
    assert_eq!(json(&[("flags", "%RESPONSE_FLAGS%")], true, &entry()), "{\"flags\":\"-\"}\n");
    assert_eq!(json(&fields, true, &entry()), "{\"b\":7}\n");
}

#[test]
fn addresses_come_whole_or_in_parts() {
    let format = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT% %UPSTREAM_REMOTE_ADDRESS%";
    assert_eq!(text(format, &entry()), "10.0.0.1 9000 10.0.0.9:9000");
}

#[test]
fn two_percent_signs_are_one() {
    assert_eq!(text("100%% %CONNECTION_ID%", &entry()), "100% 7");
}

#[test]
fn an_operator_that_is_unknown_or_unclosed_is_refused() {
    for format in ["%BYTES%", "%DURATION", "%REQ(X%", "%START_TIME(%Y)%", "%REQ(:PATH):x%"] {
        assert!(Format::text(format, false).is_err(), "{format}");
    }
    assert_eq!(text("%REQ(:PATH):10%", &entry()), "-");
}

#[test]
fn an_unset_format_is_envoys_own() {
    let mut line = String::new();
    Format::default().render(&entry(), &mut line);
    assert!(line.ends_with("\"10.0.0.9:9000\"\n"), "{line}");
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// What `format` shows of a request.
fn request(format: &str) -> String {
    let sent = headers(&[("user-agent", "curl/8"), ("x-request-id", "1-2"), ("x-a", "\u{e9}t\u{e9}")]);
    let response = headers(&[("x-envoy-upstream-service-time", "4")]);
    let mut metadata = DynamicMetadata::default();
    let number = Value { kind: Some(Kind::NumberValue(7.0)) };
    let text_value = Value { kind: Some(Kind::StringValue("a b".to_owned())) };
    let inner = Struct { fields: [("n".to_owned(), number), ("t".to_owned(), text_value)].into() };
    let facts = [("claims".to_owned(), Value { kind: Some(Kind::StructValue(inner)) })];
    metadata.add("jwt", Struct { fields: facts.into() });
    let http = HttpEntry {
        protocol: Version::HTTP_11,
        request: RequestHead {
            method: "GET",
            path: "/productpage?u=normal",
            authority: "bookinfo.com",
            scheme: "http",
            headers: Headers::All(&sent),
        },
        status: Some(503),
        response: Headers::All(&response),
        trailers: Headers::default(),
        route: Some("default"),
        attempts: 3,
        request_duration: Some(Duration::from_millis(1)),
        response_duration: None,
        response_tx_duration: None,
        grpc_status: Some(14),
        stream_id: Some("1-2"),
        trace_id: None,
        metadata: &metadata,
    };
    text(format, &Entry { http: Some(&http), details: Some("via_upstream"), ..entry() })
}

#[test]
fn a_request_in_istios_format_is_as_envoy_writes_it() {
    assert_eq!(
        request(ISTIO),
        "[2025-11-21T10:00:00.042Z] \"GET /productpage?u=normal HTTP/1.1\" 503 - via_upstream - \"-\" 12 18 1203 4 \"-\" \
         \"curl/8\" \"1-2\" \"bookinfo.com\" \"10.0.0.9:9000\" outbound|9000||tcp-echo.foo.svc.cluster.local \
         10.0.0.1:40000 10.96.0.9:9000 10.0.0.1:50000 - default\n"
    );
}

#[test]
fn operators_of_requests_have_alternatives_and_limits() {
    for (format, expected) in [
        ("%REQ(X-NONE?:PATH):4%", "/pro"),
        ("%REQ(X-NONE?USER-AGENT)%", "curl/8"),
        ("%REQ(X-A):1%", "\u{e9}"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/productpage"),
        ("%REQ(HOST)% %REQ(:SCHEME)%", "bookinfo.com http"),
        ("%RESP(X-NONE)% %TRAILER(X)%", "- -"),
        ("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", "Unavailable UNAVAILABLE 14"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %REQUEST_DURATION% %RESPONSE_DURATION%", "3 1 -"),
    ] {
        assert_eq!(request(format), expected, "{format}");
    }
}

#[test]
fn a_format_says_which_headers_it_shows() {
    let format = Format::text("%REQ(X-A?:PATH)% %RESP(X-B)% %REQ(X-C?X-D)%", false).unwrap();
    let (request, response) = format.headers();
    assert_eq!(request, ["x-a", "x-c", "x-d"]);
    assert_eq!(response, ["x-b"]);
}

#[test]
fn what_filters_have_noted_is_shown() {
    assert_eq!(request("%DYNAMIC_METADATA(jwt:claims:n)%\n"), "7\n");
    assert_eq!(request("%DYNAMIC_METADATA(jwt:claims:t):2%\n"), "a \n");
    assert_eq!(request("%DYNAMIC_METADATA(jwt)%\n"), "{\"claims\":{\"n\":7,\"t\":\"a b\"}}\n");
    assert_eq!(request("%DYNAMIC_METADATA(jwt:other)% %DYNAMIC_METADATA(x)%\n"), "- -\n");
}
