//! EndpointSlices: how members are cut into slices, and what must change for the slices to be right.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::members::{Member, Port};
use crate::{ownership, random};

/// The label that ties a slice to its service.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// The label that says who writes a slice.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The writer of slices from selectors.
pub(super) const SELECTED: &str = "endpointslice-controller.k8s.io";
/// The writer of slices from hand-written Endpoints.
pub(super) const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
/// The label on Endpoints that asks not to be mirrored.
pub(super) const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// As many endpoints as Kubernetes puts into a slice by default.
const LARGEST: usize = 100;

/// A slice as it should be, without a name of its own.
pub(super) type Slice = EndpointSlice;

/// One write.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    Create(EndpointSlice),
    Update(Arc<EndpointSlice>, EndpointSlice),
    Delete(Arc<EndpointSlice>),
}

/// The slices of a service with a selector. A service without members has one empty slice.
pub(super) fn selected(service: &Service, members: &[Member]) -> Vec<Slice> {
    let mut groups: BTreeMap<&[Port], Vec<Endpoint>> = BTreeMap::new();
    for member in members {
        groups.entry(&member.ports).or_default().push(Endpoint {
            addresses: vec![member.ip.clone()],
            conditions: Some(EndpointConditions {
                ready: Some(member.ready),
                serving: Some(member.serving),
                terminating: Some(member.terminating),
            }),
            hostname: member.hostname.clone(),
            node_name: member.node.clone(),
            target_ref: Some(member.pod.clone()),
            ..Endpoint::default()
        });
    }
    let mut labels = service.labels().clone();
    if service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None")) {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    let metadata =
        metadata(&service.name_any(), service.namespace(), labels, SELECTED, ownership::controlled_by(service));
    if groups.is_empty() {
        groups.insert(&[], Vec::new());
    }
    groups.into_iter().flat_map(|(ports, endpoints)| cut(&metadata, "IPv4", ports, &endpoints)).collect()
}

/// The slices that mirror hand-written Endpoints, one family at a time.
pub(super) fn mirrored(endpoints: &Endpoints) -> Vec<Slice> {
    let name = endpoints.name_any();
    let owner = ownership::controlled_by(endpoints);
    let metadata = metadata(&name, endpoints.namespace(), endpoints.labels().clone(), MIRROR, owner);
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let ports = subset.ports.iter().flatten().map(|port| Port {
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: port.port,
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
        });
        let ports: Vec<Port> = ports.collect();
        let mut families: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        for (address, ready) in ready.chain(others) {
            let family = if matches!(address.ip.parse(), Ok(IpAddr::V6(_))) { "IPv6" } else { "IPv4" };
            families.entry(family).or_default().push(Endpoint {
                addresses: vec![address.ip.clone()],
                conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
                hostname: address.hostname.clone(),
                node_name: address.node_name.clone(),
                target_ref: address.target_ref.clone(),
                ..Endpoint::default()
            });
        }
        slices.extend(families.into_iter().flat_map(|(family, list)| cut(&metadata, family, &ports, &list)));
    }
    slices
}

fn metadata(
    service: &str,
    namespace: Option<String>,
    mut labels: BTreeMap<String, String>,
    manager: &str,
    owner: OwnerReference,
) -> ObjectMeta {
    labels.insert(SERVICE.to_owned(), service.to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    ObjectMeta {
        generate_name: Some(format!("{service}-")),
        namespace,
        labels: Some(labels),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn cut(metadata: &ObjectMeta, family: &str, ports: &[Port], endpoints: &[Endpoint]) -> Vec<Slice> {
    let ports: Vec<EndpointPort> = ports
        .iter()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let slice = |endpoints: &[Endpoint]| EndpointSlice {
        metadata: metadata.clone(),
        address_type: family.to_owned(),
        endpoints: endpoints.to_vec(),
        ports: (!ports.is_empty()).then(|| ports.clone()),
    };
    if endpoints.is_empty() { vec![slice(&[])] } else { endpoints.chunks(LARGEST).map(slice).collect() }
}

/// What turns the `existing` slices into the `wanted` ones. Slices of the same ports are reused, so that a watcher
/// sees one change where one endpoint changes.
pub(super) fn changes(existing: &[Arc<EndpointSlice>], wanted: Vec<Slice>) -> Vec<Change> {
    let mut left: Vec<Arc<EndpointSlice>> = existing.to_vec();
    let mut changes = Vec::new();
    let mut unmatched = Vec::new();
    for slice in wanted {
        match left.iter().position(|found| is_equal(found, &slice)) {
            Some(i) => drop(left.swap_remove(i)),
            None => unmatched.push(slice),
        }
    }
    for slice in unmatched {
        // An empty slice has no ports yet, or had members once; either may be filled.
        let fits = |found: &Arc<EndpointSlice>| {
            found.address_type == slice.address_type
                && (found.ports == slice.ports || found.endpoints.is_empty() || slice.endpoints.is_empty())
        };
        match left.iter().position(fits) {
            Some(i) => changes.push(Change::Update(left.swap_remove(i), slice)),
            None => {
                let base = slice.metadata.generate_name.clone().unwrap_or_default();
                let mut slice = slice;
                slice.metadata.name = Some(format!("{base}{}", random::suffix()));
                changes.push(Change::Create(slice));
            }
        }
    }
    changes.extend(left.into_iter().map(Change::Delete));
    changes
}

fn is_equal(found: &EndpointSlice, slice: &EndpointSlice) -> bool {
    found.address_type == slice.address_type
        && found.endpoints == slice.endpoints
        && found.ports == slice.ports
        && found.metadata.labels == slice.metadata.labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(ips: &[&str]) -> Endpoints {
        let addresses: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        let object = json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "u"},
            "subsets": [{"addresses": addresses, "ports": [{"port": 5432, "protocol": "TCP"}]}],
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn hand_written_endpoints_are_mirrored_family_by_family() {
        let slices = mirrored(&endpoints(&["10.0.0.1", "fd00::1", "10.0.0.2"]));
        let shape: Vec<_> = slices.iter().map(|s| (s.address_type.as_str(), s.endpoints.len())).collect();
        assert_eq!(shape, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(slices[0].labels()[MANAGED_BY], MIRROR);
        assert_eq!(slices[0].labels()[SERVICE], "db");
    }

    #[test]
    fn a_hundred_endpoints_fill_a_slice() {
        let ips: Vec<String> = (0..250).map(|i| format!("10.0.{}.{}", i / 250, i % 250)).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let sizes: Vec<usize> = mirrored(&endpoints(&ips)).iter().map(|s| s.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }

    #[test]
    fn slices_are_reused_and_superfluous_ones_deleted() {
        let before = mirrored(&endpoints(&["10.0.0.1"])).remove(0);
        let existing = [Arc::new(before.clone()), Arc::new(before.clone())];
        let unchanged = changes(&existing, vec![before.clone()]);
        assert!(matches!(unchanged.as_slice(), [Change::Delete(_)]));
        let moved = mirrored(&endpoints(&["10.0.0.2"]));
        assert!(matches!(changes(&existing, moved).as_slice(), [Change::Update(..), Change::Delete(_)]));
        assert!(matches!(changes(&[], vec![before]).as_slice(), [Change::Create(slice)] if slice.name_any() != ""));
    }
}
