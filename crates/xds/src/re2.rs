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
    let parsed = regex::Regex::new(expression);
    parsed.map(drop).map_err(|e| format!("invalid regex: {}", e.to_string().replace('\n', " ")))
}
