//! How an endpoint is chosen.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::istio::Duration;

/// How an endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// A policy without parameters.
    pub simple: SimpleLoadBalancer,
    /// By a hash of the request or the caller.
    #[serde(alias = "consistent_hash")]
    pub consistent_hash: Option<ConsistentHash>,
    /// By place.
    #[serde(alias = "locality_lb_setting")]
    pub locality_lb_setting: Option<LocalityLoadBalancer>,
    /// By zone.
    #[serde(alias = "zone_aware_lb_setting")]
    pub zone_aware_lb_setting: Option<Value>,
    /// How long a new endpoint takes to its full share; the old form.
    #[serde(alias = "warmup_duration_secs")]
    pub warmup_duration_secs: Option<Duration>,
    /// How a new endpoint gets to its full share.
    pub warmup: Option<Warmup>,
}

/// A policy without parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLoadBalancer {
    /// The mesh's default, least request.
    #[default]
    Unspecified,
    /// The old name of least request.
    LeastConn,
    /// At random.
    Random,
    /// None: the connection goes where the caller addressed it.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The less busy of two.
    LeastRequest,
}

/// Which places are preferred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalityLoadBalancer {
    /// Shares of the traffic from a place, by place of the endpoints.
    pub distribute: Vec<LocalityDistribute>,
    /// Where the traffic of a region goes when its endpoints fail.
    pub failover: Vec<LocalityFailover>,
    /// Labels by which endpoints are preferred that share their values with the caller.
    #[serde(alias = "failover_priority")]
    pub failover_priority: Vec<String>,
    /// Whether place matters at all; it does unless this says no.
    pub enabled: Option<bool>,
}

/// Shares of the traffic from one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LocalityDistribute {
    /// The callers' place: `region/zone/subzone`, with `*` for any rest.
    pub from: String,
    /// Percent by place.
    pub to: BTreeMap<String, u32>,
}

/// Where the traffic of one region fails over to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LocalityFailover {
    /// The callers' region.
    pub from: String,
    /// The region that is next.
    pub to: String,
}

/// By a hash of the request or the caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// Of a header.
    #[serde(alias = "http_header_name")]
    pub http_header_name: String,
    /// Of a cookie.
    #[serde(alias = "http_cookie")]
    pub http_cookie: Option<HashCookie>,
    /// Of the caller's address.
    #[serde(alias = "use_source_ip")]
    pub use_source_ip: bool,
    /// Of a parameter in the query.
    #[serde(alias = "http_query_parameter_name")]
    pub http_query_parameter_name: String,
    /// Endpoints lie on a ring.
    #[serde(alias = "ring_hash")]
    pub ring_hash: Option<RingHash>,
    /// Endpoints lie in a table.
    pub maglev: Option<Maglev>,
    /// The old place of the ring's size; 0 is unset.
    #[serde(alias = "minimum_ring_size")]
    pub minimum_ring_size: u64,
}

/// A cookie whose value is hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HashCookie {
    /// The name.
    pub name: String,
    /// The path that it is set for.
    pub path: String,
    /// How long it holds; one that callers do not bring is made only if this is given.
    pub ttl: Option<Duration>,
    /// Further attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Endpoints on a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RingHash {
    /// How many places there are at least; 0 is unset.
    #[serde(alias = "minimum_ring_size")]
    pub minimum_ring_size: u64,
}

/// Endpoints in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Maglev {
    /// The size of the table, a prime; 0 is unset.
    #[serde(alias = "table_size")]
    pub table_size: u64,
}

/// How a new endpoint gets to its full share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Warmup {
    /// How long that takes.
    pub duration: Duration,
    /// The share in percent to begin with.
    #[serde(alias = "minimum_percent")]
    pub minimum_percent: Option<f64>,
    /// How quickly the share grows.
    pub aggression: Option<f64>,
}
