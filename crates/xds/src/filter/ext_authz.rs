//! Policies about which another service decides.
//!
//! Two filters stand for each such service: one finds out whether a rule matches a request, and refuses nothing; the
//! other asks about those that one does match. Where nobody can be asked, what the rules match is refused.

use std::collections::BTreeMap;

use api::istio::{Action, CheckedBody, Duration, ExtensionProvider, GrpcAuthorizer, Hostname, HttpAuthorizer};
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue, HttpUri, http_uri::HttpUpstreamType};
use envoy::envoy::config::rbac::v3::rbac::Action as Effect;
use envoy::envoy::config::rbac::v3::{self as proto, Policy};
use envoy::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher};
use envoy::envoy::r#type::v3::HttpStatus;

use super::rbac::{self, Layer};
use crate::mesh::Mesh;
use crate::policy::Authorization;
use crate::{Code, OutboundClass, Resources, provider, wire};

/// The name of the filter.
const FILTER: &str = "envoy.filters.http.ext_authz";
/// How long an answer may take unless the provider says so, as in Istio.
const TIMEOUT: Duration = Duration(std::time::Duration::from_secs(600));
/// The status of refusals for want of an answer, as in Envoy.
const FORBIDDEN: i32 = 403;

/// Who asks.
pub(super) struct Asking<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) class: &'a OutboundClass,
}

impl Asking<'_> {
    /// The filters for those of a workload's policies about which others decide.
    pub(super) fn filters<'p>(
        &self,
        policies: impl Iterator<Item = &'p Authorization>,
        resources: &mut Resources,
    ) -> Vec<HttpFilter> {
        let mut by_provider = BTreeMap::<&str, Vec<&Authorization>>::new();
        for policy in policies.filter(|policy| policy.action == Action::Custom && !policy.dry_run) {
            by_provider.entry(policy.provider.as_str()).or_default().push(policy);
        }
        let mut filters = Vec::new();
        for (provider, policies) in by_provider {
            let id = |id: &String| format!("istio-ext-authz-{provider}-{id}");
            let rules = policies.iter().flat_map(|policy| &policy.of(Layer::Requests).policies);
            let rules: BTreeMap<String, Policy> = rules.map(|(name, policy)| (id(name), policy.clone())).collect();
            if rules.is_empty() {
                continue;
            }
            let matched = proto::Rbac { action: Effect::Deny.into(), policies: rules, ..proto::Rbac::default() };
            match self.ask(provider) {
                Ok(ask) => {
                    let prefix = format!("istio_ext_authz_{provider}_");
                    filters.push(rbac::http_filter(None, Some(matched), prefix.clone()));
                    filters.push(filter(provider, &prefix, ask));
                }
                Err(reason) => {
                    let message = format!("{reason}: what the rules match is refused");
                    let found = policies.iter();
                    let found = found.map(|p| p.object.error("spec.provider.name", Code::ReferenceNotFound, &*message));
                    resources.diagnostics.extend(found);
                    filters.push(rbac::http_filter(Some(matched), None, String::new()));
                }
            }
        }
        filters
    }

    /// How a provider is asked.
    fn ask(&self, name: &str) -> Result<ExtAuthz, String> {
        let all = &self.mesh.config.extension_providers;
        let known = all.iter().find(|provider| provider.name == name);
        match known {
            None => Err(format!("the mesh has no extension provider {name:?}")),
            Some(ExtensionProvider { envoy_ext_authz_http: Some(asked), .. }) => self.by_http(asked),
            Some(ExtensionProvider { envoy_ext_authz_grpc: Some(asked), .. }) => self.by_grpc(asked),
            Some(_) => Err(format!("the extension provider {name:?} decides nothing")),
        }
    }

    fn by_http(&self, asked: &HttpAuthorizer) -> Result<ExtAuthz, String> {
        let HttpAuthorizer { service, port, timeout, path_prefix, fail_open, status_on_error, .. } = asked;
        let HttpAuthorizer { include_request_body_in_check, clear_route_cache, .. } = asked;
        let cluster = provider::cluster(self.mesh, self.class, service, *port)?;
        if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
            return Err(format!("the path prefix {path_prefix:?} does not begin with /"));
        }
        let server = HttpUri {
            uri: format!("http://{}:{port}", provider::host(service)),
            timeout: Some(wire::duration(timeout.unwrap_or(TIMEOUT))),
            http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
        };
        let service = HttpService {
            server_uri: Some(server),
            path_prefix: path_prefix.clone(),
            authorization_request: Some(question(asked)),
            authorization_response: Some(answer(asked)),
            ..HttpService::default()
        };
        Ok(ExtAuthz {
            allowed_headers: sent(asked),
            failure_mode_allow: *fail_open,
            status_on_error: Some(status(status_on_error)?),
            with_request_body: include_request_body_in_check.map(body).transpose()?,
            clear_route_cache: *clear_route_cache,
            services: Some(Services::HttpService(service)),
            ..ExtAuthz::default()
        })
    }

    fn by_grpc(&self, asked: &GrpcAuthorizer) -> Result<ExtAuthz, String> {
        let GrpcAuthorizer { service, port, timeout, fail_open, status_on_error, .. } = asked;
        let GrpcAuthorizer { include_request_body_in_check, clear_route_cache, .. } = asked;
        let cluster_name = provider::cluster(self.mesh, self.class, service, *port)?;
        let authority = provider::host(service).to_owned();
        let target = TargetSpecifier::EnvoyGrpc(EnvoyGrpc { cluster_name, authority, ..EnvoyGrpc::default() });
        let service = GrpcService {
            target_specifier: Some(target),
            timeout: Some(wire::duration(timeout.unwrap_or(TIMEOUT))),
            ..GrpcService::default()
        };
        Ok(ExtAuthz {
            failure_mode_allow: *fail_open,
            status_on_error: Some(status(status_on_error)?),
            with_request_body: include_request_body_in_check.map(body).transpose()?,
            clear_route_cache: *clear_route_cache,
            services: Some(Services::GrpcService(service)),
            ..ExtAuthz::default()
        })
    }
}

/// The service that decides about what a policy matches, if one does.
pub(super) fn host(mesh: &Mesh, policy: &Authorization) -> Option<Hostname> {
    let all = &mesh.config.extension_providers;
    let known = all.iter().find(|p| policy.action == Action::Custom && p.name == policy.provider)?;
    let http = known.envoy_ext_authz_http.as_ref().map(|asked| &asked.service);
    let asked = http.or(known.envoy_ext_authz_grpc.as_ref().map(|asked| &asked.service))?;
    Some(Hostname::new(provider::host(asked)))
}

/// Asks about what a filter before has found to match.
fn filter(provider: &str, prefix: &str, ask: ExtAuthz) -> HttpFilter {
    let matched = wire::matcher(MatchPattern::Prefix(format!("istio-ext-authz-{provider}-")));
    let path = format!("{prefix}{}", rbac::SHADOW_POLICY);
    let enabled = rbac::metadata::at(rbac::HTTP_FILTER, [path.as_str()], rbac::metadata::single(matched));
    let ask = ExtAuthz { transport_api_version: ApiVersion::V3.into(), filter_enabled_metadata: Some(enabled), ..ask };
    super::http_filter(FILTER, wire::any("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", &ask))
}

/// The headers that a question has of the request, beside those that it has always.
fn sent(asked: &HttpAuthorizer) -> Option<ListStringMatcher> {
    let named = &asked.include_request_headers_in_check;
    names(if named.is_empty() { &asked.include_headers_in_check } else { named })
}

fn question(asked: &HttpAuthorizer) -> AuthorizationRequest {
    let header = |(key, value): (&String, &String)| HeaderValue {
        key: key.clone(),
        value: value.clone(),
        ..HeaderValue::default()
    };
    AuthorizationRequest {
        headers_to_add: asked.include_additional_headers_in_check.iter().map(header).collect(),
        ..AuthorizationRequest::default()
    }
}

fn answer(asked: &HttpAuthorizer) -> AuthorizationResponse {
    AuthorizationResponse {
        allowed_upstream_headers: names(&asked.headers_to_upstream_on_allow),
        allowed_client_headers: names(&asked.headers_to_downstream_on_deny),
        allowed_client_headers_on_success: names(&asked.headers_to_downstream_on_allow),
        ..AuthorizationResponse::default()
    }
}

/// Names of headers, which have no case; none are given if there are none.
fn names(patterns: &[String]) -> Option<ListStringMatcher> {
    let name = |pattern: &String| StringMatcher { ignore_case: true, ..rbac::value::text(pattern, "") };
    // Envoy does not take the same letters for a regular expression in either case, which `*` needs not.
    let name = |pattern: &String| if pattern == "*" { wire::regex(".+") } else { name(pattern) };
    let patterns: Vec<StringMatcher> = patterns.iter().filter(|p| !p.is_empty()).map(name).collect();
    (!patterns.is_empty()).then_some(ListStringMatcher { patterns })
}

fn status(text: &str) -> Result<HttpStatus, String> {
    let code = if text.is_empty() { Ok(FORBIDDEN) } else { text.parse::<i32>() };
    match code {
        Ok(code @ 200..=599) => Ok(HttpStatus { code }),
        _ => Err(format!("the status on error {text:?} is none of HTTP")),
    }
}

fn body(checked: CheckedBody) -> Result<BufferSettings, String> {
    let CheckedBody { max_request_bytes, allow_partial_message, pack_as_bytes } = checked;
    if max_request_bytes == 0 {
        return Err("a body of no bytes cannot be sent along".to_owned());
    }
    Ok(BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes })
}
