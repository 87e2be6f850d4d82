//! Which requests a route takes.

use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy::envoy::config::route::v3::route_match::{GrpcRouteMatchOptions, PathSpecifier, TlsContextMatchOptions};
use envoy::envoy::r#type::matcher::v3 as matcher;
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use regex::Regex;

use super::field::Field;
use crate::config::field::{Checked, Path, fields};
use crate::config::fraction::Fraction;
use crate::config::string_match::{StringMatch, safe_regex};

/// The criteria of a route, all of which must hold.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    /// What the path must be, without its query.
    pub path: PathMatch,
    /// What the headers must be.
    pub headers: Box<[HeaderMatch]>,
    /// What the parameters of the query must be.
    pub query: Box<[QueryMatch]>,
    /// Whether only gRPC is taken.
    pub grpc: bool,
    /// What is demanded of downstream's TLS.
    pub tls: Option<TlsMatch>,
    /// How many of the requests that match are taken.
    pub share: Fraction,
}

/// What a path must be.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// This.
    Exact {
        /// The path.
        path: Box<str>,
        /// Whether ASCII letters are compared without regard to case.
        ignore_case: bool,
    },
    /// Anything that begins with this.
    Prefix {
        /// The beginning.
        prefix: Box<str>,
        /// Whether ASCII letters are compared without regard to case.
        ignore_case: bool,
    },
    /// This, or anything that begins with this and a slash.
    Segments {
        /// The beginning, which does not end in a slash.
        prefix: Box<str>,
        /// Whether ASCII letters are compared without regard to case.
        ignore_case: bool,
    },
    /// Anything that the expression matches as a whole.
    Regex(Regex),
    /// Requests of the method CONNECT, whatever their path.
    Connect,
}

/// What a header must be.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    /// Which.
    pub field: Field,
    /// What of it.
    pub test: HeaderTest,
    /// Whether the test must fail.
    pub invert: bool,
    /// Whether a header that is missing is tested as if it were empty; otherwise it fails, inverted or not.
    pub missing_as_empty: bool,
}

/// A test of a header. Of several values one that holds is enough.
#[derive(Debug, Clone)]
pub enum HeaderTest {
    /// Whether it is there.
    Present(bool),
    /// Its text.
    Text(StringMatch),
    /// Its value as a decimal number, from the first up to, not including, the second.
    Range(i64, i64),
}

/// What a parameter of the query must be. The first of several counts, as it is written, without any decoding.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    /// Its name.
    pub name: Box<str>,
    /// What of it.
    pub test: QueryTest,
}

/// A test of a parameter.
#[derive(Debug, Clone)]
pub enum QueryTest {
    /// Whether it is there.
    Present(bool),
    /// Its text.
    Text(StringMatch),
}

/// What is demanded of downstream's TLS; without TLS no certificate was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsMatch {
    /// Whether a client certificate was shown.
    pub presented: Option<bool>,
    /// Whether it was verified.
    pub validated: Option<bool>,
}

impl RouteMatch {
    pub(super) fn from_message(at: &Path<'_>, message: v3::RouteMatch) -> Checked<RouteMatch> {
        fields!(at, message => v3::RouteMatch { case_sensitive, runtime_fraction, headers, query_parameters, grpc,
                tls_context, path_specifier }
            refuse { cookies, dynamic_metadata, filter_state });
        let query_at = at.field("query_parameters");
        let query = query_parameters.into_iter().enumerate();
        let share = runtime_fraction.map(|f| Fraction::from_runtime(&at.field("runtime_fraction"), f));
        let tls = tls_context.map(|TlsContextMatchOptions { presented, validated }| TlsMatch { presented, validated });
        Ok(RouteMatch {
            path: PathMatch::from_message(at, at.field("path_specifier").required(path_specifier)?, case_sensitive)?,
            headers: HeaderMatch::from_messages(&at.field("headers"), headers)?,
            query: query.map(|(i, q)| QueryMatch::from_message(&query_at.index(i), q)).collect::<Checked<_>>()?,
            grpc: grpc.is_some_and(|GrpcRouteMatchOptions {}| true),
            tls,
            share: share.transpose()?.unwrap_or(Fraction::ALL),
        })
    }
}

impl PathMatch {
    fn from_message(at: &Path<'_>, message: PathSpecifier, case_sensitive: Option<bool>) -> Checked<PathMatch> {
        let ignore_case = case_sensitive == Some(false);
        Ok(match message {
            PathSpecifier::Prefix(prefix) => PathMatch::Prefix { prefix: prefix.into(), ignore_case },
            PathSpecifier::Path(path) => PathMatch::Exact { path: path.into(), ignore_case },
            PathSpecifier::PathSeparatedPrefix(prefix) => {
                let at = at.field("path_separated_prefix");
                if at.named(&prefix)?.contains(['?', '#']) || prefix.ends_with('/') {
                    return Err(at.reject("must not end in a slash, and has neither query nor fragment"));
                }
                PathMatch::Segments { prefix: prefix.into(), ignore_case }
            }
            PathSpecifier::SafeRegex(regex) => PathMatch::Regex(safe_regex(&at.field("safe_regex"), regex)?),
            PathSpecifier::ConnectMatcher(v3::route_match::ConnectMatcher {}) => PathMatch::Connect,
            PathSpecifier::PathMatchPolicy(_) => return Err(at.field("path_match_policy").reject("is not supported")),
        })
    }
}

impl HeaderMatch {
    pub(in crate::config) fn from_messages(
        at: &Path<'_>,
        messages: Vec<v3::HeaderMatcher>,
    ) -> Checked<Box<[HeaderMatch]>> {
        messages.into_iter().enumerate().map(|(i, message)| HeaderMatch::from_message(&at.index(i), message)).collect()
    }

    pub(in crate::config) fn from_message(at: &Path<'_>, message: v3::HeaderMatcher) -> Checked<HeaderMatch> {
        fields!(at, message => v3::HeaderMatcher { name, invert_match, treat_missing_header_as_empty,
            header_match_specifier });
        let text = |pattern| matcher::StringMatcher { ignore_case: false, match_pattern: Some(pattern) };
        let (field, text) = match header_match_specifier {
            None => ("", Err(HeaderTest::Present(true))),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => ("", Err(HeaderTest::Present(present))),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => ("", Err(HeaderTest::Range(range.start, range.end))),
            Some(HeaderMatchSpecifier::ExactMatch(exact)) => ("exact_match", Ok(text(MatchPattern::Exact(exact)))),
            Some(HeaderMatchSpecifier::PrefixMatch(part)) => ("prefix_match", Ok(text(MatchPattern::Prefix(part)))),
            Some(HeaderMatchSpecifier::SuffixMatch(part)) => ("suffix_match", Ok(text(MatchPattern::Suffix(part)))),
            Some(HeaderMatchSpecifier::ContainsMatch(part)) => {
                ("contains_match", Ok(text(MatchPattern::Contains(part))))
            }
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                ("safe_regex_match", Ok(text(MatchPattern::SafeRegex(regex))))
            }
            Some(HeaderMatchSpecifier::StringMatch(message)) => ("string_match", Ok(message)),
        };
        Ok(HeaderMatch {
            field: Field::parse(&at.field("name"), &name)?,
            test: match text {
                Ok(message) => HeaderTest::Text(StringMatch::from_message(&at.field(field), message)?),
                Err(test) => test,
            },
            invert: invert_match,
            missing_as_empty: treat_missing_header_as_empty,
        })
    }
}

impl QueryMatch {
    fn from_message(at: &Path<'_>, message: v3::QueryParameterMatcher) -> Checked<QueryMatch> {
        fields!(at, message => v3::QueryParameterMatcher { name, query_parameter_match_specifier });
        let test = match query_parameter_match_specifier {
            None => QueryTest::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryTest::Present(present),
            Some(QueryParameterMatchSpecifier::StringMatch(message)) => {
                QueryTest::Text(StringMatch::from_message(&at.field("string_match"), message)?)
            }
        };
        Ok(QueryMatch { name: at.field("name").named(&name)?.into(), test })
    }
}
