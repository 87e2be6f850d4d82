//! Addresses for services of type LoadBalancer, from the cluster's pool on the federation's outer network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api::NamespacedName;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};
use kube::ResourceExt;
use serde_json::json;

use crate::engine::{self, Engine};
use crate::queue::Queue;

const COMPONENT: &str = "service-controller";

/// Gives addresses to services for ever. One at a time, so that no two are given the same.
pub(crate) async fn run(engine: Engine, queue: Queue<NamespacedName>) {
    queue.work("service", 1, &engine, |engine, key| reconcile(engine, key).boxed()).await;
}

/// Whether the service asks this controller for an address. Those of another class are another's.
fn is_balanced(service: &Service) -> bool {
    service.metadata.deletion_timestamp.is_none()
        && service
            .spec
            .as_ref()
            .is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none())
}

fn address(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().find_map(|ingress| ingress.ip.as_ref()?.parse().ok())
}

/// The address that the service asks for by name.
fn requested(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// Services that wait for an address, to be looked at when one becomes free.
pub(crate) fn waiting(engine: &Engine) -> Vec<NamespacedName> {
    let all = engine.services.all();
    let waiting = all.iter().filter(|service| is_balanced(service) && address(service).is_none());
    waiting.map(|service| crate::cache::key_of(&**service)).collect()
}

/// Whether a change of the service may have made an address free.
pub(crate) fn releases(old: Option<&Service>, new: Option<&Service>) -> bool {
    let held = old.and_then(address);
    held.is_some() && held != new.and_then(address)
}

async fn reconcile(engine: &Engine, key: &NamespacedName) -> Result<Option<Duration>, kube::Error> {
    let Some(service) = engine.services.get(key) else { return Ok(None) };
    let given = if is_balanced(&service) {
        let pool: Vec<Ipv4Addr> = engine.config.plan.load_balancers(engine.config.index).collect();
        match choose(&service, &engine.services.all(), &pool) {
            Ok(address) => Some(address),
            Err(why) => {
                let message = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                engine.recorder.warning(&*service, COMPONENT, "SyncLoadBalancerFailed", message);
                return Ok(None);
            }
        }
    } else if service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer")) {
        return Ok(None);
    } else {
        None
    };
    if given == address(&service) {
        return Ok(None);
    }
    let ingress = given.map(|ip| {
        vec![LoadBalancerIngress {
            ip: Some(ip.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        }]
    });
    let status = ServiceStatus {
        conditions: service.status.as_ref().and_then(|status| status.conditions.clone()),
        load_balancer: Some(LoadBalancerStatus { ingress }),
    };
    let api = engine.api::<Service>(&key.namespace);
    let uid = service.uid().unwrap_or_default();
    engine.services.wrote(engine::put_status(&api, &key.name, &uid, &json!(status)).await?);
    let (reason, message) = match given {
        Some(_) => ("EnsuredLoadBalancer", "Ensured load balancer"),
        None => ("DeletedLoadBalancer", "Deleted load balancer"),
    };
    engine.recorder.normal(&*service, COMPONENT, reason, message.to_owned());
    Ok(None)
}

/// The address the service keeps, asks for, or gets.
fn choose(service: &Service, services: &[Arc<Service>], pool: &[Ipv4Addr]) -> Result<Ipv4Addr, String> {
    let others = services.iter().filter(|other| other.uid() != service.uid());
    let taken: BTreeSet<Ipv4Addr> = others.filter_map(|other| address(other)).collect();
    if let Some(wanted) = requested(service) {
        let ip = wanted.parse().ok().filter(|ip| pool.contains(ip));
        let ip = ip.ok_or_else(|| {
            let range = pool.first().zip(pool.last()).map(|(first, last)| format!("{first} to {last}"));
            format!("the requested address {wanted} is not one of {}", range.unwrap_or_default())
        })?;
        return if taken.contains(&ip) { Err(format!("the requested address {ip} is in use")) } else { Ok(ip) };
    }
    let kept = address(service).filter(|ip| pool.contains(ip) && !taken.contains(ip));
    let free = kept.or_else(|| pool.iter().copied().find(|ip| !taken.contains(ip)));
    free.ok_or_else(|| {
        format!("all {} addresses of this cluster are in use; delete a LoadBalancer service", pool.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn service(uid: &str, spec: Value, ip: Option<&str>) -> Arc<Service> {
        let ingress: Vec<Value> = ip.iter().map(|ip| json!({ "ip": ip })).collect();
        let object = json!({
            "metadata": {"name": uid, "uid": uid}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn pool() -> Vec<Ipv4Addr> {
        (2..=4).map(|n| Ipv4Addr::new(198, 18, 1, n)).collect()
    }

    #[test]
    fn a_service_keeps_its_address_and_a_new_one_gets_the_first_free() {
        let spec = || json!({"type": "LoadBalancer"});
        let services = [service("a", spec(), Some("198.18.1.2")), service("b", spec(), Some("198.18.1.4"))];
        assert_eq!(choose(&services[1], &services, &pool()), Ok(Ipv4Addr::new(198, 18, 1, 4)));
        assert_eq!(choose(&service("c", spec(), None), &services, &pool()), Ok(Ipv4Addr::new(198, 18, 1, 3)));
        let full = [&services[..], &[service("d", spec(), Some("198.18.1.3"))]].concat();
        assert!(choose(&service("c", spec(), None), &full, &pool()).unwrap_err().contains("all 3 addresses"));
    }

    #[test]
    fn a_requested_address_must_be_free_and_in_the_pool() {
        let asking = |ip: &str| service("x", json!({"type": "LoadBalancer", "loadBalancerIP": ip}), None);
        let services = [service("a", json!({"type": "LoadBalancer"}), Some("198.18.1.2"))];
        assert_eq!(choose(&asking("198.18.1.4"), &services, &pool()), Ok(Ipv4Addr::new(198, 18, 1, 4)));
        assert!(choose(&asking("198.18.1.2"), &services, &pool()).unwrap_err().contains("is in use"));
        assert!(choose(&asking("10.0.0.1"), &services, &pool()).unwrap_err().contains("is not one of"));
    }

    #[test]
    fn only_a_change_of_address_releases_one() {
        let with = service("a", json!({}), Some("198.18.1.2"));
        let without = service("a", json!({}), None);
        assert!(releases(Some(&with), None) && releases(Some(&with), Some(&without)));
        assert!(!releases(Some(&with), Some(&with)) && !releases(Some(&without), None));
    }
}
