//! Which other origins may call.

use envoy::envoy::extensions::filters::http::cors::v3;
use http::HeaderValue;

use super::header::header_value;
use crate::config::field::{Checked, Path, fields};
use crate::config::fraction::Fraction;
use crate::config::string_match::StringMatch;

/// A CORS policy. A list that is `None` is not sent.
#[derive(Debug, Clone)]
pub struct CorsPolicy {
    /// The origins that may call.
    pub origins: Box<[StringMatch]>,
    /// The value of `access-control-allow-methods`.
    pub methods: Option<HeaderValue>,
    /// The value of `access-control-allow-headers`.
    pub headers: Option<HeaderValue>,
    /// The value of `access-control-expose-headers`.
    pub expose: Option<HeaderValue>,
    /// The value of `access-control-max-age`.
    pub max_age: Option<HeaderValue>,
    /// Whether credentials are allowed.
    pub credentials: bool,
    /// Whether a private network may be called.
    pub private_network: bool,
    /// Whether a preflight of another origin goes on to upstream; otherwise it is answered here.
    pub forward_other_preflights: bool,
    /// To how many requests it applies.
    pub enabled: Fraction,
    /// For how many requests it is only evaluated where it does not apply.
    pub shadow: Option<Fraction>,
}

impl CorsPolicy {
    pub(super) fn from_message(at: &Path<'_>, message: v3::CorsPolicy) -> Checked<CorsPolicy> {
        fields!(at, message => v3::CorsPolicy { allow_origin_string_match, allow_methods, allow_headers,
            expose_headers, max_age, allow_credentials, filter_enabled, shadow_enabled, allow_private_network_access,
            forward_not_matching_preflights });
        let origins_at = at.field("allow_origin_string_match");
        let origins = allow_origin_string_match.into_iter().enumerate();
        let value = |name: &str, text: String| match text.as_str() {
            "" => Ok(None),
            text => header_value(&at.field(name), text).map(Some),
        };
        let enabled = filter_enabled.map(|f| Fraction::from_runtime(&at.field("filter_enabled"), f));
        let shadow = shadow_enabled.map(|f| Fraction::from_runtime(&at.field("shadow_enabled"), f));
        Ok(CorsPolicy {
            origins: origins
                .map(|(i, o)| StringMatch::from_message(&origins_at.index(i), o))
                .collect::<Checked<_>>()?,
            methods: value("allow_methods", allow_methods)?,
            headers: value("allow_headers", allow_headers)?,
            expose: value("expose_headers", expose_headers)?,
            max_age: value("max_age", max_age)?,
            credentials: allow_credentials.unwrap_or(false),
            private_network: allow_private_network_access.unwrap_or(false),
            // Envoy 1.40 forwards them unless it is told otherwise.
            forward_other_preflights: forward_not_matching_preflights.unwrap_or(true),
            enabled: enabled.transpose()?.unwrap_or(Fraction::ALL),
            shadow: shadow.transpose()?,
        })
    }
}
