//! Matchers for what filters noted of a request.

use std::sync::Arc;

use envoy::envoy::r#type::matcher::v3;
use envoy::envoy::r#type::matcher::v3::metadata_matcher::PathSegment;
use envoy::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use envoy::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy::envoy::r#type::matcher::v3::{double_matcher, list_matcher};
use prost_types::Value;
use prost_types::value::Kind;

use super::field::{Checked, Path, fields};
use super::string_match::StringMatch;
use crate::dynamic_metadata::DynamicMetadata;

/// What a fact must be that a filter noted.
#[derive(Debug, Clone)]
pub struct MetadataMatch {
    filter: Arc<str>,
    path: Box<[Box<str>]>,
    value: ValueMatch,
    invert: bool,
}

/// What a value must be. One that is missing is nothing of it all.
#[derive(Debug, Clone)]
enum ValueMatch {
    Null,
    Number(f64),
    /// From the first up to, not including, the second.
    Range(f64, f64),
    Text(StringMatch),
    Bool(bool),
    Present(bool),
    /// A list with an element that matches.
    Element(Box<ValueMatch>),
    OneOf(Box<[ValueMatch]>),
}

impl MetadataMatch {
    /// Whether what was noted is what it must be.
    pub fn holds(&self, metadata: &DynamicMetadata) -> bool {
        let value = metadata.get(&self.filter, self.path.iter().map(|key| &**key));
        value.and_then(|value| value.kind.as_ref()).is_some_and(|kind| self.value.holds(kind)) != self.invert
    }

    pub(super) fn from_message(at: &Path<'_>, message: v3::MetadataMatcher) -> Checked<MetadataMatch> {
        fields!(at, message => v3::MetadataMatcher { filter, path, value, invert });
        let path_at = at.field("path");
        if path.is_empty() {
            return Err(path_at.reject("must not be empty"));
        }
        let segment = |(i, segment): (usize, PathSegment)| {
            let at = path_at.index(i);
            let Segment::Key(key) = at.field("key").required(segment.segment)?;
            at.field("key").named(&key)?;
            Ok(key.into())
        };
        let value_at = at.field("value");
        Ok(MetadataMatch {
            filter: at.field("filter").named(&filter)?.into(),
            path: path.into_iter().enumerate().map(segment).collect::<Checked<_>>()?,
            value: ValueMatch::from_message(&value_at, value_at.required(value)?)?,
            invert,
        })
    }
}

impl ValueMatch {
    #[expect(clippy::float_cmp, reason = "a number that is equal is what is asked for")]
    fn holds(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (ValueMatch::Present(present), _) => *present,
            (ValueMatch::OneOf(any), kind) => any.iter().any(|value| value.holds(kind)),
            (ValueMatch::Null, Kind::NullValue(_)) => true,
            (ValueMatch::Number(number), Kind::NumberValue(value)) => number == value,
            (ValueMatch::Range(start, end), Kind::NumberValue(value)) => (*start..*end).contains(value),
            (ValueMatch::Text(text), Kind::StringValue(value)) => text.matches(value),
            (ValueMatch::Bool(expected), Kind::BoolValue(value)) => expected == value,
            (ValueMatch::Element(element), Kind::ListValue(list)) => {
                let mut kinds = list.values.iter().filter_map(|Value { kind }| kind.as_ref());
                kinds.any(|kind| element.holds(kind))
            }
            _ => false,
        }
    }

    fn from_message(at: &Path<'_>, message: v3::ValueMatcher) -> Checked<ValueMatch> {
        Ok(match at.required(message.match_pattern)? {
            MatchPattern::NullMatch(v3::value_matcher::NullMatch {}) => ValueMatch::Null,
            MatchPattern::DoubleMatch(number) => match at.field("double_match").required(number.match_pattern)? {
                double_matcher::MatchPattern::Exact(number) => ValueMatch::Number(number),
                double_matcher::MatchPattern::Range(range) => ValueMatch::Range(range.start, range.end),
            },
            MatchPattern::StringMatch(text) => {
                ValueMatch::Text(StringMatch::from_message(&at.field("string_match"), text)?)
            }
            MatchPattern::BoolMatch(value) => ValueMatch::Bool(value),
            MatchPattern::PresentMatch(present) => ValueMatch::Present(present),
            MatchPattern::ListMatch(list) => {
                let list_at = at.field("list_match");
                let at = list_at.field("one_of");
                let list_matcher::MatchPattern::OneOf(element) = at.required(list.match_pattern)?;
                ValueMatch::Element(Box::new(ValueMatch::from_message(&at, *element)?))
            }
            MatchPattern::OrMatch(any) => {
                let or_at = at.field("or_match");
                let at = or_at.field("value_matchers");
                let values = any.value_matchers.into_iter().enumerate();
                let values = values.map(|(i, value)| ValueMatch::from_message(&at.index(i), value));
                ValueMatch::OneOf(values.collect::<Checked<_>>()?)
            }
        })
    }
}
