//! Who and whom a question means.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use xds::Objects;

/// What a name may be of.
enum Kind {
    Pod,
    Deployment,
    Service,
}

impl Kind {
    fn has(&self, objects: &Objects, pod: &Pod, name: &str) -> bool {
        match self {
            Kind::Pod => pod.metadata.name.as_deref() == Some(name),
            Kind::Deployment => crate::pod::is_of_deployment(pod, name),
            Kind::Service => objects.services.iter().any(|service| {
                let same = service.metadata.namespace == pod.metadata.namespace;
                same && service.metadata.name.as_deref() == Some(name) && selects(service, pod)
            }),
        }
    }
}

/// Whether a service is for a pod; one without a selector is for none.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    selector.is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

/// What nothing is called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotFound(pub(super) String);

/// The cluster that `text` names, as `CLUSTER/NAMESPACE/NAME`, and the rest of it.
pub(super) fn cluster(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((cluster, rest)) if rest.contains('/') => (Some(cluster), rest),
        _ => (None, text),
    }
}

/// The pod that `text` means: `POD`, `POD.NAMESPACE`, `pod/POD`, or one of those of `deploy/NAME` and `svc/NAME`. Without a
/// kind it may be any of these, and `NAMESPACE/NAME`, too.
pub(super) fn pod<'a>(objects: &'a Objects, text: &str, namespace: &str) -> Result<&'a Pod, NotFound> {
    let (kind, name) = text.split_once('/').unwrap_or(("", text));
    let kinds: &[Kind] = match kind {
        "pod" | "pods" | "po" => &[Kind::Pod],
        "deploy" | "deployment" | "deployments" => &[Kind::Deployment],
        "svc" | "service" | "services" => &[Kind::Service],
        "" => &[Kind::Pod, Kind::Deployment, Kind::Service],
        other if objects.pods.iter().any(|p| p.metadata.namespace.as_deref() == Some(other)) => {
            return pod(objects, name, other);
        }
        kind => {
            let message = format!(
                "{kind:?} is no kind that has pods here, and no namespace: write POD or deploy/NAME or NAMESPACE/NAME"
            );
            return Err(NotFound(message));
        }
    };
    let in_namespace = |name: &str, namespace: &str| {
        let of = |kind: &Kind| {
            let mut pods = objects.pods.iter().filter(|p| p.metadata.namespace.as_deref() == Some(namespace));
            pods.find(|p| kind.has(objects, p, name) && ip(p).is_some())
        };
        kinds.iter().find_map(of)
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
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    let service = objects.services.iter().find(|s| answers_to(s, text, own));
    if let Some(service) = service {
        return service_address(objects, service, text);
    }
    let entries = objects.service_entries.iter().filter(|e| e.spec.hosts.iter().any(|h| h == text));
    let addresses = entries.flat_map(|e| e.spec.addresses.iter().chain(e.spec.endpoints.iter().map(|e| &e.address)));
    let addresses = addresses.into_iter().find_map(|address| address.parse().ok());
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
    // A name stands for another service's address, and that of a headless service for its endpoints.
    let other = || {
        let name = spec.and_then(|s| s.external_name.as_deref()).filter(|name| *name != text)?;
        let other = objects.services.iter().find(|s| answers_to(s, name, ""))?;
        service_address(objects, other, name).ok()
    };
    let first = || endpoints(objects, service).find_map(|(address, _, _)| address.parse().ok());
    literal
        .or_else(other)
        .or_else(first)
        .ok_or_else(|| NotFound(format!("the service {text:?} has no address: it has no endpoint")))
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

/// A pod's address.
pub(super) fn ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}
