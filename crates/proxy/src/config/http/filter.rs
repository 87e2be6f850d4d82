//! HTTP filters, and what routes change in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy::envoy::config::route::v3::FilterConfig;
use envoy::envoy::extensions::filters::http::cors::v3::Cors;
use envoy::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy::envoy::extensions::filters::http::router::v3 as wire;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter as Message;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use prost_types::Any;

use super::cors::CorsPolicy;
use super::ext_authz::{AuthzOverride, ExtAuthz};
use super::fault::Fault;
use super::jwt_authn::{JwtAuthn, JwtOverride};
use super::offer::{self, Protocols};
use super::rbac::HttpRbac;
use crate::config::field::{Checked, Path, fields};

/// Faults are configured alike for filters and for routes.
const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
const FILTER_CONFIG: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";

/// An HTTP filter of a connection manager.
#[derive(Debug, Clone)]
pub struct NamedFilter {
    /// Its name, by which routes override it.
    pub name: Arc<str>,
    /// What it is.
    pub filter: HttpFilter,
    /// Whether it does nothing unless a route says otherwise.
    pub disabled: bool,
}

impl NamedFilter {
    /// Whether the filter does nothing for requests whose route changes it so.
    pub fn is_off(&self, change: Option<&Override>) -> bool {
        match change {
            Some(Override::Disabled) => true,
            Some(_) => false,
            None => self.disabled,
        }
    }
}

/// What an HTTP filter does. The router is not among them: it is always the last.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// It authorizes requests.
    Rbac(Arc<HttpRbac>),
    /// It answers for calls from other origins, as routes say.
    Cors,
    /// It asks somebody else whether requests may go on.
    ExtAuthz(Arc<ExtAuthz>),
    /// It injects faults.
    Fault(Arc<Fault>),
    /// It authenticates requests by their tokens.
    JwtAuthn(Arc<JwtAuthn>),
    /// It says which protocols connections to upstream offer.
    Offer(Protocols),
    /// It would count gRPC messages; it changes nothing.
    GrpcStats,
}

/// How the router goes about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Router {
    /// Whether no `x-envoy-` headers are added.
    pub suppress_envoy_headers: bool,
    /// Whether the time that the proxy before this one expects an answer to take is heeded.
    pub respect_expected_timeout: bool,
}

/// What a table, a virtual host, a route or a weighted cluster changes in filters.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Box<[(Arc<str>, Override)]>);

/// What is changed in a filter.
#[derive(Debug, Clone)]
pub enum Override {
    /// It does nothing.
    Disabled,
    /// It does what it always does, even if it is disabled elsewhere.
    Enabled,
    /// It authorizes by other rules; `None` authorizes everything.
    Rbac(Option<Arc<HttpRbac>>),
    /// Other origins may call.
    Cors(Arc<CorsPolicy>),
    /// Somebody else is not asked, or is told more.
    ExtAuthz(Arc<AuthzOverride>),
    /// Other faults are injected.
    Fault(Arc<Fault>),
    /// Other tokens are required, or none.
    JwtAuthn(Arc<JwtOverride>),
}

impl Overrides {
    /// What is changed in the filter of this name.
    pub fn of(&self, name: &str) -> Option<&Override> {
        self.0.iter().find(|(filter, _)| **filter == *name).map(|(_, change)| change)
    }

    pub(super) fn from_messages(at: &Path<'_>, messages: BTreeMap<String, Any>) -> Checked<Overrides> {
        let mut overrides = Vec::with_capacity(messages.len());
        for (name, any) in messages {
            if let Some(change) = Override::from_message(&at.key(&name), any)? {
                overrides.push((name.into(), change));
            }
        }
        Ok(Overrides(overrides.into()))
    }
}

impl Override {
    /// `None` if it changes nothing: it is of an unknown type, and optional.
    fn from_message(at: &Path<'_>, any: Any) -> Checked<Option<Override>> {
        if any.type_url != FILTER_CONFIG {
            return Override::typed(at, &any)?.ok_or_else(|| at.unknown_type(&any)).map(Some);
        }
        fields!(at, at.decode(&any)? => FilterConfig { config, is_optional, disabled });
        match config {
            _ if disabled => Ok(Some(Override::Disabled)),
            None => Ok(Some(Override::Enabled)),
            Some(any) => {
                let at = at.field("config");
                match Override::typed(&at, &any)? {
                    None if !is_optional => Err(at.unknown_type(&any)),
                    change => Ok(change),
                }
            }
        }
    }

    /// `None` if the type is unknown.
    fn typed(at: &Path<'_>, any: &Any) -> Checked<Option<Override>> {
        Ok(Some(match any.type_url.as_str() {
            "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute" => {
                let RbacPerRoute { rbac } = at.decode(any)?;
                let rbac = rbac.map(|r| HttpRbac::from_message(&at.field("rbac"), r).map(Arc::new));
                Override::Rbac(rbac.transpose()?)
            }
            "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy" => {
                Override::Cors(Arc::new(CorsPolicy::from_message(at, at.decode(any)?)?))
            }
            "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute" => {
                Override::ExtAuthz(Arc::new(AuthzOverride::from_message(at, at.decode(any)?)?))
            }
            FAULT => Override::Fault(Arc::new(Fault::from_message(at, at.decode(any)?)?)),
            "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig" => {
                Override::JwtAuthn(Arc::new(JwtOverride::from_message(at, at.decode(any)?)?))
            }
            _ => return Ok(None),
        }))
    }
}

/// The filters of a connection manager, and the router that must end them.
pub(super) fn from_messages(at: &Path<'_>, messages: Vec<Message>) -> Checked<(Box<[NamedFilter]>, Router)> {
    let mut filters = Vec::new();
    let mut router = None;
    for (i, message) in messages.into_iter().enumerate() {
        let at = at.index(i);
        if router.is_some() {
            return Err(at.reject("no filter may follow the router"));
        }
        fields!(at, message => Message { name, is_optional, disabled, config_type });
        let at = at.field("typed_config");
        let any = match at.required(config_type)? {
            ConfigType::TypedConfig(any) => any,
            ConfigType::ConfigDiscovery(_) => return Err(at.reject("config_discovery is not supported")),
        };
        if any.type_url == "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" {
            if disabled {
                return Err(at.reject("the router cannot be disabled"));
            }
            router = Some(Router::from_message(&at, at.decode(&any)?)?);
            continue;
        }
        match HttpFilter::from_message(&at, &any)? {
            Some(filter) => filters.push(NamedFilter { name: name.into(), filter, disabled }),
            None if is_optional => {}
            None => return Err(at.unknown_type(&any)),
        }
    }
    let router = router.ok_or_else(|| at.reject("must end in the router"))?;
    Ok((filters.into(), router))
}

impl HttpFilter {
    /// `None` if the type is unknown.
    fn from_message(at: &Path<'_>, any: &Any) -> Checked<Option<HttpFilter>> {
        Ok(Some(match any.type_url.as_str() {
            "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC" => {
                HttpFilter::Rbac(Arc::new(HttpRbac::from_message(at, at.decode(any)?)?))
            }
            "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors" => {
                let Cors {} = at.decode(any)?;
                HttpFilter::Cors
            }
            "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz" => {
                HttpFilter::ExtAuthz(Arc::new(ExtAuthz::from_message(at, at.decode(any)?)?))
            }
            FAULT => HttpFilter::Fault(Arc::new(Fault::from_message(at, at.decode(any)?)?)),
            "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication" => {
                HttpFilter::JwtAuthn(Arc::new(JwtAuthn::from_message(at, at.decode(any)?)?))
            }
            "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config" => {
                HttpFilter::Offer(offer::from_message(at, at.decode(any)?)?)
            }
            "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig" => {
                // It only says which counters there would be; nothing here reads them.
                let _: GrpcStats = at.decode(any)?;
                HttpFilter::GrpcStats
            }
            _ => return Ok(None),
        }))
    }
}

impl Router {
    fn from_message(at: &Path<'_>, message: wire::Router) -> Checked<Router> {
        // Statistics are kept as this proxy keeps them, and upstream has a span of its own in any case.
        fields!(at, message => wire::Router { suppress_envoy_headers, respect_expected_rq_timeout }
            refuse { upstream_log, upstream_log_options, strict_check_headers, upstream_http_filters,
                reject_connect_request_early_data }
            ignore { dynamic_stats, start_child_span, suppress_grpc_request_failure_code_stats });
        Ok(Router { suppress_envoy_headers, respect_expected_timeout: respect_expected_rq_timeout })
    }
}
