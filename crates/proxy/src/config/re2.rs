//! Regular expressions with RE2's meaning.
//!
//! Envoy matches the whole text with RE2. The syntax of the `regex` crate differs in little: its Perl classes are
//! Unicode, RE2's are ASCII; it has operations on classes and flags that RE2 has not; RE2 has `\Q…\E`. An expression is
//! rewritten where both can say it, and refused where it would mean something else on a real Envoy.

use regex::{Regex, RegexBuilder};

/// What one expression may cost in memory once compiled, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles an expression that must match the whole text. The error is a clause.
pub(super) fn compile(expression: &str) -> Result<Regex, String> {
    build(&format!(r"\A(?:{})\z", translate(expression)?))
}

/// Compiles an expression that may match a part of a text. The error is a clause.
pub(super) fn compile_part(expression: &str) -> Result<Regex, String> {
    build(&translate(expression)?)
}

fn build(translated: &str) -> Result<Regex, String> {
    RegexBuilder::new(translated)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|e| format!("is not a usable regular expression: {e}"))
}

/// What a Perl class means in RE2.
fn ascii_class(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        _ => return None,
    })
}

fn translate(expression: &str) -> Result<String, String> {
    let mut output = String::with_capacity(expression.len());
    let mut rest = expression;
    let mut class = false;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix('\\') {
            rest = escape(tail, class, &mut output)?;
            continue;
        }
        if class && ["&&", "--", "~~"].iter().any(|operator| rest.starts_with(operator)) {
            return Err(format!("has an operation on classes, which RE2 does not know: {expression:?}"));
        }
        if !class && verbose_flag(rest) {
            return Err(format!("has the flag x, which RE2 does not know: {expression:?}"));
        }
        if class && c == '[' && !rest.starts_with("[:") {
            output.push('\\');
        }
        if class && rest.starts_with("[:") {
            let end = rest.find(":]").ok_or_else(|| format!("has an unclosed class: {expression:?}"))?;
            let (named, tail) = rest.split_at(end + 2);
            output.push_str(named);
            rest = tail;
            continue;
        }
        let opened = !class && c == '[';
        class = opened || (class && c != ']');
        output.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if opened {
            rest = class_start(rest, &mut output);
        }
    }
    Ok(output)
}

/// A `]` that comes first in a class stands for itself.
fn class_start<'a>(rest: &'a str, output: &mut String) -> &'a str {
    let mut rest = rest;
    if let Some(tail) = rest.strip_prefix('^') {
        output.push('^');
        rest = tail;
    }
    if let Some(tail) = rest.strip_prefix(']') {
        output.push_str(r"\]");
        rest = tail;
    }
    rest
}

/// Translates what follows a backslash; returns what follows that.
fn escape<'a>(tail: &'a str, class: bool, output: &mut String) -> Result<&'a str, String> {
    let letter = tail.chars().next().ok_or("ends in a backslash")?;
    let rest = tail.get(letter.len_utf8()..).unwrap_or_default();
    match letter {
        'Q' if !class => {
            let (literal, after) = rest.split_once(r"\E").unwrap_or((rest, ""));
            output.push_str(&regex::escape(literal));
            return Ok(after);
        }
        'b' | 'B' if !class => {
            if rest.starts_with('{') {
                return Err(format!(r"has \{letter}{{, which RE2 does not know"));
            }
            output.push_str(if letter == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
        }
        'u' | 'U' | '<' | '>' | 'h' | 'R' | 'X' | 'C' => {
            return Err(format!(r"has \{letter}, which does not mean the same in RE2"));
        }
        _ => match ascii_class(letter) {
            Some(replacement) => output.push_str(replacement),
            None => {
                output.push('\\');
                output.push(letter);
            }
        },
    }
    Ok(rest)
}

/// Whether a group with flags begins here that turns on `x` (verbose) or `R` (CRLF).
fn verbose_flag(rest: &str) -> bool {
    let flags = rest.strip_prefix("(?").unwrap_or_default();
    let flags: &str = flags.split([':', ')', '<', 'P']).next().unwrap_or_default();
    !flags.is_empty() && flags.chars().all(|c| c.is_ascii_alphabetic() || c == '-') && flags.contains(['x', 'R', 'u'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        compile(expression).unwrap().is_match(text)
    }

    #[test]
    fn the_whole_text_must_match() {
        assert!(matches("a|bc", "bc"));
        assert!(!matches("a|b", "bc"));
        assert!(matches(".*/ns/default/.*", "spiffe://cluster.local/ns/default/sa/sleep"));
        assert!(!matches("a", "a\n"));
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(matches(r"\d+", "12"));
        assert!(!matches(r"\d", "٣"));
        assert!(!matches(r"[\w-]+", "é"));
        assert!(matches(r"[\W]", "é"));
    }

    #[test]
    fn brackets_inside_a_class_stand_for_themselves() {
        assert!(matches("[[a]", "["));
        assert!(matches("[]a]", "]"));
        assert!(matches("[^]a]", "b"));
        assert!(matches("[[:digit:]x]+", "1x"));
    }

    #[test]
    fn quoted_text_is_literal() {
        assert!(matches(r"\Qa.b\E.", "a.bc"));
        assert!(!matches(r"\Qa.b\E", "axb"));
    }

    #[test]
    fn what_re2_would_refuse_or_read_otherwise_is_refused() {
        for expression in [r"[a&&b]", r"(?x)a b", r"\u{41}", r"\b{start}a", "a\\", "(", "(?u)a", r"(a)\1"] {
            assert!(compile(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn a_huge_expression_is_refused() {
        assert!(compile(r"((a{1000}){1000}){1000}").is_err());
    }
}
