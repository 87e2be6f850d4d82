//! Who and whom a question means.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use xds::Objects;

/// What nothing is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotFound(pub(super) String);

/// The pod that `text` means: `POD`, `POD.NAMESPACE`, `pod/POD` or `deploy/NAME`, of which it is one.
pub(super) fn pod<'a>(objects: &'a Objects, text: &str, namespace: &str) -> Result<&'a Pod, NotFound> {
    let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
    let matches: fn(&Pod, &str) -> bool = match kind {
        "pod" | "pods" | "po" => |pod, name| pod.metadata.name.as_deref() == Some(name),
        "deploy" | "deployment" | "deployments" => is_of_deployment,
        kind => return Err(NotFound(format!("{kind:?} is no kind that has pods here: write POD or deploy/NAME"))),
    };
    let in_namespace = |name: &str, namespace: &str| {
        let mut pods = objects.pods.iter().filter(|p| p.metadata.namespace.as_deref() == Some(namespace));
        pods.find(|p| matches(p, name) && ip(p).is_some())
    };
    let elsewhere = || name.rsplit_once('.').and_then(|(name, namespace)| in_namespace(name, namespace));
    let found = in_namespace(name, namespace).or_else(elsewhere);
    let missing = || NotFound(format!("there is no pod {text:?} with an address in namespace {namespace:?}"));
    found.map(AsRef::as_ref).ok_or_else(missing)
}

/// The address that `text` means to a pod of the namespace `own`: an address, a host, or one of our pods. `namespace` is
/// where pods without one are looked for.
pub(super) fn address(
    objects: &Objects,
    text: &str,
    port: u16,
    own: &str,
    namespace: &str,
) -> Result<IpAddr, NotFound> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let service = objects.services.iter().find(|s| answers_to(s, text, own));
    if let Some(service) = service {
        return service_address(objects, service, text);
    }
    let entries = objects.service_entries.iter().filter(|e| e.spec.hosts.iter().any(|h| h == text));
    let addresses = entries.flat_map(|e| &e.spec.addresses).find_map(|a| a.parse().ok());
    if let Some(address) = addresses {
        return Ok(address);
    }
    match pod(objects, text, namespace).map(ip) {
        Ok(Some(address)) => Ok(address),
        _ => Err(NotFound(format!(
            "{text:?} is no address, service or pod for a pod of namespace {own:?} at port {port}"
        ))),
    }
}

fn service_address(objects: &Objects, service: &Service, text: &str) -> Result<IpAddr, NotFound> {
    let spec = service.spec.as_ref();
    let single = spec.and_then(|s| s.cluster_ip.as_deref()).or_else(|| spec.and_then(|s| s.external_name.as_deref()));
    let literal = single.and_then(|ip| ip.parse().ok());
    // A headless service's name stands for its endpoints.
    let first = || endpoints(objects, service).find_map(|(address, _, _)| address.parse().ok());
    literal.or_else(first).ok_or_else(|| NotFound(format!("the service {text:?} has no address: it has no endpoint")))
}

/// The ready endpoints of a service: address, name of the port, and port.
pub(super) fn endpoints<'a>(
    objects: &'a Objects,
    service: &'a Service,
) -> impl Iterator<Item = (&'a str, &'a str, u16)> {
    let of_service = |labels: &std::collections::BTreeMap<String, String>| {
        labels.get("kubernetes.io/service-name") == service.metadata.name.as_ref()
    };
    let slices = objects.endpoint_slices.iter().filter(move |slice| {
        slice.metadata.namespace == service.metadata.namespace && slice.metadata.labels.as_ref().is_some_and(of_service)
    });
    slices.flat_map(|slice| {
        let ready =
            |c: &k8s_openapi::api::discovery::v1::Endpoint| c.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        let addresses = slice.endpoints.iter().filter(move |e| ready(e)).flat_map(|e| e.addresses.first());
        addresses.flat_map(|address| {
            slice.ports.iter().flatten().filter_map(|port| {
                let number = u16::try_from(port.port?).ok()?;
                Some((address.as_str(), port.name.as_deref().unwrap_or_default(), number))
            })
        })
    })
}

/// Whether a pod of the namespace `own` reaches the service by `text`.
fn answers_to(service: &Service, text: &str, own: &str) -> bool {
    let (name, namespace) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
    let (Some(name), Some(namespace)) = (name, namespace) else { return false };
    let Some(rest) = text.strip_suffix('.').unwrap_or(text).strip_prefix(name) else { return false };
    match rest.strip_prefix('.') {
        None => rest.is_empty() && namespace == own,
        Some(rest) => {
            rest.strip_prefix(namespace).is_some_and(|domain| ["", ".svc", ".svc.cluster.local"].contains(&domain))
        }
    }
}

/// A ReplicaSet has the name of its Deployment, followed by the hash that its pods have as a label.
fn is_of_deployment(pod: &Pod, name: &str) -> bool {
    let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let owners = pod.metadata.owner_references.iter().flatten();
    hash.is_some_and(|hash| owners.into_iter().any(|o| o.kind == "ReplicaSet" && o.name == format!("{name}-{hash}")))
}

/// A pod's address.
pub(super) fn ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}
