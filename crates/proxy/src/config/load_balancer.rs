//! How an endpoint of a cluster is chosen.

use std::num::NonZeroU32;
use std::time::Duration;

use envoy::envoy::config::cluster::v3::cluster::common_lb_config::{
    ConsistentHashingLbConfig, LocalityConfigSpecifier,
};
use envoy::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction;
use envoy::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig,
};
use envoy::envoy::config::core::v3::RuntimeDouble;

use super::discovery::Discovery;
use super::field::{Checked, Path, fields};

/// The share of healthy endpoints, in percent, below which health is disregarded (Envoy 1.40).
const PANIC_THRESHOLD: f64 = 50.0;
/// How many endpoints `LEAST_REQUEST` draws if the cluster does not say (Envoy 1.40).
const CHOICES: NonZeroU32 = NonZeroU32::new(2).expect("2 is not zero");
/// How large a ring is at least if the cluster does not say (Envoy 1.40).
const MINIMUM_RING: u64 = 1024;
/// How large a ring may be, whatever the cluster says (Envoy 1.40).
const LARGEST_RING: u64 = 8 << 20;
/// How large a Maglev table is if the cluster does not say (Envoy 1.40).
const MAGLEV_TABLE: u64 = 65537;
/// How large a Maglev table may be (Envoy 1.40).
const LARGEST_TABLE: u64 = 5_000_011;
/// How much of its weight an endpoint has at once when it starts slowly, in percent (Envoy 1.40).
const SLOW_START_MINIMUM: f64 = 10.0;

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LoadBalancer {
    /// In turn, by weight.
    RoundRobin {
        /// Whether new endpoints get their share only by and by.
        slow_start: Option<SlowStart>,
    },
    /// The least busy of some that are drawn at random.
    LeastRequest {
        /// How many are drawn.
        choices: NonZeroU32,
        /// How much the requests under way count where endpoints have weights; 1 is in full, 0 not at all.
        bias: f64,
        /// Whether new endpoints get their share only by and by.
        slow_start: Option<SlowStart>,
    },
    /// At random, whatever their weights.
    Random,
    /// By the hash of the request, on a ring.
    RingHash {
        /// How many places the ring has at least.
        minimum: u64,
        /// How many it has at most.
        maximum: u64,
    },
    /// By the hash of the request, in a Maglev table.
    Maglev {
        /// How many places the table has, a prime number.
        size: u64,
    },
    /// There is only one: where the connection was going.
    ClusterProvided,
}

/// How a new endpoint gets its share by and by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// How long it takes; more than zero.
    pub window: Duration,
    /// How fast the share grows: linearly at 1, earlier above it.
    pub aggression: f64,
    /// The part of its weight that an endpoint has at once, from 0 to 1.
    pub minimum: f64,
}

/// What clusters say of balancing whatever the policy is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CommonBalancing {
    /// The share of healthy endpoints, in percent, below which health is disregarded.
    pub panic_threshold: f64,
    /// Whether localities have their weights.
    pub locality_weighted: bool,
    /// Whether hashes place endpoints by their names instead of their addresses.
    pub hash_by_hostname: bool,
}

impl LoadBalancer {
    /// How new endpoints start, if slowly.
    pub fn slow_start(&self) -> Option<&SlowStart> {
        match self {
            LoadBalancer::RoundRobin { slow_start } | LoadBalancer::LeastRequest { slow_start, .. } => {
                slow_start.as_ref()
            }
            _ => None,
        }
    }

    /// Whether the hash of a request decides.
    pub fn hashes(&self) -> bool {
        matches!(self, LoadBalancer::RingHash { .. } | LoadBalancer::Maglev { .. })
    }

    pub(super) fn from_message(
        at: &Path<'_>,
        policy: i32,
        config: Option<LbConfig>,
        discovery: &Discovery,
    ) -> Checked<LoadBalancer> {
        let policy_at = at.field("lb_policy");
        let policy = policy_at.enumeration(policy)?;
        let original_dst = matches!(discovery, Discovery::OriginalDst { .. });
        match (policy, config) {
            (LbPolicy::RoundRobin, None) => Ok(LoadBalancer::RoundRobin { slow_start: None }),
            (LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(config))) => {
                let at = at.field("round_robin_lb_config");
                fields!(at, config => RoundRobinLbConfig { slow_start_config });
                Ok(LoadBalancer::RoundRobin { slow_start: slow_start(&at, slow_start_config)? })
            }
            (LbPolicy::LeastRequest, None) => least_request(at, LeastRequestLbConfig::default()),
            (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => least_request(at, config),
            (LbPolicy::Random, None) => Ok(LoadBalancer::Random),
            (LbPolicy::RingHash, None) => ring_hash(at, RingHashLbConfig::default()),
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))) => ring_hash(at, config),
            (LbPolicy::Maglev, None) => maglev(at, MaglevLbConfig::default()),
            (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config))) => maglev(at, config),
            (LbPolicy::ClusterProvided, None) if original_dst => Ok(LoadBalancer::ClusterProvided),
            (LbPolicy::ClusterProvided, _) => {
                Err(policy_at.reject("CLUSTER_PROVIDED belongs to the type ORIGINAL_DST"))
            }
            (LbPolicy::LoadBalancingPolicyConfig, _) => {
                Err(policy_at.reject(format_args!("{} is not supported", policy.as_str_name())))
            }
            (_, Some(_)) => {
                Err(at.field("lb_config").reject(format_args!("does not belong to {}", policy.as_str_name())))
            }
        }
    }
}

fn least_request(at: &Path<'_>, config: LeastRequestLbConfig) -> Checked<LoadBalancer> {
    let at = at.field("least_request_lb_config");
    fields!(at, config => LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config });
    let choices = at.field("choice_count").at_least_one(choice_count, CHOICES)?;
    let bias = constant(active_request_bias, 1.0);
    if !(0.0..=1e6).contains(&bias) {
        return Err(at.field("active_request_bias").reject("must not be negative"));
    }
    Ok(LoadBalancer::LeastRequest { choices, bias, slow_start: slow_start(&at, slow_start_config)? })
}

fn ring_hash(at: &Path<'_>, config: RingHashLbConfig) -> Checked<LoadBalancer> {
    let at = at.field("ring_hash_lb_config");
    fields!(at, config => RingHashLbConfig { minimum_ring_size, maximum_ring_size, hash_function });
    let function_at = at.field("hash_function");
    if function_at.enumeration::<HashFunction>(hash_function)? != HashFunction::XxHash {
        return Err(function_at.reject("only XX_HASH is supported"));
    }
    let size = |name: &str, value: Option<u64>, default: u64| match value.unwrap_or(default) {
        size if size > LARGEST_RING => Err(at.field(name).reject(format_args!("must be at most {LARGEST_RING}"))),
        size => Ok(size),
    };
    let minimum = size("minimum_ring_size", minimum_ring_size, MINIMUM_RING)?;
    let maximum = size("maximum_ring_size", maximum_ring_size, LARGEST_RING)?;
    if minimum > maximum {
        return Err(at.field("minimum_ring_size").reject("must not be more than maximum_ring_size"));
    }
    Ok(LoadBalancer::RingHash { minimum, maximum })
}

fn maglev(at: &Path<'_>, config: MaglevLbConfig) -> Checked<LoadBalancer> {
    let at = at.field("maglev_lb_config");
    fields!(at, config => MaglevLbConfig { table_size });
    let size = table_size.unwrap_or(MAGLEV_TABLE);
    if size > LARGEST_TABLE || !is_prime(size) {
        let reason = format!("must be a prime number of at most {LARGEST_TABLE}");
        return Err(at.field("table_size").reject(reason));
    }
    Ok(LoadBalancer::Maglev { size })
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn slow_start(at: &Path<'_>, message: Option<SlowStartConfig>) -> Checked<Option<SlowStart>> {
    let Some(message) = message else { return Ok(None) };
    let at = at.field("slow_start_config");
    fields!(at, message => SlowStartConfig { slow_start_window, aggression, min_weight_percent });
    // Without a window nothing starts slowly.
    let Some(window) = at.field("slow_start_window").timeout(slow_start_window, None)? else { return Ok(None) };
    let aggression = constant(aggression, 1.0);
    if aggression.is_nan() || aggression <= 0.0 {
        return Err(at.field("aggression").reject("must be more than 0"));
    }
    let minimum = min_weight_percent.map_or(SLOW_START_MINIMUM, |p| p.value);
    if !(0.0..=100.0).contains(&minimum) {
        return Err(at.field("min_weight_percent").reject("must be from 0 to 100"));
    }
    Ok(Some(SlowStart { window, aggression, minimum: minimum / 100.0 }))
}

/// A number that a runtime could overrule, if there was one.
fn constant(message: Option<RuntimeDouble>, default: f64) -> f64 {
    message.map_or(default, |RuntimeDouble { default_value, runtime_key: _ }| default_value)
}

impl CommonBalancing {
    pub(super) fn from_message(at: &Path<'_>, message: Option<CommonLbConfig>) -> Checked<CommonBalancing> {
        // Endpoints change as a whole, so there is nothing to merge in a window.
        fields!(at, message.unwrap_or_default() => CommonLbConfig { healthy_panic_threshold,
                locality_config_specifier, consistent_hashing_lb_config }
            refuse { ignore_new_hosts_until_first_hc, close_connections_on_host_set_change, override_host_status }
            ignore { update_merge_window });
        let panic_threshold = healthy_panic_threshold.map_or(PANIC_THRESHOLD, |p| p.value);
        if !(0.0..=100.0).contains(&panic_threshold) {
            return Err(at.field("healthy_panic_threshold").reject("must be from 0 to 100"));
        }
        let locality_weighted = match locality_config_specifier {
            None => false,
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => true,
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
                return Err(at.field("zone_aware_lb_config").reject("is not supported"));
            }
        };
        let at = at.field("consistent_hashing_lb_config");
        fields!(at, consistent_hashing_lb_config.unwrap_or_default() => ConsistentHashingLbConfig {
            use_hostname_for_hashing } refuse { hash_balance_factor });
        Ok(CommonBalancing { panic_threshold, locality_weighted, hash_by_hostname: use_hostname_for_hashing })
    }
}
