//! What a destination rule says of load, connections and failures.

use api::istio::{
    ConsistentHash, KeepAlive, LoadBalancer, Maglev, MeshConfig, OutlierDetection, SimpleLoadBalancer, TcpPool, Warmup,
};
use envoy::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy::envoy::config::cluster::v3::cluster::common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
use envoy::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig,
};
use envoy::envoy::config::cluster::v3::{self as proto, Cluster, UpstreamConnectionOptions};
use envoy::envoy::config::core::v3::{RuntimeDouble, TcpKeepalive};
use envoy::envoy::r#type::v3::Percent;

use crate::policy::Effective;
use crate::wire;

/// The size of a ring if none is given, as Istio has it.
const RING: u64 = 1024;
/// The largest ring of Envoy's, and the largest table.
const LARGEST: u64 = 8 << 20;
const LARGEST_TABLE: u64 = 5_000_011;

/// Connections as a rule has them; `requests` says whether what hashes requests has an effect.
pub(super) fn apply(policy: &Effective, mesh: &MeshConfig, requests: bool, cluster: &mut Cluster) {
    let simple = policy.load_balancer.as_ref().map(|b| b.simple).unwrap_or_default();
    cluster.lb_policy = match simple {
        SimpleLoadBalancer::Unspecified | SimpleLoadBalancer::LeastConn | SimpleLoadBalancer::LeastRequest => {
            LbPolicy::LeastRequest
        }
        SimpleLoadBalancer::Random => LbPolicy::Random,
        SimpleLoadBalancer::RoundRobin => LbPolicy::RoundRobin,
        SimpleLoadBalancer::Passthrough => LbPolicy::ClusterProvided,
    }
    .into();
    let balancer = policy.load_balancer.as_ref();
    match balancer.and_then(|b| b.consistent_hash.as_ref()).filter(|_| requests) {
        Some(hash) => hashed(hash, cluster),
        None => cluster.lb_config = balancer.and_then(slow_start).and_then(|slow| slowly(slow, cluster.lb_policy)),
    }
    if let Some(budget) = &policy.retry_budget {
        let thresholds = cluster.circuit_breakers.iter_mut().flat_map(|b| &mut b.thresholds);
        thresholds.for_each(|t| t.retry_budget = Some(retries(budget)));
    }
    let pool = policy.connection_pool.as_ref().and_then(|p| p.tcp.as_ref());
    limit(pool, cluster);
    let keepalive = pool.and_then(|p| p.tcp_keepalive).or(mesh.tcp_keepalive);
    cluster.upstream_connection_options = keepalive.map(options);
    if let Some(outliers) = &policy.outlier_detection {
        cluster.outlier_detection = Some(detection(outliers));
        let threshold = Percent { value: f64::from(outliers.min_health_percent.min(100)) };
        let config = cluster.common_lb_config.get_or_insert_default();
        config.healthy_panic_threshold = Some(threshold);
    }
}

fn hashed(hash: &ConsistentHash, cluster: &mut Cluster) {
    if let Some(Maglev { table_size }) = hash.maglev {
        let table_size = Some(table_size).filter(|size| (1..=LARGEST_TABLE).contains(size));
        cluster.lb_policy = LbPolicy::Maglev.into();
        cluster.lb_config = Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size }));
        return;
    }
    let sizes = [hash.ring_hash.map_or(0, |ring| ring.minimum_ring_size), hash.minimum_ring_size];
    let size = sizes.into_iter().find(|size| *size > 0).unwrap_or(RING).min(LARGEST);
    cluster.lb_policy = LbPolicy::RingHash.into();
    let ring = RingHashLbConfig { minimum_ring_size: Some(size), ..RingHashLbConfig::default() };
    cluster.lb_config = Some(LbConfig::RingHashLbConfig(ring));
}

/// How new endpoints get to their full share, if they do so slowly.
fn slow_start(balancer: &LoadBalancer) -> Option<SlowStartConfig> {
    let old = balancer.warmup_duration_secs.map(|duration| Warmup { duration, ..Warmup::default() });
    let warmup = balancer.warmup.or(old).filter(|w| wire::is_some_time(&w.duration))?;
    let aggression = warmup.aggression.filter(|a| *a > 0.0);
    Some(SlowStartConfig {
        slow_start_window: Some(wire::duration(warmup.duration)),
        aggression: aggression.map(|default_value| RuntimeDouble { default_value, ..RuntimeDouble::default() }),
        min_weight_percent: warmup.minimum_percent.map(|p| Percent { value: p.clamp(0.0, 100.0) }),
    })
}

fn slowly(slow: SlowStartConfig, policy: i32) -> Option<LbConfig> {
    match LbPolicy::try_from(policy) {
        Ok(LbPolicy::LeastRequest) => Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
            slow_start_config: Some(slow),
            ..LeastRequestLbConfig::default()
        })),
        Ok(LbPolicy::RoundRobin) => {
            Some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) }))
        }
        _ => None,
    }
}

fn retries(budget: &api::istio::RetryBudget) -> RetryBudget {
    RetryBudget {
        budget_percent: budget.percent.map(|p| Percent { value: p.clamp(0.0, 100.0) }),
        min_retry_concurrency: budget.min_retry_concurrency,
        ..RetryBudget::default()
    }
}

/// Lets the weights of localities count.
pub(super) fn weigh_localities(cluster: &mut Cluster) {
    let config: &mut CommonLbConfig = cluster.common_lb_config.get_or_insert_default();
    config.locality_config_specifier =
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}));
}

fn limit(pool: Option<&TcpPool>, cluster: &mut Cluster) {
    let Some(pool) = pool else { return };
    if let Some(timeout) = pool.connect_timeout.filter(wire::is_some_time) {
        cluster.connect_timeout = Some(wire::duration(timeout));
    }
    let thresholds = cluster.circuit_breakers.iter_mut().flat_map(|b| &mut b.thresholds);
    if let Some(most) = pool.max_connections.filter(|most| *most > 0) {
        thresholds.for_each(|t| t.max_connections = Some(most));
    }
}

fn options(keepalive: KeepAlive) -> UpstreamConnectionOptions {
    let seconds = |time: Option<api::istio::Duration>| {
        let whole = time.map(|t| t.0.as_secs().max(1));
        whole.map(|s| u32::try_from(s).unwrap_or(u32::MAX))
    };
    UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: keepalive.probes,
            keepalive_time: seconds(keepalive.time),
            keepalive_interval: seconds(keepalive.interval),
        }),
        ..UpstreamConnectionOptions::default()
    }
}

/// Envoy enforces a count only if told to, and a count of zero turns the check off.
fn detection(outliers: &OutlierDetection) -> proto::OutlierDetection {
    let enforce = |count: Option<u32>| count.map(|count| if count == 0 { 0 } else { 100 });
    let positive = |count: Option<u32>| count.filter(|count| *count > 0);
    let gateway = outliers.consecutive_gateway_errors.or(outliers.consecutive_errors);
    let split = outliers.split_external_local_origin_errors;
    let local = outliers.consecutive_local_origin_failures.filter(|_| split);
    proto::OutlierDetection {
        consecutive_5xx: positive(outliers.consecutive_5xx_errors),
        enforcing_consecutive_5xx: enforce(outliers.consecutive_5xx_errors),
        consecutive_gateway_failure: positive(gateway),
        enforcing_consecutive_gateway_failure: enforce(gateway),
        enforcing_success_rate: Some(0),
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: positive(local),
        enforcing_consecutive_local_origin_failure: enforce(local),
        enforcing_local_origin_success_rate: split.then_some(0),
        interval: outliers.interval.filter(wire::is_some_time).map(wire::duration),
        base_ejection_time: outliers.base_ejection_time.filter(wire::is_some_time).map(wire::duration),
        max_ejection_percent: outliers.max_ejection_percent.map(|p| p.min(100)),
        ..proto::OutlierDetection::default()
    }
}
