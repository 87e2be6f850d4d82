//! Endpoints of a cluster, by place and priority.

use std::collections::BTreeMap;

use api::istio::{LocalityLoadBalancer, MutualTlsMode};
use envoy::envoy::config::core::v3 as core;
use envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy::envoy::config::endpoint::v3::{Endpoint as Address, LbEndpoint, LocalityLbEndpoints};

use crate::mesh::{Endpoint, Mesh, label_key};
use crate::policy::Effective;
use crate::{Locality, OutboundClass, wire};

/// The endpoints of a cluster.
pub(crate) struct Localities {
    pub(crate) endpoints: Vec<LocalityLbEndpoints>,
    /// Whether each locality's share is given.
    pub(crate) weighted: bool,
}

/// The endpoints of a cluster by locality. Where the destination rule detects failures, near ones come first, as Istio
/// does it: without detection nobody would notice that near ones fail.
pub(crate) fn localities(
    mesh: &Mesh,
    class: &OutboundClass,
    policy: &Effective,
    endpoints: &[&Endpoint],
) -> Localities {
    let own = policy.load_balancer.as_ref().and_then(|b| b.locality_lb_setting.as_ref());
    let setting = own.unwrap_or(&mesh.config.locality_lb_setting);
    let enabled = setting.enabled.unwrap_or(true);
    let shares = setting.distribute.iter().find(|d| enabled && class.locality.matches(&d.from)).map(|d| &d.to);
    let by_distance = enabled && shares.is_none() && policy.outlier_detection.is_some();
    let mut groups = BTreeMap::<(u32, &Locality), Vec<&Endpoint>>::new();
    for endpoint in endpoints {
        let distance = if by_distance { distance(class, setting, endpoint) } else { 0 };
        groups.entry((distance, &endpoint.workload.locality)).or_default().push(endpoint);
    }
    let mut localities = Vec::new();
    let (mut priority, mut last) = (0, None);
    for ((distance, locality), endpoints) in groups {
        // Envoy wants priorities without gaps.
        priority += u32::from(last.replace(distance).is_some_and(|last| last != distance));
        let weight = match shares {
            None => Some(endpoints.iter().map(|e| e.workload.weight.max(1)).fold(0, u32::saturating_add)),
            Some(shares) => share(shares, locality),
        };
        if weight.is_none() {
            continue;
        }
        localities.push(LocalityLbEndpoints {
            locality: (*locality != Locality::default()).then(|| core::Locality {
                region: locality.region.clone(),
                zone: locality.zone.clone(),
                sub_zone: locality.subzone.clone(),
            }),
            lb_endpoints: endpoints.into_iter().map(|e| lb_endpoint(mesh, e)).collect(),
            load_balancing_weight: weight,
            priority,
            ..LocalityLbEndpoints::default()
        });
    }
    Localities { endpoints: localities, weighted: shares.is_some() }
}

/// The share of a place; places without one get nothing.
fn share(shares: &BTreeMap<String, u32>, locality: &Locality) -> Option<u32> {
    let matching = shares.iter().filter(|(pattern, _)| locality.matches(pattern));
    matching.max_by_key(|(pattern, _)| pattern.len()).map(|(_, share)| *share).filter(|share| *share > 0)
}

/// How far an endpoint is from the caller: 0 is nearest.
fn distance(class: &OutboundClass, setting: &LocalityLoadBalancer, endpoint: &Endpoint) -> u32 {
    let wanted = &setting.failover_priority;
    if !wanted.is_empty() {
        let same = |priority: &&String| {
            let key = label_key(priority);
            let theirs = endpoint.workload.labels.get(key).map(String::as_str);
            let ours = class.labels.get(key).map(String::as_str);
            match priority.split_once('=') {
                Some((_, value)) => theirs == Some(value),
                None => theirs.unwrap_or_default() == ours.unwrap_or_default(),
            }
        };
        let matched = wanted.iter().take_while(same).count();
        return u32::try_from(wanted.len() - matched).unwrap_or(u32::MAX);
    }
    let (own, other) = (&class.locality, &endpoint.workload.locality);
    if own.region != other.region {
        let next = setting.failover.iter().find(|f| f.from == own.region);
        return match next {
            Some(next) if next.to == other.region => 3,
            Some(_) => 4,
            None => 3,
        };
    }
    match (own.zone == other.zone, own.subzone == other.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// Whether an endpoint takes mutual TLS.
pub(crate) fn is_mutual(mesh: &Mesh, endpoint: &Endpoint) -> bool {
    let workload = &endpoint.workload;
    let accepts = mesh.peers.of(&workload.namespace, &workload.labels).at(endpoint.port) != MutualTlsMode::Disable;
    workload.has_proxy() && accepts
}

fn lb_endpoint(mesh: &Mesh, endpoint: &Endpoint) -> LbEndpoint {
    let workload = &endpoint.workload;
    let mode = || wire::metadata("envoy.transport_socket_match", wire::fields([("tlsMode", wire::text("istio"))]));
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Address {
            address: Some(wire::address(&endpoint.address, endpoint.port)),
            ..Address::default()
        })),
        metadata: is_mutual(mesh, endpoint).then(mode),
        load_balancing_weight: Some(workload.weight.max(1)),
        ..LbEndpoint::default()
    }
}
