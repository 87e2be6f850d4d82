//! Where clients are sent.

use http::request::Parts;

use super::{head, rewrite};
use crate::config::http::{PathMatch, PathRewrite, Redirect, RedirectPath};

/// The value of `location` of a redirect.
pub fn location(parts: &Parts, matches: &PathMatch, redirect: &Redirect) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or_else(|| head::scheme(parts));
    let host = match redirect.host.as_deref() {
        Some(host) => host,
        None => kept_host(parts, scheme, redirect.port.is_some()),
    };
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", path(parts, matches, redirect))
}

/// The value of `location` for a request that must come over TLS.
pub fn tls_location(parts: &Parts) -> String {
    format!("https://{}{}", head::authority(parts), head::full_path(parts))
}

/// The authority of the request, without a port that would be wrong: another is given, or the scheme changes from the
/// one that it belongs to.
fn kept_host<'p>(parts: &'p Parts, scheme: &str, other_port: bool) -> &'p str {
    let authority = head::authority(parts);
    let colon = if authority.starts_with('[') { authority.rfind("]:").map(|at| at + 1) } else { authority.rfind(':') };
    let Some((host, port)) = colon.and_then(|at| authority.split_at_checked(at)) else { return authority };
    let came_by = head::forwarded_proto(parts);
    let of_scheme = scheme != came_by && matches!((came_by, port), ("https", ":443") | ("http", ":80"));
    if other_port || of_scheme { host } else { authority }
}

fn path(parts: &Parts, matches: &PathMatch, redirect: &Redirect) -> String {
    let whole = head::full_path(parts);
    let path = match &redirect.path {
        RedirectPath::Keep => whole.to_owned(),
        RedirectPath::Path(path) if path.contains('?') => return path.to_string(),
        RedirectPath::Path(path) => format!("{path}{}", whole.get(head::path(parts).len()..).unwrap_or_default()),
        RedirectPath::Prefix(prefix) => {
            let rewrite = PathRewrite::Prefix(prefix.clone());
            rewrite::path_with(parts, matches, &rewrite).unwrap_or_default()
        }
        RedirectPath::Regex(regex) => {
            let rewrite = PathRewrite::Regex(regex.clone());
            rewrite::path_with(parts, matches, &rewrite).unwrap_or_default()
        }
    };
    match path.split_once('?') {
        Some((path, _)) if redirect.strip_query => path.to_owned(),
        _ => path,
    }
}
