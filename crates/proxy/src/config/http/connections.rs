//! The filter that makes requests of a connection.

use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::SchemeHeaderTransformation;
use envoy::envoy::config::core::v3::scheme_header_transformation::Transformation;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, HcmAccessLogOptions, InternalAddressConfig, PathWithEscapedSlashesAction, RouteSpecifier,
    ServerHeaderTransformation, StripPortMode,
};
use envoy::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use http::HeaderValue;
use ipnet::IpNet;

use super::client_certificate::ClientCertificate;
use super::connection_options::ConnectionOptions;
use super::filter::{self, NamedFilter, Router};
use super::header::header_value;
use super::protocol::{Http1Options, Http2Options};
use super::route_table::RouteTable;
use super::tracing::Tracing;
use super::upgrade::Upgrades;
use crate::config::access_log::{self, AccessLog};
use crate::config::address::prefixes;
use crate::config::field::{Checked, Path, fields};
use crate::config::tls;

/// How long a stream may be silent if the filter does not say (Envoy 1.40).
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection may go on after it was told to end, if the filter does not say (Envoy 1.40).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may take to read the last bytes if the filter does not say (Envoy 1.40).
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest head of a request if the filter does not say, in KiB (Envoy 1.40).
const REQUEST_HEAD: u32 = 60;
/// The largest head of a request that may be allowed, in KiB (Envoy 1.40).
const LARGEST_REQUEST_HEAD: u32 = 8192;

/// The HTTP connection manager.
#[derive(Debug, Clone)]
pub struct HttpConnectionManager {
    /// What its statistics are called.
    pub stat_prefix: Arc<str>,
    /// Which version of HTTP is spoken.
    pub codec: Codec,
    /// Where its routes come from.
    pub routes: RouteSource,
    /// Its filters, without the router that ends them.
    pub filters: Box<[NamedFilter]>,
    /// How the router goes about it.
    pub router: Router,
    /// Which requests are traced, and who is told.
    pub tracing: Option<Tracing>,
    /// What HTTP/1 and HTTP/2 connections have in common.
    pub connections: ConnectionOptions,
    /// Options of HTTP/1.
    pub http1: Http1Options,
    /// Options of HTTP/2.
    pub http2: Http2Options,
    /// The header `server` of responses.
    pub server: ServerHeader,
    /// What the scheme of every request becomes.
    pub scheme: Option<http::uri::Scheme>,
    /// The largest head of a request, in bytes.
    pub max_request_head: usize,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Logs, written when a request ends.
    pub access_logs: Box<[AccessLog]>,
    /// Who a request is said to come from.
    pub remote_address: RemoteAddress,
    /// What is added to `via`.
    pub via: Option<HeaderValue>,
    /// What becomes of `x-request-id`.
    pub request_id: RequestId,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_certificate: ClientCertificate,
    /// What requests may change to, beside what their routes say.
    pub upgrades: Upgrades,
    /// What is done to paths before anything reads them.
    pub path: PathNormalization,
    /// What is taken from authorities before anything reads them.
    pub strip_port: StripPort,
    /// Whether the dot at the end of an authority is taken off.
    pub strip_trailing_dot: bool,
    /// Whether `x-forwarded-port` is added.
    pub append_forwarded_port: bool,
}

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// What ALPN says, or else the first bytes.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where routes come from.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// The filter brings them.
    Inline(Arc<RouteTable>),
    /// RDS says, under this name.
    Rds(Arc<str>),
}

/// The header `server` of responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerHeader {
    /// It is always this.
    Overwrite(HeaderValue),
    /// It is this if upstream says nothing.
    AppendIfAbsent(HeaderValue),
    /// It is what upstream says.
    PassThrough,
}

/// How long things may take; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a stream may be silent.
    pub stream_idle: Option<Duration>,
    /// How long a request may take to come, head and body.
    pub request: Option<Duration>,
    /// How long the head of a request may take to come.
    pub request_headers: Option<Duration>,
    /// How long a connection goes on after it was told to end.
    pub drain: Duration,
    /// How long a peer may take to read the last bytes.
    pub delayed_close: Option<Duration>,
}

/// Who a request is said to come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    /// Whether it is the peer; otherwise it is what `x-forwarded-for` says.
    pub use_peer: bool,
    /// How many proxies in front of this one are believed in `x-forwarded-for`.
    pub trusted_hops: u32,
    /// Whether the peer is not added to `x-forwarded-for`.
    pub skip_append: bool,
    /// Whose requests count as internal. None by default, as Envoy 1.40 has it.
    pub internal: Box<[IpNet]>,
}

/// What becomes of `x-request-id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    /// Whether a request without one gets one.
    pub generate: bool,
    /// Whether one that comes from outside is kept.
    pub preserve_external: bool,
    /// Whether responses have it, too.
    pub in_response: bool,
    /// Whether one that was made here says whether the request is traced.
    pub pack_trace_reason: bool,
    /// Whether it decides which requests are traced.
    pub for_sampling: bool,
}

/// What is done to paths before anything reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathNormalization {
    /// Whether they are normalised after RFC 3986.
    pub normalize: bool,
    /// Whether slashes that follow one another become one.
    pub merge_slashes: bool,
    /// What is done about `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// What is done about `%2F` and `%5C` in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Nothing.
    Keep,
    /// The request is answered with 400.
    Reject,
    /// The client is sent to the path with slashes.
    Redirect,
    /// The path has slashes instead.
    Forward,
}

/// What is taken from authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    /// Nothing.
    Keep,
    /// The port, if it is the one of the listener.
    Matching,
    /// The port.
    Any,
}

impl HttpConnectionManager {
    /// The route table that the filter brings, if it brings one.
    pub fn own_routes(&self) -> Option<&Arc<RouteTable>> {
        match &self.routes {
            RouteSource::Inline(table) => Some(table),
            RouteSource::Rds(_) => None,
        }
    }

    pub(in crate::config) fn from_message(
        at: &Path<'_>,
        message: v3::HttpConnectionManager,
    ) -> Checked<HttpConnectionManager> {
        let mut message = message;
        let timeouts = Timeouts::take(at, &mut message)?;
        let remote_address = RemoteAddress::take(at, &mut message)?;
        let request_id = RequestId::take(at, &mut message)?;
        let strip_port = strip_port(at, &message)?;
        let path = PathNormalization::take(at, &mut message)?;
        // HTTP/1.0 without keep-alive ends by itself, so that a limit on the age of a connection is safe in any case;
        // overload of this proxy is not said of, because there are no limits on it.
        fields!(at, message => v3::HttpConnectionManager { codec_type, stat_prefix, http_filters, add_user_agent,
                tracing, common_http_protocol_options, http_protocol_options, http2_protocol_options, server_name,
                server_header_transformation, scheme_header_transformation, max_request_headers_kb, access_log,
                access_log_options, via, forward_client_cert_details, set_current_client_cert_details,
                upgrade_configs, stream_error_on_invalid_http_message, strip_trailing_host_dot,
                append_x_forwarded_port, route_specifier }
            refuse { http3_protocol_options, proxy_100_continue, drain_timeout_jitter, access_log_flush_interval,
                flush_access_log_on_new_request, original_ip_detection_extensions,
                early_header_mutation_extensions, forward_client_cert_matcher,
                represent_ipv4_remote_address_as_ipv4_mapped_ipv6, path_normalization_options, local_reply_config,
                proxy_status_config, typed_header_validation_config, add_proxy_protocol_connection_state,
                forward_proto_config, stream_flush_timeout, request_id_extension, stream_idle_timeout,
                request_timeout, request_headers_timeout, drain_timeout, delayed_close_timeout, use_remote_address,
                xff_num_trusted_hops, internal_address_config, skip_xff_append, generate_request_id,
                preserve_external_request_id, always_set_request_id_in_response, normalize_path, merge_slashes,
                path_with_escaped_slashes_action }
            ignore { http1_safe_max_connection_duration, append_local_overload, strip_matching_host_port,
                strip_port_mode });
        at.field("add_user_agent").off(add_user_agent)?;
        at.field("stream_error_on_invalid_http_message").off(stream_error_on_invalid_http_message)?;
        access_log_options.map_or(Ok(()), |o| no_early_logs(&at.field("access_log_options"), o))?;
        let codec = match at.field("codec_type").enumeration(codec_type)? {
            CodecType::Auto => Codec::Auto,
            CodecType::Http1 => Codec::Http1,
            CodecType::Http2 => Codec::Http2,
            CodecType::Http3 => return Err(at.field("codec_type").reject("HTTP3 is not supported")),
        };
        let (filters, router) = filter::from_messages(&at.field("http_filters"), http_filters)?;
        let common_at = at.field("common_http_protocol_options");
        let http1_at = at.field("http_protocol_options");
        let http2_at = at.field("http2_protocol_options");
        Ok(HttpConnectionManager {
            stat_prefix: at.field("stat_prefix").named(&stat_prefix)?.into(),
            codec,
            routes: RouteSource::from_message(at, at.field("route_specifier").required(route_specifier)?)?,
            filters,
            router,
            tracing: tracing.map(|t| Tracing::from_message(&at.field("tracing"), t)).transpose()?,
            connections: ConnectionOptions::from_message(&common_at, common_http_protocol_options)?,
            http1: Http1Options::from_message(&http1_at, http_protocol_options)?,
            http2: Http2Options::from_message(&http2_at, http2_protocol_options)?,
            server: ServerHeader::from_message(at, &server_name, server_header_transformation)?,
            scheme: scheme_header_transformation
                .map(|s| scheme(&at.field("scheme_header_transformation"), s))
                .transpose()?
                .flatten(),
            max_request_head: request_head(&at.field("max_request_headers_kb"), max_request_headers_kb)?,
            timeouts,
            access_logs: access_log::from_messages(&at.field("access_log"), access_log)?,
            remote_address,
            via: if via.is_empty() { None } else { Some(header_value(&at.field("via"), &via)?) },
            request_id,
            client_certificate: ClientCertificate::from_messages(
                at,
                forward_client_cert_details,
                set_current_client_cert_details,
            )?,
            upgrades: Upgrades::of_connections(&at.field("upgrade_configs"), upgrade_configs)?,
            path,
            strip_port,
            strip_trailing_dot: strip_trailing_host_dot,
            append_forwarded_port: append_x_forwarded_port,
        })
    }
}

impl RouteSource {
    /// The name by which RDS has them.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            RouteSource::Inline(_) => None,
            RouteSource::Rds(name) => Some(name),
        }
    }

    fn from_message(at: &Path<'_>, message: RouteSpecifier) -> Checked<RouteSource> {
        match message {
            RouteSpecifier::RouteConfig(table) => {
                let table = RouteTable::from_message(&at.field("route_config"), table)?;
                Ok(RouteSource::Inline(Arc::new(table)))
            }
            RouteSpecifier::Rds(v3::Rds { config_source, route_config_name }) => {
                let at = at.field("rds");
                let source_at = at.field("config_source");
                tls::ads(&source_at, source_at.required(config_source)?)?;
                Ok(RouteSource::Rds(at.field("route_config_name").named(&route_config_name)?.into()))
            }
            RouteSpecifier::ScopedRoutes(_) => Err(at.field("scoped_routes").reject("is not supported")),
        }
    }
}

impl ServerHeader {
    fn from_message(at: &Path<'_>, name: &str, transformation: i32) -> Checked<ServerHeader> {
        let name = header_value(&at.field("server_name"), if name.is_empty() { "envoy" } else { name })?;
        Ok(match at.field("server_header_transformation").enumeration(transformation)? {
            ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite(name),
            ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent(name),
            ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        })
    }
}

impl Timeouts {
    /// Takes every field that is a time.
    fn take(at: &Path<'_>, message: &mut v3::HttpConnectionManager) -> Checked<Timeouts> {
        let timeout = |name: &str, value, default| at.field(name).timeout(value, default);
        Ok(Timeouts {
            stream_idle: timeout("stream_idle_timeout", message.stream_idle_timeout.take(), Some(STREAM_IDLE_TIMEOUT))?,
            request: timeout("request_timeout", message.request_timeout.take(), None)?,
            request_headers: timeout("request_headers_timeout", message.request_headers_timeout.take(), None)?,
            drain: at.field("drain_timeout").duration(message.drain_timeout.take())?.unwrap_or(DRAIN_TIMEOUT),
            delayed_close: timeout(
                "delayed_close_timeout",
                message.delayed_close_timeout.take(),
                Some(DELAYED_CLOSE_TIMEOUT),
            )?,
        })
    }
}

impl RemoteAddress {
    /// Takes every field that says who a request comes from.
    fn take(at: &Path<'_>, message: &mut v3::HttpConnectionManager) -> Checked<RemoteAddress> {
        let at = at.field("internal_address_config");
        // There are no listeners on Unix sockets.
        fields!(at, message.internal_address_config.take().unwrap_or_default() =>
            InternalAddressConfig { cidr_ranges } ignore { unix_sockets });
        Ok(RemoteAddress {
            use_peer: message.use_remote_address.take().unwrap_or(false),
            trusted_hops: std::mem::take(&mut message.xff_num_trusted_hops),
            skip_append: std::mem::take(&mut message.skip_xff_append),
            internal: prefixes(&at.field("cidr_ranges"), cidr_ranges)?,
        })
    }
}

impl RequestId {
    /// Takes every field that is about `x-request-id`.
    fn take(at: &Path<'_>, message: &mut v3::HttpConnectionManager) -> Checked<RequestId> {
        let at = at.field("request_id_extension");
        let at = at.field("typed_config");
        let uuid = match message.request_id_extension.take().map(|e| at.required(e.typed_config)).transpose()? {
            None => UuidRequestIdConfig::default(),
            Some(any) => match any.type_url.as_str() {
                "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" => at.decode(&any)?,
                _ => return Err(at.unknown_type(&any)),
            },
        };
        let UuidRequestIdConfig { pack_trace_reason, use_request_id_for_trace_sampling } = uuid;
        Ok(RequestId {
            generate: message.generate_request_id.take().unwrap_or(true),
            preserve_external: std::mem::take(&mut message.preserve_external_request_id),
            in_response: std::mem::take(&mut message.always_set_request_id_in_response),
            pack_trace_reason: pack_trace_reason.unwrap_or(true),
            for_sampling: use_request_id_for_trace_sampling.unwrap_or(true),
        })
    }
}

impl PathNormalization {
    /// Takes every field that is about paths.
    fn take(at: &Path<'_>, message: &mut v3::HttpConnectionManager) -> Checked<PathNormalization> {
        let action = std::mem::take(&mut message.path_with_escaped_slashes_action);
        Ok(PathNormalization {
            normalize: message.normalize_path.take().unwrap_or(false),
            merge_slashes: std::mem::take(&mut message.merge_slashes),
            escaped_slashes: match at.field("path_with_escaped_slashes_action").enumeration(action)? {
                PathWithEscapedSlashesAction::ImplementationSpecificDefault
                | PathWithEscapedSlashesAction::KeepUnchanged => EscapedSlashes::Keep,
                PathWithEscapedSlashesAction::RejectRequest => EscapedSlashes::Reject,
                PathWithEscapedSlashesAction::UnescapeAndRedirect => EscapedSlashes::Redirect,
                PathWithEscapedSlashesAction::UnescapeAndForward => EscapedSlashes::Forward,
            },
        })
    }
}

fn strip_port(at: &Path<'_>, message: &v3::HttpConnectionManager) -> Checked<StripPort> {
    match (message.strip_matching_host_port, &message.strip_port_mode) {
        (true, Some(StripPortMode::StripAnyHostPort(true))) => {
            Err(at.field("strip_any_host_port").reject("does not go together with strip_matching_host_port"))
        }
        (true, _) => Ok(StripPort::Matching),
        (false, Some(StripPortMode::StripAnyHostPort(true))) => Ok(StripPort::Any),
        (false, Some(StripPortMode::StripAnyHostPort(false)) | None) => Ok(StripPort::Keep),
    }
}

fn scheme(at: &Path<'_>, message: SchemeHeaderTransformation) -> Checked<Option<http::uri::Scheme>> {
    fields!(at, message => SchemeHeaderTransformation { transformation } refuse { match_upstream });
    let at = at.field("scheme_to_overwrite");
    match transformation {
        None => Ok(None),
        Some(Transformation::SchemeToOverwrite(scheme)) => match scheme.as_str() {
            "http" => Ok(Some(http::uri::Scheme::HTTP)),
            "https" => Ok(Some(http::uri::Scheme::HTTPS)),
            other => Err(at.reject(format_args!("{other:?} is neither http nor https"))),
        },
    }
}

fn request_head(at: &Path<'_>, kib: Option<u32>) -> Checked<usize> {
    let kib = kib.unwrap_or(REQUEST_HEAD);
    if !(1..=LARGEST_REQUEST_HEAD).contains(&kib) {
        return Err(at.reject(format_args!("must be from 1 to {LARGEST_REQUEST_HEAD}")));
    }
    Ok(usize::try_from(kib).unwrap_or(usize::MAX).saturating_mul(1024))
}

/// Lines are written when a request ends, and at no other time.
fn no_early_logs(at: &Path<'_>, message: HcmAccessLogOptions) -> Checked<()> {
    fields!(at, message => HcmAccessLogOptions {} refuse { access_log_flush_interval,
        flush_access_log_on_new_request, flush_log_on_tunnel_successfully_established });
    Ok(())
}
