//! Which requests a route takes.

use http::Method;
use http::request::Parts;

use super::head;
use crate::config::http::{HeaderMatch, HeaderTest, PathMatch, QueryMatch, QueryTest, RouteMatch, TlsMatch};

/// A request, as far as routes look at it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its head.
    pub parts: &'a Parts,
    /// What is known of TLS from downstream; `None` without TLS.
    pub tls: Option<TlsFacts>,
    /// What the dice say: one number decides of the request's route and of its cluster, as in Envoy.
    pub random: u64,
}

/// What is known of TLS from downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts {
    /// Whether the client showed a certificate.
    pub presented: bool,
    /// Whether it was verified.
    pub validated: bool,
}

impl RouteMatch {
    /// Whether the route takes a request.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        let RouteMatch { path, headers, query, grpc, tls, share } = self;
        path.holds(request.parts)
            && share.includes(request.random)
            && headers.iter().all(|header| header.holds(request.parts))
            && query.iter().all(|parameter| parameter.holds(request.parts))
            && (!grpc || head::is_grpc(&request.parts.headers))
            && tls.is_none_or(|tls| tls.holds(request.tls))
    }
}

impl PathMatch {
    /// Whether the path of a request is what it must be. A request without a path, which is CONNECT to an authority, is
    /// taken by routes for CONNECT only.
    pub fn holds(&self, parts: &Parts) -> bool {
        let path = head::path(parts);
        if path.is_empty() {
            return matches!(self, PathMatch::Connect) && parts.method == Method::CONNECT;
        }
        match self {
            PathMatch::Exact { path: whole, ignore_case } => same(path, whole, *ignore_case),
            PathMatch::Prefix { prefix, ignore_case } => begins(path, prefix, *ignore_case),
            PathMatch::Segments { prefix, ignore_case } => {
                let next = path.as_bytes().get(prefix.len());
                begins(path, prefix, *ignore_case) && next.is_none_or(|c| *c == b'/')
            }
            PathMatch::Regex(regex) => regex.is_match(path),
            PathMatch::Connect => parts.method == Method::CONNECT,
        }
    }

    /// How many bytes of a path that is taken are replaced by a prefix that is rewritten.
    pub fn matched(&self, path: &str) -> usize {
        match self {
            PathMatch::Prefix { prefix, .. } | PathMatch::Segments { prefix, .. } => prefix.len(),
            PathMatch::Exact { .. } | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
        }
    }
}

fn same(a: &str, b: &str, ignore_case: bool) -> bool {
    if ignore_case { a.eq_ignore_ascii_case(b) } else { a == b }
}

fn begins(path: &str, prefix: &str, ignore_case: bool) -> bool {
    let start = path.as_bytes().get(..prefix.len());
    start.is_some_and(|s| if ignore_case { s.eq_ignore_ascii_case(prefix.as_bytes()) } else { s == prefix.as_bytes() })
}

impl HeaderMatch {
    /// Whether the header of a request is what it must be.
    pub fn holds(&self, parts: &Parts) -> bool {
        self.tests(head::field(parts, &self.field).as_deref())
    }

    /// Whether a value is what it must be; `None` is a header that is missing.
    pub fn tests(&self, value: Option<&[u8]>) -> bool {
        let value = value.or(self.missing_as_empty.then_some(&[]));
        let holds = match (&self.test, value) {
            (HeaderTest::Present(present), value) => value.is_some() == *present,
            // Inverted or not.
            (_, None) => return false,
            (HeaderTest::Text(text), Some(value)) => text.matches_bytes(value),
            (HeaderTest::Range(start, end), Some(value)) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<i64>().ok());
                number.is_some_and(|number| (*start..*end).contains(&number))
            }
        };
        holds != self.invert
    }
}

impl QueryMatch {
    fn holds(&self, parts: &Parts) -> bool {
        let value = head::query_parameter(parts, &self.name);
        match &self.test {
            QueryTest::Present(present) => value.is_some() == *present,
            QueryTest::Text(text) => value.is_some_and(|value| text.matches(value)),
        }
    }
}

impl TlsMatch {
    fn holds(self, tls: Option<TlsFacts>) -> bool {
        let is = |demand: Option<bool>, fact: fn(TlsFacts) -> bool| demand.is_none_or(|d| d == tls.is_some_and(fact));
        is(self.presented, |tls| tls.presented) && is(self.validated, |tls| tls.validated)
    }
}
