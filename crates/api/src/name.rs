//! Object names, and the rules Kubernetes has for them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespacedName {
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl NamespacedName {
    /// Joins the two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> NamespacedName {
        NamespacedName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
    and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
    must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
    validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Checks an RFC 1123 label (namespaces, containers, ports' names): at most 63 characters.
pub fn check_label(name: &str) -> Result<(), String> {
    check(name, 63, LABEL, is_label(name))
}

/// Checks an RFC 1123 subdomain (most objects' names): at most 253 characters.
pub fn check_subdomain(name: &str) -> Result<(), String> {
    check(name, 253, SUBDOMAIN, name.split('.').all(is_label))
}

/// Checks an RFC 1035 label (services' names): at most 63 characters, a letter first.
pub fn check_label_1035(name: &str) -> Result<(), String> {
    check(name, 63, LABEL_1035, is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Checks a name that need only be a path segment (roles, whose names may hold colons).
pub fn check_path_segment(name: &str) -> Result<(), String> {
    if matches!(name, "." | "..") {
        return Err(format!("may not be '{name}'"));
    }
    match name.chars().find(|c| matches!(c, '/' | '%')) {
        Some(c) => Err(format!("may not contain '{c}'")),
        None => Ok(()),
    }
}

fn check(name: &str, longest: usize, rule: &str, holds: bool) -> Result<(), String> {
    if name.len() > longest {
        return Err(format!("must be no more than {longest} characters"));
    }
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => inner(first) && inner(last) && bytes.iter().all(|b| inner(b) || *b == b'-'),
        _ => false,
    }
}

/// Checks the key of a label or an annotation: `[prefix/]name`.
pub fn check_qualified(key: &str) -> Result<(), String> {
    const RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let name = match key.split_once('/') {
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            check_subdomain(prefix).map_err(|e| format!("prefix part {e}"))?;
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 characters".to_owned());
    }
    if is_label_value(name) { Ok(()) } else { Err(RULE.to_owned()) }
}

/// Checks the value of a label: empty, or at most 63 characters.
pub fn check_label_value(value: &str) -> Result<(), String> {
    const RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
        must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
        validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    check(value, 63, RULE, value.is_empty() || is_label_value(value))
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends = [bytes.first(), bytes.last()].into_iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric));
    ends && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_kubernetes() {
        assert!(check_subdomain("a.b-c.d").is_ok());
        assert!(check_subdomain("A").is_err() && check_subdomain("").is_err() && check_subdomain("a..b").is_err());
        assert!(check_label("a.b").is_err() && check_label(&"a".repeat(64)).is_err());
        assert!(check_label_1035("1a").is_err() && check_label("1a").is_ok());
        assert!(check_qualified("app.kubernetes.io/name").is_ok() && check_qualified("/x").is_err());
        assert!(check_label_value("").is_ok() && check_label_value("-a").is_err());
        assert!(check_path_segment("system:node").is_ok() && check_path_segment("a/b").is_err());
    }
}
