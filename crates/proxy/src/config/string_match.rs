//! Matchers for texts: names, identities, server names.

use std::sync::Arc;

use envoy::envoy::r#type::matcher::v3;
use envoy::envoy::r#type::matcher::v3::regex_matcher::{EngineType, GoogleRe2};
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use regex::Regex;

use super::field::{Checked, Path, fields};

/// Envoy's `StringMatcher`. It allocates nothing when it matches.
#[derive(Debug, Clone)]
pub struct StringMatch {
    pattern: Pattern,
    /// Compares ASCII letters without regard to case; never set for a regular expression.
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    Contains(Arc<str>),
    /// Anchored at both ends.
    Regex(Regex),
}

impl StringMatch {
    /// A matcher for one text.
    pub fn exact(text: &str) -> StringMatch {
        StringMatch { pattern: Pattern::Exact(text.into()), ignore_case: false }
    }

    /// Whether `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_bytes(text.as_bytes())
    }

    /// Whether a text matches that need not be UTF-8; if it is not, no regular expression does.
    pub fn matches_bytes(&self, bytes: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.pattern {
            Pattern::Exact(whole) => same(bytes, whole.as_bytes()),
            Pattern::Prefix(prefix) => bytes.get(..prefix.len()).is_some_and(|start| same(start, prefix.as_bytes())),
            Pattern::Suffix(suffix) => {
                let start = bytes.len().checked_sub(suffix.len());
                start.and_then(|s| bytes.get(s..)).is_some_and(|end| same(end, suffix.as_bytes()))
            }
            Pattern::Contains(part) => bytes.windows(part.len()).any(|window| same(window, part.as_bytes())),
            Pattern::Regex(regex) => std::str::from_utf8(bytes).is_ok_and(|text| regex.is_match(text)),
        }
    }

    /// The only text that matches, if there is only one.
    pub fn as_exact(&self) -> Option<&Arc<str>> {
        match &self.pattern {
            Pattern::Exact(text) if !self.ignore_case => Some(text),
            _ => None,
        }
    }

    /// An empty prefix, suffix or part is refused, as Envoy does: it would match everything by mistake.
    pub(super) fn from_message(at: &Path<'_>, message: v3::StringMatcher) -> Checked<StringMatch> {
        fields!(at, message => v3::StringMatcher { ignore_case, match_pattern });
        let filled = |name: &str, text: String| at.field(name).named(&text).map(Arc::from);
        let pattern = match at.required(match_pattern)? {
            MatchPattern::Exact(text) => Pattern::Exact(text.into()),
            MatchPattern::Prefix(text) => Pattern::Prefix(filled("prefix", text)?),
            MatchPattern::Suffix(text) => Pattern::Suffix(filled("suffix", text)?),
            MatchPattern::Contains(text) => Pattern::Contains(filled("contains", text)?),
            MatchPattern::SafeRegex(_) if ignore_case => {
                return Err(at.field("ignore_case").reject("has no effect on a regular expression"));
            }
            MatchPattern::SafeRegex(regex) => Pattern::Regex(safe_regex(&at.field("safe_regex"), regex)?),
            MatchPattern::Custom(_) => return Err(at.field("custom").reject("is not supported")),
        };
        Ok(StringMatch { pattern, ignore_case })
    }
}

/// An expression that must match the whole text.
pub(super) fn safe_regex(at: &Path<'_>, message: v3::RegexMatcher) -> Checked<Regex> {
    let text = regex_text(at, message)?;
    envoy::re2::compile(&text).map_err(|reason| at.field("regex").reject(reason))
}

/// The text of an expression.
pub(super) fn regex_text(at: &Path<'_>, message: v3::RegexMatcher) -> Checked<String> {
    fields!(at, message => v3::RegexMatcher { regex, engine_type });
    if let Some(EngineType::GoogleRe2(GoogleRe2 { max_program_size: Some(_) })) = engine_type {
        return Err(at.field("google_re2").field("max_program_size").reject("is not supported"));
    }
    at.field("regex").named(&regex)?;
    Ok(regex)
}
