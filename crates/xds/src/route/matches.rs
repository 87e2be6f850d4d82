//! Which requests a route takes.

use std::collections::BTreeMap;

use api::istio::{HttpMatch, StringMatch};
use envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy::envoy::config::route::v3::route_match::PathSpecifier;
use envoy::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use super::headers;
use crate::{re2, wire};

/// Every request.
pub(super) fn everything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}

/// Whether a condition says nothing of requests, only of callers and ports.
pub(super) fn is_open(condition: &HttpMatch) -> bool {
    let HttpMatch { uri, scheme, method, authority, headers, without_headers, query_params, .. } = condition;
    let path = match uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
        Some(StringMatch::Present) => true,
        Some(_) => false,
    };
    let head = scheme.is_none() && method.is_none() && authority.is_none();
    path && head && headers.is_empty() && without_headers.is_empty() && query_params.is_empty()
}

/// A condition; `None` if a part of it cannot be used, so that it never holds.
pub(super) fn requests(condition: &HttpMatch) -> Option<RouteMatch> {
    let path = match &condition.uri {
        None | Some(StringMatch::Present) => PathSpecifier::Prefix("/".to_owned()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch::Regex(expression)) => PathSpecifier::SafeRegex(regex(expression)?),
    };
    let pseudo = [(":scheme", &condition.scheme), (":method", &condition.method), (":authority", &condition.authority)];
    let mut matchers = Vec::new();
    for (name, pattern) in &condition.headers {
        matchers.push(header(name, pattern, false)?);
    }
    for (name, pattern) in &condition.without_headers {
        matchers.push(header(name, pattern, true)?);
    }
    for (name, pattern) in pseudo.into_iter().filter_map(|(name, pattern)| Some((name, pattern.as_ref()?))) {
        matchers.push(of_header(name, pattern, false)?);
    }
    Some(RouteMatch {
        path_specifier: Some(path),
        // Only where it is not Envoy's default.
        case_sensitive: condition.ignore_uri_case.then_some(false),
        headers: matchers,
        query_parameters: parameters(&condition.query_params)?,
        ..RouteMatch::default()
    })
}

/// A pattern for a text that is there; `None` if it cannot be used.
pub(super) fn text(pattern: &StringMatch) -> Option<StringMatcher> {
    Some(match pattern {
        StringMatch::Present => wire::regex(".*"),
        StringMatch::Exact(text) => wire::matcher(MatchPattern::Exact(text.clone())),
        // Envoy takes no empty prefix.
        StringMatch::Prefix(text) if text.is_empty() => wire::regex(".*"),
        StringMatch::Prefix(text) => wire::matcher(MatchPattern::Prefix(text.clone())),
        StringMatch::Regex(expression) => wire::matcher(MatchPattern::SafeRegex(regex(expression)?)),
    })
}

fn regex(expression: &str) -> Option<RegexMatcher> {
    re2::check(expression).ok()?;
    Some(RegexMatcher { regex: expression.to_owned(), ..RegexMatcher::default() })
}

fn header(name: &str, pattern: &StringMatch, inverted: bool) -> Option<HeaderMatcher> {
    let known = headers::is_name(name) && !name.starts_with('@');
    let pseudo = matches!(name, ":authority" | ":method" | ":path" | ":scheme");
    if known || pseudo { of_header(&name.to_ascii_lowercase(), pattern, inverted) } else { None }
}

fn of_header(name: &str, pattern: &StringMatch, inverted: bool) -> Option<HeaderMatcher> {
    let specifier = match pattern {
        StringMatch::Present => HeaderMatchSpecifier::PresentMatch(true),
        StringMatch::Regex(any) if any == "*" => HeaderMatchSpecifier::PresentMatch(true),
        pattern => HeaderMatchSpecifier::StringMatch(text(pattern)?),
    };
    let present = matches!(specifier, HeaderMatchSpecifier::PresentMatch(_));
    Some(HeaderMatcher {
        name: name.to_owned(),
        invert_match: inverted,
        treat_missing_header_as_empty: inverted && !present,
        header_match_specifier: Some(specifier),
    })
}

fn parameters(patterns: &BTreeMap<String, StringMatch>) -> Option<Vec<QueryParameterMatcher>> {
    let one = |(name, pattern): (&String, &StringMatch)| {
        let specifier = match pattern {
            StringMatch::Present => QueryParameterMatchSpecifier::PresentMatch(true),
            pattern => QueryParameterMatchSpecifier::StringMatch(text(pattern)?),
        };
        Some(QueryParameterMatcher { name: name.clone(), query_parameter_match_specifier: Some(specifier) })
    };
    patterns.iter().map(one).collect()
}
