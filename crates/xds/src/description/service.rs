//! How a service is understood, and how it is called.

use std::sync::Arc;

use api::istio::{ClientTlsMode, MutualTlsMode, includes};
use serde::Serialize;

use super::exposure::{self, Exposure};
use super::mode_name;
use super::route::{self, Routes};
use crate::mesh::{Discovery, Protocol, Service as Known, Target};
use crate::{Mesh, Node, OutboundClass};

/// A service, with what applies to calls of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// The object, as `KIND NAMESPACE/NAME`.
    pub object: String,
    /// Its whole host name.
    pub host: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// What holds for calls of it, if something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_rule: Option<DestinationRule>,
    /// Where calls of it go, if that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<Routes>,
    /// Who may call it, by the roles of rbac.istio.io/v1alpha1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Roles>,
    /// The gateways through which it is reached.
    pub exposures: Vec<Exposure>,
    /// What is wrong with it.
    pub warnings: Vec<String>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// What is spoken there, as it is understood: `HTTP`, `HTTP2`, `TLS`, `TCP`, `UDP`, or `auto-detect`.
    pub protocol: &'static str,
    /// The port of the workloads, by number or name.
    pub target: String,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// How callers with a sidecar encrypt.
    pub client_tls: &'static str,
}

/// A DestinationRule, as it holds for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRule {
    /// The object.
    pub object: String,
    /// What it says for all subsets.
    pub traffic_policy: Vec<&'static str>,
    /// Its subsets.
    pub subsets: Vec<Subset>,
}

/// A subset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Its labels, as `KEY=VALUE`.
    pub labels: Vec<String>,
    /// Whether the pod is of it; of a service, whether any endpoint is.
    pub matches: bool,
}

/// Who may call a service, by the roles of rbac.istio.io/v1alpha1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Roles {
    /// The object that turns roles on.
    pub config: String,
    /// Whether they decide, or only say what they would.
    pub enforced: bool,
    /// The roles.
    pub roles: Vec<String>,
}

/// A service, of which the pod `workload` is one of the endpoints.
pub(super) fn describe(
    mesh: &Mesh,
    service: &Known,
    node: &Node,
    workload: Option<&Arc<crate::mesh::Workload>>,
) -> Service {
    let class = mesh.outbound_class(node);
    let rule = mesh.destinations.of(&class, &service.host, &service.namespace);
    let mut warnings = Vec::new();
    let of_service = |labels| match workload {
        Some(workload) => includes(&workload.labels, labels),
        None => service.endpoints.iter().any(|endpoint| includes(&endpoint.workload.labels, labels)),
    };
    let destination_rule = rule.map(|rule| DestinationRule {
        object: rule.object.to_string(),
        traffic_policy: settings(&rule.policy(None, 0)),
        subsets: rule
            .subsets
            .iter()
            .map(|subset| Subset {
                name: subset.name.clone(),
                labels: subset.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
                matches: of_service(&subset.labels),
            })
            .collect(),
    });
    let ports = service.ports.iter().map(|port| {
        let protocol = protocol_name(port.protocol);
        let target = match &port.target {
            Target::Number(number) => number.to_string(),
            Target::Name(name) => name.clone(),
        };
        if port.protocol == Protocol::Unknown {
            warnings.push(format!(
                "port {} of {} says no protocol, so it is guessed for each connection: name the port PROTOCOL or \
                 PROTOCOL-WHAT, or set appProtocol",
                port.number, service.object
            ));
        }
        if workload.is_some_and(|workload| port.target.of(workload).is_none()) {
            let message = "by a name that no port of the pod has";
            warnings.push(format!("port {} of {} leads to {target}, {message}", port.number, service.object));
        }
        let said = rule.and_then(|rule| rule.policy(None, port.number).tls).and_then(|tls| tls.mode);
        let mode = workload.and_then(|w| Some(mesh.peers.of(&w.namespace, &w.labels).at(port.target.of(w)?)));
        if let (Some(ClientTlsMode::Disable | ClientTlsMode::Simple), Some(mode @ MutualTlsMode::Strict)) = (said, mode)
        {
            warnings.push(format!(
                "callers of port {} do not use mutual TLS, as {} says, and the pod takes nothing else: its mode is {}",
                port.number,
                rule.map(|rule| rule.object.to_string()).unwrap_or_default(),
                mode_name(mode),
            ));
        }
        let endpoints = service.endpoints_of(port.number).count();
        if endpoints == 0 && matches!(service.discovery, Discovery::Known | Discovery::Headless) {
            warnings.push(format!("port {} of {} has no endpoint", port.number, service.object));
        }
        let client_tls = client_tls(said, service, port.number);
        Port { port: port.number, name: port.name.clone(), protocol, target, endpoints, client_tls }
    });
    Service {
        object: service.object.to_string(),
        host: service.host.as_str().to_owned(),
        ports: ports.collect(),
        destination_rule,
        virtual_service: routes(mesh, &class, service),
        roles: mesh.roles.of(service.host.as_str(), &service.namespace).map(|granted| Roles {
            config: granted.config.to_string(),
            enforced: granted.is_enforced(),
            roles: granted.roles().map(|role| role.object.to_string()).collect(),
        }),
        exposures: exposure::of(mesh, service),
        warnings,
    }
}

fn routes(mesh: &Mesh, class: &OutboundClass, service: &Known) -> Option<Routes> {
    mesh.routes.of(class, &service.host).map(|found| route::describe(found, None))
}

/// What a policy says something about.
fn settings(policy: &crate::policy::Effective) -> Vec<&'static str> {
    let crate::policy::Effective { load_balancer, connection_pool, outlier_detection, tls, retry_budget } = policy;
    let all = [
        ("load balancer", load_balancer.is_some()),
        ("connection pool", connection_pool.is_some()),
        ("outlier detection", outlier_detection.is_some()),
        ("TLS", tls.is_some()),
        ("retry budget", retry_budget.is_some()),
    ];
    all.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
}

/// Nothing said means mutual TLS wherever there is a sidecar.
fn client_tls(said: Option<ClientTlsMode>, service: &Known, port: u16) -> &'static str {
    match said {
        Some(ClientTlsMode::Disable) => "none, by the DestinationRule",
        Some(ClientTlsMode::Simple) => "TLS, by the DestinationRule",
        Some(ClientTlsMode::Mutual) => "mutual TLS with certificates of its own, by the DestinationRule",
        Some(ClientTlsMode::IstioMutual) => "mutual TLS, by the DestinationRule",
        None if service.endpoints_of(port).any(|endpoint| endpoint.workload.has_proxy()) => {
            "mutual TLS, configured automatically"
        }
        None => "none",
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Http2 => "HTTP2",
        Protocol::Tls => "TLS",
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Unknown => "auto-detect",
    }
}
