//! Hosts of requests, and the services that they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::istio::Hostname;
use envoy::envoy::config::route::v3::VirtualHost;

use super::Routes;
use crate::mesh::{self, DOMAIN, Port, Protocol};
use crate::policy::Route;
use crate::scope::{Group, Scope};
use crate::{Code, ObjectRef, Resources};

/// A port of a service to which requests may be sent.
pub(super) struct Service<'s> {
    pub(super) host: &'s Hostname,
    pub(super) port: u16,
    /// Whether requests to it are told from others by their host rather than their address.
    pub(super) declared: bool,
    object: &'s ObjectRef,
    group: &'s Group<'s>,
}

/// Whether requests to a port are told from those to other services by their host: where HTTP is declared, and where
/// nothing is and there is no address either.
pub(crate) fn by_host(group: &Group<'_>, service: &mesh::Service, port: &Port) -> bool {
    let nowhere = || service.age.entry && group.members.iter().all(|s| s.addresses.is_empty());
    port.protocol.is_http() || port.protocol == Protocol::Unknown && nowhere()
}

/// The ports at which HTTP is spoken, or may be, those of the oldest services first.
pub(super) fn services<'s>(scope: &'s Scope<'_>) -> Vec<Service<'s>> {
    let mut services = Vec::new();
    for (host, group) in &scope.groups {
        for (number, service, port) in group.declared_ports() {
            let declared = by_host(group, service, port);
            if declared || port.protocol == Protocol::Unknown {
                services.push((&service.age, Service { host, port: number, declared, object: &service.object, group }));
            }
        }
    }
    services.sort_by_key(|(age, service)| (*age, service.host, service.port));
    services.into_iter().map(|(_, service)| service).collect()
}

impl Routes<'_> {
    /// The virtual hosts of the services that have a port, of hosts that only routes know, and of every other.
    pub(super) fn hosts(
        &self,
        services: &[&Service<'_>],
        routed: &BTreeMap<&Hostname, &Arc<Route>>,
        resources: &mut Resources,
    ) -> Vec<VirtualHost> {
        let mut taken = Taken::default();
        let mut hosts = Vec::new();
        for service in services {
            let caller = self.destinations.class.namespace.as_str();
            let mut names = domains(service.host, caller, service.group.addresses());
            for alias in self.destinations.mesh.services.aliases_of(service.host) {
                names.extend(domains(alias, caller, []));
            }
            let domains = taken.claim(names, service.object, resources);
            if !domains.is_empty() {
                hosts.push(VirtualHost { domains, ..self.host(service, resources) });
            }
        }
        for (host, route) in routed {
            let routes = self.written(route, resources);
            let domains = taken.claim(domains(host, &self.destinations.class.namespace, []), &route.object, resources);
            if !routes.is_empty() && !domains.is_empty() {
                let name = super::of_service(host, self.port);
                hosts.push(VirtualHost { domains, ..super::virtual_host(name, routes) });
            }
        }
        hosts.push(super::unknown(self.destinations.scope.unknown));
        hosts
    }
}

/// The domains of a table, each of which may be there once, with whose they are.
#[derive(Default)]
struct Taken(BTreeMap<String, ObjectRef>);

impl Taken {
    /// Those that nobody older has.
    fn claim(&mut self, domains: Vec<String>, owner: &ObjectRef, resources: &mut Resources) -> Vec<String> {
        let mut free = Vec::new();
        for domain in domains {
            match self.0.get(&domain) {
                Some(first) if first == owner => {}
                Some(first) => {
                    let message = format!("{first} is older and has the host {domain}: requests go there");
                    resources.diagnostics.insert(owner.warning("spec.hosts", Code::Conflict, message));
                }
                None => {
                    self.0.insert(domain.clone(), owner.clone());
                    free.push(domain);
                }
            }
        }
        free
    }
}

/// Everything by which callers of a namespace may name a host. Ports do not matter.
fn domains(host: &Hostname, caller: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
    let mut domains = vec![host.to_string()];
    if !host.is_wildcard() && host.as_str().parse::<IpAddr>().is_err() {
        domains.push(format!("{host}."));
    }
    let of_cluster = host.as_str().strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix(".svc."));
    if let Some((name, namespace)) =
        of_cluster.and_then(|rest| rest.split_once('.')).filter(|(_, ns)| !ns.contains('.'))
    {
        domains.push(format!("{name}.{namespace}.svc"));
        domains.push(format!("{name}.{namespace}"));
        domains.extend((namespace == caller && !host.is_wildcard()).then(|| name.to_owned()));
    }
    let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
    domains.extend(addresses.into_iter().map(|address| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }));
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_in_the_namespace_may_leave_it_out() {
        let of = |host: &str, caller| domains(&Hostname::new(host), caller, []).join(" ");
        assert_eq!(
            of("a.ns.svc.cluster.local", "ns"),
            "a.ns.svc.cluster.local a.ns.svc.cluster.local. a.ns.svc a.ns a"
        );
        assert_eq!(
            of("a.ns.svc.cluster.local", "other"),
            "a.ns.svc.cluster.local a.ns.svc.cluster.local. a.ns.svc a.ns"
        );
        assert_eq!(of("*.example.com", "ns"), "*.example.com");
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(domains(&Hostname::new("a.b"), "ns", addresses), ["a.b", "a.b.", "10.0.0.1", "[fd00::1]"]);
    }
}
