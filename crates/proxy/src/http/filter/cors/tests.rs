use http::header::{ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS};

use super::*;
use crate::config::{Fraction, StringMatch};
use crate::http::filter::tests::head;

fn policy() -> CorsPolicy {
    CorsPolicy {
        origins: [StringMatch::exact("https://a.example")].into(),
        methods: Some(HeaderValue::from_static("POST,GET")),
        headers: Some(HeaderValue::from_static("*")),
        expose: Some(HeaderValue::from_static("x-out")),
        max_age: Some(HeaderValue::from_static("86400")),
        credentials: true,
        private_network: true,
        forward_other_preflights: true,
        enabled: Fraction::ALL,
        shadow: None,
    }
}

fn asks(origin: &str) -> Parts {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-in"),
        ("access-control-request-private-network", "true"),
    ];
    head(Method::OPTIONS, "/", &headers)
}

fn told(cors: Cors) -> Vec<String> {
    let Cors::Preflight(reply) = cors else { panic!("{cors:?}") };
    assert_eq!((reply.status, reply.body.len(), &*reply.details), (StatusCode::OK, 0, "cors_response"));
    reply.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered() {
    let expected = [
        "access-control-allow-origin: https://a.example",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: POST,GET",
        "access-control-allow-headers: x-in",
        "access-control-expose-headers: x-out",
        "access-control-max-age: 86400",
        "access-control-allow-private-network: true",
    ];
    assert_eq!(told(policy().look_at(&asks("https://a.example"), 0, &CorsStats::default())), expected);
}

#[test]
fn a_preflight_of_another_origin_goes_on_or_gets_no_permission() {
    assert_eq!(policy().look_at(&asks("https://b.example"), 0, &CorsStats::default()), Cors::Nothing);
    let strict = CorsPolicy { forward_other_preflights: false, ..policy() };
    let told = told(strict.look_at(&asks("https://b.example"), 0, &CorsStats::default()));
    assert!(told.iter().all(|header| !header.starts_with("access-control-allow-origin")), "{told:?}");
}

#[test]
fn a_call_of_an_allowed_origin_is_marked() {
    let call = head(Method::POST, "/", &[("origin", "https://a.example")]);
    let Cors::Call(origin) = policy().look_at(&call, 0, &CorsStats::default()) else { panic!("not a call") };
    let mut headers = HeaderMap::new();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    policy().allow(&origin, &mut headers);
    assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
    assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "x-out");
    for (method, headers) in [(Method::POST, &[("origin", "https://b.example")][..]), (Method::GET, &[])] {
        assert_eq!(policy().look_at(&head(method, "/", headers), 0, &CorsStats::default()), Cors::Nothing);
    }
}

#[test]
fn options_without_a_method_are_a_call() {
    let call = head(Method::OPTIONS, "/", &[("origin", "https://a.example")]);
    assert!(matches!(policy().look_at(&call, 0, &CorsStats::default()), Cors::Call(_)));
}

#[test]
fn a_policy_in_the_shadow_only_counts() {
    let stats = CorsStats::default();
    let shadow = CorsPolicy { enabled: Fraction::ALL.at_most(0), shadow: Some(Fraction::ALL), ..policy() };
    assert_eq!(shadow.look_at(&asks("https://a.example"), 0, &stats), Cors::Nothing);
    assert_eq!(shadow.look_at(&asks("https://b.example"), 0, &stats), Cors::Nothing);
    let off = CorsPolicy { shadow: None, ..shadow };
    assert_eq!(off.look_at(&asks("https://a.example"), 0, &stats), Cors::Nothing);
    assert_eq!((stats.origin_valid.get(), stats.origin_invalid.get()), (1, 1));
}
