//! Regular expressions.

/// The longest that Istio takes, in bytes.
const LONGEST: usize = 1024;

/// Whether proxies can use an expression; the error is a clause.
pub(crate) fn check(expression: &str) -> Result<(), String> {
    if expression.is_empty() {
        return Err("regex must not be empty".to_owned());
    }
    if expression.len() > LONGEST {
        return Err(format!("regex is too large, max length allowed is {LONGEST}"));
    }
    envoy::re2::compile(expression).map(drop).map_err(|reason| format!("invalid regex: {expression:?} {reason}"))
}
