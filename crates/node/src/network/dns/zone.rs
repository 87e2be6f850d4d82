//! The names of a cluster, as the Kubernetes DNS specification 1.1.0 and CoreDNS 1.12 have them.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use api::NamespacedName;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::Endpoint;

use crate::network::objects::Objects;
use crate::network::table::{Place, Protocol, is_ready, port_number};

/// The zone of everything but reverse lookups.
pub(super) const ZONE: &str = "cluster.local";
const REVERSE: &str = "in-addr.arpa";

/// Everything that can be answered. Names are in lower case, without the last dot.
#[derive(Debug)]
pub(super) struct Zone {
    names: HashMap<String, Entry>,
    /// The ranges whose reverse names are the cluster's.
    ranges: [Ipv4Net; 2],
}

/// What is at a name; nothing at all for a name that is only on the way to others.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) services: Vec<Location>,
    pub(super) alias: Option<String>,
    pub(super) pointers: Vec<String>,
}

/// Where a port of a service is (an SRV record).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) target: String,
    pub(super) port: u16,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Entry(Entry),
    /// The name would be in the cluster's zones, but does not exist.
    Nothing,
    /// The name is not the cluster's to answer.
    Elsewhere,
}

impl Zone {
    pub(super) fn new(objects: &Objects, place: Place) -> Zone {
        let ranges = [place.plan.pods(place.index), place.plan.services(place.index)];
        let mut zone = Zone { names: HashMap::new(), ranges };
        for parent in ["svc", "pod"] {
            zone.entry(&format!("{parent}.{ZONE}"));
        }
        for (name, service) in objects.services() {
            if let Some(spec) = &service.spec {
                zone.add_service(objects, name, service, spec);
            }
        }
        zone
    }

    /// Looks a name up, which is in lower case.
    pub(super) fn find(&self, name: &str) -> Found {
        if let Some(entry) = self.names.get(name) {
            return Found::Entry(entry.clone());
        }
        if is_below(name, ZONE) {
            return find_pod(name).map_or(Found::Nothing, Found::Entry);
        }
        match reverse_address(name) {
            Some(address) if self.ranges.iter().any(|range| range.contains(&address)) => Found::Nothing,
            _ => Found::Elsewhere,
        }
    }

    /// The entry of a name; every name on the way to it exists from now on.
    fn entry(&mut self, name: &str) -> &mut Entry {
        let mut parent = name;
        while let Some((_, above)) = parent.split_once('.')
            && is_below(above, ZONE)
            && !self.names.contains_key(above)
        {
            self.names.insert(above.to_owned(), Entry::default());
            parent = above;
        }
        self.names.entry(name.to_owned()).or_default()
    }

    fn add_service(&mut self, objects: &Objects, name: &NamespacedName, service: &Service, spec: &ServiceSpec) {
        let host = format!("{}.{}.svc.{ZONE}", name.name, name.namespace);
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
            match target.parse() {
                // Not a name, strictly; what people mean by it is plain.
                Ok(address) => self.entry(&host).addresses.push(address),
                Err(_) => self.entry(&host).alias = Some(target),
            }
            return;
        }
        match spec.cluster_ip.as_deref().map(str::parse::<Ipv4Addr>) {
            Some(Ok(address)) => {
                self.entry(&host).addresses.push(address);
                self.entry(&reverse_name(address)).pointers.push(host.clone());
                self.add_ports(&host, &host, spec);
                self.add_endpoints(objects, name, spec, &host, false);
            }
            _ if spec.cluster_ip.as_deref() == Some("None") => {
                self.entry(&host);
                self.add_endpoints(objects, name, spec, &host, true);
            }
            _ => tracing::debug!(service = %name, generation = service.metadata.generation, "has no address yet"),
        }
    }

    fn add_ports(&mut self, host: &str, target: &str, spec: &ServiceSpec) {
        for port in spec.ports.iter().flatten() {
            if let (Some(number), Some(protocol)) = (port_number(port.port), Protocol::parse(port.protocol.as_deref()))
            {
                self.add_location(
                    host,
                    port.name.as_deref(),
                    protocol,
                    Location { target: target.to_owned(), port: number },
                );
            }
        }
    }

    fn add_location(&mut self, host: &str, port: Option<&str>, protocol: Protocol, location: Location) {
        if let Some(port) = port.filter(|name| !name.is_empty()) {
            let name = format!("_{port}._{}.{host}", protocol.lowercase());
            self.entry(&name).services.push(location.clone());
        }
        self.entry(host).services.push(location);
    }

    /// Gives every ready endpoint its name below the service's; a headless service's own name stands for all of them.
    fn add_endpoints(
        &mut self,
        objects: &Objects,
        service: &NamespacedName,
        spec: &ServiceSpec,
        host: &str,
        headless: bool,
    ) {
        let unready_too = spec.publish_not_ready_addresses == Some(true);
        for slice in objects.slices(service) {
            for endpoint in slice.endpoints.iter().filter(|e| unready_too || is_ready(e)) {
                for address in endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()) {
                    let own = format!("{}.{host}", endpoint_label(endpoint, address));
                    push_new(&mut self.entry(&own).addresses, address);
                    push_new(&mut self.entry(&reverse_name(address)).pointers, own.clone());
                    if headless {
                        push_new(&mut self.entry(host).addresses, address);
                        for port in slice.ports.iter().flatten() {
                            let number = port.port.and_then(port_number);
                            if let Some((port_number, protocol)) = number.zip(Protocol::parse(port.protocol.as_deref()))
                            {
                                let location = Location { target: own.clone(), port: port_number };
                                self.add_location(host, port.name.as_deref(), protocol, location);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn endpoint_label(endpoint: &Endpoint, address: Ipv4Addr) -> String {
    match endpoint.hostname.as_deref() {
        Some(hostname) if !hostname.is_empty() => hostname.to_ascii_lowercase(),
        _ => address.to_string().replace('.', "-"),
    }
}

/// Whether a name is the zone or in it.
fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `10-33-0-5.NAMESPACE.pod.cluster.local`: the name says the address itself.
fn find_pod(name: &str) -> Option<Entry> {
    let within = name.strip_suffix(ZONE)?.strip_suffix(".pod.")?;
    match within.split_once('.') {
        None => Some(Entry::default()),
        Some((_, namespace)) if namespace.contains('.') => None,
        Some((address, _)) => {
            let address = address.replace('-', ".").parse().ok()?;
            Some(Entry { addresses: vec![address], ..Entry::default() })
        }
    }
}

fn reverse_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.{REVERSE}")
}

fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let labels: Vec<&str> = name.strip_suffix(REVERSE)?.strip_suffix('.')?.split('.').rev().collect();
    labels.join(".").parse().ok()
}
