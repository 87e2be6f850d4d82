//! Answers browsers that ask whether another origin may call, and tells them so with every answer.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::config::http::CorsPolicy;
use crate::http::reply::Reply;
use crate::metrics::CorsStats;

/// Where browsers ask for, and get, access to private networks.
const PRIVATE_NETWORK: (&str, &str) =
    ("access-control-request-private-network", "access-control-allow-private-network");

/// What a request is to CORS.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cors {
    /// Nothing; the answer stays as it is.
    Nothing,
    /// A call of this origin, which is allowed; the answer [says so](CorsPolicy::allow).
    Call(HeaderValue),
    /// A question before a call, with its answer.
    Preflight(Reply),
}

impl CorsPolicy {
    /// What a request is. `random` decides whether the policy applies, or whether at least is counted what it would say.
    pub(crate) fn look_at(&self, parts: &Parts, random: u64, stats: &CorsStats) -> Cors {
        let enabled = self.enabled.includes(random);
        if !enabled && !self.shadow.is_some_and(|shadow| shadow.includes(random)) {
            return Cors::Nothing;
        }
        let Some(origin) = parts.headers.get(header::ORIGIN).filter(|origin| !origin.is_empty()) else {
            return Cors::Nothing;
        };
        let allowed = self.allows(origin);
        if allowed {
            stats.origin_valid.inc()
        } else {
            stats.origin_invalid.inc()
        }
        if !enabled {
            return Cors::Nothing;
        }
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| !m.is_empty());
        match (parts.method == Method::OPTIONS && asked, allowed) {
            (true, allowed) if allowed || !self.forward_other_preflights => {
                Cors::Preflight(self.permission(parts, origin, allowed))
            }
            (_, true) => Cors::Call(origin.clone()),
            (_, false) => Cors::Nothing,
        }
    }

    /// Tells the browser that the call was allowed.
    pub(crate) fn allow(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        // An origin that is no text matches nothing but a star.
        let text = origin.to_str().ok();
        self.origins.iter().any(|o| o.matches("*") || text.is_some_and(|text| o.matches(text)))
    }

    /// The answer to a question. Without the permission it has everything else, as in Envoy.
    fn permission(&self, parts: &Parts, origin: &HeaderValue, allowed: bool) -> Reply {
        let mut reply = Reply::new(StatusCode::OK, "cors_response");
        let asked = |name: HeaderName| parts.headers.get(name).cloned().unwrap_or(HeaderValue::from_static(""));
        // A star stands for whatever is asked for, because browsers do not know it beside credentials.
        let granted = |value: &Option<HeaderValue>, name: HeaderName| {
            value.clone().map(|value| if value == "*" { asked(name) } else { value })
        };
        let (wanted, granted_private) = PRIVATE_NETWORK;
        let private = self.private_network && parts.headers.get(wanted).is_some_and(|value| value == "true");
        let yes = HeaderValue::from_static("true");
        let headers = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.then(|| origin.clone())),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, self.credentials.then(|| yes.clone())),
            (header::ACCESS_CONTROL_ALLOW_METHODS, granted(&self.methods, header::ACCESS_CONTROL_REQUEST_METHOD)),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, granted(&self.headers, header::ACCESS_CONTROL_REQUEST_HEADERS)),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone()),
            (header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
            (HeaderName::from_static(granted_private), private.then_some(yes)),
        ];
        reply.headers.extend(headers.into_iter().filter_map(|(name, value)| Some((name, value?))));
        reply
    }
}

#[cfg(test)]
mod tests;
