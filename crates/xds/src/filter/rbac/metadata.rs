//! What another filter has found out about a connection or a request.

use envoy::envoy::config::rbac::v3::permission::Rule;
use envoy::envoy::config::rbac::v3::{Permission, SourcedMetadata};
use envoy::envoy::r#type::matcher::v3::list_matcher;
use envoy::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment::Segment};
use envoy::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy::envoy::r#type::matcher::v3::{ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher};

use super::term::{Attribute, Unusable, operation};
use super::value;
use crate::Code;

/// `envoy.filters.…[KEY]`.
pub(super) fn of_key(key: &str) -> Result<Attribute, Unusable> {
    let parts = key.strip_suffix(']').and_then(|rest| rest.split_once('['));
    match parts.filter(|(filter, key)| filter.starts_with("envoy.filters.") && !key.is_empty()) {
        Some((filter, key)) => Ok(Attribute::Metadata(filter.to_owned(), key.to_owned())),
        None => Err((Code::InvalidValue, format!("{key:?} is not of the form envoy.filters.NAME[KEY]"))),
    }
}

/// `[VALUE]` is one of a list, and any other value all of a text.
pub(super) fn permission(filter: &str, key: &str, text: &str) -> Permission {
    let value = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => one_of(value::text(inner, "")),
        None => single(value::text(text, "")),
    };
    operation(Rule::SourcedMetadata(sourced(at(filter, [key], value))))
}

/// Metadata that filters set, which is what RBAC reads unless told otherwise.
pub(super) fn sourced(matcher: MetadataMatcher) -> SourcedMetadata {
    SourcedMetadata { metadata_matcher: Some(matcher), ..SourcedMetadata::default() }
}

/// A condition on what is at a path.
pub(crate) fn at<'a>(filter: &str, path: impl IntoIterator<Item = &'a str>, value: ValueMatcher) -> MetadataMatcher {
    let segment = |key: &str| PathSegment { segment: Some(Segment::Key(key.to_owned())) };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path.into_iter().map(segment).collect(),
        value: Some(value),
        ..MetadataMatcher::default()
    }
}

/// A text.
pub(crate) fn single(text: StringMatcher) -> ValueMatcher {
    ValueMatcher { match_pattern: Some(MatchPattern::StringMatch(text)) }
}

/// One of a list.
pub(super) fn one_of(text: StringMatcher) -> ValueMatcher {
    let one = list_matcher::MatchPattern::OneOf(Box::new(single(text)));
    let list = ListMatcher { match_pattern: Some(one) };
    ValueMatcher { match_pattern: Some(MatchPattern::ListMatch(Box::new(list))) }
}

/// A text, or one of a list: tokens have both.
pub(super) fn single_or_one_of(text: StringMatcher) -> ValueMatcher {
    let either = OrMatcher { value_matchers: vec![single(text.clone()), one_of(text)] };
    ValueMatcher { match_pattern: Some(MatchPattern::OrMatch(either)) }
}
