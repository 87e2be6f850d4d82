//! Asks somebody else whether a request may go on.
//!
//! The question is made of the request, and the answer is read, without any connection: who calls sends the one and
//! hands over the other, or says that there was none.

mod grpc;
mod http_service;
mod query;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Bytes;
use prost_types::Struct;

use crate::access_log::Flag;
use crate::config::StringMatch;
use crate::config::http::{AuthzOverride, AuthzService, ExtAuthz, HeaderMutations};
use crate::dynamic_metadata::DynamicMetadata;
use crate::http::errand::call;
use crate::http::reply::Reply;
use crate::metrics::ExtAuthzStats;
use crate::upstream::Establish;

/// Under which name the filter notes what it learns.
pub(crate) const NAME: &str = "envoy.filters.http.ext_authz";

/// What is told about a request beside its head.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) peer_identity: Option<&'a str>,
    pub(crate) own_identity: Option<&'a str>,
    pub(crate) id: u64,
    pub(crate) time: SystemTime,
    /// What of the body is told, if it is.
    pub(crate) body: Option<&'a [u8]>,
    /// What earlier filters have noted.
    pub(crate) metadata: &'a DynamicMetadata,
}

/// Whether anybody is asked about a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    /// Somebody is; the body is told, too, if that is said.
    Yes { body: bool },
    /// Nobody is, as its route says; it goes on.
    No,
    /// Nobody is, as the filter says; it goes on, or gets this answer.
    Disabled(Option<Reply>),
}

/// What was decided about a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It goes on, changed.
    Allowed(Box<Changes>),
    /// It does not.
    Denied(Reply),
    /// Nothing was; it does not, unless that is allowed.
    Failed(Reply),
}

/// What is changed in a request that goes on, and in its answer.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    /// What goes on with a header that is there already.
    pub(crate) append: Vec<(HeaderName, HeaderValue)>,
    pub(crate) remove: Vec<HeaderName>,
    /// Parameters of the query.
    pub(crate) query_set: Vec<(String, String)>,
    pub(crate) query_remove: Vec<String>,
    pub(crate) response: HeaderMutations,
    /// What filters that follow may ask for, under the name of this filter.
    pub(crate) facts: Struct,
}

/// Asks a filter about a request, over the cluster of whoever is asked, and changes it as the answer says. What is
/// returned is to be done to the response; and whether the route is to be chosen again.
pub(crate) async fn ask(
    config: &ExtAuthz,
    change: Option<&AuthzOverride>,
    parts: &mut Parts,
    circumstances: &Circumstances<'_>,
    cluster: Option<Rc<Establish>>,
    stats: &ExtAuthzStats,
) -> Result<(Changes, bool), Reply> {
    let within = match &config.service {
        AuthzService::Http(service) => service.timeout,
        AuthzService::Grpc(service) => service.timeout,
    };
    let answer = match (config.question(parts, circumstances, change), cluster) {
        (Ok(question), Some(cluster)) => call(&cluster, question, within).await,
        (Ok(_) | Err(_), _) => None,
    };
    match answer.map_or_else(|| Decision::Failed(config.failure()), |answer| config.decision(answer)) {
        Decision::Denied(reply) => {
            stats.denied.inc();
            Err(reply)
        }
        Decision::Allowed(changes) => {
            stats.ok.inc();
            let changed = changes.apply(parts);
            Ok((*changes, changed && config.clear_route_cache))
        }
        Decision::Failed(reply) => {
            stats.error.inc();
            if !config.failure_mode_allow {
                return Err(reply);
            }
            stats.failure_mode_allowed.inc();
            if config.failure_mode_header {
                parts.headers.append("x-envoy-auth-failure-mode-allowed", HeaderValue::from_static("true"));
            }
            Ok((Changes::default(), false))
        }
    }
}

impl ExtAuthz {
    /// Whether anybody is asked about a request. `random` decides where a part of them is.
    pub(crate) fn asks(&self, change: Option<&AuthzOverride>, known: &DynamicMetadata, random: u64) -> Asked {
        let without_body = match change {
            Some(AuthzOverride::Disabled) => return Asked::No,
            Some(AuthzOverride::Settings { without_body, .. }) => *without_body,
            None => false,
        };
        let enabled = self.enabled.includes(random) && self.enabled_metadata.as_ref().is_none_or(|m| m.holds(known));
        match (enabled, self.deny_at_disable) {
            (true, _) => Asked::Yes { body: self.body.is_some() && !without_body },
            (false, refused) => Asked::Disabled(refused.then(|| self.failure())),
        }
    }

    /// The question about a request.
    pub(crate) fn question(
        &self,
        parts: &Parts,
        circumstances: &Circumstances<'_>,
        change: Option<&AuthzOverride>,
    ) -> Result<Request<Bytes>, http::Error> {
        let nothing = BTreeMap::new();
        let context = match change {
            Some(AuthzOverride::Settings { context, .. }) => context,
            _ => &nothing,
        };
        match &self.service {
            AuthzService::Http(service) => http_service::question(self, service, parts, circumstances.body),
            AuthzService::Grpc(service) => grpc::question(self, service, parts, circumstances, context),
        }
    }

    /// What an answer says. Over gRPC its trailers are among its headers.
    pub(crate) fn decision(&self, answer: Response<Bytes>) -> Decision {
        let decision = match &self.service {
            AuthzService::Http(service) => http_service::decision(service, answer),
            AuthzService::Grpc(_) => grpc::decision(self, answer),
        };
        decision.unwrap_or_else(|| Decision::Failed(self.failure()))
    }

    /// The answer to a request about which nothing was decided.
    fn failure(&self) -> Reply {
        Reply::new(self.status_on_error, "ext_authz_error").flag(Flag::UnauthorizedExternalService)
    }

    /// Whether a header of the request is told.
    fn tells(&self, name: &HeaderName, by_default: bool) -> bool {
        let among = |list: &[StringMatch]| list.iter().any(|m| m.matches(name.as_str()));
        self.allowed_headers.as_deref().map_or(by_default, among) && !among(&self.disallowed_headers)
    }
}

impl Changes {
    /// Changes the head of a request. Returns whether the route may be another one now.
    pub(crate) fn apply(&self, parts: &mut Parts) -> bool {
        for (name, value) in &self.set {
            parts.headers.insert(name, value.clone());
        }
        for (name, more) in &self.append {
            // Envoy appends only to what is there.
            if let Some(value) = parts.headers.get_mut(name)
                && let Ok(joined) = HeaderValue::from_bytes(&[value.as_bytes(), b",", more.as_bytes()].concat())
            {
                *value = joined;
            }
        }
        // Without its host a request would be malformed.
        for name in self.remove.iter().filter(|name| **name != http::header::HOST) {
            while parts.headers.remove(name).is_some() {}
        }
        let query = !(self.query_set.is_empty() && self.query_remove.is_empty());
        if query {
            query::change(parts, &self.query_set, &self.query_remove);
        }
        query || !(self.set.is_empty() && self.append.is_empty() && self.remove.is_empty())
    }
}

/// A refusal.
fn denied(status: StatusCode, body: Bytes, headers: Vec<(HeaderName, HeaderValue)>) -> Decision {
    let reply = Reply::new(status, "ext_authz_denied").body(body).flag(Flag::UnauthorizedExternalService);
    Decision::Denied(Reply { headers, ..reply })
}
