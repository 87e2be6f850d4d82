//! What responses say beside what upstream says.

use super::Plane;
use super::http::{any, get, mirror, ok, web};

#[test]
fn a_client_that_is_to_come_back_gets_a_cookie() {
    let mut plane = Plane::start();
    let cookie = "cookie: {name: c, ttl: 10s, path: /a, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}";
    let route = format!("{{match: {{prefix: /}}, route: {{cluster: c, hash_policy: [{{{cookie}}}]}}}}");
    let servers = [(); 4].map(|()| mirror());
    let address = plane.cluster("c", &servers, "lb_policy: RING_HASH").http(&any(&route), "").go();
    let first = get(address, "/", "");
    let cookie = first.header("set-cookie");
    let (value, rest) = cookie.strip_prefix("c=\"").and_then(|rest| rest.split_once('"')).unwrap();
    assert_eq!(rest, "; Max-Age=10; Path=/a; SameSite=Lax; Secure; HttpOnly");
    assert_eq!(get(address, "/", &format!("cookie: c=\"{value}\"\r\n")).header("set-cookie"), "");
}

#[test]
fn a_response_says_how_often_upstream_was_tried_and_what_the_request_is_called() {
    let mut plane = Plane::start();
    let busy = web(|request| match request.header("x-envoy-attempt-count") {
        "1" => "HTTP/1.1 200 OK\r\nx-again: yes\r\ncontent-length: 0\r\n\r\n".to_owned(),
        _ => ok("done"),
    });
    let policy = "retry_on: retriable-headers, num_retries: 2, retriable_headers: [{name: x-again, string_match: {exact: \
        \"yes\"}}], retriable_request_headers: [{name: x-retry, present_match: true}]";
    let host = format!(
        "{{name: any, domains: [\"*\"], include_request_attempt_count: true, include_attempt_count_in_response: true, \
         routes: [{{match: {{prefix: /}}, route: {{cluster: c, retry_policy: {{{policy}}}}}}}]}}"
    );
    let address = plane.cluster("c", &[busy], "").http(&host, "always_set_request_id_in_response: true").go();
    let again = get(address, "/", "x-retry: 1\r\nx-request-id: mine\r\n");
    assert_eq!((again.body.as_str(), again.header("x-envoy-attempt-count")), ("done", "2"));
    assert_eq!(again.header("x-request-id"), "mine");
    let once = get(address, "/", "");
    assert_eq!((once.body.as_str(), once.header("x-envoy-attempt-count")), ("", "1"));
}
