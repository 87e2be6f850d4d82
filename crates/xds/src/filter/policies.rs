//! What holds for the calls that reach a workload.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use api::istio::Hostname;
use api::selector::Labels;
use envoy::envoy::config::listener::v3::Filter;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use super::rbac::{self, Called, Layer};
use super::{ext_authz, jwt_authn};
use crate::mesh::{Mesh, Service};
use crate::policy::{Authentication, Authorization};
use crate::{Code, Node, OutboundClass, Resources};

/// The services that the proxies of a workload ask about requests.
pub(crate) fn asked(mesh: &Mesh, namespace: &str, labels: &Labels) -> BTreeSet<Hostname> {
    let policies = mesh.authorizations.of(namespace, labels);
    let deciders = policies.filter_map(|policy| ext_authz::host(mesh, policy));
    let authentications = mesh.authentications.of(namespace, labels);
    deciders.chain(authentications.flat_map(|a| &a.rules).filter_map(jwt_authn::host)).collect()
}

/// The policies of a workload.
pub(crate) struct WorkloadPolicies<'a> {
    mesh: &'a Mesh,
    /// The labels of its pods.
    labels: &'a Labels,
    /// The account that it runs as, if that is known.
    account: &'a str,
    authorizations: Vec<&'a Authorization>,
    authentications: Vec<&'a Authentication>,
    /// Which services its proxy can call, to ask them.
    class: Cow<'a, OutboundClass>,
    /// The oldest service that declares each of its ports.
    services: BTreeMap<u16, &'a Service>,
}

impl<'a> WorkloadPolicies<'a> {
    /// The policies of a node's workload, whose ports are declared by `services`.
    pub(crate) fn of(mesh: &'a Mesh, node: &'a Node, services: BTreeMap<u16, &'a Service>) -> WorkloadPolicies<'a> {
        let pod = mesh.workloads.pod(&node.namespace, &node.name);
        WorkloadPolicies {
            mesh,
            labels: &node.labels,
            account: pod.map_or("", |pod| pod.service_account.as_str()),
            authorizations: mesh.authorizations.of(&node.namespace, &node.labels).collect(),
            authentications: mesh.authentications.of(&node.namespace, &node.labels).collect(),
            class: Cow::Owned(mesh.outbound_class(node)),
            services,
        }
    }

    /// The policies of gateways of a class. They are no services, to which roles of old could be given.
    pub(crate) fn of_router(mesh: &'a Mesh, class: &'a OutboundClass) -> WorkloadPolicies<'a> {
        WorkloadPolicies {
            mesh,
            labels: &class.labels,
            account: "",
            authorizations: mesh.authorizations.of(&class.namespace, &class.labels).collect(),
            authentications: mesh.authentications.of(&class.namespace, &class.labels).collect(),
            class: Cow::Borrowed(class),
            services: BTreeMap::new(),
        }
    }

    /// The filters of requests to a port, before those that route them; no port is one that no service declares. Other
    /// services are asked first, then tokens are checked, then the rules decide.
    pub(crate) fn http(&self, port: Option<u16>, resources: &mut Resources) -> Vec<HttpFilter> {
        let own = || self.authorizations.iter().copied();
        let asking = ext_authz::Asking { mesh: self.mesh, class: &self.class };
        let mut filters = asking.filters(own(), resources);
        let tokens = self.authentications.iter().filter(|a| a.is_for(port)).copied();
        filters.extend(jwt_authn::filter(self.mesh, &self.class, tokens, resources));
        filters.extend(rbac::http_filters(own()));
        filters.extend(self.roles(port, Layer::Requests, resources).map(rbac::Roles::http_filter));
        filters
    }

    /// The filters of connections to a port, before the one that carries them. Where only bytes are spoken, what rules
    /// say of HTTP is told to have no effect.
    pub(crate) fn connections(&self, port: Option<u16>, only_bytes: bool, resources: &mut Resources) -> Vec<Filter> {
        if let Some(port) = port.filter(|_| only_bytes) {
            resources.diagnostics.extend(self.authorizations.iter().flat_map(|policy| policy.found_at(port)));
        }
        let mut filters = rbac::filters(self.authorizations.iter().copied());
        filters.extend(self.roles(port, Layer::Connections, resources).map(rbac::Roles::filter));
        filters
    }

    /// What roles of old say of a port. AuthorizationPolicies replace them.
    fn roles(&self, port: Option<u16>, layer: Layer, resources: &mut Resources) -> Option<rbac::Roles> {
        let service = self.services.get(&port?)?;
        let (host, name) = (service.host.as_str(), service.object.name.as_str());
        let granted = self.mesh.roles.of(host, &service.namespace)?;
        if let Some(policy) = self.authorizations.first() {
            let message = format!("has no effect on {host}: {} and its like replace roles there", policy.object);
            resources.diagnostics.insert(granted.config.info("spec", Code::Conflict, message));
            return None;
        }
        let called = Called { host, name, namespace: &service.namespace, labels: self.labels, account: self.account };
        let roles = rbac::legacy(&granted, &called, &self.mesh.config, layer);
        resources.diagnostics.extend(roles.found.iter().cloned());
        Some(roles)
    }
}
