//! What becomes of a request's path and authority.

use std::borrow::Cow;

use http::request::Parts;

use super::head;
use crate::config::http::{Destination, HostRewrite, PathMatch, PathRewrite, Route, RouteAction};

/// The path, with its query, that upstream gets; `None` if it stays.
pub fn rewritten_path(parts: &Parts, route: &Route, action: &RouteAction) -> Option<String> {
    path_with(parts, &route.matches.path, &action.path)
}

pub(super) fn path_with(parts: &Parts, matches: &PathMatch, rewrite: &PathRewrite) -> Option<String> {
    let (whole, path) = (head::full_path(parts), head::path(parts));
    match rewrite {
        PathRewrite::Keep => None,
        PathRewrite::Prefix(prefix) => {
            let rest = whole.get(matches.matched(path)..).unwrap_or_default();
            Some(format!("{prefix}{rest}"))
        }
        PathRewrite::Regex(regex) => {
            let query = whole.get(path.len()..).unwrap_or_default();
            Some(regex.apply(path) + query)
        }
    }
}

/// The authority that upstream gets; `None` if it stays, or is the endpoint's to say. `path` is the path of the request
/// as it came.
pub fn rewritten_authority<'a>(
    parts: &'a Parts,
    action: &'a RouteAction,
    destination: Option<&'a Destination>,
) -> Option<Cow<'a, str>> {
    // What the route says comes after what the weighted cluster says.
    let of_destination = destination.and_then(|d| d.host.as_deref()).map(Cow::Borrowed);
    let of_route = match &action.host {
        HostRewrite::Keep | HostRewrite::Endpoint => None,
        HostRewrite::Literal(host) => Some(Cow::Borrowed(&**host)),
        HostRewrite::Header(name) => {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.filter(|value| !value.is_empty()).map(Cow::Borrowed)
        }
        HostRewrite::Path(regex) => Some(Cow::Owned(regex.apply(head::path(parts)))),
    };
    of_route.or(of_destination)
}
