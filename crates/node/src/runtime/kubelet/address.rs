//! Which pod has which address.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The first addresses of the range belong to the node.
const RESERVED: u32 = 10;

/// Hands out a cluster's pod addresses. A freed address comes last, so that no client meets a stranger behind an
/// address that it still remembers.
#[derive(Debug)]
pub(super) struct Addresses {
    range: Ipv4Net,
    used: HashSet<Ipv4Addr>,
    /// The offset in the range that is tried next.
    next: u32,
}

impl Addresses {
    /// `used` are the addresses of pods that were found.
    pub(super) fn new(range: Ipv4Net, used: impl IntoIterator<Item = Ipv4Addr>) -> Addresses {
        let used: HashSet<Ipv4Addr> = used.into_iter().collect();
        let base = u32::from(range.network());
        let highest = used.iter().filter_map(|address| u32::from(*address).checked_sub(base)).max();
        Addresses { range, used, next: highest.map_or(RESERVED, |highest| highest + 1) }
    }

    /// An address that no pod has; `None` when every one is taken.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let base = u32::from(self.range.network());
        let size = u32::from(self.range.broadcast()).checked_sub(base)?;
        for _ in RESERVED..size {
            if !(RESERVED..size).contains(&self.next) {
                self.next = RESERVED;
            }
            let address = Ipv4Addr::from(base + self.next);
            self.next += 1;
            if self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }

    pub(super) fn free(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_address_comes_last() {
        let range = "10.33.0.0/28".parse().unwrap();
        let mut addresses = Addresses::new(range, ["10.33.0.10".parse().unwrap()]);
        let first = addresses.take().unwrap();
        assert_eq!(first.to_string(), "10.33.0.11");
        addresses.free(first);
        let rest: Vec<String> = std::iter::from_fn(|| addresses.take()).map(|a| a.to_string()).collect();
        assert_eq!(rest, ["10.33.0.12", "10.33.0.13", "10.33.0.14", "10.33.0.11"]);
    }
}
