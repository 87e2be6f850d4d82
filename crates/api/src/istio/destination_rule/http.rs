//! Limits on HTTP.

use serde::Deserialize;

use crate::istio::Duration;

/// Limits on requests and their connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpPool {
    /// How many requests may wait for a connection.
    #[serde(alias = "http1_max_pending_requests")]
    pub http1_max_pending_requests: u32,
    /// How many requests may be under way.
    #[serde(alias = "http2_max_requests")]
    pub http2_max_requests: u32,
    /// How many requests a connection carries; 0 is any number.
    #[serde(alias = "max_requests_per_connection")]
    pub max_requests_per_connection: u32,
    /// How many retries may be under way.
    #[serde(alias = "max_retries")]
    pub max_retries: u32,
    /// How long a connection may be without a request.
    #[serde(alias = "idle_timeout")]
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    #[serde(alias = "h2_upgrade_policy")]
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Whether the caller's version of HTTP is used.
    #[serde(alias = "use_client_protocol")]
    pub use_client_protocol: bool,
    /// How many streams a connection of HTTP/2 carries at a time.
    #[serde(alias = "max_concurrent_streams")]
    pub max_concurrent_streams: u32,
    /// Pings on connections of HTTP/2.
    #[serde(rename = "http2KeepAlive", alias = "http2_keep_alive", alias = "http2Keepalive")]
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh says.
    #[default]
    Default,
    /// It does not.
    DoNotUpgrade,
    /// It does.
    Upgrade,
}

/// Pings on connections of HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Http2KeepAlive {
    /// How far they are apart.
    pub interval: Option<Duration>,
    /// How long the answer may take.
    pub timeout: Option<Duration>,
}
