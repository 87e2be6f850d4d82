//! Routes that send the client elsewhere.

use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use http::StatusCode;

use super::regex_rewrite::RegexRewrite;
use crate::config::field::{Checked, Path, fields};

/// Where a client is sent.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// The scheme; `None` keeps it.
    pub scheme: Option<Box<str>>,
    /// The host; `None` keeps it.
    pub host: Option<Box<str>>,
    /// The port; `None` keeps it, unless it was the one that belongs to a scheme that changes.
    pub port: Option<u16>,
    /// The path.
    pub path: RedirectPath,
    /// Whether the query is left out.
    pub strip_query: bool,
    /// The status of the response.
    pub status: StatusCode,
}

/// What becomes of the path.
#[derive(Debug, Clone)]
pub enum RedirectPath {
    /// It stays.
    Keep,
    /// It is replaced; a query in it replaces the query, too.
    Path(Box<str>),
    /// What the route matched of it is replaced.
    Prefix(Box<str>),
    /// Every match of an expression in it is replaced.
    Regex(RegexRewrite),
}

impl Redirect {
    pub(super) fn from_message(at: &Path<'_>, message: v3::RedirectAction) -> Checked<Redirect> {
        fields!(at, message => v3::RedirectAction { host_redirect, port_redirect, response_code, strip_query,
            scheme_rewrite_specifier, path_rewrite_specifier });
        let text = |text: String| if text.is_empty() { None } else { Some(text.into()) };
        let port = at.field("port_redirect").port(port_redirect)?;
        Ok(Redirect {
            scheme: match scheme_rewrite_specifier {
                Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
                Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
                Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => text(scheme),
            },
            host: text(host_redirect),
            port: (port != 0).then_some(port),
            path: match path_rewrite_specifier {
                None => RedirectPath::Keep,
                Some(PathRewriteSpecifier::PathRedirect(path)) if path.is_empty() => RedirectPath::Keep,
                Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Path(path.into()),
                Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if prefix.is_empty() => RedirectPath::Keep,
                Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => RedirectPath::Prefix(prefix.into()),
                Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                    RedirectPath::Regex(RegexRewrite::from_message(&at.field("regex_rewrite"), regex)?)
                }
                Some(PathRewriteSpecifier::PathRewrite(_)) => {
                    return Err(at.field("path_rewrite").reject("is not supported"));
                }
            },
            strip_query,
            status: match at.field("response_code").enumeration(response_code)? {
                RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
                RedirectResponseCode::Found => StatusCode::FOUND,
                RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
                RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
                RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
            },
        })
    }
}
