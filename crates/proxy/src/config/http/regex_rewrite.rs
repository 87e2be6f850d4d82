//! A regular expression and what takes the place of its matches.

use envoy::envoy::r#type::matcher::v3;
use regex::Regex;

use crate::config::field::{Checked, Path, fields};
use crate::config::string_match::regex_text;

/// Replaces every match of an expression.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    /// Matches anywhere in a text.
    regex: Regex,
    /// In the syntax of the `regex` crate, with every group in braces.
    replacement: Box<str>,
}

impl RegexRewrite {
    /// The text with every match replaced.
    pub fn apply(&self, text: &str) -> String {
        self.regex.replace_all(text, &*self.replacement).into_owned()
    }

    pub(in crate::config) fn from_message(
        at: &Path<'_>,
        message: v3::RegexMatchAndSubstitute,
    ) -> Checked<RegexRewrite> {
        fields!(at, message => v3::RegexMatchAndSubstitute { pattern, substitution });
        let pattern_at = at.field("pattern");
        let expression = regex_text(&pattern_at, pattern_at.required(pattern)?)?;
        let regex = envoy::re2::compile_part(&expression).map_err(|reason| pattern_at.field("regex").reject(reason))?;
        let at = at.field("substitution");
        let replacement = replacement(&substitution, regex.captures_len()).map_err(|reason| at.reject(reason))?;
        Ok(RegexRewrite { regex, replacement: replacement.into() })
    }
}

/// RE2's `\1` as the `regex` crate writes it, `${1}`. The error is a clause.
fn replacement(substitution: &str, groups: usize) -> Result<String, String> {
    let mut output = String::with_capacity(substitution.len());
    let mut characters = substitution.chars();
    while let Some(c) = characters.next() {
        match c {
            '$' => output.push_str("$$"),
            '\\' => match characters.next() {
                Some('\\') => output.push('\\'),
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit.to_digit(10).and_then(|d| usize::try_from(d).ok()).unwrap_or_default();
                    if group >= groups {
                        return Err(format!("names the group {group}, which the expression does not have"));
                    }
                    output.push_str(&format!("${{{group}}}"));
                }
                _ => return Err(r"has a backslash before something else than a digit or a backslash".to_owned()),
            },
            other => output.push(other),
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(regex: &str, substitution: &str) -> Checked<RegexRewrite> {
        let pattern = Some(v3::RegexMatcher { regex: regex.to_owned(), engine_type: None });
        let message = v3::RegexMatchAndSubstitute { pattern, substitution: substitution.to_owned() };
        RegexRewrite::from_message(&Path::ROOT, message)
    }

    #[test]
    fn every_match_is_replaced_with_the_groups() {
        let cases = [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("a", r"$1\\", "/a", r"/$1\"),
        ];
        for (regex, substitution, path, expected) in cases {
            assert_eq!(rewrite(regex, substitution).unwrap().apply(path), expected, "{regex} {substitution}");
        }
    }

    #[test]
    fn a_substitution_that_re2_would_refuse_is_refused() {
        for substitution in [r"\2", r"\x", "\\"] {
            assert_eq!(rewrite("(a)", substitution).unwrap_err().field, "substitution");
        }
    }
}
