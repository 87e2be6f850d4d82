//! Where requests carry their tokens.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Uri};

use crate::config::http::JwtProvider;
use crate::routing;

/// A token that a request carries.
#[derive(Debug)]
pub(super) struct Carried<'p> {
    pub(super) token: String,
    place: Place<'p>,
    /// Whose tokens may be there; empty text is anybody.
    issuers: Vec<&'p str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place<'p> {
    Header(&'p HeaderName),
    Param(&'p str),
    Cookie,
}

impl Carried<'_> {
    /// Whether a token of this issuer may be where this one is.
    pub(super) fn may_be_of(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|known| known.is_empty() || *known == issuer)
    }

    /// Takes the token away from the request, as far as Envoy does: cookies stay.
    pub(super) fn remove(&self, parts: &mut Parts) {
        match self.place {
            Place::Header(name) => while parts.headers.remove(name).is_some() {},
            Place::Param(name) => parts.uri = without_param(&parts.uri, name).unwrap_or_else(|| parts.uri.clone()),
            Place::Cookie => {}
        }
    }
}

/// The tokens where these providers have them: those in headers first, then those in parameters and in cookies.
pub(super) fn carried<'p>(providers: &[&'p Arc<JwtProvider>], parts: &Parts) -> Vec<Carried<'p>> {
    let mut headers: BTreeMap<(&str, &str), (&HeaderName, Vec<&str>)> = BTreeMap::new();
    let mut params: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut cookies: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for provider in providers {
        for (name, prefix) in &provider.locations.headers {
            headers.entry((name.as_str(), &**prefix)).or_insert((name, Vec::new())).1.push(&*provider.issuer);
        }
        let (of_params, of_cookies) = (&provider.locations.params, &provider.locations.cookies);
        of_params.iter().for_each(|name| params.entry(&**name).or_default().push(&*provider.issuer));
        of_cookies.iter().for_each(|name| cookies.entry(&**name).or_default().push(&*provider.issuer));
    }
    let mut found = Vec::new();
    for ((_, prefix), (name, issuers)) in headers {
        let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        found.extend(values.filter_map(|value| after(value, prefix)).map(|token| Carried {
            token: token.to_owned(),
            place: Place::Header(name),
            issuers: issuers.clone(),
        }));
    }
    for (name, issuers) in params {
        let query = parts.uri.query().unwrap_or_default();
        let value = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
        found.extend(value.map(|v| Carried { token: v.into_owned(), place: Place::Param(name), issuers }));
    }
    for (name, issuers) in cookies {
        let value = routing::cookie_value(parts, name);
        found.extend(value.map(|v| Carried { token: v.to_owned(), place: Place::Cookie, issuers }));
    }
    found
}

/// What follows the prefix, wherever that is, from the first character on that a token can have.
fn after<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let (_, rest) = value.split_once(prefix)?;
    let start = rest.find(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    Some(start.and_then(|start| rest.get(start..)).unwrap_or(value))
}

/// The URI without a parameter of its query; the others stay as they are.
fn without_param(uri: &Uri, name: &str) -> Option<Uri> {
    let key = |pair: &str| form_urlencoded::parse(pair.as_bytes()).next().map(|(key, _)| Cow::into_owned(key));
    let kept: Vec<&str> = uri.query()?.split('&').filter(|pair| key(pair).as_deref() != Some(name)).collect();
    let target = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut changed = uri.clone().into_parts();
    changed.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(changed).ok()
}
