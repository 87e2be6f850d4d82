//! Answers of the proxy itself.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Bytes;

use super::head::names;
use crate::access_log::{Flag, Flags};

/// An answer of the proxy itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Why it is given.
    pub(crate) details: Cow<'static, str>,
    pub(crate) flags: Flags,
    /// What goes beside the headers that every answer of the proxy has.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What gRPC is told, if it does not follow from the status.
    pub(crate) grpc_status: Option<u32>,
    /// Whether the connection ends with it.
    pub(crate) close: bool,
}

impl Reply {
    /// An answer without a body.
    pub(crate) fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            status,
            body: Bytes::new(),
            details: details.into(),
            flags: Flags::default(),
            headers: Vec::new(),
            grpc_status: None,
            close: false,
        }
    }

    #[must_use]
    pub(crate) fn body(self, body: impl Into<Bytes>) -> Reply {
        Reply { body: body.into(), ..self }
    }

    /// The body is the status in words.
    #[must_use]
    pub(crate) fn standard_body(self) -> Reply {
        let words = self.status.canonical_reason().unwrap_or_default();
        self.body(words)
    }

    #[must_use]
    pub(crate) fn flag(self, flag: Flag) -> Reply {
        Reply { flags: self.flags.with(flag), ..self }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(crate) fn closing(self) -> Reply {
        Reply { close: true, ..self }
    }

    /// The response. A call of gRPC is told in its own way, with the status in place of trailers.
    pub(crate) fn into_response(self, grpc: bool) -> (Response<()>, Bytes) {
        let Reply { status, body, headers, close, grpc_status: said, .. } = self;
        let mut response = Response::new(());
        *response.status_mut() = status;
        let map = response.headers_mut();
        // There may be several of a name, such as cookies.
        for (name, value) in headers {
            map.append(name, value);
        }
        if close {
            map.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if grpc {
            describe_in_grpc(map, said.unwrap_or_else(|| grpc_status(status).into()), &body);
            *response.status_mut() = StatusCode::OK;
            return (response, Bytes::new());
        }
        map.insert(header::CONTENT_LENGTH, body.len().into());
        if !body.is_empty() && !map.contains_key(header::CONTENT_TYPE) {
            map.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        (response, body)
    }
}

fn describe_in_grpc(headers: &mut HeaderMap, status: u32, body: &[u8]) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(names::GRPC_STATUS, status.into());
    if !body.is_empty()
        && let Ok(message) = HeaderValue::try_from(percent_encoded(body))
    {
        headers.insert(names::GRPC_MESSAGE, message);
    }
}

/// The status of gRPC that stands for one of HTTP (grpc.io, "HTTP to gRPC Status Code Mapping").
pub(crate) fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A message as gRPC has it in a header.
fn percent_encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
            byte => out.push(char::from(*byte)),
        }
    }
    out
}

/// Whether a request is a call of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_says_its_status_in_words() {
        let reply = Reply::new(StatusCode::BAD_REQUEST, "x").standard_body().closing();
        let (response, body) = reply.into_response(false);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.headers()["content-length"], "11");
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(body, "Bad Request");
    }

    #[test]
    fn a_call_of_grpc_is_told_in_headers() {
        let reply = Reply::new(StatusCode::FORBIDDEN, "x").body("RBAC: 100% denied\n");
        let (response, body) = reply.into_response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert_eq!(response.headers()["grpc-message"], "RBAC: 100%25 denied%0A");
        assert!(body.is_empty());
    }

    #[test]
    fn only_grpc_is_grpc() {
        let of = |kind: &'static str| {
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        assert!(of("application/grpc") && of("application/grpc+proto") && of("application/grpc;x"));
        assert!(!of("application/grpc-web") && !of("text/plain") && !is_grpc(&HeaderMap::new()));
    }
}
