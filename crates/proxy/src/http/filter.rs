//! The HTTP filters that decide about requests.
//!
//! Each is a decision about the head of a request. Those that must wait, for time or for somebody else's answer, do
//! that where the request's path calls them.

pub(crate) mod cors;
pub(crate) mod ext_authz;
pub(crate) mod fault;
pub(crate) mod jwt_authn;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use crate::config::http::{CorsPolicy, ExtAuthz, Fault, HeaderMutations, HttpFilter, HttpRbac, JwtAuthn, Protocols};
use crate::metrics::{CorsStats, ExtAuthzStats, FaultStats, HttpFilterName, JwtAuthnStats, Metrics, RbacStats};

/// Of a filter that authorizes: what is enforced, and what is only counted.
pub(crate) type BothRbacStats = (Arc<RbacStats>, Arc<RbacStats>);

/// A filter of a connection manager as one worker uses it, with what it counts.
#[derive(Debug)]
pub(crate) enum LocalFilter {
    Rbac(Arc<HttpRbac>, BothRbacStats),
    Cors(Arc<CorsStats>),
    ExtAuthz(Arc<ExtAuthz>, Arc<ExtAuthzStats>),
    Fault(Arc<Fault>, Arc<FaultStats>),
    JwtAuthn(Arc<JwtAuthn>, Arc<JwtAuthnStats>),
    Offer(Protocols),
    GrpcStats,
}

impl LocalFilter {
    /// `manager` is the `stat_prefix` of the connection manager.
    pub(crate) fn new(filter: &HttpFilter, manager: &Arc<str>, metrics: &Metrics) -> LocalFilter {
        let named = |prefix: &Arc<str>| HttpFilterName { manager: manager.clone(), prefix: prefix.clone() };
        match filter {
            HttpFilter::Rbac(rbac) => {
                let stats = |prefix: &str| metrics.rbac.of(&format!("http.{manager}.{prefix}").into());
                LocalFilter::Rbac(rbac.clone(), (stats(&rbac.stat_prefix), stats(&rbac.shadow_stat_prefix)))
            }
            HttpFilter::Cors => LocalFilter::Cors(metrics.cors.of(manager)),
            HttpFilter::ExtAuthz(config) => {
                LocalFilter::ExtAuthz(config.clone(), metrics.ext_authz.of(&named(&config.stat_prefix)))
            }
            HttpFilter::Fault(config) => LocalFilter::Fault(config.clone(), metrics.faults.of(manager)),
            HttpFilter::JwtAuthn(config) => {
                LocalFilter::JwtAuthn(config.clone(), metrics.jwt_authn.of(&named(&config.stat_prefix)))
            }
            HttpFilter::Offer(protocols) => LocalFilter::Offer(protocols.clone()),
            HttpFilter::GrpcStats => LocalFilter::GrpcStats,
        }
    }
}

/// What a filter that a request has passed does to its response.
#[derive(Debug)]
pub(crate) enum OnResponse {
    /// It tells the origin that called that it may.
    Cors(Arc<CorsPolicy>, HeaderValue),
    /// It changes the headers as somebody else has said.
    Change(HeaderMutations),
}

impl OnResponse {
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            OnResponse::Cors(policy, origin) => policy.allow(origin, headers),
            // Whoever says it says it without operators.
            OnResponse::Change(mutations) => mutations.apply(headers, &|_| String::new()),
        }
    }
}
