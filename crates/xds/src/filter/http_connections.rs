//! The filter that takes requests off connections.

use api::istio::{ForwardClientCert, GatewayTopology, MeshConfig, Normalization};
use envoy::envoy::config::core::v3::{DataSource, SubstitutionFormatString, data_source, substitution_format_string};
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::config::route::v3::RouteConfiguration;
use envoy::envoy::extensions::filters::common::set_filter_state::v3::FilterStateValue;
use envoy::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{Key, Value};
use envoy::envoy::extensions::filters::http::cors::v3::Cors;
use envoy::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy::envoy::extensions::filters::http::router::v3::Router;
use envoy::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
    UpgradeConfig,
};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::{HttpConnectionManager, HttpFilter, Rds};

use super::{CORS, FAULT, ROUTER, http_filter};
use crate::{access_log, wire};

/// What a server of the mesh calls itself.
const SERVER: &str = "istio-envoy";
/// Where a filter leaves the application protocols that connections to an endpoint offer.
const OFFERED: &str = "envoy.network.application_protocols";

/// Requests of the workload, by the routes of a table.
pub(crate) fn outbound(mesh: &MeshConfig, stat_prefix: &str, table: &str, offered: Option<&str>) -> Filter {
    let routes = RouteSpecifier::Rds(Rds { config_source: Some(wire::ads()), route_config_name: table.to_owned() });
    let mut filters: Vec<HttpFilter> = offered.map(offering).into_iter().collect();
    filters.push(fault());
    filters.push(cors());
    filter(&HttpConnectionManager { http_filters: ending(filters), ..manager(mesh, stat_prefix, routes) })
}

/// Requests to the workload.
pub(crate) fn inbound(
    mesh: &MeshConfig,
    stat_prefix: &str,
    routes: RouteConfiguration,
    filters: Vec<HttpFilter>,
) -> Filter {
    filter(&HttpConnectionManager {
        http_filters: ending(filters),
        server_name: SERVER.to_owned(),
        // Who has called is told to the workload, after whom others say that they were called by.
        forward_client_cert_details: ForwardClientCertDetails::AppendForward.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            subject: Some(true),
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        ..manager(mesh, stat_prefix, RouteSpecifier::RouteConfig(routes))
    })
}

/// Requests through a gateway, by the routes of a table. What a client says of itself is not believed.
pub(crate) fn at_gateway(
    mesh: &MeshConfig,
    stat_prefix: &str,
    table: &str,
    topology: &GatewayTopology,
    mut filters: Vec<HttpFilter>,
) -> Filter {
    let routes = RouteSpecifier::Rds(Rds { config_source: Some(wire::ads()), route_config_name: table.to_owned() });
    let forward = match topology.forward_client_cert_details {
        ForwardClientCert::Undefined | ForwardClientCert::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        ForwardClientCert::Sanitize => ForwardClientCertDetails::Sanitize,
        ForwardClientCert::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        ForwardClientCert::AppendForward => ForwardClientCertDetails::AppendForward,
        ForwardClientCert::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    };
    let told = matches!(forward, ForwardClientCertDetails::SanitizeSet | ForwardClientCertDetails::AppendForward);
    filters.push(fault());
    filters.push(cors());
    filter(&HttpConnectionManager {
        http_filters: ending(filters),
        server_name: SERVER.to_owned(),
        use_remote_address: Some(true),
        xff_num_trusted_hops: topology.num_trusted_proxies,
        forward_client_cert_details: forward.into(),
        set_current_client_cert_details: told.then(|| SetCurrentClientCertDetails {
            subject: Some(true),
            cert: true,
            dns: true,
            uri: true,
            ..SetCurrentClientCertDetails::default()
        }),
        ..manager(mesh, stat_prefix, routes)
    })
}

/// What all directions have in common.
fn manager(mesh: &MeshConfig, stat_prefix: &str, routes: RouteSpecifier) -> HttpConnectionManager {
    let normalization = mesh.path_normalization.normalization;
    let escaped = match normalization {
        Normalization::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => PathWithEscapedSlashesAction::KeepUnchanged,
    };
    HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(routes),
        access_log: access_log::connections(mesh),
        use_remote_address: Some(false),
        normalize_path: Some(normalization != Normalization::None),
        merge_slashes: normalization >= Normalization::MergeSlashes,
        path_with_escaped_slashes_action: escaped.into(),
        // Requests may be silent for as long as they like, as in Istio.
        stream_idle_timeout: Some(prost_types::Duration::default()),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..UpgradeConfig::default() }],
        ..HttpConnectionManager::default()
    }
}

fn filter(connections: &HttpConnectionManager) -> Filter {
    const TYPE: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    super::filter("envoy.filters.network.http_connection_manager", wire::any(TYPE, connections))
}

fn ending(mut filters: Vec<HttpFilter>) -> Vec<HttpFilter> {
    let router = wire::any("envoy.extensions.filters.http.router.v3.Router", &Router::default());
    filters.push(http_filter(ROUTER, router));
    filters
}

fn fault() -> HttpFilter {
    http_filter(FAULT, wire::any("envoy.extensions.filters.http.fault.v3.HTTPFault", &HttpFault::default()))
}

fn cors() -> HttpFilter {
    http_filter(CORS, wire::any("envoy.extensions.filters.http.cors.v3.Cors", &Cors {}))
}

/// Lets connections to endpoints offer these application protocols: by them a proxy of the mesh tells requests from
/// mere bytes where it is not said what is spoken. A proxy that does not know the filter goes without, and is taken to
/// carry bytes.
fn offering(protocols: &str) -> HttpFilter {
    let text = DataSource {
        specifier: Some(data_source::Specifier::InlineString(protocols.to_owned())),
        ..DataSource::default()
    };
    let value = SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(text)),
        ..SubstitutionFormatString::default()
    };
    let state = FilterStateValue {
        key: Some(Key::ObjectKey(OFFERED.to_owned())),
        value: Some(Value::FormatString(value)),
        ..FilterStateValue::default()
    };
    let config = SetFilterState { on_request_headers: vec![state], ..SetFilterState::default() };
    let config = wire::any("envoy.extensions.filters.http.set_filter_state.v3.Config", &config);
    HttpFilter { is_optional: true, ..http_filter(super::SET_FILTER_STATE, config) }
}
