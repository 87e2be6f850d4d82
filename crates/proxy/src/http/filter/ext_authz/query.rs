//! Parameters of a query, as somebody else changes them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Uri;
use http::request::Parts;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::routing;

/// What a path cannot have as it is. Percent signs can: parameters come encoded, as far as they are.
const IMPOSSIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Sets parameters, and then removes others. They come out in the order of their names, as in Envoy.
pub(super) fn change(parts: &mut Parts, set: &[(String, String)], remove: &[String]) {
    let (path, query) = match routing::full_path(parts).split_once('?') {
        Some((path, query)) => (path, query),
        None => (routing::full_path(parts), ""),
    };
    let mut parameters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        parameters.entry(name).or_default().push(value);
    }
    for (name, value) in set {
        parameters.insert(name, vec![value]);
    }
    for name in remove {
        parameters.remove(&**name);
    }
    let all = parameters.iter().flat_map(|(name, values)| values.iter().map(move |value| format!("{name}={value}")));
    let query = all.collect::<Vec<_>>().join("&");
    let separator = if query.is_empty() { "" } else { "?" };
    let encoded: Cow<'_, str> = utf8_percent_encode(&query, IMPOSSIBLE).into();
    // What still is no path is not changed.
    if let Ok(uri) = Uri::try_from(format!("{path}{separator}{encoded}")) {
        parts.uri = uri;
    }
}
