//! How services are reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::istio::{
    ClientTls, ConnectionPool, DestinationRule, Hostname, LoadBalancer, MeshConfig, Object, OutlierDetection,
    PortTrafficPolicy, RetryBudget, Subset, TrafficPolicy,
};
use api::selector::Labels;

use super::by_age;
use crate::mesh::{DOMAIN, Protocol, Services, Visibility};
use crate::{Code, Diagnostic, ObjectRef, OutboundClass};

/// Every DestinationRule, merged where they are for the same, by namespace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DestinationRules {
    root: String,
    by_namespace: BTreeMap<String, BTreeMap<Hostname, Vec<Merged>>>,
}

/// The rules of one namespace for one host, seen by the same clients.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Merged {
    /// The oldest of them.
    pub(crate) object: ObjectRef,
    host: Hostname,
    visibility: Visibility,
    clients: Labels,
    /// Of the oldest that has one.
    policy: Option<TrafficPolicy>,
    /// Of all; the oldest wins a name.
    pub(crate) subsets: Vec<Subset>,
}

/// What holds for one port of a service or subset.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effective {
    pub(crate) load_balancer: Option<LoadBalancer>,
    pub(crate) connection_pool: Option<ConnectionPool>,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

impl DestinationRules {
    pub(crate) fn new(
        objects: &[Arc<Object<DestinationRule>>],
        mesh: &MeshConfig,
        services: &Services,
        found: &mut Vec<Diagnostic>,
    ) -> DestinationRules {
        let mut by_namespace = BTreeMap::<String, BTreeMap<Hostname, Vec<Merged>>>::new();
        for object in by_age(objects) {
            let (spec, name) = (&object.spec, ObjectRef::of(object));
            let namespace = object.metadata.namespace.as_str();
            let host = Hostname::resolve(&spec.host, namespace, DOMAIN);
            check(&name, spec, &host, services, found);
            let visibility = Visibility::new(&spec.export_to, &mesh.default_destination_rule_export_to, namespace);
            let clients = spec.workload_selector.clone().unwrap_or_default().match_labels;
            let rules = by_namespace.entry(namespace.to_owned()).or_default().entry(host.clone()).or_default();
            let same = |rule: &&mut Merged| rule.visibility == visibility && rule.clients == clients;
            match rules.iter_mut().find(same) {
                Some(older) => older.absorb(&name, spec, found),
                None => {
                    let (policy, subsets) = (spec.traffic_policy.clone(), Vec::new());
                    let mut rule = Merged { object: name.clone(), host, visibility, clients, policy, subsets };
                    rule.absorb_subsets(&name, spec, found);
                    rules.push(rule);
                }
            }
        }
        DestinationRules { root: mesh.root_namespace.clone(), by_namespace }
    }

    /// The rule for a client's calls of a host: of the client's namespace, the service's, the root's, in this order; in
    /// a namespace the most specific, and one for certain clients before one for all.
    pub(crate) fn of(&self, class: &OutboundClass, host: &Hostname, service_namespace: &str) -> Option<&Merged> {
        let own = Some(class.namespace.as_str()).filter(|n| *n != self.root);
        let levels = [own, Some(service_namespace), Some(self.root.as_str())];
        levels.into_iter().flatten().find_map(|namespace| {
            let rules = self.by_namespace.get(namespace)?;
            let wide = rules.range(Hostname::wildcards()).filter(|(pattern, _)| pattern.covers(host));
            let exact = rules.get_key_value(host).filter(|(host, _)| !host.is_wildcard());
            let usable = wide.chain(exact).flat_map(|(_, rules)| rules.iter().rev()).filter(|rule| {
                let visible = rule.visibility.includes(&class.namespace);
                visible && api::istio::includes(&class.labels, &rule.clients)
            });
            usable.max_by_key(|rule| (!rule.clients.is_empty(), rule.host.specificity()))
        })
    }

    /// The rules that may hold for a client's calls.
    pub(crate) fn seen_by(&self, class: &OutboundClass) -> impl Iterator<Item = &Merged> {
        let rules = self.by_namespace.values().flat_map(BTreeMap::values).flatten();
        rules.filter(|r| r.visibility.includes(&class.namespace) && api::istio::includes(&class.labels, &r.clients))
    }

    /// The keys of labels by which rules tell clients apart.
    pub(crate) fn label_keys(&self) -> impl Iterator<Item = &str> {
        let rules = self.by_namespace.values().flat_map(BTreeMap::values).flatten();
        rules.flat_map(|rule| rule.clients.keys().map(String::as_str).chain(rule.failover_keys()))
    }
}

impl Merged {
    fn absorb(&mut self, name: &ObjectRef, spec: &DestinationRule, found: &mut Vec<Diagnostic>) {
        if self.policy.is_none() {
            self.policy.clone_from(&spec.traffic_policy);
        } else if spec.traffic_policy.is_some() {
            let message = format!("has no effect: the older {} says it for the same host", self.object);
            found.push(name.warning("spec.trafficPolicy", Code::Conflict, message));
        }
        self.absorb_subsets(name, spec, found);
    }

    fn absorb_subsets(&mut self, name: &ObjectRef, spec: &DestinationRule, found: &mut Vec<Diagnostic>) {
        for (i, subset) in spec.subsets.iter().enumerate() {
            let field = format!("spec.subsets[{i}].name");
            if self.subsets.iter().any(|s| s.name == subset.name) {
                let message = format!("has no effect: there is an older subset {:?} of the same host", subset.name);
                found.push(name.warning(field, Code::Conflict, message));
            } else if api::name::check_label(&subset.name).is_err() {
                let message = format!("{:?} is not a subset's name; it has no effect", subset.name);
                found.push(name.error(field, Code::InvalidValue, message));
            } else {
                self.subsets.push(subset.clone());
            }
        }
    }

    /// What holds for a port: the rule's policy, what it says of the port in place of it, the subset's over that field
    /// by field, and in place of everything what the subset says of the port.
    pub(crate) fn policy(&self, subset: Option<&Subset>, port: u16) -> Effective {
        let mut effective = Effective::default();
        for policy in [self.policy.as_ref(), subset.and_then(|s| s.traffic_policy.as_ref())].into_iter().flatten() {
            effective.overlay(policy);
            if let Some(own) = policy.port_level_settings.iter().find(|p| p.port.number == port) {
                effective = Effective::of_port(own);
            }
        }
        effective
    }

    fn failover_keys(&self) -> impl Iterator<Item = &str> {
        let policies = self.policy.iter().chain(self.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()));
        let balancers = policies.flat_map(|p| {
            p.load_balancer.iter().chain(p.port_level_settings.iter().filter_map(|s| s.load_balancer.as_ref()))
        });
        let settings = balancers.filter_map(|b| b.locality_lb_setting.as_ref());
        settings.flat_map(|s| s.failover_priority.iter().map(|p| crate::mesh::label_key(p)))
    }
}

impl Effective {
    /// What a rule says of one port, in place of all else.
    fn of_port(own: &PortTrafficPolicy) -> Effective {
        Effective {
            load_balancer: own.load_balancer.clone(),
            connection_pool: own.connection_pool.clone(),
            outlier_detection: own.outlier_detection.clone(),
            tls: own.tls.clone(),
            retry_budget: None,
        }
    }

    fn overlay(&mut self, policy: &TrafficPolicy) {
        fn take<T: Clone>(kept: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                kept.clone_from(new);
            }
        }
        take(&mut self.load_balancer, &policy.load_balancer);
        take(&mut self.connection_pool, &policy.connection_pool);
        take(&mut self.outlier_detection, &policy.outlier_detection);
        take(&mut self.tls, &policy.tls);
        take(&mut self.retry_budget, &policy.retry_budget);
    }
}

/// What in a rule has no effect, whoever the client is.
fn check(name: &ObjectRef, spec: &DestinationRule, host: &Hostname, services: &Services, found: &mut Vec<Diagnostic>) {
    if !services.any_of(host) {
        let message = format!("no service has the host {host}; the rule has no effect yet");
        found.push(name.warning("spec.host", Code::ReferenceNotFound, message));
    }
    for (i, subset) in spec.subsets.iter().enumerate() {
        let mut endpoints = services.of_host(host).iter().flat_map(|s| &s.endpoints).peekable();
        let some = endpoints.peek().is_some();
        if some && !endpoints.any(|e| api::istio::includes(&e.workload.labels, &subset.labels)) {
            let message = "no endpoint of the service has these labels; calls of the subset fail";
            found.push(name.warning(format!("spec.subsets[{i}].labels"), Code::NothingSelected, message));
        }
    }
    let own = spec.traffic_policy.iter().map(|p| ("spec.trafficPolicy".to_owned(), p));
    let subsets = spec.subsets.iter().enumerate();
    let subsets =
        subsets.filter_map(|(i, s)| Some((format!("spec.subsets[{i}].trafficPolicy"), s.traffic_policy.as_ref()?)));
    for (field, policy) in own.chain(subsets) {
        check_policy(name, &field, policy, services.of_host(host), found);
    }
}

fn check_policy(
    name: &ObjectRef,
    field: &str,
    policy: &TrafficPolicy,
    services: &[Arc<crate::mesh::Service>],
    found: &mut Vec<Diagnostic>,
) {
    let mut top = Effective::default();
    top.overlay(policy);
    let mut spoken = services.iter().flat_map(|s| &s.ports).map(|p| p.protocol);
    let requests = services.is_empty() || spoken.any(|p| p.is_http() || p == Protocol::Unknown);
    check_effective(name, field, &top, requests, found);
    let unsupported = [(policy.tunnel.is_some(), "tunnel"), (policy.proxy_protocol.is_some(), "proxyProtocol")];
    for (_, what) in unsupported.into_iter().filter(|(present, _)| *present) {
        let message = "is not supported, and has no effect";
        found.push(name.warning(format!("{field}.{what}"), Code::NotSupported, message));
    }
    for (i, own) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{i}]");
        let mut ports = services.iter().flat_map(|s| &s.ports);
        if !services.is_empty() && !ports.any(|p| p.number == own.port.number) {
            let message = format!("the service has no port {}", own.port.number);
            found.push(name.warning(format!("{field}.port.number"), Code::ReferenceNotFound, message));
        }
        check_effective(name, &field, &Effective::of_port(own), requests, found);
    }
}

fn check_effective(name: &ObjectRef, field: &str, policy: &Effective, requests: bool, found: &mut Vec<Diagnostic>) {
    let balancer = policy.load_balancer.as_ref();
    let of_requests = [
        (policy.connection_pool.as_ref().is_some_and(|p| p.http.is_some()), "connectionPool.http"),
        (balancer.is_some_and(|b| b.consistent_hash.is_some()), "loadBalancer.consistentHash"),
    ];
    for (_, what) in of_requests.into_iter().filter(|(present, _)| *present && !requests) {
        let message = "has no effect: no port of the service speaks HTTP";
        found.push(name.warning(format!("{field}.{what}"), Code::OnlyHttp, message));
    }
    let unsupported = [
        (balancer.is_some_and(|b| b.zone_aware_lb_setting.is_some()), "loadBalancer.zoneAwareLbSetting"),
        (
            policy.outlier_detection.as_ref().is_some_and(|o| !o.outlier_detection_http_error_codes.is_empty()),
            "outlierDetection.outlierDetectionHttpErrorCodes",
        ),
        (
            policy.tls.as_ref().is_some_and(|t| {
                let from_files = t.credential_name.is_empty() || !t.ca_certificates.is_empty();
                !t.ca_crl.is_empty() && (!from_files || t.insecure_skip_verify)
            }),
            "tls.caCrl",
        ),
    ];
    for (_, what) in unsupported.into_iter().filter(|(present, _)| *present) {
        let message = "is not supported, and has no effect";
        found.push(name.warning(format!("{field}.{what}"), Code::NotSupported, message));
    }
    let Some(tls) = &policy.tls else { return };
    if tls.mode.is_none() {
        let message = "without a mode means DISABLE: connections are not encrypted, mutual TLS of the mesh included";
        found.push(name.warning(format!("{field}.tls.mode"), Code::Unsafe, message));
    }
    check_tls(name, &format!("{field}.tls"), tls, found);
}

fn check_tls(name: &ObjectRef, field: &str, tls: &ClientTls, found: &mut Vec<Diagnostic>) {
    use api::istio::ClientTlsMode::{IstioMutual, Mutual, Simple};
    let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates];
    match tls.mode {
        Some(Simple | Mutual) if !tls.credential_name.is_empty() => {
            let message = "names a secret, which a sidecar does not get; use files. Connections fail until it has them";
            found.push(name.error(format!("{field}.credentialName"), Code::NotSupported, message));
        }
        Some(Mutual) if tls.client_certificate.is_empty() || tls.private_key.is_empty() => {
            let message = "MUTUAL needs clientCertificate and privateKey; connections fail without";
            found.push(name.error(format!("{field}.clientCertificate"), Code::InvalidValue, message));
        }
        Some(IstioMutual) if files.iter().any(|f| !f.is_empty()) => {
            let message = "ISTIO_MUTUAL uses the workload's certificate; the files have no effect";
            found.push(name.warning(format!("{field}.clientCertificate"), Code::InvalidValue, message));
        }
        _ => {}
    }
    match tls.mode {
        Some(Simple | Mutual) if tls.insecure_skip_verify => {
            let message = "the server's certificate is not verified: anybody can be the server";
            found.push(name.warning(format!("{field}.insecureSkipVerify"), Code::Unsafe, message));
        }
        Some(Simple | Mutual) if tls.ca_certificates.is_empty() && tls.credential_name.is_empty() => {
            let message = "without it the authorities of the pod's system vouch for the server";
            found.push(name.info(format!("{field}.caCertificates"), Code::Unsafe, message));
        }
        _ => {}
    }
}
