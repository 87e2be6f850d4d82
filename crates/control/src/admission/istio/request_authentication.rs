//! What a RequestAuthentication may say.

use serde_json::Value;

use super::finding::{Findings, Subject, check_scope, items, text, texts};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let spec = subject.spec;
    check_scope(spec, findings);
    items(&spec["jwtRules"]).iter().for_each(|rule| check_rule(rule, findings));
}

fn check_rule(rule: &Value, findings: &mut Findings) {
    findings.refuse_if(text(&rule["issuer"]).is_empty(), "issuer must be non-empty string");
    let none = texts(&rule["audiences"]).any(str::is_empty);
    findings.refuse_if(none, "audience must be non-empty string");
    check_keys(rule, findings);
    for header in items(&rule["fromHeaders"]) {
        findings.refuse_if(text(&header["name"]).is_empty(), "location header name must be non-empty string");
    }
    for (list, what) in [("fromParams", "location query"), ("fromCookies", "cookie name")] {
        let none = texts(&rule[list]).any(str::is_empty);
        findings.refuse_if(none, format_args!("{what} must be non-empty string"));
    }
    for claim in items(&rule["outputClaimToHeaders"]) {
        let (header, claim) = (text(&claim["header"]), text(&claim["claim"]));
        let both = !header.is_empty() && !claim.is_empty();
        findings.refuse_if(!both, "outputClaimToHeaders header and claim value must be non-empty string");
        let word = header.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        findings.refuse_if(!word, format_args!("header name {header:?} is invalid"));
    }
}

/// Where an issuer's keys are, or what they are.
pub(super) fn check_keys(rule: &Value, findings: &mut Findings) {
    let (address, keys) = (text(&rule["jwksUri"]), text(&rule["jwks"]));
    findings.refuse_if(!address.is_empty() && !keys.is_empty(), "only one of jwks or jwksUri can be set");
    if !address.is_empty() {
        match address.parse::<http::Uri>() {
            Ok(uri) if uri.host().is_none() => findings.refuse(format_args!("URI {address:?} is invalid: no host")),
            Ok(uri) => match uri.scheme_str().unwrap_or_default() {
                "http" | "https" => {}
                scheme => findings.refuse(format_args!("URI scheme {scheme:?} is not supported")),
            },
            Err(error) => findings.refuse(format_args!("URI {address:?} is invalid: {error}")),
        }
    }
    if !keys.is_empty() {
        let set = serde_json::from_str::<Value>(keys);
        let valid = set.is_ok_and(|set| set["keys"].is_array());
        findings.refuse_if(!valid, "jwks is not a JSON Web Key Set");
    }
}
