//! Which ClusterIPs and node ports are taken.
//!
//! The stored services are the truth, so deleting a service or changing its type releases what it held without
//! further ado. What has been promised to a write that is not committed yet is remembered beside them; a write
//! that fails lets its promise lapse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::GroupResource;
use apiserver::{Key, Revision, Store};
use ipnet::Ipv4Net;
use serde_json::Value;

/// The ports on which node ports are given out.
pub(super) const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// The first addresses and ports of each range are left to those who ask for a certain one.
const STATIC_ADDRESSES: u32 = 256;
const STATIC_PORTS: u16 = 86;

/// Longer than any write takes from admission to commit.
const PROMISE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Claims {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Claims {
    fn of(service: &Value) -> Claims {
        let spec = &service["spec"];
        let addresses = spec["clusterIPs"].as_array().into_iter().flatten().chain([&spec["clusterIP"]]);
        let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
        Claims {
            addresses: addresses.filter_map(|ip| ip.as_str()?.parse().ok()).collect(),
            ports: ports.filter_map(|port| u16::try_from(port.as_u64()?).ok()).collect(),
        }
    }
}

#[derive(Debug)]
struct State {
    /// Claims of stored services, read once per revision.
    stored: BTreeMap<Key, (Revision, Claims)>,
    promised: BTreeMap<Key, (Instant, Claims)>,
    next_address: u32,
    next_port: u16,
}

/// Gives out addresses of one range and node ports.
#[derive(Debug)]
pub(super) struct Allocator {
    range: Ipv4Net,
    state: Mutex<State>,
}

/// Why an address or port was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("failed to allocate IP {0}: provided IP is already allocated")]
    AddressTaken(Ipv4Addr),
    #[error(
        "failed to allocate IP {0}: the provided IP ({0}) is not in the valid range. The range of valid IPs is {1}"
    )]
    OutsideRange(Ipv4Addr, Ipv4Net),
    #[error("failed to allocate a serviceIP: range is full")]
    NoAddress,
    #[error("provided port is already allocated")]
    PortTaken,
    #[error("provided port is not in the valid range. The range of valid ports is 30000-32767")]
    PortOutsideRange,
    #[error("failed to allocate a nodePort: range is full")]
    NoPort,
}

impl Allocator {
    pub(super) fn new(range: Ipv4Net) -> Allocator {
        let state = State {
            stored: BTreeMap::new(),
            promised: BTreeMap::new(),
            next_address: STATIC_ADDRESSES,
            next_port: NODE_PORTS.start() + STATIC_PORTS,
        };
        Allocator { range, state: Mutex::new(state) }
    }

    /// Takes back what was promised to the service `key`, which is being deleted.
    pub(super) fn release(&self, key: &Key) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).promised.remove(key);
    }

    /// Starts giving addresses and ports to the service `key`; others wait until the grant is dropped.
    pub(super) fn grant(&self, store: &Store, key: Key) -> Grant<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.read(store);
        let others = state.stored.iter().map(|(k, (_, claims))| (k, claims));
        let others = others.chain(state.promised.iter().map(|(k, (_, claims))| (k, claims)));
        let others: Vec<&Claims> = others.filter(|(k, _)| **k != key).map(|(_, claims)| claims).collect();
        let addresses = others.iter().flat_map(|c| c.addresses.iter().copied()).collect();
        let ports = others.iter().flat_map(|c| c.ports.iter().copied()).collect();
        Grant { range: self.range, state, key, addresses, ports, given: Claims::default() }
    }
}

impl State {
    fn read(&mut self, store: &Store) {
        let (_, services) = store.list(&GroupResource::new("", "services"), None);
        let mut before = std::mem::take(&mut self.stored);
        for service in services {
            let known = before.remove(&service.key).filter(|(revision, _)| *revision == service.revision);
            let claims = known.map_or_else(|| Claims::of(&service.value()), |(_, claims)| claims);
            self.stored.insert(service.key.clone(), (service.revision, claims));
        }
        let now = Instant::now();
        self.promised.retain(|_, (made, _)| now.duration_since(*made) < PROMISE);
    }
}

/// Exclusive access to the ranges, on behalf of one service.
pub(super) struct Grant<'a> {
    range: Ipv4Net,
    state: MutexGuard<'a, State>,
    key: Key,
    /// What all other services hold.
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
    given: Claims,
}

impl Grant<'_> {
    /// The address `wanted`, or any.
    pub(super) fn address(&mut self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, Refused> {
        let address = match wanted {
            Some(ip) if self.addresses.contains(&ip) => return Err(Refused::AddressTaken(ip)),
            Some(ip) if !self.is_usable(ip) => return Err(Refused::OutsideRange(ip, self.range)),
            Some(ip) => ip,
            None => self.free_address().ok_or(Refused::NoAddress)?,
        };
        self.given.addresses.push(address);
        Ok(address)
    }

    fn is_usable(&self, ip: Ipv4Addr) -> bool {
        self.range.contains(&ip) && ip != self.range.network() && ip != self.range.broadcast()
    }

    fn free_address(&mut self) -> Option<Ipv4Addr> {
        let base = u32::from(self.range.network());
        let size = u32::from(self.range.broadcast()) - base;
        let start = self.state.next_address;
        let offset = (start..size).chain(1..start.min(size)).find(|n| !self.addresses.contains(&(base + n).into()))?;
        self.state.next_address = if offset + 1 < size { offset + 1 } else { STATIC_ADDRESSES };
        Some((base + offset).into())
    }

    /// The node port `wanted`, or any. A service may use one number for several protocols.
    pub(super) fn port(&mut self, wanted: Option<u16>) -> Result<u16, Refused> {
        let port = match wanted {
            Some(port) if !NODE_PORTS.contains(&port) => return Err(Refused::PortOutsideRange),
            Some(port) if self.ports.contains(&port) => return Err(Refused::PortTaken),
            Some(port) => port,
            None => self.free_port().ok_or(Refused::NoPort)?,
        };
        self.given.ports.push(port);
        Ok(port)
    }

    fn free_port(&mut self) -> Option<u16> {
        let (first, last) = (*NODE_PORTS.start(), *NODE_PORTS.end());
        let start = self.state.next_port;
        let free = |port: &u16| !self.ports.contains(port) && !self.given.ports.contains(port);
        let port = (start..=last).chain(first..start).find(free)?;
        self.state.next_port = if port < last { port + 1 } else { first + STATIC_PORTS };
        Some(port)
    }

    /// Holds what was given until the service is committed.
    pub(super) fn promise(mut self) {
        let given = std::mem::take(&mut self.given);
        self.state.promised.insert(self.key.clone(), (Instant::now(), given));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grant<'a>(allocator: &'a Allocator, name: &str) -> Grant<'a> {
        let key = Key {
            resource: GroupResource::new("", "services"),
            namespace: "default".to_owned(),
            name: name.to_owned(),
        };
        let state = allocator.state.lock().unwrap();
        let others = state.promised.iter().filter(|(k, _)| **k != key);
        let addresses = others.clone().flat_map(|(_, (_, c))| c.addresses.clone()).collect();
        let ports = others.flat_map(|(_, (_, c))| c.ports.clone()).collect();
        Grant { range: allocator.range, state, key, addresses, ports, given: Claims::default() }
    }

    #[test]
    fn an_address_is_given_once() {
        let allocator = Allocator::new("10.97.0.0/16".parse().unwrap());
        let mut first = grant(&allocator, "a");
        let ip = first.address(None).unwrap();
        let port = first.port(None).unwrap();
        first.promise();
        let mut second = grant(&allocator, "b");
        assert_eq!(second.address(Some(ip)), Err(Refused::AddressTaken(ip)));
        assert_eq!(second.port(Some(port)), Err(Refused::PortTaken));
        assert_ne!(second.address(None).unwrap(), ip);
        drop(second);
        assert_eq!(grant(&allocator, "a").address(Some(ip)), Ok(ip), "its owner may ask again");
    }

    #[test]
    fn requests_outside_the_ranges_are_refused() {
        let allocator = Allocator::new("10.97.0.0/16".parse().unwrap());
        let mut grant = grant(&allocator, "a");
        assert!(matches!(grant.address(Some(Ipv4Addr::new(10, 98, 0, 1))), Err(Refused::OutsideRange(..))));
        assert!(matches!(grant.address(Some(Ipv4Addr::new(10, 97, 255, 255))), Err(Refused::OutsideRange(..))));
        assert_eq!(grant.port(Some(80)), Err(Refused::PortOutsideRange));
    }

    #[test]
    fn a_full_range_says_so() {
        let allocator = Allocator::new("10.0.0.0/30".parse().unwrap());
        for name in ["a", "b"] {
            let mut grant = grant(&allocator, name);
            grant.address(None).unwrap();
            grant.promise();
        }
        assert_eq!(grant(&allocator, "c").address(None), Err(Refused::NoAddress));
    }

    #[test]
    fn claims_are_what_a_service_says_it_holds() {
        let service =
            json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"nodePort": 30001}]}});
        let claims = Claims::of(&service);
        assert_eq!(claims.ports, [30001]);
        assert!(claims.addresses.iter().all(|ip| *ip == Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(Claims::of(&json!({"spec": {"clusterIP": "None"}})), Claims::default());
    }
}
