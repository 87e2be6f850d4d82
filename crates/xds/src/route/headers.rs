//! Changes of headers.

use api::istio::{HeaderOperations, Headers};
use envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy::envoy::config::core::v3::{HeaderValue, HeaderValueOption};

/// What is added and removed, in Envoy's form.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
    /// The host that is set in requests.
    pub(super) authority: Option<String>,
}

impl Changes {
    /// Adds what an object says; what cannot be done is left out.
    pub(super) fn extend(&mut self, headers: Option<&Headers>) {
        let Some(Headers { request, response }) = headers else { return };
        if let Some(operations) = request {
            let host = operations.set.iter().find(|(name, _)| is_host(name));
            self.authority = host.map(|(_, value)| value.clone()).or(self.authority.take());
            self.request_add.extend(added(operations));
            self.request_remove.extend(removed(operations));
        }
        if let Some(operations) = response {
            self.response_add.extend(added(operations));
            self.response_remove.extend(removed(operations));
        }
    }
}

/// Whether a name is that of a header that can be changed.
pub(crate) fn is_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

/// Whether a name is that of the host, which is rewritten rather than added.
pub(crate) fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// Whether a value is one: text with commands such as `%PROTOCOL%`, where `%%` stands for a percent sign.
pub(crate) fn template(value: &str) -> Result<(), ()> {
    if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
        return Err(());
    }
    let mut rest = value;
    while let Some((_, tail)) = rest.split_once('%') {
        rest = match tail.strip_prefix('%') {
            Some(tail) => tail,
            None => command(tail).ok_or(())?,
        };
    }
    Ok(())
}

/// What follows a command whose first percent sign is read.
fn command(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = text.split_at(end);
    if let Some(arguments) = rest.strip_prefix('(') {
        rest = arguments.split_once(')')?.1;
    }
    if let Some(length) = rest.strip_prefix(':') {
        rest = length.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let known = COMMANDS.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family));
    rest.strip_prefix('%').filter(|_| known)
}

/// The commands that make sense in headers, of Envoy's.
const COMMANDS: [&str; 12] = [
    "BYTES_RECEIVED",
    "CLUSTER_METADATA",
    "DYNAMIC_METADATA",
    "HOSTNAME",
    "PROTOCOL",
    "REQ",
    "REQUESTED_SERVER_NAME",
    "RESP",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "START_TIME",
];

/// Beginnings of the names of others.
const FAMILIES: [&str; 5] = ["CONNECTION_", "DOWNSTREAM_", "ROUTE_", "UPSTREAM_", "VIRTUAL_CLUSTER_"];

fn added(operations: &HeaderOperations) -> impl Iterator<Item = HeaderValueOption> {
    let set = operations.set.iter().map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    let usable = set.chain(add).filter(|((name, value), _)| is_name(name) && !is_host(name) && template(value).is_ok());
    usable.map(|((name, value), action)| HeaderValueOption {
        header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..HeaderValue::default() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    })
}

fn removed(operations: &HeaderOperations) -> impl Iterator<Item = String> {
    operations.remove.iter().filter(|name| is_name(name) && !is_host(name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_with_commands() {
        for good in ["", "x", "100%%", "%PROTOCOL%", "a-%REQ(X?:Y):10%-%DOWNSTREAM_REMOTE_ADDRESS%"] {
            assert!(template(good).is_ok(), "{good}");
        }
        for bad in ["%", "100%", "%protocol%", "%NO_SUCH%", "%REQ(x%", "a\nb"] {
            assert!(template(bad).is_err(), "{bad}");
        }
        assert!(is_name("x-a") && !is_name("x a") && !is_name(":path") && !is_name(""));
    }
}
