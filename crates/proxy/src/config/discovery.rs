//! Where clusters get their endpoints from.

use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::cluster::v3;
use envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbConfig, LbPolicy, OriginalDstLbConfig,
    RefreshRate,
};

use super::endpoint::LoadAssignment;
use super::field::{Checked, Path, fields};
use super::tls;

/// How often DNS is asked if the cluster does not say (Envoy 1.40).
const DNS_REFRESH: Duration = Duration::from_secs(5);
/// How often hosts of an `ORIGINAL_DST` cluster that nobody uses are dropped (Envoy 1.40).
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);
/// Where the endpoints of a cluster come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// The cluster says.
    Static(Arc<LoadAssignment>),
    /// EDS says, under this name.
    Eds(Arc<str>),
    /// DNS says; every address of every name is an endpoint.
    StrictDns(Arc<LoadAssignment>, Dns),
    /// DNS says; the one name stands for one endpoint, at whichever address comes first.
    LogicalDns(Arc<LoadAssignment>, Dns),
    /// Each connection: to where it was going before it was captured.
    OriginalDst {
        /// Replaces the port.
        port_override: Option<u16>,
        /// How often hosts that nobody uses are dropped.
        cleanup_interval: Duration,
    },
}

/// How DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// How often.
    pub refresh: Duration,
    /// How soon after a failure, at first and at most; `None` is as often as otherwise.
    pub failure_refresh: Option<(Duration, Duration)>,
    /// Whether the time to live of an answer goes before `refresh`.
    pub respect_ttl: bool,
    /// Which addresses are asked for.
    pub family: DnsFamily,
}

/// Which addresses DNS is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6, and IPv4 if there is none.
    Auto,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// IPv4, and IPv6 if there is none.
    V4Preferred,
    /// Both.
    All,
}

/// Takes from `cluster` the type and every field that belongs to it; a field of another type stays, and is refused.
pub(super) fn take(at: &Path<'_>, cluster: &mut v3::Cluster) -> Checked<Discovery> {
    let kind = match cluster.cluster_discovery_type.take() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => at.field("type").enumeration(kind)?,
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            return Err(at.field("cluster_type").reject("is not supported"));
        }
    };
    if kind != DiscoveryType::OriginalDst && matches!(cluster.lb_config, Some(LbConfig::OriginalDstLbConfig(_))) {
        return Err(at.field("original_dst_lb_config").reject("belongs to the type ORIGINAL_DST"));
    }
    match kind {
        DiscoveryType::Static => {
            let assignment = own_assignment(at, cluster)?;
            assignment.only_addresses(&at.field("load_assignment"))?;
            Ok(Discovery::Static(Arc::new(assignment)))
        }
        DiscoveryType::Eds => eds(at, cluster).map(Discovery::Eds),
        DiscoveryType::StrictDns => Ok(Discovery::StrictDns(Arc::new(own_assignment(at, cluster)?), dns(at, cluster)?)),
        DiscoveryType::LogicalDns => {
            let assignment = own_assignment(at, cluster)?;
            if assignment.endpoints().count() != 1 {
                return Err(at.field("load_assignment").reject("LOGICAL_DNS takes exactly one endpoint"));
            }
            Ok(Discovery::LogicalDns(Arc::new(assignment), dns(at, cluster)?))
        }
        DiscoveryType::OriginalDst => original_dst(at, cluster),
    }
}

/// The endpoints that the cluster brings; none at all is a cluster that refuses every connection.
fn own_assignment(at: &Path<'_>, cluster: &mut v3::Cluster) -> Checked<LoadAssignment> {
    match cluster.load_assignment.take() {
        Some(assignment) => LoadAssignment::from_message(&at.field("load_assignment"), assignment),
        None => Ok(LoadAssignment { name: cluster.name.as_str().into(), overprovisioning: 140, ..Default::default() }),
    }
}

fn eds(at: &Path<'_>, cluster: &mut v3::Cluster) -> Checked<Arc<str>> {
    let at = at.field("eds_cluster_config");
    let EdsClusterConfig { eds_config, service_name } = at.required(cluster.eds_cluster_config.take())?;
    let at = at.field("eds_config");
    tls::ads(&at, at.required(eds_config)?)?;
    let name = if service_name.is_empty() { &cluster.name } else { &service_name };
    Ok(name.as_str().into())
}

fn original_dst(at: &Path<'_>, cluster: &mut v3::Cluster) -> Checked<Discovery> {
    let cleanup = at.field("cleanup_interval").duration(cluster.cleanup_interval.take())?;
    let mut port_override = None;
    if let Some(LbConfig::OriginalDstLbConfig(config)) = &cluster.lb_config {
        let at = at.field("original_dst_lb_config");
        fields!(at, config.clone() => OriginalDstLbConfig { upstream_port_override }
            refuse { use_http_header, http_header_name, metadata_key });
        port_override = upstream_port_override.map(|p| at.field("upstream_port_override").port(p)).transpose()?;
        cluster.lb_config = None;
    }
    if cluster.lb_policy != i32::from(LbPolicy::ClusterProvided) {
        return Err(at.field("lb_policy").reject("must be CLUSTER_PROVIDED for the type ORIGINAL_DST"));
    }
    Ok(Discovery::OriginalDst { port_override, cleanup_interval: cleanup.unwrap_or(CLEANUP_INTERVAL) })
}

fn dns(at: &Path<'_>, cluster: &mut v3::Cluster) -> Checked<Dns> {
    let refresh = at.field("dns_refresh_rate");
    let rate = refresh.duration(cluster.dns_refresh_rate.take())?.unwrap_or(DNS_REFRESH);
    if rate < Duration::from_millis(1) {
        return Err(refresh.reject("must be at least 1 ms"));
    }
    let failure_at = at.field("dns_failure_refresh_rate");
    let failure = cluster.dns_failure_refresh_rate.take().map(|RefreshRate { base_interval, max_interval }| {
        let base_at = failure_at.field("base_interval");
        let base = base_at.required(base_at.duration(base_interval)?)?;
        let max = failure_at.field("max_interval").duration(max_interval)?.unwrap_or(base.saturating_mul(10));
        if base.is_zero() || max < base {
            return Err(
                failure_at.reject("the intervals must be more than zero, and the second no less than the first")
            );
        }
        Ok((base, max))
    });
    let family = match at.field("dns_lookup_family").enumeration(std::mem::take(&mut cluster.dns_lookup_family))? {
        DnsLookupFamily::Auto => DnsFamily::Auto,
        DnsLookupFamily::V4Only => DnsFamily::V4,
        DnsLookupFamily::V6Only => DnsFamily::V6,
        DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
        DnsLookupFamily::All => DnsFamily::All,
    };
    let respect_ttl = std::mem::take(&mut cluster.respect_dns_ttl);
    Ok(Dns { refresh: rate, failure_refresh: failure.transpose()?, respect_ttl, family })
}
