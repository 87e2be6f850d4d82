//! Patches to clusters.

use api::istio::envoy_filter::{ClusterMatch, Operation};
use envoy::envoy::config::cluster::v3::Cluster;

use super::{Direction, Finding, Patch, Target, listener, message};

pub(super) fn apply(patch: &Patch, target: &mut Target<'_>) -> Result<Vec<Finding>, String> {
    let (direction, resources) = (target.direction, &mut *target.resources);
    let place = patch.place.cluster.clone().unwrap_or_default();
    match (patch.operation, &patch.value) {
        (Operation::Add, Some(value)) if patch.adds(direction) => {
            let cluster: Cluster = message::typed(value)?;
            resources.clusters.insert(cluster.name.clone(), cluster);
        }
        (Operation::Add, _) => {}
        (Operation::Remove, _) => {
            resources.clusters.retain(|name, _| !matches(&place, name, direction));
            resources.endpoints.retain(|name, _| !matches(&place, name, direction));
        }
        (Operation::Merge, Some(value)) => {
            let own = resources.clusters.iter_mut().filter(|(name, _)| matches(&place, name, direction));
            for (_, cluster) in own {
                listener::merge("envoy.config.cluster.v3.Cluster", cluster, value)?;
            }
        }
        (operation, _) => return Err(format!("{operation:?} is not for clusters: the patch has no effect")),
    }
    Ok(Vec::new())
}

/// Whether a cluster is meant, by its name: `outbound|PORT|SUBSET|HOST` or `inbound|PORT||`.
fn matches(place: &ClusterMatch, name: &str, direction: Direction) -> bool {
    let ClusterMatch { port_number, service, subset, name: wanted } = place;
    if !wanted.is_empty() {
        return wanted == name;
    }
    let parts: Vec<&str> = name.split('|').collect();
    let own = match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound | Direction::Gateway => "outbound",
    };
    match parts.as_slice() {
        [kind, port, of, host] => {
            *kind == own
                && (*port_number == 0 || port.parse() == Ok(*port_number))
                && (subset.is_empty() || subset == of)
                && (service.is_empty() || direction == Direction::Inbound || service == host)
        }
        _ => *port_number == 0 && service.is_empty() && subset.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_matched_by_the_parts_of_their_names() {
        let place = ClusterMatch { port_number: 80, service: "a.b".to_owned(), ..ClusterMatch::default() };
        let outbound = |name| matches(&place, name, Direction::Outbound);
        assert!(outbound("outbound|80|v1|a.b") && outbound("outbound|80||a.b"));
        assert!(!outbound("outbound|81||a.b") && !outbound("outbound|80||c") && !outbound("BlackHoleCluster"));
        assert!(matches(&ClusterMatch::default(), "PassthroughCluster", Direction::Outbound));
        assert!(!matches(&ClusterMatch::default(), "outbound|80||a.b", Direction::Inbound));
    }
}
