//! Attributes that only requests have.

use envoy::envoy::config::core::v3::TypedExtensionConfig;
use envoy::envoy::config::rbac::v3::permission::Rule;
use envoy::envoy::config::rbac::v3::principal::Identifier;
use envoy::envoy::config::rbac::v3::{Permission, Principal};
use envoy::envoy::config::route::v3::HeaderMatcher;
use envoy::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};

use super::term::{Unusable, caller, operation};
use super::{claim, value};
use crate::{Code, wire};

/// The longest template that Envoy takes, in bytes.
const LONGEST_TEMPLATE: usize = 256;

/// An attribute of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Host,
    Method,
    Path,
    Header(String),
    /// Who the request's token says its user is.
    Principal,
    Presenter,
    /// A claim of the token, by its path.
    Claim(Vec<String>),
}

impl Attribute {
    pub(super) fn of_key(key: &str) -> Result<Attribute, Unusable> {
        let bracketed = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']');
        Ok(match key {
            "request.host" => Attribute::Host,
            "request.method" => Attribute::Method,
            "request.path" => Attribute::Path,
            "request.auth.principal" => Attribute::Principal,
            "request.auth.audiences" => Attribute::Claim(vec!["aud".to_owned()]),
            "request.auth.presenter" => Attribute::Presenter,
            _ => match (bracketed("request.headers"), bracketed("request.auth.claims")) {
                (Some(name), _) if !name.is_empty() => Attribute::Header(name.to_ascii_lowercase()),
                (_, Some(path)) if !path.is_empty() => Attribute::Claim(path.split("][").map(str::to_owned).collect()),
                _ => return Err((Code::InvalidValue, format!("unknown attribute: {key}"))),
            },
        })
    }

    pub(super) fn is_of_caller(&self) -> bool {
        !matches!(self, Attribute::Host | Attribute::Method | Attribute::Path)
    }

    pub(super) fn principal(&self, text: &str) -> Result<Principal, Unusable> {
        Ok(match self {
            Attribute::Header(name) => caller(Identifier::Header(header(name, text, false))),
            Attribute::Principal => claim::principal(text),
            Attribute::Presenter => claim::of(&["azp".to_owned()], text),
            Attribute::Claim(path) if path.iter().any(String::is_empty) => {
                return Err((Code::InvalidValue, "a claim needs a name".to_owned()));
            }
            Attribute::Claim(path) => claim::of(path, text),
            Attribute::Host | Attribute::Method | Attribute::Path => return Err(misplaced()),
        })
    }

    pub(super) fn permission(&self, text: &str) -> Result<Permission, Unusable> {
        Ok(operation(match self {
            Attribute::Host => Rule::Header(header(":authority", text, true)),
            Attribute::Method => Rule::Header(header(":method", text, false)),
            Attribute::Path => path(text)?,
            // Roles of old have headers among what may be done.
            Attribute::Header(name) => Rule::Header(header(name, text, false)),
            _ => return Err(misplaced()),
        }))
    }
}

fn misplaced() -> Unusable {
    (Code::InvalidValue, "stands at the wrong side of a rule".to_owned())
}

fn header(name: &str, text: &str, ignore_case: bool) -> HeaderMatcher {
    let specifier = match text {
        "*" => HeaderMatchSpecifier::PresentMatch(true),
        text => HeaderMatchSpecifier::StringMatch(StringMatcher { ignore_case, ..value::text(text, "") }),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..HeaderMatcher::default() }
}

/// A path without its query, or a template in which `{*}` stands for one segment and `{**}` for any number of them.
fn path(text: &str) -> Result<Rule, Unusable> {
    if !text.contains("{*}") && !text.contains("{**}") {
        let rule = path_matcher::Rule::Path(value::text(text, ""));
        return Ok(Rule::UrlPath(PathMatcher { rule: Some(rule) }));
    }
    let template = text.replace("{**}", "**").replace("{*}", "*");
    check_template(text, &template)?;
    let config = UriTemplateMatchConfig { path_template: template };
    Ok(Rule::UriTemplate(TypedExtensionConfig {
        name: "envoy.path.match.uri_template.uri_template_matcher".to_owned(),
        typed_config: Some(wire::any("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", &config)),
    }))
}

/// Envoy would refuse the whole listener for a template that it cannot read.
fn check_template(text: &str, template: &str) -> Result<(), Unusable> {
    let wrong = |reason: &str| Err((Code::InvalidValue, format!("{text:?} is not a template: {reason}")));
    if template.len() > LONGEST_TEMPLATE {
        return wrong("it is too long");
    }
    let Some(path) = text.strip_prefix('/') else { return wrong("it must begin with /") };
    if path.contains("//") {
        return wrong("a segment must not be empty");
    }
    let literal = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
    let mut rest = false;
    for segment in path.split('/') {
        match segment {
            "{*}" | "{**}" if rest => return wrong("no {*} and no {**} may stand after {**}"),
            "{**}" => rest = true,
            "{*}" => {}
            text if !text.chars().all(literal) => return wrong("a segment is text, {*} or {**}"),
            _ => {}
        }
    }
    Ok(())
}
