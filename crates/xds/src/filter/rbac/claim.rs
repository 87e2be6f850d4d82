//! Claims of a request's token, as the filter that has checked it leaves them.

use envoy::envoy::config::rbac::v3::Principal;
use envoy::envoy::config::rbac::v3::principal::Identifier;
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy::envoy::r#type::matcher::v3::{StringMatcher, ValueMatcher};

use super::metadata::{at, single, single_or_one_of, sourced};
use super::term::{all_principals, any_principal, caller};
use super::value;
use crate::filter::jwt_authn::{FILTER, PAYLOAD};
use crate::wire;

/// A claim whose value is a text or a list of texts.
pub(super) fn of(path: &[String], value: &str) -> Principal {
    has(path.iter().map(String::as_str), single_or_one_of(value::text(value, "")))
}

/// Who the token says its user is: the claims `iss` and `sub` with a slash between them. Both may have slashes in them, so
/// a value is tried with each of its own as the one between.
pub(super) fn principal(value: &str) -> Principal {
    let whole = |text: &str| wire::matcher(MatchPattern::Exact(text.to_owned()));
    let any = || wire::regex(".*");
    let splits = |text: &'_ str| -> Vec<(String, String)> {
        text.match_indices('/').map(|(at, _)| (text[..at].to_owned(), text[at + 1..].to_owned())).collect()
    };
    if value == "*" {
        return of_user(wire::regex(".+"), wire::regex(".+"));
    }
    let alternatives: Vec<Principal> = match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(end), _) => {
            let later = of_user(any(), ends(end));
            splits(end).iter().map(|(iss, sub)| of_user(ends(iss), whole(sub))).chain([later]).collect()
        }
        (None, Some(start)) => {
            let earlier = of_user(starts(start), any());
            splits(start).iter().map(|(iss, sub)| of_user(whole(iss), starts(sub))).chain([earlier]).collect()
        }
        (None, None) => splits(value).iter().map(|(iss, sub)| of_user(whole(iss), whole(sub))).collect(),
    };
    match alternatives.is_empty() {
        // Without a slash it is nobody's.
        true => super::term::not_principal(all_principals(Vec::new())),
        false => any_principal(alternatives),
    }
}

fn of_user(issuer: StringMatcher, subject: StringMatcher) -> Principal {
    all_principals(vec![has(["iss"], single(issuer)), has(["sub"], single(subject))])
}

/// Envoy wants something to begin with.
fn starts(text: &str) -> StringMatcher {
    if text.is_empty() { wire::regex(".*") } else { wire::matcher(MatchPattern::Prefix(text.to_owned())) }
}

/// Envoy wants something to end with.
fn ends(text: &str) -> StringMatcher {
    if text.is_empty() { wire::regex(".*") } else { wire::matcher(MatchPattern::Suffix(text.to_owned())) }
}

fn has<'a>(path: impl IntoIterator<Item = &'a str>, value: ValueMatcher) -> Principal {
    let path = [PAYLOAD].into_iter().chain(path);
    caller(Identifier::SourcedMetadata(sourced(at(FILTER, path, value))))
}
