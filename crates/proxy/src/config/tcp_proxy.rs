//! The filter that joins a connection to one of a cluster's endpoints.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3 as core;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::weighted_cluster::ClusterWeight;
use envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::{ClusterSpecifier, WeightedCluster};
use envoy::envoy::r#type::v3::HashPolicy;
use envoy::envoy::r#type::v3::hash_policy::PolicySpecifier;

use super::access_log::{self, AccessLog};
use super::field::{Checked, Path, fields};
use super::weighted::{Unweighable, Weighted};

/// How long a connection may be silent in both directions if the filter does not say (Envoy 1.40).
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The TCP proxy filter.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    /// What its statistics are called.
    pub stat_prefix: Arc<str>,
    /// Where connections go.
    pub cluster: ClusterChoice,
    /// Whether balancers that hash do so by where a connection comes from.
    pub hash_source: bool,
    /// How long a connection may be silent in both directions; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live; `None` is for ever.
    pub max_duration: Option<Duration>,
    /// How many connections to upstream are tried, the first included.
    pub max_connect_attempts: NonZeroU32,
    /// Logs, written when a connection ends.
    pub access_logs: Box<[AccessLog]>,
}

/// Where the connections of a chain go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterChoice {
    /// To one cluster.
    Single(Arc<str>),
    /// To one of several, by weight.
    Weighted(Weighted<Arc<str>>),
}

impl ClusterChoice {
    /// The cluster for a random number that is uniform over all of `u64`.
    pub fn pick(&self, random: u64) -> &Arc<str> {
        match self {
            ClusterChoice::Single(name) => name,
            ClusterChoice::Weighted(weighted) => weighted.pick(random),
        }
    }

    /// Every cluster that may be chosen, with its weight.
    pub fn clusters(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        let (single, weighted) = match self {
            ClusterChoice::Single(name) => (Some((name, 1)), None),
            ClusterChoice::Weighted(weighted) => (None, Some(weighted)),
        };
        single.into_iter().chain(weighted.into_iter().flat_map(Weighted::iter))
    }
}

/// TCP keep-alive probes; `None` leaves a value to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How many probes stay unanswered before the connection is given up.
    pub probes: Option<u32>,
    /// How long a connection is silent before the first probe.
    pub time: Option<Duration>,
    /// How long between probes.
    pub interval: Option<Duration>,
}

impl From<core::TcpKeepalive> for Keepalive {
    fn from(message: core::TcpKeepalive) -> Keepalive {
        let core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = message;
        let seconds = |s: u32| Duration::from_secs(s.into());
        Keepalive {
            probes: keepalive_probes,
            time: keepalive_time.map(seconds),
            interval: keepalive_interval.map(seconds),
        }
    }
}

pub(super) fn from_message(at: &Path<'_>, message: v3::TcpProxy) -> Checked<TcpProxy> {
    fields!(at, message => v3::TcpProxy { stat_prefix, idle_timeout, access_log, max_connect_attempts, hash_policy,
            max_downstream_connection_duration, cluster_specifier }
        refuse { on_demand, metadata_match, downstream_idle_timeout, upstream_idle_timeout, backoff_options,
            tunneling_config, max_downstream_connection_duration_jitter_percentage, access_log_flush_interval,
            flush_access_log_on_connected, access_log_options, proxy_protocol_tlvs,
            proxy_protocol_tlv_merge_policy, upstream_connect_mode, max_early_data_bytes, check_drain_close });
    let duration = at.field("max_downstream_connection_duration");
    let max_duration = duration.duration(max_downstream_connection_duration)?;
    if max_duration.is_some_and(|d| d.is_zero()) {
        return Err(duration.reject("must be at least 1 ms"));
    }
    Ok(TcpProxy {
        stat_prefix: at.field("stat_prefix").named(&stat_prefix)?.into(),
        hash_source: source_hash(&at.field("hash_policy"), &hash_policy)?,
        cluster: match cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => ClusterChoice::Single(at.field("cluster").named(&name)?.into()),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                ClusterChoice::Weighted(weights(&at.field("weighted_clusters"), weighted)?)
            }
            None => return Err(at.field("cluster").reject("is required")),
        },
        idle_timeout: at.field("idle_timeout").timeout(idle_timeout, Some(IDLE_TIMEOUT))?,
        max_duration,
        max_connect_attempts: at.field("max_connect_attempts").at_least_one(max_connect_attempts, NonZeroU32::MIN)?,
        access_logs: access_log::from_messages(&at.field("access_log"), access_log)?,
    })
}

/// A hash of the source address steers only the hashing load balancers; with those that this proxy has it is without
/// effect, in Envoy too.
/// Whether connections are hashed by where they come from.
fn source_hash(at: &Path<'_>, policies: &[HashPolicy]) -> Checked<bool> {
    let source_ip = |p: &HashPolicy| matches!(p.policy_specifier, Some(PolicySpecifier::SourceIp(_)));
    match policies.iter().position(|p| !source_ip(p)) {
        Some(other) => Err(at.index(other).reject("only source_ip is supported")),
        None => Ok(!policies.is_empty()),
    }
}

fn weights(at: &Path<'_>, message: WeightedCluster) -> Checked<Weighted<Arc<str>>> {
    let at = at.field("clusters");
    let cluster = |(i, cluster): (usize, ClusterWeight)| {
        let at = at.index(i);
        fields!(at, cluster => ClusterWeight { name, weight } refuse { metadata_match });
        if weight == 0 {
            return Err(at.field("weight").reject("must be at least 1"));
        }
        Ok((at.field("name").named(&name)?.into(), weight))
    };
    let clusters: Vec<(Arc<str>, u32)> =
        message.clusters.into_iter().enumerate().map(cluster).collect::<Checked<_>>()?;
    Weighted::new(clusters).map_err(|e| match e {
        Unweighable::Nothing => at.reject("must not be empty"),
        Unweighable::TooMuch(i) => at.index(i).field("weight").reject("the weights add up to too much"),
    })
}
