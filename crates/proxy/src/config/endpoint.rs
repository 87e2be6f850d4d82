//! The endpoints of clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use envoy::envoy::config::core::v3::{self as core, HealthStatus};
use envoy::envoy::config::endpoint::v3;
use envoy::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy::envoy::config::endpoint::v3::endpoint::HealthCheckConfig;
use envoy::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::address;
use super::field::{Checked, Path, Rejected, fields};
use super::metadata::Metadata;

/// How much healthier than needed a priority counts, in percent, if the assignment does not say (Envoy 1.40).
const OVERPROVISIONING: NonZeroU32 = NonZeroU32::new(140).expect("140 is not zero");
/// Envoy's limit on priorities.
const PRIORITIES: u32 = 128;

/// The endpoints of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadAssignment {
    /// The name of the resource: the cluster, or its `service_name`.
    pub name: Arc<str>,
    /// By priority from 0 without gaps; within one, by locality.
    pub priorities: Box<[Box<[LocalityEndpoints]>]>,
    /// How much healthier than needed a priority counts, in percent; at least 100.
    pub overprovisioning: u32,
}

/// The endpoints of one locality at one priority.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalityEndpoints {
    /// Where they are.
    pub locality: Locality,
    /// Its share beside the other localities of the priority; `None` gives it nothing when localities are weighted.
    pub weight: Option<NonZeroU32>,
    /// The endpoints.
    pub endpoints: Box<[Arc<Endpoint>]>,
}

/// A region, and a part of it, and a part of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub sub_zone: Arc<str>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its name, if it has one; a DNS name is its own.
    pub hostname: Arc<str>,
    /// Its share beside the other endpoints of the locality.
    pub weight: NonZeroU32,
    /// Whether it takes connections.
    pub health: Health,
    /// Facts that choose its transport socket and label metrics.
    pub metadata: Metadata,
    /// How it is asked for its health, where its cluster asks.
    pub check: EndpointCheck,
}

/// How an endpoint is asked for its health, where that is not as the cluster says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointCheck {
    /// At which port.
    pub port: Option<u16>,
    /// What it is called; empty if it is as the cluster says.
    pub hostname: Box<str>,
    /// Whether it is not asked, and taken to be well.
    pub disabled: bool,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// At an address.
    Ip(SocketAddr),
    /// At the addresses that a DNS name has.
    Name {
        /// The DNS name.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Ip(address) => address.fmt(f),
            EndpointAddress::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// What the control plane says of an endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It takes connections.
    Healthy,
    /// It takes connections when healthy ones are missing.
    Degraded,
    /// It takes connections only in a panic.
    Unhealthy,
}

impl LoadAssignment {
    /// Every endpoint, with its priority and locality.
    pub fn endpoints(&self) -> impl Iterator<Item = (usize, &LocalityEndpoints, &Arc<Endpoint>)> {
        let localities = self.priorities.iter().enumerate().flat_map(|(p, ls)| ls.iter().map(move |l| (p, l)));
        localities.flat_map(|(p, l)| l.endpoints.iter().map(move |e| (p, l, e)))
    }

    pub(super) fn from_message(at: &Path<'_>, message: v3::ClusterLoadAssignment) -> Checked<LoadAssignment> {
        fields!(at, message => v3::ClusterLoadAssignment { cluster_name, endpoints, policy }
            refuse { named_endpoints });
        let overprovisioning = policy.map(|p| overprovisioning(&at.field("policy"), p)).transpose()?;
        let (at_endpoints, mut by_priority) = (at.field("endpoints"), BTreeMap::<u32, Vec<_>>::new());
        for (i, locality) in endpoints.into_iter().enumerate() {
            let at = at_endpoints.index(i);
            let priority = locality.priority;
            if priority > PRIORITIES {
                return Err(at.field("priority").reject(format_args!("must be at most {PRIORITIES}")));
            }
            by_priority.entry(priority).or_default().push(locality_endpoints(&at, locality)?);
        }
        let gap = (0..).zip(by_priority.keys()).find(|(expected, priority)| expected != *priority);
        if let Some((expected, _)) = gap {
            return Err(at_endpoints.reject(format_args!("priority {expected} is missing")));
        }
        Ok(LoadAssignment {
            name: at.field("cluster_name").named(&cluster_name)?.into(),
            priorities: by_priority.into_values().map(Box::from).collect(),
            overprovisioning: overprovisioning.unwrap_or(OVERPROVISIONING).get().max(100),
        })
    }

    /// Refuses endpoints that are names, which only DNS clusters can resolve.
    pub(super) fn only_addresses(&self, at: &Path<'_>) -> Checked<()> {
        let name = self.endpoints().find_map(|(_, _, e)| match &e.address {
            EndpointAddress::Name { host, .. } => Some(host),
            EndpointAddress::Ip(_) => None,
        });
        match name {
            Some(host) => {
                Err(at.reject(format_args!("{host:?} is not an IP address; only DNS clusters resolve names")))
            }
            None => Ok(()),
        }
    }
}

impl TryFrom<v3::ClusterLoadAssignment> for LoadAssignment {
    type Error = Rejected;

    fn try_from(message: v3::ClusterLoadAssignment) -> Checked<LoadAssignment> {
        let assignment = LoadAssignment::from_message(&Path::ROOT, message)?;
        assignment.only_addresses(&Path::ROOT.field("endpoints"))?;
        Ok(assignment)
    }
}

fn overprovisioning(at: &Path<'_>, message: Policy) -> Checked<NonZeroU32> {
    fields!(at, message => Policy { overprovisioning_factor }
        refuse { drop_overloads, endpoint_stale_after, weighted_priority_health });
    at.field("overprovisioning_factor").at_least_one(overprovisioning_factor, OVERPROVISIONING)
}

fn locality_endpoints(at: &Path<'_>, message: v3::LocalityLbEndpoints) -> Checked<LocalityEndpoints> {
    // The priority was looked at by the caller; a locality's own metadata nobody reads.
    fields!(at, message => v3::LocalityLbEndpoints { locality, lb_endpoints, load_balancing_weight }
        refuse { proximity, lb_config } ignore { priority, metadata });
    let core::Locality { region, zone, sub_zone } = locality.unwrap_or_default();
    let endpoints_at = at.field("lb_endpoints");
    let endpoints = lb_endpoints.into_iter().enumerate();
    Ok(LocalityEndpoints {
        locality: Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() },
        weight: load_balancing_weight.and_then(NonZeroU32::new),
        endpoints: endpoints.map(|(i, e)| endpoint(&endpoints_at.index(i), e).map(Arc::new)).collect::<Checked<_>>()?,
    })
}

fn endpoint(at: &Path<'_>, message: v3::LbEndpoint) -> Checked<Endpoint> {
    fields!(at, message => v3::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier });
    let health = match at.field("health_status").enumeration(health_status)? {
        HealthStatus::Unknown | HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Degraded => Health::Degraded,
        HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout => Health::Unhealthy,
    };
    let weight = at.field("load_balancing_weight").at_least_one(load_balancing_weight, NonZeroU32::MIN)?;
    let message = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => return Err(at.field("endpoint_name").reject("is not supported")),
        None => return Err(at.field("endpoint").reject("is required")),
    };
    let at = at.field("endpoint");
    // The other name is for statistics alone.
    fields!(at, message => v3::Endpoint { address, hostname, health_check_config } refuse { additional_addresses }
        ignore { observability_name });
    let address = address::endpoint(&at.field("address"), address)?;
    let hostname = match &address {
        EndpointAddress::Name { host, .. } if hostname.is_empty() => host.clone(),
        _ => hostname.into(),
    };
    let check = check(&at.field("health_check_config"), health_check_config.unwrap_or_default())?;
    Ok(Endpoint { address, hostname, weight, health, metadata: Metadata::from_message(metadata), check })
}

fn check(at: &Path<'_>, message: HealthCheckConfig) -> Checked<EndpointCheck> {
    fields!(at, message => HealthCheckConfig { port_value, hostname, disable_active_health_check } refuse { address });
    let port = at.field("port_value").port(port_value)?;
    Ok(EndpointCheck {
        port: Some(port).filter(|port| *port != 0),
        hostname: hostname.into(),
        disabled: disable_active_health_check,
    })
}
