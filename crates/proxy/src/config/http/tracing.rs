//! Which requests are traced, and who is told.

use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::GrpcService;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::trace::v3::OpenTelemetryConfig;
use envoy::envoy::config::trace::v3::tracing::Http;
use envoy::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager;
use envoy::envoy::r#type::tracing::v3 as wire;
use envoy::envoy::r#type::tracing::v3::custom_tag::{self, Type};
use envoy::envoy::r#type::v3::Percent;
use http::HeaderName;

use super::field::header_name;
use crate::config::field::{Checked, Path, fields};

/// The longest path in a span if the configuration does not say, in bytes (Envoy 1.40).
const PATH_LENGTH: u32 = 256;

/// Which requests are traced, and who is told.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// How many requests with `x-client-trace-id` are traced, in percent.
    pub client_sampling: f64,
    /// How many of the others are traced, in percent.
    pub random_sampling: f64,
    /// How many of those chosen are traced in the end, in percent.
    pub overall_sampling: f64,
    /// The longest path in a span, in bytes.
    pub max_path_length: usize,
    /// What spans say beside the usual.
    pub tags: Box<[CustomTag]>,
    /// Where spans go; `None` makes none, and passes on what the request says of its trace.
    pub collector: Option<Collector>,
}

/// Where spans go, by OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// The cluster of the collector.
    pub cluster: Arc<str>,
    /// The authority of calls to it; may be empty, and is the cluster's name then.
    pub authority: Arc<str>,
    /// How long a call may take; `None` is for ever.
    pub timeout: Option<Duration>,
    /// What this proxy is called in spans.
    pub service_name: Arc<str>,
    /// The largest number of spans that wait to be sent.
    pub max_spans: usize,
}

/// Something that every span says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomTag {
    /// Its name.
    pub name: Arc<str>,
    /// Where its value comes from.
    pub source: TagSource,
}

/// Where the value of a tag comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagSource {
    /// It is always this.
    Literal(Arc<str>),
    /// A header of the request, or else a fixed text, if it is not empty.
    Header(HeaderName, Arc<str>),
}

impl Tracing {
    pub(super) fn from_message(at: &Path<'_>, message: http_connection_manager::Tracing) -> Checked<Tracing> {
        fields!(at, message => http_connection_manager::Tracing { client_sampling, random_sampling, overall_sampling,
                max_path_tag_length, custom_tags, provider, spawn_upstream_span }
            refuse { verbose, operation, upstream_operation, no_context_propagation });
        at.field("spawn_upstream_span").off(spawn_upstream_span)?;
        let percent = |value: Option<Percent>| value.map_or(100.0, |p| p.value);
        let tags_at = at.field("custom_tags");
        let tags = custom_tags.into_iter().enumerate();
        Ok(Tracing {
            client_sampling: percent(client_sampling),
            random_sampling: percent(random_sampling),
            overall_sampling: percent(overall_sampling),
            max_path_length: usize::try_from(max_path_tag_length.unwrap_or(PATH_LENGTH)).unwrap_or(usize::MAX),
            tags: tags.map(|(i, t)| CustomTag::from_message(&tags_at.index(i), t)).collect::<Checked<_>>()?,
            collector: provider.map(|p| collector(&at.field("provider"), p)).transpose()?,
        })
    }
}

fn collector(at: &Path<'_>, message: Http) -> Checked<Collector> {
    // The name of a provider is free text.
    let Http { name: _, config_type } = message;
    let at = at.field("typed_config");
    let ConfigType::TypedConfig(any) = at.required(config_type)?;
    if any.type_url != "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig" {
        return Err(at.unknown_type(&any));
    }
    fields!(at, at.decode(&any)? => OpenTelemetryConfig { grpc_service, service_name, max_cache_size }
        refuse { http_service, exporter, resource_detectors, sampler, set_telemetry_sdk_resource_attributes,
            set_service_name_resource_attribute, set_instrumentation_scope });
    let at = at.field("grpc_service");
    fields!(at, at.required(grpc_service)? => GrpcService { timeout, target_specifier }
        refuse { initial_metadata, retry_policy });
    let timeout = at.field("timeout").timeout(timeout, None)?;
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = target_specifier else {
        return Err(at.reject("only envoy_grpc is supported"));
    };
    let at = at.field("envoy_grpc");
    fields!(at, grpc => EnvoyGrpc { cluster_name, authority }
        refuse { retry_policy, max_receive_message_length, skip_envoy_headers });
    Ok(Collector {
        cluster: at.field("cluster_name").named(&cluster_name)?.into(),
        authority: authority.into(),
        timeout,
        service_name: if service_name.is_empty() { "unknown_service:envoy".into() } else { service_name.into() },
        max_spans: max_cache_size.map_or(1024, |n| usize::try_from(n).unwrap_or(usize::MAX)),
    })
}

impl CustomTag {
    fn from_message(at: &Path<'_>, message: wire::CustomTag) -> Checked<CustomTag> {
        let wire::CustomTag { tag, r#type } = message;
        let source = match at.field("type").required(r#type)? {
            Type::Literal(custom_tag::Literal { value }) => TagSource::Literal(value.into()),
            Type::RequestHeader(custom_tag::Header { name, default_value }) => {
                let name_at = at.field("request_header");
                TagSource::Header(header_name(&name_at.field("name"), &name)?, default_value.into())
            }
            Type::Environment(_) => return Err(at.field("environment").reject("is not supported")),
            Type::Metadata(_) => return Err(at.field("metadata").reject("is not supported")),
            Type::Value(_) => return Err(at.field("value").reject("is not supported")),
        };
        Ok(CustomTag { name: at.field("tag").named(&tag)?.into(), source })
    }
}
