//! Regular expressions in the syntax of Go (RE2), as schemas state them.

use std::sync::OnceLock;

use regex::Regex;

/// A schema's `pattern`, compiled when it is first needed: most schemas have many, most objects meet few.
pub(super) struct Pattern {
    pub(super) source: String,
    compiled: OnceLock<Option<Regex>>,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

impl Pattern {
    pub(super) fn new(source: &str) -> Pattern {
        Pattern { source: source.to_owned(), compiled: OnceLock::new() }
    }

    /// A pattern that does not compile was refused with its definition, so it matches nothing here.
    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&translate(&self.source)).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Rewrites what the two syntaxes differ in: Go's classes are ASCII, a Go class has no set operations and no nested
/// classes, and `\z` and `\Q…\E` exist only there.
pub(crate) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') if !class => quote(&mut chars, &mut out),
                Some(escaped) => escape(escaped, class, &mut out),
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is an ordinary member.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if chars.peek() == Some(&':') => named_class(&mut chars, &mut out),
            '[' => out.push_str("\\["),
            '&' | '~' if class => out.extend(['\\', c]),
            ']' => {
                class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    out
}

/// Copies `[:alpha:]`, whose opening bracket has been read.
fn named_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

fn escape(c: char, class: bool, out: &mut String) {
    let ascii = match (c, class) {
        ('d', true) => "0-9",
        ('d', false) => "[0-9]",
        ('D', _) => "[^0-9]",
        ('w', true) => "0-9A-Za-z_",
        ('w', false) => "[0-9A-Za-z_]",
        ('W', _) => "[^0-9A-Za-z_]",
        ('s', true) => r"\t\n\f\r ",
        ('s', false) => r"[\t\n\f\r ]",
        ('S', _) => r"[^\t\n\f\r ]",
        ('b', false) => r"(?-u:\b)",
        ('B', false) => r"(?-u:\B)",
        ('z', false) => r"\z",
        _ => {
            out.extend(['\\', c]);
            return;
        }
    };
    out.push_str(ascii);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax_means_what_it_means_in_go() {
        for (pattern, text, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w.-]+$", "a_b.c-d", true),
            (r"^[[]x]$", "[x]", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&a&b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^https?:\/\/", "https://x", true),
            (r"\bfoo\b", "a foo b", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }
}
