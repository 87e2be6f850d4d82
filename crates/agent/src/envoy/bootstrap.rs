//! What a real Envoy is started with: where its control plane and its secrets are, and how it is asked for its health.

use std::path::Path;

use serde_json::{Value, json};

use crate::secret_table::{OWN, ROOTS};
use crate::settings::Settings;
use crate::{ADMIN_PORT, METRICS_PORT, STATUS_PORT};

/// The clusters' names, which the control plane's resources refer to.
const SDS: &str = "sds-grpc";
const XDS: &str = "xds-grpc";
const ADMIN: &str = "prometheus_stats";

/// How large a regular expression may be, in instructions of RE2; Istio's. Envoy's own limit is 100.
const LARGEST_EXPRESSION: u32 = 32768;

/// The bootstrap, as Istio's agent writes it, for an Envoy that talks to the control plane itself.
pub(crate) fn bootstrap(settings: &Settings, sds_socket: &Path) -> Value {
    let (host, port) = settings.control_plane.rsplit_once(':').unwrap_or((&settings.control_plane, "15012"));
    json!({
        "node": {
            "id": settings.node_id(),
            "cluster": settings.node_cluster(),
            "metadata": settings.metadata,
        },
        "admin": {
            "address": socket("127.0.0.1", ADMIN_PORT),
            "profile_path": "/var/lib/istio/data/envoy.prof",
        },
        "layered_runtime": { "layers": [
            { "name": "global config", "static_layer": { "re2.max_program_size.error_level": LARGEST_EXPRESSION } },
            { "name": "admin", "admin_layer": {} },
        ] },
        "stats_config": { "use_all_default_tags": false },
        "dynamic_resources": {
            // Without its first configuration the proxy is not ready, however long that takes.
            "lds_config": { "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" },
            "cds_config": { "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" },
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{ "envoy_grpc": { "cluster_name": XDS } }],
            },
        },
        "static_resources": {
            "clusters": [
                cluster(ADMIN, "STATIC", socket("127.0.0.1", ADMIN_PORT)),
                secrets_cluster(sds_socket),
                control_plane_cluster(host, port.parse().unwrap_or(15012)),
            ],
            "listeners": [
                listener(METRICS_PORT, "/stats/prometheus", "/stats/prometheus"),
                listener(STATUS_PORT, "/healthz/ready", "/ready"),
            ],
        },
    })
}

fn socket(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn cluster(name: &str, kind: &str, address: Value) -> Value {
    json!({
        "name": name,
        "type": kind,
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
        },
    })
}

fn http2(keepalive: Value) -> Value {
    json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": keepalive },
    } })
}

fn secrets_cluster(socket: &Path) -> Value {
    let mut cluster = cluster(SDS, "STATIC", json!({ "pipe": { "path": socket } }));
    cluster["typed_extension_protocol_options"] = http2(json!({}));
    cluster
}

fn control_plane_cluster(host: &str, port: u16) -> Value {
    let secret = |name: &str| json!({ "name": name, "sds_config": secrets_source() });
    let mut cluster = cluster(XDS, "STRICT_DNS", socket(host, port));
    cluster["dns_lookup_family"] = "V4_ONLY".into();
    cluster["respect_dns_ttl"] = true.into();
    // A connection that is silent may be one to a control plane that is gone.
    cluster["typed_extension_protocol_options"] =
        http2(json!({ "connection_keepalive": { "interval": "10s", "timeout": "10s" } }));
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [secret(OWN)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": host } }],
                    },
                    "validation_context_sds_secret_config": secret(ROOTS),
                },
            },
        },
    });
    cluster
}

fn secrets_source() -> Value {
    json!({
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{ "envoy_grpc": { "cluster_name": SDS } }],
        },
    })
}

/// Answers one path for anybody, with a page of the admin interface.
fn listener(port: u16, path: &str, page: &str) -> Value {
    let route = json!({ "match": { "path": path }, "route": { "cluster": ADMIN, "prefix_rewrite": page } });
    json!({
        "name": format!("static-{port}"),
        "address": socket("0.0.0.0", port),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "agent",
                "codec_type": "AUTO",
                "route_config": {
                    "virtual_hosts": [{ "name": "backend", "domains": ["*"], "routes": [route] }],
                },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
            },
        }] }],
    })
}
