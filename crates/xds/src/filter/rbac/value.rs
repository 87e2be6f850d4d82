//! The forms that a value of a rule may have.

use envoy::envoy::r#type::matcher::v3::StringMatcher;
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use crate::wire;

/// `*`, `*suffix`, `prefix*` or all of it; what is matched begins with `scheme`, which values leave out.
pub(crate) fn text(value: &str, scheme: &str) -> StringMatcher {
    if value == "*" {
        return wire::regex(".+");
    }
    wire::matcher(match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(suffix), _) => MatchPattern::Suffix(suffix.to_owned()),
        (None, Some(prefix)) => MatchPattern::Prefix(format!("{scheme}{prefix}")),
        (None, None) => MatchPattern::Exact(format!("{scheme}{value}")),
    })
}

/// A regular expression for a part of an identity, in which `*` stands for anything but the end of the part.
pub(crate) fn pattern(value: &str) -> String {
    value.split('*').map(regex::escape).collect::<Vec<_>>().join("[^/]*")
}
