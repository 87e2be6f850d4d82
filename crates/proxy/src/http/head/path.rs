//! What is done to a path before anything reads it: what one side takes for `/admin` must not be something else to the
//! other. Each rule does what Envoy 1.40 does.

use std::borrow::Cow;

use crate::config::http::{EscapedSlashes, PathNormalization};

/// What came of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Normalized<'a> {
    /// The path to go on with, and its query.
    Path(Cow<'a, str>),
    /// The client is to ask for this one instead.
    Redirect(String),
    /// It is not a path that may be asked for.
    Refused(Refusal),
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has characters that no path has.
    Malformed,
    /// It has `%2F` or `%5C`, or cannot be normalised.
    Rejected,
}

/// Normalises a path with its query.
pub(crate) fn normalized(whole: &str, options: PathNormalization) -> Normalized<'_> {
    if whole.bytes().any(|b| b >= 0x7f) {
        return Normalized::Refused(Refusal::Malformed);
    }
    let PathNormalization { normalize, merge_slashes, escaped_slashes } = options;
    let end = whole.find('?').unwrap_or(whole.len());
    let (path, query) = whole.split_at(end);
    let mut current = Cow::Borrowed(path);
    let mut redirect = false;
    if escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(path) {
        match escaped_slashes {
            EscapedSlashes::Reject => return Normalized::Refused(Refusal::Rejected),
            EscapedSlashes::Redirect => redirect = true,
            EscapedSlashes::Keep | EscapedSlashes::Forward => {}
        }
        current = Cow::Owned(with_slashes(path));
    }
    if normalize && !is_normal(&current) {
        match canonical(&current) {
            Some(path) => current = Cow::Owned(path),
            None => return Normalized::Refused(Refusal::Rejected),
        }
    }
    if merge_slashes && current.contains("//") {
        current = Cow::Owned(merged(&current));
    }
    match current {
        Cow::Borrowed(_) => Normalized::Path(Cow::Borrowed(whole)),
        Cow::Owned(path) if redirect => Normalized::Redirect(path + query),
        Cow::Owned(path) => Normalized::Path(Cow::Owned(path + query)),
    }
}

fn escape(text: &str) -> Option<u8> {
    let digits = text.get(1..3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

fn has_escaped_slash(path: &str) -> bool {
    path.match_indices('%').any(|(i, _)| matches!(path.get(i..).and_then(escape), Some(b'/' | b'\\')))
}

fn with_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let from = rest.get(before.len()..).unwrap_or_default();
        match escape(from) {
            Some(slash @ (b'/' | b'\\')) => {
                out.push(slash.into());
                rest = from.get(3..).unwrap_or_default();
            }
            _ => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

/// Whether normalising surely changes nothing, which is so for nearly every path.
fn is_normal(path: &str) -> bool {
    let plain = |b: u8| !matches!(b, b'%' | b'\\') && !must_be_escaped(b);
    path.starts_with('/') && path.bytes().all(plain) && !path.contains("/.")
}

fn must_be_escaped(b: u8) -> bool {
    matches!(b, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// The path without `.` and `..`, with unreserved characters as they are and others escaped; `None` if it is none.
fn canonical(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len() + 8);
    out.push('/');
    let mut segments = path.strip_prefix(['/', '\\'])?.split(['/', '\\']).peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        // Dots are what they are before parameters, too, unless they are escaped.
        let dots = segment.split_once(';').map(|(dots, _)| dots).filter(|dots| matches!(*dots, "." | ".."));
        push_segment(dots.unwrap_or(segment), &mut out)?;
        match out.get(start..) {
            Some(".") => out.truncate(start),
            Some("..") => {
                out.truncate(start - 1);
                let parent = out.rfind('/').map_or(0, |slash| slash);
                out.truncate(parent);
                out.push('/');
            }
            _ if segments.peek().is_some() => out.push('/'),
            _ => {}
        }
    }
    Some(out)
}

fn push_segment(segment: &str, out: &mut String) -> Option<()> {
    let mut rest = segment;
    while let Some(c) = rest.bytes().next() {
        let mut length = 1;
        match (c, escape(rest)) {
            (b'%', Some(0)) => return None,
            (b'%', Some(b)) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                out.push(b.into());
                length = 3;
            }
            (b'%', Some(_)) => {
                out.push_str(rest.get(..3)?);
                length = 3;
            }
            (c, _) if must_be_escaped(c) => out.push_str(&format!("%{c:02X}")),
            (c, _) => out.push(c.into()),
        }
        rest = rest.get(length..)?;
    }
    Some(())
}

/// The path with each run of slashes as one. A path of slashes only becomes two, as with Envoy.
fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').filter(|s| !s.is_empty()) {
        if !out.is_empty() || path.starts_with('/') {
            out.push('/');
        }
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    if path.ends_with('/') {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: PathNormalization =
        PathNormalization { normalize: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };
    const NORMALIZE: PathNormalization = PathNormalization { normalize: true, ..KEEP };
    const MERGE: PathNormalization = PathNormalization { merge_slashes: true, ..KEEP };
    const BOTH: PathNormalization = PathNormalization { normalize: true, merge_slashes: true, ..KEEP };
    const REJECT: PathNormalization = PathNormalization { escaped_slashes: EscapedSlashes::Reject, ..KEEP };
    const REDIRECT: PathNormalization = PathNormalization { escaped_slashes: EscapedSlashes::Redirect, ..KEEP };
    const FORWARD: PathNormalization = PathNormalization { escaped_slashes: EscapedSlashes::Forward, ..KEEP };
    const ALL: PathNormalization =
        PathNormalization { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Forward };

    /// Each line is what Envoy 1.40 was seen to do.
    const PATHS: &[(PathNormalization, &str, &str)] = &[
        (KEEP, "/a/../b//%2f", "/a/../b//%2f"),
        (NORMALIZE, "/", "/"),
        (NORMALIZE, "/a/../b", "/b"),
        (NORMALIZE, "/a/./b", "/a/b"),
        (NORMALIZE, "/a/%2e%2e/b", "/b"),
        (NORMALIZE, "/a/%2E/b", "/a/b"),
        (NORMALIZE, "/a/%2e%2E/../c", "/c"),
        (NORMALIZE, "//a//b", "//a//b"),
        (NORMALIZE, "/a\\b", "/a/b"),
        (NORMALIZE, "/%41%7e", "/A~"),
        (NORMALIZE, "/a%2Fb%5Cc%5cd", "/a%2Fb%5Cc%5cd"),
        (NORMALIZE, "/a?x=//..%2f", "/a?x=//..%2f"),
        (NORMALIZE, "/../../x", "/x"),
        (NORMALIZE, "/a/..", "/"),
        (NORMALIZE, "/a/.", "/a/"),
        (NORMALIZE, "/a//../b", "/a/b"),
        (NORMALIZE, "/%zz", "/%zz"),
        (NORMALIZE, "/a%20b", "/a%20b"),
        (NORMALIZE, "/a;b/../c", "/c"),
        (NORMALIZE, "/a%", "/a%"),
        (NORMALIZE, "/%C3%A9", "/%C3%A9"),
        (NORMALIZE, "/a|b\"<>^`{}", "/a%7Cb%22%3C%3E%5E%60%7B%7D"),
        (NORMALIZE, "/..%2f..", "/..%2f.."),
        (NORMALIZE, "/.%2e/x", "/x"),
        (NORMALIZE, "/a/%2e", "/a/"),
        (NORMALIZE, "/a/.../b", "/a/.../b"),
        (NORMALIZE, "/a?b?c", "/a?b?c"),
        (NORMALIZE, "/a/..;/b", "/b"),
        (NORMALIZE, "/a/.;x/b", "/a/b"),
        (NORMALIZE, "/a/%2e%2e;/b", "/a/..;/b"),
        (NORMALIZE, "/a;x/b", "/a;x/b"),
        (NORMALIZE, "/a%25b", "/a%25b"),
        (MERGE, "//a//b", "/a/b"),
        (MERGE, "/a//../b", "/a/../b"),
        (MERGE, "/a//", "/a/"),
        (MERGE, "/////", "//"),
        (MERGE, "/a?x=//", "/a?x=//"),
        (BOTH, "/a//../b", "/a/b"),
        (BOTH, "/////", "//"),
        (REJECT, "/a?x=%2f", "/a?x=%2f"),
        (FORWARD, "/a%2fb", "/a/b"),
        (FORWARD, "/a%2Fb%5Cc%5cd", "/a/b\\c\\d"),
        (FORWARD, "/%2f%2f?%2f", "///?%2f"),
        (ALL, "/a%2Fb%5Cc%5cd", "/a/b/c/d"),
        (ALL, "/..%2f..", "/"),
        (ALL, "/a/b/..%2f..%2fc", "/c"),
        (ALL, "/%2f%2f", "//"),
    ];

    #[test]
    fn paths_become_what_envoy_makes_of_them() {
        for (options, path, expected) in PATHS {
            let Normalized::Path(found) = normalized(path, *options) else { panic!("{path} was not taken") };
            assert_eq!(found, *expected, "{path} with {options:?}");
        }
    }

    #[test]
    fn a_path_that_stays_is_not_copied() {
        assert!(matches!(normalized("/a/b.c?d", BOTH), Normalized::Path(Cow::Borrowed("/a/b.c?d"))));
    }

    #[test]
    fn a_redirect_says_where_the_slashes_are() {
        assert_eq!(normalized("/a%2fb?c%2f", REDIRECT), Normalized::Redirect("/a/b?c%2f".to_owned()));
    }

    #[test]
    fn what_may_not_be_asked_for_is_refused() {
        for (options, path) in [(REJECT, "/a%2fb"), (REJECT, "/a%5Cb"), (NORMALIZE, "/%00"), (NORMALIZE, "*")] {
            assert_eq!(normalized(path, options), Normalized::Refused(Refusal::Rejected), "{path}");
        }
        assert_eq!(normalized("/\u{e9}", KEEP), Normalized::Refused(Refusal::Malformed));
    }
}
