//! The HTTP filter that asks somebody else whether a request may go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3 as core;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy::envoy::extensions::filters::http::ext_authz::v3;
use envoy::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy::envoy::extensions::filters::http::ext_authz::v3::ext_authz_per_route::Override;
use envoy::envoy::r#type::matcher::v3::ListStringMatcher;
use http::{HeaderName, HeaderValue, StatusCode};

use super::field::header_name;
use super::header::header_value;
use crate::config::field::{Checked, Path, fields};
use crate::config::fraction::Fraction;
use crate::config::metadata_match::MetadataMatch;
use crate::config::string_match::StringMatch;

/// How long an answer over gRPC may take if the filter does not say (Envoy 1.40).
const GRPC_TIMEOUT: Duration = Duration::from_millis(200);

/// The filter.
#[derive(Debug, Clone)]
pub struct ExtAuthz {
    /// Who is asked.
    pub service: AuthzService,
    /// Whether requests go on when there is no answer.
    pub failure_mode_allow: bool,
    /// Whether upstream is told so.
    pub failure_mode_header: bool,
    /// How much of the body is told; `None` is nothing.
    pub body: Option<BodyLimit>,
    /// The status of requests for which there is no answer.
    pub status_on_error: StatusCode,
    /// What is told of what earlier filters have learnt, by filter.
    pub metadata_namespaces: Box<[Box<str>]>,
    /// How many requests are asked for.
    pub enabled: Fraction,
    /// What earlier filters must have learnt of requests that are asked for.
    pub enabled_metadata: Option<MetadataMatch>,
    /// Whether all others are refused.
    pub deny_at_disable: bool,
    /// The headers that are told; nothing is all of them over gRPC, and few over HTTP.
    pub allowed_headers: Option<Box<[StringMatch]>>,
    /// The headers of those that are not.
    pub disallowed_headers: Box<[StringMatch]>,
    /// Whether the route is chosen again with the headers that were changed.
    pub clear_route_cache: bool,
    /// Goes before the names of its statistics; may be empty.
    pub stat_prefix: Arc<str>,
}

/// Who is asked.
#[derive(Debug, Clone)]
pub enum AuthzService {
    /// Somebody who speaks HTTP.
    Http(HttpAuthz),
    /// Somebody who speaks gRPC.
    Grpc(GrpcAuthz),
}

/// Somebody who is asked over gRPC.
#[derive(Debug, Clone)]
pub struct GrpcAuthz {
    /// Over which cluster.
    pub cluster: Arc<str>,
    /// By which name; the cluster's if there is none.
    pub authority: Option<Box<str>>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Somebody who is asked over HTTP.
#[derive(Debug, Clone)]
pub struct HttpAuthz {
    /// Over which cluster.
    pub cluster: Arc<str>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Goes before the path of the request.
    pub path_prefix: Box<str>,
    /// Headers that are told beside the request's.
    pub headers_to_add: Box<[(HeaderName, HeaderValue)]>,
    /// The headers of an answer that replace those of the request.
    pub upstream_headers: Box<[StringMatch]>,
    /// Those that come beside the request's.
    pub upstream_headers_to_append: Box<[StringMatch]>,
    /// Those of a refusal that the client gets; nothing is all of them.
    pub client_headers: Box<[StringMatch]>,
    /// Those of a permission that the client gets.
    pub client_headers_on_success: Box<[StringMatch]>,
    /// Those that later filters may ask for.
    pub metadata_headers: Box<[StringMatch]>,
}

/// How much of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit {
    /// The most, in bytes.
    pub most: u32,
    /// Whether the beginning of a longer one is enough; otherwise the request is refused.
    pub partial: bool,
    /// Whether it is told as bytes instead of text.
    pub as_bytes: bool,
}

/// What a route changes.
#[derive(Debug, Clone)]
pub enum AuthzOverride {
    /// Nobody is asked.
    Disabled,
    /// More is told.
    Settings {
        /// What.
        context: BTreeMap<String, String>,
        /// Whether the body is not.
        without_body: bool,
    },
}

impl ExtAuthz {
    pub(super) fn from_message(at: &Path<'_>, message: v3::ExtAuthz) -> Checked<ExtAuthz> {
        // The answers are told to the client as they are, and statistics are kept by filter, not by cluster; there is no
        // span of its own for a question.
        fields!(at, message => v3::ExtAuthz { services, transport_api_version, failure_mode_allow,
                failure_mode_allow_header_add, with_request_body, clear_route_cache, status_on_error,
                metadata_context_namespaces, filter_enabled, filter_enabled_metadata, deny_at_disable, stat_prefix,
                allowed_headers, disallowed_headers }
            refuse { typed_metadata_context_namespaces, route_metadata_context_namespaces,
                route_typed_metadata_context_namespaces, include_peer_certificate, include_tls_session,
                bootstrap_metadata_labels_key, encode_raw_headers, decoder_header_mutation_rules, filter_metadata,
                emit_filter_state_stats, shadow_mode, max_denied_response_body_bytes }
            ignore { charge_cluster_response_stats, validate_mutations, enable_dynamic_metadata_ingestion,
                enforce_response_header_limits, emit_client_span });
        let api_at = at.field("transport_api_version");
        if !matches!(api_at.enumeration(transport_api_version)?, core::ApiVersion::V3) {
            return Err(api_at.reject("must be V3"));
        }
        let (service, of_request) = match at.field("services").required(services)? {
            Services::GrpcService(service) => {
                (AuthzService::Grpc(GrpcAuthz::from_message(&at.field("grpc_service"), service)?), None)
            }
            Services::HttpService(service) => {
                let (http, allowed) = HttpAuthz::from_message(&at.field("http_service"), service)?;
                (AuthzService::Http(http), allowed)
            }
        };
        Ok(ExtAuthz {
            service,
            failure_mode_allow,
            failure_mode_header: failure_mode_allow_header_add,
            body: with_request_body.map(|b| BodyLimit::from_message(&at.field("with_request_body"), b)).transpose()?,
            status_on_error: status(&at.field("status_on_error"), status_on_error)?.unwrap_or(StatusCode::FORBIDDEN),
            metadata_namespaces: metadata_context_namespaces.into_iter().map(Box::from).collect(),
            enabled: filter_enabled
                .map(|f| Fraction::from_runtime(&at.field("filter_enabled"), f))
                .transpose()?
                .unwrap_or(Fraction::ALL),
            enabled_metadata: filter_enabled_metadata
                .map(|m| MetadataMatch::from_message(&at.field("filter_enabled_metadata"), m))
                .transpose()?,
            deny_at_disable: deny_at_disable.and_then(|flag| flag.default_value).unwrap_or(false),
            allowed_headers: match allowed_headers {
                Some(list) => Some(texts(&at.field("allowed_headers"), Some(list))?),
                None => of_request,
            },
            disallowed_headers: texts(&at.field("disallowed_headers"), disallowed_headers)?,
            clear_route_cache,
            stat_prefix: stat_prefix.into(),
        })
    }

    /// The cluster of whoever is asked.
    pub fn cluster(&self) -> &Arc<str> {
        match &self.service {
            AuthzService::Http(http) => &http.cluster,
            AuthzService::Grpc(grpc) => &grpc.cluster,
        }
    }
}

impl GrpcAuthz {
    fn from_message(at: &Path<'_>, message: core::GrpcService) -> Checked<GrpcAuthz> {
        fields!(at, message => core::GrpcService { timeout, target_specifier }
            refuse { initial_metadata, retry_policy });
        let timeout = at.field("timeout").duration(timeout)?.unwrap_or(GRPC_TIMEOUT);
        let TargetSpecifier::EnvoyGrpc(target) = at.required(target_specifier)? else {
            return Err(at.field("google_grpc").reject("is not supported"));
        };
        let at = at.field("envoy_grpc");
        fields!(&at, target => EnvoyGrpc { cluster_name, authority }
            refuse { retry_policy, max_receive_message_length, skip_envoy_headers });
        Ok(GrpcAuthz {
            cluster: at.field("cluster_name").named(&cluster_name)?.into(),
            authority: (!authority.is_empty()).then(|| authority.into()),
            timeout,
        })
    }
}

impl HttpAuthz {
    /// The service, and the headers that it is told, if they are said here and not in the filter.
    fn from_message(at: &Path<'_>, message: v3::HttpService) -> Checked<(HttpAuthz, Option<Box<[StringMatch]>>)> {
        fields!(at, message => v3::HttpService { server_uri, path_prefix, authorization_request,
            authorization_response } refuse { path_override, retry_policy });
        let uri_at = at.field("server_uri");
        fields!(&uri_at, uri_at.required(server_uri)? => core::HttpUri { timeout, http_upstream_type }
            ignore { uri });
        let cluster = match http_upstream_type {
            Some(HttpUpstreamType::Cluster(cluster)) => cluster,
            None => String::new(),
        };
        let prefix_at = at.field("path_prefix");
        if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
            return Err(prefix_at.reject("must begin with a slash"));
        }
        let request_at = at.field("authorization_request");
        fields!(&request_at, authorization_request.unwrap_or_default() => v3::AuthorizationRequest {
            allowed_headers, headers_to_add });
        let add_at = request_at.field("headers_to_add");
        let add = headers_to_add.into_iter().enumerate().map(|(i, header)| {
            let at = add_at.index(i);
            fields!(&at, header => core::HeaderValue { key, value } refuse { raw_value });
            Ok((header_name(&at.field("key"), &key)?, header_value(&at.field("value"), &value)?))
        });
        let allowed =
            allowed_headers.map(|list| texts(&request_at.field("allowed_headers"), Some(list))).transpose()?;
        let response_at = at.field("authorization_response");
        fields!(&response_at, authorization_response.unwrap_or_default() => v3::AuthorizationResponse {
            allowed_upstream_headers, allowed_upstream_headers_to_append, allowed_client_headers,
            allowed_client_headers_on_success, dynamic_metadata_from_headers });
        let list = |name: &str, list| texts(&response_at.field(name), list);
        let http = HttpAuthz {
            cluster: uri_at.field("cluster").named(&cluster)?.into(),
            timeout: uri_at.field("timeout").duration(timeout)?.unwrap_or(GRPC_TIMEOUT),
            path_prefix: path_prefix.into(),
            headers_to_add: add.collect::<Checked<_>>()?,
            upstream_headers: list("allowed_upstream_headers", allowed_upstream_headers)?,
            upstream_headers_to_append: list("allowed_upstream_headers_to_append", allowed_upstream_headers_to_append)?,
            client_headers: list("allowed_client_headers", allowed_client_headers)?,
            client_headers_on_success: list("allowed_client_headers_on_success", allowed_client_headers_on_success)?,
            metadata_headers: list("dynamic_metadata_from_headers", dynamic_metadata_from_headers)?,
        };
        Ok((http, allowed))
    }
}

impl BodyLimit {
    fn from_message(at: &Path<'_>, message: v3::BufferSettings) -> Checked<BodyLimit> {
        let v3::BufferSettings { max_request_bytes, allow_partial_message, pack_as_bytes } = message;
        if max_request_bytes == 0 {
            return Err(at.field("max_request_bytes").reject("must be more than zero"));
        }
        Ok(BodyLimit { most: max_request_bytes, partial: allow_partial_message, as_bytes: pack_as_bytes })
    }
}

impl AuthzOverride {
    pub(super) fn from_message(at: &Path<'_>, message: v3::ExtAuthzPerRoute) -> Checked<AuthzOverride> {
        match at.required(message.r#override)? {
            Override::Disabled(true) => Ok(AuthzOverride::Disabled),
            Override::Disabled(false) => Err(at.field("disabled").reject("must be true")),
            Override::CheckSettings(settings) => {
                let at = at.field("check_settings");
                fields!(&at, settings => v3::CheckSettings { context_extensions, disable_request_body_buffering }
                    refuse { with_request_body, service_override } ignore { emit_client_span });
                let without_body = disable_request_body_buffering;
                Ok(AuthzOverride::Settings { context: context_extensions, without_body })
            }
        }
    }
}

fn texts(at: &Path<'_>, message: Option<ListStringMatcher>) -> Checked<Box<[StringMatch]>> {
    let ListStringMatcher { patterns } = message.unwrap_or_default();
    let at = at.field("patterns");
    patterns.into_iter().enumerate().map(|(i, p)| StringMatch::from_message(&at.index(i), p)).collect()
}

fn status(at: &Path<'_>, message: Option<envoy::envoy::r#type::v3::HttpStatus>) -> Checked<Option<StatusCode>> {
    let convert = |code: i32| u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    message.map(|m| convert(m.code).ok_or_else(|| at.field("code").reject("is not a status"))).transpose()
}
