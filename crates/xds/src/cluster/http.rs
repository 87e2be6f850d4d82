//! How requests are sent to a service.

use std::collections::BTreeMap;

use api::istio::{
    ClientTls, ClientTlsMode, ConnectionPool, H2UpgradePolicy, Http2KeepAlive, HttpPool, MeshConfig, TcpPool,
};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common, KeepaliveSettings,
    UpstreamHttpProtocolOptions,
};
use envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use prost_types::Any;

use crate::mesh::Protocol;
use crate::{tls, wire};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How long the answer to a ping may take if nothing is said.
const PONG: std::time::Duration = std::time::Duration::from_secs(20);

/// The version of HTTP that is spoken to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    Http1,
    Http2,
    /// That of the caller.
    Downstream,
}

impl Upstream {
    /// What is spoken to a port, as its service and the rule for it say; `None` where requests are not told apart.
    pub(super) fn of(protocol: Protocol, pool: Option<&HttpPool>, mesh: &MeshConfig) -> Option<Upstream> {
        let upgrade = match pool.map(|p| p.h2_upgrade_policy).unwrap_or_default() {
            H2UpgradePolicy::Default => mesh.h2_upgrade_policy == H2UpgradePolicy::Upgrade,
            H2UpgradePolicy::DoNotUpgrade => false,
            H2UpgradePolicy::Upgrade => true,
        };
        let same = pool.is_some_and(|p| p.use_client_protocol);
        match protocol {
            Protocol::Tcp | Protocol::Tls | Protocol::Udp => None,
            Protocol::Http2 => Some(Upstream::Http2),
            Protocol::Http | Protocol::Unknown if same => Some(Upstream::Downstream),
            Protocol::Http | Protocol::Unknown if upgrade => Some(Upstream::Http2),
            Protocol::Http => Some(Upstream::Http1),
            Protocol::Unknown => Some(Upstream::Downstream),
        }
    }

    /// Its options.
    pub(super) fn options(self, pool: &HttpPool, tcp: Option<&TcpPool>) -> HttpProtocolOptions {
        let life = tcp.and_then(|t| t.max_connection_duration).filter(wire::is_some_time);
        let common = Common {
            idle_timeout: pool.idle_timeout.map(wire::duration),
            max_connection_duration: life.map(wire::duration),
            max_requests_per_connection: Some(pool.max_requests_per_connection).filter(|most| *most > 0),
            ..Common::default()
        };
        let streams = || Http2ProtocolOptions {
            max_concurrent_streams: Some(pool.max_concurrent_streams).filter(|most| *most > 0),
            connection_keepalive: pool.http2_keep_alive.as_ref().and_then(keep_alive),
            ..Http2ProtocolOptions::default()
        };
        let explicit =
            |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
        let spoken = match self {
            Upstream::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
            Upstream::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(streams())),
            Upstream::Downstream => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(streams()),
                ..UseDownstreamHttpConfig::default()
            }),
        };
        HttpProtocolOptions {
            common_http_protocol_options: (common != Common::default()).then_some(common),
            upstream_protocol_options: Some(spoken),
            ..HttpProtocolOptions::default()
        }
    }
}

/// Lets a cluster speak HTTP, within the limits of its rule.
pub(super) fn apply(spoken: Upstream, pool: Option<&ConnectionPool>, tls: Option<&ClientTls>, cluster: &mut Cluster) {
    let none = HttpPool::default();
    let http = pool.and_then(|p| p.http.as_ref()).unwrap_or(&none);
    let mut options = spoken.options(http, pool.and_then(|p| p.tcp.as_ref()));
    options.upstream_http_protocol_options = tls.and_then(named_by_requests);
    cluster.typed_extension_protocol_options = extension(&options);
    for threshold in cluster.circuit_breakers.iter_mut().flat_map(|b| &mut b.thresholds) {
        let limits = [
            (http.http1_max_pending_requests, &mut threshold.max_pending_requests),
            (http.http2_max_requests, &mut threshold.max_requests),
            (http.max_retries, &mut threshold.max_retries),
        ];
        for (most, limit) in limits.into_iter().filter(|(most, _)| *most > 0) {
            *limit = Some(most);
        }
    }
}

/// The options in the form in which a cluster has them.
pub(super) fn extension(options: &HttpProtocolOptions) -> BTreeMap<String, Any> {
    [(OPTIONS.to_owned(), wire::any(OPTIONS, options))].into()
}

/// What is offered to a server of the mesh, by which it tells requests from connections. Where requests are only found
/// out, those who find them offer something else.
pub(super) fn offered(protocol: Protocol, spoken: Option<Upstream>) -> &'static [&'static str] {
    match spoken {
        None => tls::MESH_ALPN,
        Some(_) if protocol == Protocol::Unknown => tls::MESH_ALPN,
        Some(Upstream::Http1) => tls::REQUEST_ALPN,
        Some(Upstream::Http2) => tls::STREAM_ALPN,
        Some(Upstream::Downstream) => tls::EITHER_ALPN,
    }
}

/// A server whose name the rule does not say is called what requests call it, and must be that.
fn named_by_requests(tls: &ClientTls) -> Option<UpstreamHttpProtocolOptions> {
    let originates = matches!(tls.mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
    let verified = tls.subject_alt_names.is_empty() && !tls.insecure_skip_verify;
    (originates && tls.sni.is_empty()).then(|| UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: verified,
        ..UpstreamHttpProtocolOptions::default()
    })
}

fn keep_alive(pings: &Http2KeepAlive) -> Option<KeepaliveSettings> {
    let interval = pings.interval.filter(wire::is_some_time)?;
    let timeout = pings.timeout.filter(wire::is_some_time).unwrap_or(api::istio::Duration(PONG));
    Some(KeepaliveSettings {
        interval: Some(wire::duration(interval)),
        timeout: Some(wire::duration(timeout)),
        ..KeepaliveSettings::default()
    })
}
