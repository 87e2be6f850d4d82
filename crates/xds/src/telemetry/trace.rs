//! Traces.

use api::istio::telemetry::{CustomTag, Tracing};
use api::istio::{MeshConfig, TraceCollector};
use envoy::envoy::config::core::v3::GrpcService;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::trace::v3::OpenTelemetryConfig;
use envoy::envoy::config::trace::v3::tracing::{Http, http::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use envoy::envoy::r#type::tracing::v3 as tag;
use envoy::envoy::r#type::v3::Percent;

use crate::mesh::Mesh;
use crate::{Code, Diagnostic, ObjectRef, OutboundClass, provider, wire};

/// How many of a hundred calls are traced unless something says otherwise, as in Istio.
const SAMPLED: f64 = 1.0;

/// How calls are traced, by what the entries say, the widest first; `None` if they are not.
pub(super) fn tracing(mesh: &Mesh, class: &OutboundClass, entries: &[&Tracing]) -> Option<hcm::Tracing> {
    let config = &mesh.config;
    let collector = chosen(config, entries)?;
    let cluster = provider::cluster(mesh, class, &collector.service, collector.port).ok()?;
    let authority = provider::host(&collector.service).to_owned();
    let target = EnvoyGrpc { cluster_name: cluster, authority, ..EnvoyGrpc::default() };
    let service = GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)), ..GrpcService::default() };
    let exporter = OpenTelemetryConfig {
        grpc_service: Some(service),
        service_name: class.service.clone(),
        ..OpenTelemetryConfig::default()
    };
    let sampled = entries.iter().rev().find_map(|entry| entry.random_sampling_percentage);
    let sampled = sampled.or_else(|| config.default_config.get("tracing")?.get("sampling")?.as_f64());
    let tags = entries.iter().rev().find(|entry| !entry.custom_tags.is_empty());
    let percent = |value| Some(Percent { value });
    Some(hcm::Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(sampled.unwrap_or(SAMPLED)),
        overall_sampling: percent(100.0),
        custom_tags: tags.iter().flat_map(|entry| &entry.custom_tags).filter_map(|(k, v)| custom_tag(k, v)).collect(),
        provider: Some(Http {
            name: "envoy.tracers.opentelemetry".to_owned(),
            config_type: Some(ConfigType::TypedConfig(wire::any(
                "envoy.config.trace.v3.OpenTelemetryConfig",
                &exporter,
            ))),
        }),
        ..hcm::Tracing::default()
    })
}

/// Who is told of calls, by what the entries say; `None` if nobody is.
pub(super) fn chosen<'m>(config: &'m MeshConfig, entries: &[&Tracing]) -> Option<&'m TraceCollector> {
    let usual = config.default_providers.tracing.first().filter(|_| config.enable_tracing);
    let named = entries.iter().rev().find_map(|entry| entry.providers.first().map(|p| &p.name));
    let disabled = entries.iter().rev().find_map(|entry| entry.disable_span_reporting).unwrap_or_default();
    collector(config, named.or(usual).filter(|_| !disabled)?)
}

fn collector<'m>(mesh: &'m MeshConfig, name: &str) -> Option<&'m TraceCollector> {
    let known = mesh.extension_providers.iter().find(|known| known.name == *name)?;
    known.opentelemetry.as_ref().filter(|collector| collector.http.is_none())
}

fn custom_tag(name: &str, value: &CustomTag) -> Option<tag::CustomTag> {
    use tag::custom_tag::{Environment, Header, Literal, Type};
    let CustomTag { literal, environment, header } = value;
    let kind = match (literal, environment, header) {
        (Some(literal), _, _) => Type::Literal(Literal { value: literal.value.clone() }),
        (_, Some(variable), _) => Type::Environment(Environment {
            name: variable.name.clone(),
            default_value: variable.default_value.clone(),
        }),
        (_, _, Some(header)) => {
            Type::RequestHeader(Header { name: header.name.clone(), default_value: header.default_value.clone() })
        }
        (None, None, None) => return None,
    };
    Some(tag::CustomTag { tag: name.to_owned(), r#type: Some(kind) })
}

/// What of an entry has no effect.
pub(super) fn check(object: &ObjectRef, field: &str, entry: &Tracing, mesh: &MeshConfig) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, named) in entry.providers.iter().enumerate() {
        let field = format!("{field}.providers[{i}].name");
        if i > 0 {
            let message = "has no effect: traces go to the first provider";
            found.push(object.warning(field, Code::NotSupported, message));
        } else if collector(mesh, &named.name).is_none() {
            let message =
                format!("{:?} is no extension provider for OpenTelemetry over gRPC, so nothing is traced", named.name);
            found.push(object.error(field, Code::ReferenceNotFound, message));
        }
    }
    if entry.enable_istio_tags.is_some() {
        let message = "has no effect: spans have Envoy's tags";
        found.push(object.info(format!("{field}.enableIstioTags"), Code::NotSupported, message));
    }
    found
}
