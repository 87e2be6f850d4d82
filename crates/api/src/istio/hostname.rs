//! Hosts of services, possibly with a wildcard.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

/// A host in lower case: a name, an address, `*`, or a name with a wildcard for its first label (`*.example.com`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// Takes a host as it is, but for case and a trailing dot.
    pub fn new(host: &str) -> Hostname {
        Hostname(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
    }

    /// Takes a host as an object of `namespace` writes it: a name without a dot means the service in that namespace.
    pub fn resolve(host: &str, namespace: &str, domain: &str) -> Hostname {
        let complete = host.contains(['.', '*']) || host.parse::<IpAddr>().is_ok();
        if complete { Hostname::new(host) } else { Hostname::service(host, namespace, domain) }
    }

    /// The host of a Kubernetes service.
    pub fn service(name: &str, namespace: &str, domain: &str) -> Hostname {
        Hostname::new(&format!("{name}.{namespace}.svc.{domain}"))
    }

    /// Whether a text is a host: labels of letters, digits, `-` and `_`, of which the first may be `*` alone.
    pub fn is_valid(host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let rest = if host == "*" { return true } else { host.strip_prefix("*.").unwrap_or(host) };
        host.len() <= 253 && rest.split('.').all(label)
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for many names.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// The range in which hosts with a wildcard are when hosts are in order.
    pub fn wildcards() -> Range<Hostname> {
        Hostname("*".to_owned())..Hostname("+".to_owned())
    }

    /// Whether every name that `other` stands for is one that this stands for. `*.a.b` covers `x.a.b` and `*.x.a.b`,
    /// not `a.b`.
    pub fn covers(&self, other: &Hostname) -> bool {
        match self.0.strip_prefix('*') {
            None => self == other,
            Some(suffix) => match other.0.strip_prefix('*') {
                Some(narrower) => narrower.ends_with(suffix),
                None => other.0.len() > suffix.len() && other.0.ends_with(suffix),
            },
        }
    }

    /// Orders by how much is said, the most specific last: a name before no wildcard, a longer wildcard over a shorter.
    pub fn specificity(&self) -> (bool, usize) {
        (!self.is_wildcard(), self.0.len())
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_without_a_dot_are_completed() {
        let resolve = |host| Hostname::resolve(host, "ns", "cluster.local").to_string();
        assert_eq!(resolve("reviews"), "reviews.ns.svc.cluster.local");
        assert_eq!(resolve("reviews.default"), "reviews.default");
        assert_eq!(resolve("*"), "*");
        assert_eq!(resolve("::1"), "::1");
        assert_eq!(resolve("A.B."), "a.b");
    }

    #[test]
    fn hosts_are_labels() {
        assert!(["a", "*.a.b", "*", "a_b.c-d", "A.B.", "10.0.0.1"].iter().all(|host| Hostname::is_valid(host)));
        let long = ["a"; 128].join(".");
        assert!(
            ["", ".", "*a.b", "a.*", "a..b", "a|b", "a b", "a/b", &long].iter().all(|host| !Hostname::is_valid(host))
        );
    }

    #[test]
    fn wildcards_cover_what_is_below() {
        let covers = |a: &str, b: &str| Hostname::new(a).covers(&Hostname::new(b));
        assert!(covers("*.foo.com", "a.foo.com") && covers("*.foo.com", "a.b.foo.com") && covers("*", "a"));
        assert!(covers("*.foo.com", "*.a.foo.com") && covers("*.foo.com", "*.foo.com"));
        assert!(!covers("*.foo.com", "foo.com") && !covers("*.a.foo.com", "*.foo.com") && !covers("a", "b"));
        let within = |host: &str| Hostname::wildcards().contains(&Hostname::new(host));
        assert!(within("*") && within("*.z") && !within("a") && !within("_a") && !within("0"));
        assert!(Hostname::new("a.b").specificity() > Hostname::new("*.long.er").specificity());
        assert!(Hostname::new("*.a.b").specificity() > Hostname::new("*.b").specificity());
    }
}
