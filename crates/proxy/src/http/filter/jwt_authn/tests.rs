use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::config::http::HttpFilter;
use crate::dynamic_metadata::DynamicMetadata;
use crate::http::filter::tests::{filter, head, refused};

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// Keys of two secrets; the first one has a name.
fn keys() -> String {
    let key = |secret: &str| BASE64_URL_SAFE_NO_PAD.encode(secret);
    json!({"keys": [{"kty": "oct", "kid": "one", "k": key("secret one")}, {"kty": "XX"}, {"kty": "oct", "alg": "HS512",
        "kid": "two", "k": key("secret two")}]})
    .to_string()
}

fn signed(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn token(claims: Value) -> String {
    signed("secret one", Some("one"), &claims)
}

/// The filter with a provider of the issuer `me`, with more about it, and with rules.
fn config(provider: &str, rules: &str) -> Arc<JwtAuthn> {
    let keys = format!("{:?}", keys());
    let config = format!(
        ", providers: {{p: {{issuer: me, local_jwks: {{inline_string: {keys}}}{provider}}}, q: {{issuer: you, \
         local_jwks: {{inline_string: 'no keys'}}, from_headers: [{{name: x-you}}]}}}}, rules: [{rules}]"
    );
    let HttpFilter::JwtAuthn(config) = filter("jwt_authn.v3.JwtAuthentication", &config) else { panic!("{config}") };
    config
}

const REQUIRED: &str = "{match: {prefix: /}, requires: {provider_name: p}}";

fn bearer(token: &str) -> Parts {
    head(Method::GET, "http://host:8000/a?b=c", &[("authorization", &format!("Bearer {token}"))])
}

fn check(config: &JwtAuthn, parts: &mut Parts) -> (Authenticated, Result<(), Reply>) {
    let request = routing::Request { parts, tls: None, random: 0 };
    match config.requirement(&request, None).unwrap() {
        Some(requirement) => config.authenticate(requirement, parts, NOW, &|_| None),
        None => (Authenticated::default(), Ok(())),
    }
}

/// What the client is told; `OK` if it is not refused.
fn told(config: &JwtAuthn, parts: &mut Parts) -> String {
    match check(config, parts).1 {
        Ok(()) => "OK".to_owned(),
        Err(reply) => format!("{} {}", reply.status.as_u16(), String::from_utf8_lossy(&reply.body)),
    }
}

#[test]
fn tokens_are_refused_in_envoys_words() {
    let config = config(", audiences: [them]", REQUIRED);
    let encoded = |header: &str, payload: &str| {
        format!("{}.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload))
    };
    let good = json!({"iss": "me", "aud": "them"});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        token(claims)
    };
    let at = NOW.as_secs();
    let hs = r#"{"alg":"HS256"}"#;
    let cases = [
        (token(good.clone()), "OK"),
        (with("aud", json!(["other", "https://them/"])), "OK"),
        (with("aud", json!("other")), "403 Audiences in Jwt are not allowed"),
        (with("aud", json!([1])), "401 Jwt payload [aud] field is not a string or string list"),
        (with("iss", json!("you")), "401 Jwt issuer is not configured"),
        (with("iss", json!(1)), "401 Jwt payload [iss] field is not a string"),
        (with("exp", json!(at - 61)), "401 Jwt is expired"),
        (with("exp", json!(at - 60)), "OK"),
        (with("nbf", json!(at + 61)), "401 Jwt not yet valid"),
        (with("nbf", json!(at + 60)), "OK"),
        (with("exp", json!("soon")), "401 Jwt payload [exp] field is not an integer"),
        (with("exp", json!(-1)), "401 Jwt payload [exp] field is not a positive 64 bit integer"),
        (signed("another", Some("one"), &good), "401 Jwt verification fails"),
        (signed("secret one", None, &good), "OK"),
        (signed("secret two", Some("two"), &good), "401 Jwks doesn't have key to match kid or alg from Jwt"),
        (signed("secret one", Some("three"), &good), "401 Jwks doesn't have key to match kid or alg from Jwt"),
        ("a.b".to_owned(), "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
        ("a..b".to_owned(), "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"),
        // The first character is the first that a token can have.
        (
            "*.e30.c2ln".to_owned(),
            "401 Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        ("a.e30.c2ln".to_owned(), "401 Jwt header is an invalid Base64url encoded"),
        (encoded("x", "{}"), "401 Jwt header is an invalid JSON"),
        (encoded("{}", "{}"), "401 Jwt header [alg] field is required and must be a string"),
        (encoded(r#"{"alg":"none"}"#, "{}"), "401 Jwt header [alg] is not supported"),
        (encoded(r#"{"alg":"HS256","kid":1}"#, "{}"), "401 Jwt header [kid] field is not a string"),
        (encoded(hs, "x"), "401 Jwt payload is an invalid JSON"),
        (format!("{}x", encoded(hs, "{}")), "401 Jwt signature is an invalid Base64url encoded"),
    ];
    for (token, expected) in cases {
        assert_eq!(told(&config, &mut bearer(&token)), expected, "{token}");
    }
    assert_eq!(told(&config, &mut head(Method::GET, "/", &[])), "401 Jwt is missing");
    assert_eq!(told(&config, &mut head(Method::GET, "/", &[("authorization", "Basic eA==")])), "401 Jwt is missing");
}

#[test]
fn a_refusal_says_where_and_why() {
    let config = config("", REQUIRED);
    let challenge = |parts: &mut Parts| {
        let reply = check(&config, parts).1.unwrap_err();
        (reply.headers[0].1.to_str().unwrap().to_owned(), reply.details.into_owned())
    };
    let (missing, details) = challenge(&mut head(Method::GET, "http://host:8000/a?b=c", &[]));
    assert_eq!(missing, "Bearer realm=\"http://host:8000/a?b=c\"");
    assert_eq!(details, "jwt_authn_access_denied{Jwt_is_missing}");
    let (bad, details) = challenge(&mut bearer(&token(json!({"iss": "me", "exp": 1}))));
    assert_eq!(bad, "Bearer realm=\"http://host:8000/a?b=c\", error=\"invalid_token\"");
    assert_eq!(details, "jwt_authn_access_denied{Jwt_is_expired}");
}

#[test]
fn a_good_token_beside_a_bad_one_does_not_help() {
    let config = config(", from_headers: [{name: x-a}, {name: x-b}]", REQUIRED);
    let good = token(json!({"iss": "me"}));
    let mut parts = head(Method::GET, "/", &[("x-a", &good), ("x-b", &good)]);
    assert_eq!(told(&config, &mut parts), "OK");
    for headers in [[("x-a", "bad"), ("x-b", &*good)], [("x-a", &*good), ("x-b", "bad")]] {
        assert!(told(&config, &mut head(Method::GET, "/", &headers)).starts_with("401 Jwt is not in the form"));
    }
}

#[test]
fn tokens_are_found_and_taken_away() {
    let locations = ", from_headers: [{name: x-jwt, value_prefix: 'jwt='}], from_params: [t], from_cookies: [session]";
    let config = config(locations, REQUIRED);
    let token = token(json!({"iss": "me"}));
    let mut parts = head(Method::GET, "/", &[("x-jwt", &format!("jwt={token}"))]);
    assert_eq!(told(&config, &mut parts), "OK");
    assert!(!parts.headers.contains_key("x-jwt"));
    let mut parts = head(Method::GET, &format!("/p?a=%20b&t={token}&c"), &[]);
    assert_eq!(told(&config, &mut parts), "OK");
    assert_eq!(parts.uri.to_string(), "/p?a=%20b&c");
    let mut parts = head(Method::GET, &format!("/p?t={token}"), &[]);
    assert_eq!(told(&config, &mut parts), "OK");
    assert_eq!(parts.uri.to_string(), "/p");
    let mut parts = head(Method::GET, "/", &[("cookie", &format!("a=b; session=\"{token}\""))]);
    assert_eq!(told(&config, &mut parts), "OK");
    assert!(parts.headers.contains_key("cookie"));
}

#[test]
fn upstream_and_later_filters_learn_what_the_token_says() {
    let provider = ", forward: true, forward_payload_header: x-payload, pad_forward_payload_header: true, \
                    payload_in_metadata: payload, header_in_metadata: header, normalize_payload_in_metadata: \
                    {space_delimited_claims: [scope]}, claim_to_headers: [{header_name: x-sub, claim_name: sub}, \
                    {header_name: x-deep, claim_name: a.b}, {header_name: x-none, claim_name: none}]";
    let config = config(provider, REQUIRED);
    let claims = json!({"iss": "me", "sub": "somebody", "scope": "read  write", "a": {"b": 7}});
    let mut parts = bearer(&token(claims.clone()));
    for name in ["x-sub", "x-none", "x-payload"] {
        parts.headers.insert(name, HeaderValue::from_static("forged"));
    }
    let (learnt, result) = check(&config, &mut parts);
    result.unwrap();
    let text = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap());
    assert_eq!((text("x-sub"), text("x-deep"), text("x-none")), (Some("somebody"), Some("7"), None));
    assert!(text("authorization").is_some());
    let payload = base64::prelude::BASE64_URL_SAFE.decode(text("x-payload").unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), claims);
    let mut metadata = DynamicMetadata::default();
    metadata.add(NAME, learnt.facts);
    let noted = |path: [&str; 2]| metadata.get(NAME, path).unwrap().kind.clone().unwrap();
    let Kind::ListValue(scopes) = noted(["payload", "scope"]) else { panic!("no list") };
    let scopes: Vec<_> = scopes.values.into_iter().map(|value| value.kind.unwrap()).collect();
    assert_eq!(scopes, ["read", "write"].map(|scope| Kind::StringValue(scope.to_owned())));
    assert_eq!(noted(["header", "kid"]), Kind::StringValue("one".to_owned()));
}

#[test]
fn requirements_are_combined() {
    let rules = |requires: &str| config("", &format!("{{match: {{prefix: /}}, requires: {{{requires}}}}}"));
    let good = token(json!({"iss": "me"}));
    let other = token(json!({"iss": "stranger"}));
    let expired = token(json!({"iss": "me", "exp": 1}));
    let any = "requires_any: {requirements: [{provider_name: p}, {provider_name: q}";
    let missing = format!("{any}, {{allow_missing: {{}}}}]}}");
    let failed = format!("{any}, {{allow_missing_or_failed: {{}}}}]}}");
    let any = format!("{any}]}}");
    let all = "requires_all: {requirements: [{provider_name: p}, {provider_name: q}]}";
    let cases = [
        (&*any, Some(&good), "OK"),
        (&any, None, "401 Jwt is missing"),
        (&any, Some(&other), "401 Jwt issuer is not configured"),
        (&any, Some(&expired), "401 Jwt is expired"),
        (&missing, None, "OK"),
        (&missing, Some(&expired), "401 Jwt is expired"),
        (&failed, Some(&expired), "OK"),
        (all, Some(&good), "401 Jwt is missing"),
        ("allow_missing: {}", None, "OK"),
        ("allow_missing: {}", Some(&good), "OK"),
        ("allow_missing: {}", Some(&other), "401 Jwt issuer is not configured"),
        ("allow_missing_or_failed: {}", Some(&other), "OK"),
        (
            "provider_and_audiences: {provider_name: p, audiences: [x]}",
            Some(&good),
            "403 Audiences in Jwt are not allowed",
        ),
        ("", None, "OK"),
    ];
    for (requires, token, expected) in cases {
        let mut parts = token.map_or(head(Method::GET, "/", &[]), |token| bearer(token));
        assert_eq!(told(&rules(requires), &mut parts), expected, "{requires}");
    }
    // Keys that are none verify nothing.
    let mut parts = head(Method::GET, "/", &[("x-you", &token(json!({"iss": "you"})))]);
    assert_eq!(told(&rules(&any), &mut parts), "401 Jwks doesn't have any valid public key");
}

#[test]
fn routes_and_preflights_may_need_nothing() {
    let filter = config("", REQUIRED);
    let parts = head(Method::GET, "/", &[]);
    let wants = |filter: &JwtAuthn, parts: &Parts, change| {
        let request = routing::Request { parts, tls: None, random: 0 };
        filter.requirement(&request, change).map(|requirement| requirement.is_some())
    };
    assert_eq!(wants(&filter, &parts, None), Ok(true));
    assert_eq!(wants(&filter, &parts, Some(&JwtOverride::Disabled)), Ok(false));
    let unknown = JwtOverride::Named("x".into());
    let reply = wants(&filter, &parts, Some(&unknown)).unwrap_err();
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let preflight = head(Method::OPTIONS, "/", &[("origin", "a"), ("access-control-request-method", "GET")]);
    assert!(!filter.bypasses(&preflight));
    let lenient = JwtAuthn { bypass_cors_preflight: true, ..(*filter).clone() };
    assert!(lenient.bypasses(&preflight) && !lenient.bypasses(&parts));
}

#[test]
fn remote_keys_are_wanted_only_for_tokens_that_need_them() {
    let remote = "jwt_authn.v3.JwtAuthentication";
    let config = ", providers: {r: {issuer: me, remote_jwks: {http_uri: {uri: 'https://keys/jwks', cluster: keys, \
                  timeout: 5s}}}}, rules: [{match: {prefix: /}, requires: {provider_name: r}}]";
    let HttpFilter::JwtAuthn(config) = filter(remote, config) else { panic!("{config}") };
    let requirement = config.rules[0].requirement.clone();
    let wanted = |parts: &Parts| config.wanted(&requirement, parts).len();
    assert_eq!(wanted(&bearer(&token(json!({"iss": "me"})))), 1);
    assert_eq!(wanted(&bearer(&token(json!({"iss": "you"})))), 0);
    assert_eq!(wanted(&bearer("rubbish")), 0);
    let keys = Arc::new(Jwks::parse(keys().as_bytes()).unwrap());
    let mut parts = bearer(&token(json!({"iss": "me"})));
    let missing = config.authenticate(&requirement, &mut parts, NOW, &|_| None).1.unwrap_err();
    assert_eq!(missing.body, "Jwks remote fetch is failed");
    config.authenticate(&requirement, &mut parts, NOW, &|_| Some(keys.clone())).1.unwrap();
}

#[test]
fn what_is_not_supported_is_refused() {
    for (config, expected) in [
        (
            "rules: [{match: {prefix: /}, requires: {provider_name: x}}]",
            "rules[0].requires.provider_name: there is no provider \"x\"",
        ),
        ("providers: {p: {issuer: me}}", "providers[\"p\"].jwks_source_specifier: is required"),
        ("rules: [{requires: {}}]", "rules[0].match: is required"),
        (
            "rules: [{match: {prefix: /}, requires: {requires_any: {}}}]",
            "rules[0].requires.requires_any: must not be empty",
        ),
    ] {
        assert_eq!(refused("jwt_authn.v3.JwtAuthentication", &format!(", {config}")), expected);
    }
}
