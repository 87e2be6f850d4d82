//! Virtual hosts: which authorities, and their routes.

use std::sync::Arc;

use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use http::request::Parts;

use super::filter::Overrides;
use super::header::HeaderMutations;
use super::mirror::Mirror;
use super::retry::RetryPolicy;
use super::route::Route;
use super::route_index::RouteIndex;
use crate::config::field::{Checked, Path, fields};
use crate::config::metadata::Metadata;
use crate::routing::{self, Request};

/// A virtual host.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// Its name.
    pub name: Arc<str>,
    /// The authorities that it takes.
    pub domains: Box<[Domain]>,
    /// Its routes; the first that matches takes a request.
    pub routes: Box<[Arc<Route>]>,
    /// Which requests must have come over TLS, or else are redirected.
    pub require_tls: RequireTls,
    /// What changes in requests.
    pub request_headers: HeaderMutations,
    /// What changes in responses.
    pub response_headers: HeaderMutations,
    /// What filters do otherwise.
    pub overrides: Overrides,
    /// When requests are sent again whose route does not say.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Where copies go of requests whose route does not say.
    pub mirrors: Box<[Mirror]>,
    /// Whether upstream is told in `x-envoy-attempt-count` how often it was tried.
    pub attempt_count_in_request: bool,
    /// Whether downstream is told in `x-envoy-attempt-count` how often it was tried.
    pub attempt_count_in_response: bool,
    /// Whether an attempt that follows a timeout says so in `x-envoy-is-timeout-retry`.
    pub timeout_retry_header: bool,
    /// Opaque facts.
    pub metadata: Metadata,
    /// Finds the routes that may take a path.
    index: RouteIndex,
}

/// An authority, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Domain {
    /// This.
    Exact(Box<str>),
    /// Every longer one that ends in this: `.example.com` for `*.example.com`.
    Suffix(Box<str>),
    /// Every longer one that begins with this: `example.` for `example.*`.
    Prefix(Box<str>),
    /// Every one.
    Any,
}

/// Which requests must have come over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireTls {
    /// None.
    None,
    /// Those from outside.
    External,
    /// All.
    All,
}

impl VirtualHost {
    /// The route that takes a request: the first of all that match.
    pub fn route(&self, request: &Request<'_>) -> Option<&Arc<Route>> {
        let candidates = self.index.candidates(routing::path(request.parts));
        candidates.filter_map(|position| self.routes.get(position)).find(|route| route.matches.holds(request))
    }

    /// Whether a request must come again over TLS.
    pub fn demands_tls(&self, parts: &Parts) -> bool {
        let internal = || parts.headers.get("x-envoy-internal").is_some_and(|value| value.as_bytes() == b"true");
        match self.require_tls {
            RequireTls::None => false,
            RequireTls::External => routing::forwarded_proto(parts) != "https" && !internal(),
            RequireTls::All => routing::forwarded_proto(parts) != "https",
        }
    }

    /// `body_limit` is the largest body of a direct response, in bytes.
    pub(super) fn from_message(at: &Path<'_>, message: v3::VirtualHost, body_limit: usize) -> Checked<VirtualHost> {
        fields!(at, message => v3::VirtualHost { name, domains, routes, require_tls, request_headers_to_add,
                request_headers_to_remove, response_headers_to_add, response_headers_to_remove,
                typed_per_filter_config, include_request_attempt_count, include_attempt_count_in_response,
                retry_policy, include_is_timeout_retry_header, request_mirror_policies, metadata }
            refuse { matcher, virtual_clusters, rate_limits, cors, retry_policy_typed_config, hedge_policy,
                per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers });
        let (domains_at, routes_at) = (at.field("domains"), at.field("routes"));
        if domains.is_empty() {
            return Err(domains_at.reject("must not be empty"));
        }
        let domains = domains.iter().enumerate().map(|(i, domain)| Domain::parse(&domains_at.index(i), domain));
        let routes = routes.into_iter().enumerate();
        let routes = routes.map(|(i, r)| Route::from_message(&routes_at.index(i), r, body_limit).map(Arc::new));
        let retry = retry_policy.map(|r| RetryPolicy::from_message(&at.field("retry_policy"), r).map(Arc::new));
        let routes: Box<[Arc<Route>]> = routes.collect::<Checked<_>>()?;
        Ok(VirtualHost {
            index: RouteIndex::new(&routes),
            name: at.field("name").named(&name)?.into(),
            domains: domains.collect::<Checked<_>>()?,
            routes,
            require_tls: match at.field("require_tls").enumeration(require_tls)? {
                TlsRequirementType::None => RequireTls::None,
                TlsRequirementType::ExternalOnly => RequireTls::External,
                TlsRequirementType::All => RequireTls::All,
            },
            request_headers: HeaderMutations::of_requests(at, request_headers_to_add, request_headers_to_remove)?,
            response_headers: HeaderMutations::of_responses(at, response_headers_to_add, response_headers_to_remove)?,
            overrides: Overrides::from_messages(&at.field("typed_per_filter_config"), typed_per_filter_config)?,
            retry: retry.transpose()?,
            mirrors: Mirror::from_messages(&at.field("request_mirror_policies"), request_mirror_policies)?,
            attempt_count_in_request: include_request_attempt_count,
            attempt_count_in_response: include_attempt_count_in_response,
            timeout_retry_header: include_is_timeout_retry_header,
            metadata: Metadata::from_message(metadata),
        })
    }
}

impl Domain {
    fn parse(at: &Path<'_>, domain: &str) -> Checked<Domain> {
        let domain = at.named(domain)?.to_ascii_lowercase();
        if domain == "*" {
            return Ok(Domain::Any);
        }
        match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), _) if !suffix.contains('*') => Ok(Domain::Suffix(suffix.into())),
            (None, Some(prefix)) if !prefix.contains('*') => Ok(Domain::Prefix(prefix.into())),
            (None, None) if !domain.contains('*') => Ok(Domain::Exact(domain.into())),
            _ => Err(at.reject(format_args!("{domain:?} has a wildcard that is not at its beginning or end"))),
        }
    }
}
