//! Services that proxies ask or tell something on their own account.

use api::istio::{ClusterName, Hostname};

use crate::mesh::Mesh;
use crate::{OutboundClass, scope};

/// The host of `HOST` or `NAMESPACE/HOST`.
pub(crate) fn host(service: &str) -> &str {
    service.split_once('/').map_or(service, |(_, host)| host)
}

/// The cluster of a service's port, if a class of nodes may call it.
pub(crate) fn cluster(mesh: &Mesh, class: &OutboundClass, service: &str, port: u16) -> Result<String, String> {
    let host = Hostname::new(host(service));
    let namespace = service.split_once('/').map(|(namespace, _)| namespace);
    let group = scope::seen(mesh, class, &host).ok_or_else(|| format!("the service {host} is not known here"))?;
    if namespace.is_some_and(|namespace| namespace != group.namespace()) {
        return Err(format!("the service {host} is of the namespace {}", group.namespace()));
    }
    match group.ports().contains_key(&port) {
        true => Ok(ClusterName::outbound(port, "", host.as_str()).to_string()),
        false => Err(format!("the service {host} has no port {port}")),
    }
}
