//! The parts of a request's head, whichever version of HTTP it came in.

use http::request::Parts;
use http::{HeaderMap, header};

/// The authority: that of the target, or else the header `host`; empty if there is neither.
pub fn authority(parts: &Parts) -> &str {
    match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

/// The path with its query; empty for CONNECT to an authority.
pub fn full_path(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("", |path| path.as_str())
}

/// The path without its query.
pub fn path(parts: &Parts) -> &str {
    let path = full_path(parts);
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The query, without its question mark.
pub fn query(parts: &Parts) -> Option<&str> {
    full_path(parts).split_once('?').map(|(_, query)| query)
}

/// The first value of a parameter of the query, as it is written; one without an equals sign is empty.
pub fn query_parameter<'p>(parts: &'p Parts, name: &str) -> Option<&'p str> {
    let pairs = query(parts)?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The scheme of the target, or else what [`forwarded_proto`] says.
pub fn scheme(parts: &Parts) -> &str {
    parts.uri.scheme_str().unwrap_or_else(|| forwarded_proto(parts))
}

/// The scheme by which the request came from the client: what `x-forwarded-proto` says, or else `http`.
pub fn forwarded_proto(parts: &Parts) -> &str {
    let said = parts.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    said.or(parts.uri.scheme_str()).unwrap_or("http")
}

/// Whether a request or response is of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.first().is_none_or(|c| *c == b'+'))
}
