//! Who a workload is.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The name of an authority over identities, for example `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct TrustDomain(pub String);

impl Default for TrustDomain {
    fn default() -> TrustDomain {
        TrustDomain("cluster.local".to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workload's SPIFFE ID: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

/// Why a text is not a workload's SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
pub struct IdentityError(String);

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpiffeId { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<SpiffeId, IdentityError> {
        let parts: Vec<&str> = text.strip_prefix("spiffe://").unwrap_or_default().split('/').collect();
        match parts.as_slice() {
            [domain, "ns", namespace, "sa", account] if [domain, namespace, account].iter().all(|p| !p.is_empty()) => {
                Ok(SpiffeId {
                    trust_domain: TrustDomain((*domain).to_owned()),
                    namespace: (*namespace).to_owned(),
                    service_account: (*account).to_owned(),
                })
            }
            _ => Err(IdentityError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip_and_others_are_refused() {
        let text = "spiffe://cluster.local/ns/foo/sa/sleep";
        assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        for text in
            ["", "cluster.local/ns/foo/sa/sleep", "spiffe://a/ns/b/sa/", "spiffe://a/ns/b/sa/c/d", "spiffe://a/b"]
        {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }
}
