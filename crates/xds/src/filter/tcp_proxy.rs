//! The filter that carries bytes to a cluster.

use api::istio::{MeshConfig, TcpPool};
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{ClusterSpecifier, WeightedCluster};

use crate::{ObjectRef, access_log, wire};

/// Where a connection goes: clusters with their weights, of which none is zero.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) stat_prefix: String,
    pub(crate) clusters: Vec<(String, u32)>,
    /// How long connections may be silent, and live.
    pub(crate) pool: Option<TcpPool>,
    /// The VirtualService that leads them there, if one does.
    pub(crate) by: Option<ObjectRef>,
}

impl Target {
    pub(crate) fn cluster(name: impl Into<String>) -> Target {
        let name = name.into();
        Target { stat_prefix: name.clone(), clusters: vec![(name, 1)], pool: None, by: None }
    }
}

pub(crate) fn tcp_proxy(mesh: &MeshConfig, target: &Target) -> Filter {
    let specifier = match target.clusters.as_slice() {
        [(name, _)] => ClusterSpecifier::Cluster(name.clone()),
        clusters => {
            // The sum has 32 bits.
            let most = u32::MAX / u32::try_from(clusters.len()).unwrap_or(u32::MAX).max(1);
            let weight = |(name, weight): &(String, u32)| ClusterWeight {
                name: name.clone(),
                weight: (*weight).min(most),
                ..ClusterWeight::default()
            };
            ClusterSpecifier::WeightedClusters(WeightedCluster { clusters: clusters.iter().map(weight).collect() })
        }
    };
    let pool = target.pool.as_ref();
    let config = TcpProxy {
        stat_prefix: target.stat_prefix.clone(),
        idle_timeout: pool.and_then(|p| p.idle_timeout).map(wire::duration),
        max_downstream_connection_duration: pool
            .and_then(|p| p.max_connection_duration)
            .filter(wire::is_some_time)
            .map(wire::duration),
        access_log: access_log::connections(mesh),
        cluster_specifier: Some(specifier),
        ..TcpProxy::default()
    };
    let config = wire::any("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", &config);
    super::filter("envoy.filters.network.tcp_proxy", config)
}
