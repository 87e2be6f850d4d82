//! Which addresses a federation and its clusters use.
//!
//! A federation owns a /20 of 198.18.0.0/15, the range that RFC 2544 sets aside for benchmarks and that no
//! real network uses; every cluster owns a /24 of it for its node and its load balancers. Pod and service
//! ranges are distinct per cluster so that a packet's address tells where it belongs, although pod networks
//! are never routed to one another.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// The number of a cluster within its federation, 1 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct ClusterIndex(u8);

impl ClusterIndex {
    /// The largest index: a federation has at most this many clusters.
    pub const MAX: u8 = 15;
}

impl TryFrom<u8> for ClusterIndex {
    type Error = String;
    fn try_from(n: u8) -> Result<ClusterIndex, String> {
        if (1..=ClusterIndex::MAX).contains(&n) {
            Ok(ClusterIndex(n))
        } else {
            Err(format!("a federation has clusters 1 to {}, not {n}", ClusterIndex::MAX))
        }
    }
}

impl From<ClusterIndex> for u8 {
    fn from(index: ClusterIndex) -> u8 {
        index.0
    }
}

/// The addresses of one federation on this machine; `slot` (0 to 31) keeps two federations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// Which /20 of 198.18.0.0/15 is this federation's.
    pub slot: u8,
}

impl AddressPlan {
    /// How many federations fit on one machine.
    pub const SLOTS: u8 = 32;

    /// The federation's outer network, a /20.
    pub fn outer(self) -> Ipv4Net {
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (u32::from(self.slot % Self::SLOTS) << 12);
        Ipv4Net::new(base.into(), 20).expect("20 is a prefix length")
    }

    fn outer_address(self, third: u8, fourth: u8) -> Ipv4Addr {
        let base = u32::from(self.outer().network());
        (base + (u32::from(third) << 8) + u32::from(fourth)).into()
    }

    /// The address of the outer network's own bridge.
    pub fn outer_gateway(self) -> Ipv4Addr {
        self.outer_address(0, 1)
    }

    /// The host's own address on the outer network (only when the host takes part, which needs root).
    pub fn host(self) -> Ipv4Addr {
        self.outer_address(0, 2)
    }

    /// The node's address on the outer network: NodePorts answer here.
    pub fn node(self, cluster: ClusterIndex) -> Ipv4Addr {
        self.outer_address(cluster.0, 1)
    }

    /// The addresses that LoadBalancer services are given, in order.
    pub fn load_balancers(self, cluster: ClusterIndex) -> impl Iterator<Item = Ipv4Addr> {
        (2..=254).map(move |n| self.outer_address(cluster.0, n))
    }

    /// The pods' range, a /16.
    pub fn pods(self, cluster: ClusterIndex) -> Ipv4Net {
        Ipv4Net::new(Ipv4Addr::new(10, 32 + cluster.0, 0, 0), 16).expect("16 is a prefix length")
    }

    /// The pods' gateway: the node's address on the cluster's bridge; the API server listens here too.
    pub fn pod_gateway(self, cluster: ClusterIndex) -> Ipv4Addr {
        Ipv4Addr::new(10, 32 + cluster.0, 0, 1)
    }

    /// The ClusterIPs' range, a /16.
    pub fn services(self, cluster: ClusterIndex) -> Ipv4Net {
        Ipv4Net::new(Ipv4Addr::new(10, 96 + cluster.0, 0, 0), 16).expect("16 is a prefix length")
    }

    /// The ClusterIP of `kubernetes.default`.
    pub fn kubernetes_service(self, cluster: ClusterIndex) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + cluster.0, 0, 1)
    }

    /// The ClusterIP of `kube-dns.kube-system`.
    pub fn dns_service(self, cluster: ClusterIndex) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + cluster.0, 0, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn federations_and_clusters_never_overlap() {
        let one = ClusterIndex::try_from(1).unwrap();
        let (a, b) = (AddressPlan { slot: 0 }, AddressPlan { slot: 31 });
        assert_eq!(a.outer().to_string(), "198.18.0.0/20");
        assert_eq!(b.outer().to_string(), "198.19.240.0/20");
        assert_eq!(a.node(one), Ipv4Addr::new(198, 18, 1, 1));
        assert!(a.load_balancers(one).all(|ip| a.outer().contains(&ip)));
        assert!(ClusterIndex::try_from(16).is_err());
    }
}
