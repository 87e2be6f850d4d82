//! Endpoints that are known by name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Cluster, Discovery, Dns, DnsFamily, Endpoint, EndpointAddress, LoadAssignment};

/// How often names are asked for where their time to live is to be respected, which the system's resolver does not tell.
const WITHOUT_TIME_TO_LIVE: Duration = Duration::from_secs(5);

/// Whether a cluster's endpoints are resolved by DNS.
pub(crate) fn is_resolved(cluster: &Cluster) -> bool {
    dns(cluster).is_some()
}

fn dns(cluster: &Cluster) -> Option<(&Arc<LoadAssignment>, &Dns, bool)> {
    match &cluster.discovery {
        Discovery::StrictDns(assignment, dns) => Some((assignment, dns, true)),
        Discovery::LogicalDns(assignment, dns) => Some((assignment, dns, false)),
        _ => None,
    }
}

/// Resolves the names of a cluster again and again. `take` gets the endpoints each time that some name was resolved,
/// and says whether the cluster is still there; a name that fails keeps the addresses that it had.
pub(crate) async fn resolve(cluster: Arc<Cluster>, mut take: impl FnMut(Arc<LoadAssignment>) -> bool) {
    let Some((configured, dns, every_address)) = dns(&cluster) else { return };
    let mut last: Vec<Vec<Arc<Endpoint>>> = vec![Vec::new(); configured.endpoints().count()];
    let mut failures = 0_u32;
    loop {
        let mut failed = false;
        for ((_, _, endpoint), found) in configured.endpoints().zip(&mut last) {
            match addresses(endpoint, dns.family).await {
                Some(addresses) => *found = endpoints(endpoint, &addresses, every_address),
                None => failed = true,
            }
        }
        if !take(Arc::new(with(configured, &last))) {
            return;
        }
        failures = if failed { failures.saturating_add(1) } else { 0 };
        tokio::time::sleep(pause(dns, failures)).await;
    }
}

fn pause(dns: &Dns, failures: u32) -> Duration {
    match dns.failure_refresh {
        Some((first, longest)) if failures > 0 => {
            first.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(longest)
        }
        _ if dns.respect_ttl => dns.refresh.min(WITHOUT_TIME_TO_LIVE),
        _ => dns.refresh,
    }
}

/// The addresses of an endpoint; `None` if they cannot be had now.
async fn addresses(endpoint: &Endpoint, family: DnsFamily) -> Option<Vec<SocketAddr>> {
    let (host, port) = match &endpoint.address {
        EndpointAddress::Ip(address) => return Some(vec![*address]),
        EndpointAddress::Name { host, port } => (host, *port),
    };
    let found = tokio::net::lookup_host((&**host, port)).await;
    let found = found.inspect_err(|e| tracing::debug!(%host, error = %e, "a name cannot be resolved")).ok()?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort();
    addresses.dedup();
    let (four, six): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
    let preferred = match family {
        DnsFamily::V4 => four,
        DnsFamily::V6 => six,
        DnsFamily::Auto => {
            if six.is_empty() {
                four
            } else {
                six
            }
        }
        DnsFamily::V4Preferred => {
            if four.is_empty() {
                six
            } else {
                four
            }
        }
        DnsFamily::All => [four, six].concat(),
    };
    (!preferred.is_empty()).then_some(preferred)
}

fn endpoints(endpoint: &Endpoint, addresses: &[SocketAddr], every_address: bool) -> Vec<Arc<Endpoint>> {
    let count = if every_address { addresses.len() } else { 1 };
    let at = |address: &SocketAddr| Arc::new(Endpoint { address: EndpointAddress::Ip(*address), ..endpoint.clone() });
    addresses.iter().take(count).map(at).collect()
}

/// The configured endpoints, each replaced by those that were found for it.
fn with(configured: &LoadAssignment, found: &[Vec<Arc<Endpoint>>]) -> LoadAssignment {
    let mut assignment = configured.clone();
    let mut found = found.iter();
    for locality in assignment.priorities.iter_mut().flat_map(|p| p.iter_mut()) {
        let endpoints = found.by_ref().take(locality.endpoints.len()).flatten().cloned();
        locality.endpoints = endpoints.collect();
    }
    assignment
}
