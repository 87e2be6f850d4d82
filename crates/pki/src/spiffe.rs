use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::PkiError;

/// Who a workload is: a service account of a namespace, in a trust domain.
///
/// As text it is `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

impl SpiffeId {
    /// No part may be empty or hold what has a meaning in the text form.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<SpiffeId, PkiError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        for (what, part) in
            [("trust domain", trust_domain), ("namespace", namespace), ("service account", service_account)]
        {
            if part.is_empty() || !part.chars().all(plain) {
                return Err(PkiError(format!(
                    "{part:?} cannot be the {what} of an identity: letters, digits, '.', '-' and '_' are allowed"
                )));
            }
        }
        let [trust_domain, namespace, service_account] = [trust_domain, namespace, service_account].map(str::to_owned);
        Ok(SpiffeId { trust_domain, namespace, service_account })
    }

    /// The name of the whole that knows this identity.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The service account's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account's name.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpiffeId { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl FromStr for SpiffeId {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<SpiffeId, PkiError> {
        let parts = text.strip_prefix("spiffe://").map(|rest| rest.split('/').collect::<Vec<_>>());
        match parts.as_deref() {
            Some([trust_domain, "ns", namespace, "sa", service_account]) => {
                SpiffeId::new(trust_domain, namespace, service_account)
            }
            _ => Err(PkiError(format!(
                "{text:?} is no workload's identity: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT is"
            ))),
        }
    }
}

/// The identity that a verified chain of certificates proves: its leaf has exactly one URI, and that is one.
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Option<SpiffeId> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let id = SpiffeId::new("cluster.local", "default", "sleep").unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/sleep");
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn what_only_looks_like_an_identity_is_refused() {
        for text in [
            "",
            "cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/b/",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns/a/ns/b",
            "spiffe://cluster.local/ns/a%2f/sa/b",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
        assert!(SpiffeId::new("cluster.local", "a/sa/root", "b").is_err());
    }
}
