//! Copies of requests.

use std::sync::{Arc, Mutex};

use super::http::{Message, any, ask_on, mirror, web};
use super::{LIMIT, Plane, connect, nobody};
use testkit::until;

#[test]
fn a_copy_of_a_request_goes_elsewhere_and_its_answer_nowhere() {
    let seen = Arc::new(Mutex::new(Vec::<Message>::new()));
    let list = seen.clone();
    let copied = web(move |request| {
        list.lock().unwrap().push(request.clone());
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 3\r\n\r\nbad".to_owned()
    });
    let mut plane = Plane::start();
    plane.cluster("c", &[mirror()], "").cluster("copy", &[copied], "").cluster("dead", &[nobody()], "");
    let share = "runtime_fraction: {default_value: {numerator: 0}}";
    let mirrors = format!("[{{cluster: copy}}, {{cluster: dead}}, {{cluster: nowhere}}, {{cluster: copy, {share}}}]");
    let route = format!(
        "{{match: {{prefix: /}}, route: {{cluster: c, prefix_rewrite: /b, request_mirror_policies: {mirrors}}}}}"
    );
    let address = plane.http(&any(&route), "").go();
    let stream = connect(address);
    for body in ["xyz", ""] {
        let length = body.len();
        let request = format!("POST /a HTTP/1.1\r\nhost: a.example:80\r\ncontent-length: {length}\r\n\r\n{body}");
        let answer = ask_on(&stream, &request);
        assert!(answer.start.contains(" 200 ") && answer.body.contains("\nhost: a.example:80\n"), "{answer:?}");
    }
    let copies = until("two copies", LIMIT, || {
        let seen = seen.lock().unwrap();
        (seen.len() == 2).then(|| seen.clone())
    });
    let bodies: Vec<&str> = copies.iter().map(|copy| copy.body.as_str()).collect();
    assert!(bodies.contains(&"xyz") && bodies.contains(&""), "{bodies:?}");
    for copy in &copies {
        assert_eq!(copy.start, "POST /ba HTTP/1.1");
        assert_eq!((copy.header("host"), copy.header("x-envoy-internal")), ("a.example-shadow:80", "true"));
    }
    plane.reaches("copy", "upstream_rq_5xx", 2);
    plane.reaches("copy", "upstream_rq_active", 0);
    plane.reaches("dead", "upstream_cx_connect_fail", 2);
}
