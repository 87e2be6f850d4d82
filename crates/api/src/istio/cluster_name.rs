//! Names of Envoy clusters.

use std::fmt;
use std::str::FromStr;

/// The name of a cluster in Istio's form: `outbound|9080|v1|reviews.default.svc.cluster.local`. The same four parts,
/// joined with `_.`, are the server name by which mutual TLS addresses the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName {
    /// Whether the cluster is of other workloads or of this one.
    pub direction: Direction,
    /// Outbound the service's port, inbound the workload's.
    pub port: u16,
    /// The subset; empty for all endpoints.
    pub subset: String,
    /// The service's host; empty inbound.
    pub host: String,
}

/// Which way a cluster's traffic goes, seen from the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// Why a text is not the name of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cluster's name: DIRECTION|PORT|SUBSET|HOST, or the same joined with `_.`")]
pub struct ClusterNameError(String);

impl ClusterName {
    /// The cluster of a service's port; no subset is the empty text.
    pub fn outbound(port: u16, subset: impl Into<String>, host: impl Into<String>) -> ClusterName {
        ClusterName { direction: Direction::Outbound, port, subset: subset.into(), host: host.into() }
    }

    /// The cluster of the workload's own port.
    pub fn inbound(port: u16) -> ClusterName {
        ClusterName { direction: Direction::Inbound, port, subset: String::new(), host: String::new() }
    }

    /// The form that is a TLS server name, and the name of a cluster that forwards by it.
    pub fn server_name(&self) -> String {
        self.joined("_.")
    }

    fn joined(&self, separator: &str) -> String {
        let direction = match self.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        [direction, &self.port.to_string(), &self.subset, &self.host].join(separator)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined("|"))
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    /// Reads either form.
    fn from_str(text: &str) -> Result<ClusterName, ClusterNameError> {
        let refused = || ClusterNameError(text.to_owned());
        let separator = if text.contains('|') { "|" } else { "_." };
        let mut parts = text.splitn(4, separator);
        let mut next = || parts.next().ok_or_else(refused);
        let direction = match next()? {
            "inbound" => Direction::Inbound,
            "outbound" => Direction::Outbound,
            _ => return Err(refused()),
        };
        let digits = next()?;
        let port = digits.parse().map_err(|_| refused())?;
        let (subset, host) = (next()?, next()?);
        let plain = |part: &str| !part.contains('|') && !part.contains("_.");
        // One name has one text: no sign, no leading zero.
        if digits != u16::to_string(&port) || !plain(subset) || !plain(host) {
            return Err(refused());
        }
        Ok(ClusterName { direction, port, subset: subset.to_owned(), host: host.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_printed() {
        let name = ClusterName::outbound(9080, "v1", "reviews.default.svc.cluster.local");
        assert_eq!(name.to_string(), "outbound|9080|v1|reviews.default.svc.cluster.local");
        assert_eq!(name.server_name(), "outbound_.9080_.v1_.reviews.default.svc.cluster.local");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert_eq!(name.server_name().parse(), Ok(name));
        assert_eq!("inbound|9000||".parse(), Ok(ClusterName::inbound(9000)));
        assert_eq!("outbound_.8000_._.a.b".parse(), Ok(ClusterName::outbound(8000, "", "a.b")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "outbound",
            "sideways|1||a",
            "outbound|x||a",
            "outbound|65536||a",
            "outbound|1|a",
            "outbound|+1||a",
            "outbound|01||a",
            "outbound|1||a|b",
            "PassthroughCluster",
            "outbound_.1_.a",
        ] {
            assert!(text.parse::<ClusterName>().is_err(), "{text}");
        }
    }
}
