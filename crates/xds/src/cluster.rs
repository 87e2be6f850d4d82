//! Where a proxy's connections go.

mod forwarded;
mod http;
mod traffic;
mod transport;

use std::collections::BTreeSet;

use api::istio::{ClusterName, H2UpgradePolicy, Hostname, HttpPool, Subset};
use envoy::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
};
use envoy::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy::envoy::config::core::v3::BindConfig;
use envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy::envoy::config::endpoint::v3::{self as endpoints, ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use prost_types::{ListValue, Struct, Value, value};

use crate::mesh::{Discovery, Endpoint, Mesh, Protocol, Service};
use crate::policy::{Effective, Merged};
use crate::scope::{Group, GroupPort, Scope};
use crate::{Code, OutboundClass, Resources, endpoint, tls, wire};
pub(crate) use forwarded::forwarded;
use http::Upstream;

/// Refuses every connection.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Lets connections pass to where they were going.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// The same, to the workload.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// The source address of connections to the workload, by which their capture knows them.
const INBOUND_SOURCE: &str = "127.0.0.6";

/// The clusters of every service that may be called, and of their subsets.
pub(crate) fn outbound(mesh: &Mesh, class: &OutboundClass, scope: &Scope<'_>, resources: &mut Resources) {
    for (host, group) in &scope.groups {
        let rule = mesh.destinations.of(class, host, group.namespace());
        for port in group.ports().values() {
            let called = Called { mesh, class, host, group, port, rule };
            called.cluster(None, resources);
            for subset in rule.iter().flat_map(|r| &r.subsets) {
                called.cluster(Some(subset), resources);
            }
        }
    }
    insert(black_hole(), resources);
    insert(passthrough(mesh, PASSTHROUGH), resources);
}

/// The clusters that every sidecar has for what comes in.
pub(crate) fn inbound_fixed(mesh: &Mesh, resources: &mut Resources) {
    insert(black_hole(), resources);
    insert(to_workload(mesh, INBOUND_PASSTHROUGH), resources);
}

/// The cluster of a port of the workload.
pub(crate) fn workload_port(
    mesh: &Mesh,
    port: u16,
    (service, protocol): (&Service, Protocol),
    resources: &mut Resources,
) {
    // What proxies speak among themselves says nothing of what the workload does.
    let own = HttpPool { h2_upgrade_policy: H2UpgradePolicy::DoNotUpgrade, ..HttpPool::default() };
    let spoken = Upstream::of(protocol, Some(&own), &mesh.config);
    let options = spoken.map(|spoken| http::extension(&spoken.options(&HttpPool::default(), None)));
    let cluster = Cluster {
        typed_extension_protocol_options: options.unwrap_or_default(),
        metadata: Some(wire::metadata("istio", facts(&service.host, &service.object.name, &service.namespace))),
        ..to_workload(mesh, &ClusterName::inbound(port).to_string())
    };
    insert(cluster, resources);
}

fn insert(cluster: Cluster, resources: &mut Resources) {
    resources.clusters.insert(cluster.name.clone(), cluster);
}

fn black_hole() -> Cluster {
    Cluster {
        name: BLACK_HOLE.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Cluster::default()
    }
}

/// To where a connection was going, in whatever is spoken there.
fn passthrough(mesh: &Mesh, name: &str) -> Cluster {
    let spoken = Upstream::Downstream.options(&HttpPool::default(), None);
    Cluster { typed_extension_protocol_options: http::extension(&spoken), ..original(mesh, name) }
}

fn original(mesh: &Mesh, name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(wire::duration(mesh.config.connect_timeout)),
        circuit_breakers: Some(unlimited()),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        lb_policy: LbPolicy::ClusterProvided.into(),
        ..Cluster::default()
    }
}

fn to_workload(mesh: &Mesh, name: &str) -> Cluster {
    let source = BindConfig { source_address: Some(wire::socket_address(INBOUND_SOURCE, 0)), ..BindConfig::default() };
    Cluster { upstream_bind_config: Some(source), ..passthrough(mesh, name) }
}

/// A cluster outside of the mesh, found by a name.
pub(crate) fn of_name(mesh: &Mesh, name: &str, host: &str, port: u16) -> Cluster {
    let endpoint = endpoints::Endpoint { address: Some(wire::address(host, port)), ..endpoints::Endpoint::default() };
    let endpoint = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..LbEndpoint::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..LocalityLbEndpoints::default() };
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(wire::duration(mesh.config.connect_timeout)),
        circuit_breakers: Some(unlimited()),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![locality],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    };
    resolve(mesh, &mut cluster);
    cluster
}

#[expect(deprecated, reason = "what replaces these fields is an extension of clusters that not every Envoy has")]
fn resolve(mesh: &Mesh, cluster: &mut Cluster) {
    cluster.dns_refresh_rate = Some(wire::duration(mesh.config.dns_refresh_rate));
    cluster.respect_dns_ttl = true;
    cluster.dns_lookup_family = DnsLookupFamily::V4Only.into();
}

/// No limits: Istio sets none unless a destination rule does, where Envoy has its own.
fn unlimited() -> CircuitBreakers {
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: Some(u32::MAX),
            max_pending_requests: Some(u32::MAX),
            max_requests: Some(u32::MAX),
            max_retries: Some(u32::MAX),
            track_remaining: true,
            ..Thresholds::default()
        }],
        ..CircuitBreakers::default()
    }
}

/// What telemetry says of a service.
fn facts(host: &Hostname, name: &str, namespace: &str) -> Struct {
    let service = wire::fields([
        ("host", wire::text(host.as_str())),
        ("name", wire::text(name)),
        ("namespace", wire::text(namespace)),
    ]);
    let services = ListValue { values: vec![Value { kind: Some(value::Kind::StructValue(service)) }] };
    wire::fields([("services", Value { kind: Some(value::Kind::ListValue(services)) })])
}

/// One port of a service, seen by a class of callers.
struct Called<'a> {
    mesh: &'a Mesh,
    class: &'a OutboundClass,
    host: &'a Hostname,
    group: &'a Group<'a>,
    port: &'a GroupPort<'a>,
    rule: Option<&'a Merged>,
}

impl Called<'_> {
    fn cluster(&self, subset: Option<&Subset>, resources: &mut Resources) {
        let number = self.port.port.number;
        let name = ClusterName::outbound(number, subset.map_or("", |s| &s.name), self.host.as_str());
        let policy = self.rule.map(|r| r.policy(subset, number)).unwrap_or_default();
        let mut cluster = self.bare(name.to_string(), subset);
        let pool = policy.connection_pool.as_ref();
        let spoken = Upstream::of(self.port.port.protocol, pool.and_then(|p| p.http.as_ref()), &self.mesh.config);
        traffic::apply(&policy, &self.mesh.config, spoken.is_some(), &mut cluster);
        if let Some(spoken) = spoken {
            http::apply(spoken, pool, policy.tls.as_ref(), &mut cluster);
        }
        let endpoints = self.endpoints(subset);
        self.discover(&policy, &endpoints, &mut cluster, resources);
        self.transport(&name, &policy, spoken, &mut cluster, resources);
        insert(cluster, resources);
    }

    /// What every cluster of the port has, whatever its name and whoever calls it.
    fn bare(&self, name: String, subset: Option<&Subset>) -> Cluster {
        Cluster {
            name,
            connect_timeout: Some(wire::duration(self.mesh.config.connect_timeout)),
            circuit_breakers: Some(unlimited()),
            metadata: Some(wire::metadata("istio", self.facts(subset))),
            ..Cluster::default()
        }
    }

    fn endpoints(&self, subset: Option<&Subset>) -> Vec<&Endpoint> {
        let wanted = |e: &&&Endpoint| subset.is_none_or(|s| api::istio::includes(&e.workload.labels, &s.labels));
        self.port.endpoints.iter().filter(wanted).copied().collect()
    }

    fn discover(&self, policy: &Effective, endpoints: &[&Endpoint], cluster: &mut Cluster, resources: &mut Resources) {
        let localities = endpoint::localities(self.mesh, self.class, policy, endpoints);
        if localities.weighted {
            traffic::weigh_localities(cluster);
        }
        let mut assignment = ClusterLoadAssignment {
            cluster_name: cluster.name.clone(),
            endpoints: localities.endpoints,
            ..ClusterLoadAssignment::default()
        };
        let by_caller = cluster.lb_policy == i32::from(LbPolicy::ClusterProvided);
        let kind = match self.port.service.discovery {
            _ if by_caller => DiscoveryType::OriginalDst,
            // Requests name a service rather than one of its endpoints.
            Discovery::Headless if self.port.port.protocol.is_http() => DiscoveryType::Eds,
            // What reaches a gateway was addressed to the gateway.
            Discovery::Headless | Discovery::Caller if self.class.router.is_some() => DiscoveryType::Eds,
            Discovery::Headless | Discovery::Caller => DiscoveryType::OriginalDst,
            Discovery::Known => DiscoveryType::Eds,
            Discovery::Dns { all: true } => DiscoveryType::StrictDns,
            Discovery::Dns { all: false } => DiscoveryType::LogicalDns,
        };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
        match kind {
            DiscoveryType::OriginalDst => {
                cluster.lb_policy = LbPolicy::ClusterProvided.into();
                cluster.lb_config = None;
                cluster.common_lb_config = None;
                cluster.outlier_detection = None;
            }
            DiscoveryType::Eds => {
                cluster.eds_cluster_config =
                    Some(EdsClusterConfig { eds_config: Some(wire::ads()), service_name: cluster.name.clone() });
                resources.endpoints.insert(cluster.name.clone(), assignment);
            }
            _ => {
                resolve(self.mesh, cluster);
                if kind == DiscoveryType::LogicalDns {
                    self.first_only(&mut assignment, resources);
                }
                if kind == DiscoveryType::LogicalDns && assignment.endpoints.is_empty() {
                    // Envoy takes a name there, or nothing.
                    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()));
                }
                cluster.load_assignment = Some(assignment);
            }
        }
    }

    /// A cluster that uses the first address of a name takes one name.
    fn first_only(&self, assignment: &mut ClusterLoadAssignment, resources: &mut Resources) {
        let count: usize = assignment.endpoints.iter().map(|l| l.lb_endpoints.len()).sum();
        if count > 1 {
            let message = "there must only be 0 or 1 endpoint for resolution mode DNS_ROUND_ROBIN; the first is used";
            let found = self.port.service.object.error("spec.endpoints", Code::InvalidValue, message);
            resources.diagnostics.insert(found);
        }
        assignment.endpoints.truncate(1);
        assignment.endpoints.iter_mut().for_each(|l| l.lb_endpoints.truncate(1));
    }

    fn transport(
        &self,
        name: &ClusterName,
        policy: &Effective,
        spoken: Option<Upstream>,
        cluster: &mut Cluster,
        resources: &mut Resources,
    ) {
        let peers = self.mesh.peers.of_namespace(self.group.namespace());
        let own = policy.tls.as_ref().map_or("", |tls| &tls.sni);
        let sni = if own.is_empty() { name.server_name() } else { own.to_owned() };
        if sni.len() > tls::LONGEST_SERVER_NAME {
            let message = format!("{sni} is too long to be a server name; the handshake goes without");
            let object = self.rule.map_or(&self.port.service.object, |r| &r.object);
            resources.diagnostics.insert(object.error("spec.host", Code::InvalidValue, message));
        }
        let choice = transport::Choice {
            mesh: &self.mesh.config,
            name,
            external: self.port.service.external,
            original: cluster.lb_policy == i32::from(LbPolicy::ClusterProvided),
            peers,
            names: self.server_names(),
            offered: http::offered(self.port.port.protocol, spoken),
        };
        choice.apply(policy.tls.as_ref(), cluster, resources);
    }

    /// The names of which a server has one: what the service says, or the identities of its endpoints in every trust
    /// domain of the mesh. None are known for endpoints without an account.
    fn server_names(&self) -> Vec<String> {
        if !self.port.service.names.is_empty() {
            return self.port.service.names.clone();
        }
        let config = &self.mesh.config;
        let domains: Vec<_> = [&config.trust_domain].into_iter().chain(&config.trust_domain_aliases).collect();
        let workloads = self.port.endpoints.iter().map(|e| &e.workload);
        let accounts: BTreeSet<_> = workloads.map(|w| (&w.namespace, &w.service_account)).collect();
        let known = accounts.into_iter().filter(|(_, account)| !account.is_empty());
        let identities = known.flat_map(|(namespace, account)| {
            domains.iter().map(move |domain| format!("spiffe://{domain}/ns/{namespace}/sa/{account}"))
        });
        identities.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// What telemetry says of the service.
    fn facts(&self, subset: Option<&Subset>) -> Struct {
        let mut facts = facts(self.host, &self.port.service.object.name, self.group.namespace());
        if let Some(subset) = subset {
            facts.fields.insert("subset".to_owned(), wire::text(subset.name.as_str()));
        }
        if let Some(rule) = self.rule {
            facts.fields.insert("config".to_owned(), wire::made_of("destination-rule", &rule.object));
        }
        facts
    }
}
