//! Which requests a route takes.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::head;
use crate::config::http::{Field, HeaderMatch, HeaderTest, PathMatch, QueryMatch, QueryTest, RouteMatch, TlsMatch};

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
        match &self.field {
            Field::Header(name) => self.tests(parts.headers.get_all(name).iter().map(HeaderValue::as_bytes)),
            Field::Method => self.tests(some(parts.method.as_str())),
            Field::Path => self.tests(some(head::full_path(parts))),
            Field::Authority => self.tests(some(head::authority(parts))),
            Field::Scheme => self.tests(some(head::scheme(parts))),
        }
    }

    /// Whether the header of a response is what it must be. A response has no parts that are named like headers.
    pub fn holds_of_response(&self, headers: &HeaderMap) -> bool {
        match &self.field {
            Field::Header(name) => self.tests(headers.get_all(name).iter().map(HeaderValue::as_bytes)),
            Field::Method | Field::Path | Field::Authority | Field::Scheme => self.tests(some("")),
        }
    }

    /// Each of several values is tested by itself, and one that holds is enough, as in Envoy 1.40.
    fn tests<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        let mut values = values.peekable();
        let missing = values.peek().is_none();
        let holds = match &self.test {
            HeaderTest::Present(present) => (!missing || self.missing_as_empty) == *present,
            // Inverted or not.
            _ if missing && !self.missing_as_empty => return false,
            test if missing => test.holds(&[]),
            test => values.any(|value| test.holds(value)),
        };
        holds != self.invert
    }
}

impl HeaderTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            HeaderTest::Present(present) => *present,
            HeaderTest::Text(text) => text.matches_bytes(value),
            HeaderTest::Range(start, end) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<i64>().ok());
                number.is_some_and(|number| (*start..*end).contains(&number))
            }
        }
    }
}

/// The one value of a part of a head that is there if it is not empty.
fn some(text: &str) -> impl Iterator<Item = &[u8]> {
    (!text.is_empty()).then_some(text.as_bytes()).into_iter()
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
