//! The HTTP filters that decide about requests.
//!
//! Each is a decision about the head of a request. Those that must wait, for time or for somebody else's answer, do
//! that where the request's path calls them.

mod call;
pub(crate) mod cors;
pub(crate) mod ext_authz;
pub(crate) mod fault;
pub(crate) mod jwt_authn;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::access_log::Flag;

/// An answer that a filter gives in place of upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LocalReply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// What goes beside the headers that every answer of the proxy has.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The status that a client of gRPC sees, if it is not what follows from that of HTTP.
    pub(crate) grpc_status: Option<u32>,
    /// What the access log says went wrong.
    pub(crate) flag: Option<Flag>,
    /// Why, in Envoy's words.
    pub(crate) details: Cow<'static, str>,
}

impl LocalReply {
    pub(crate) fn new(
        status: StatusCode,
        body: impl Into<String>,
        details: impl Into<Cow<'static, str>>,
    ) -> LocalReply {
        let (body, details) = (body.into(), details.into());
        LocalReply { status, body, headers: Vec::new(), grpc_status: None, flag: None, details }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> LocalReply {
        self.headers.push((name, value));
        self
    }
}
