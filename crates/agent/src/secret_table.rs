//! The secrets that the proxy may have, by name, each with a version that grows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy::envoy::config::core::v3::DataSource;
use envoy::envoy::config::core::v3::data_source::Specifier;
use envoy::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate};
use pki::Certificate;
use tokio::sync::watch;

/// The workload's own certificate.
pub(crate) const OWN: &str = "default";
/// What the mesh trusts.
pub(crate) const ROOTS: &str = "ROOTCA";

/// A secret and which of its versions it is.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) secret: Arc<Secret>,
}

/// The secrets by name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SecretTable {
    entries: Arc<watch::Sender<BTreeMap<String, Entry>>>,
    /// The names that somebody has asked for.
    wanted: Arc<watch::Sender<BTreeSet<String>>>,
}

impl Default for SecretTable {
    fn default() -> SecretTable {
        SecretTable { entries: Arc::new(watch::Sender::default()), wanted: Arc::new(watch::Sender::default()) }
    }
}

impl SecretTable {
    /// Puts a secret in, unless it is there already just so.
    pub(crate) fn put(&self, secret: Secret) {
        self.entries.send_if_modified(|entries| {
            let last = entries.get(&secret.name);
            if last.is_some_and(|entry| *entry.secret == secret) {
                return false;
            }
            let version = last.map_or(0, |entry| entry.version) + 1;
            entries.insert(secret.name.clone(), Entry { version, secret: Arc::new(secret) });
            true
        });
    }

    /// Asks for secrets by name: those of files are read from then on.
    pub(crate) fn want(&self, names: impl IntoIterator<Item = String>) {
        self.wanted.send_if_modified(|wanted| {
            let before = wanted.len();
            wanted.extend(names);
            wanted.len() != before
        });
    }

    pub(crate) fn wanted(&self) -> watch::Receiver<BTreeSet<String>> {
        self.wanted.subscribe()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, Entry>> {
        self.entries.subscribe()
    }
}

/// A certificate chain with its key, as a secret.
pub(crate) fn certificate(name: &str, certificate: &Certificate) -> Secret {
    let key = certificate.key_pem.clone().unwrap_or_default();
    let value = TlsCertificate {
        certificate_chain: Some(inline(certificate.chain_pem.clone())),
        private_key: Some(inline(key)),
        ..TlsCertificate::default()
    };
    Secret { name: name.to_owned(), r#type: Some(Type::TlsCertificate(value)) }
}

/// Trusted roots, as a secret.
pub(crate) fn trust(name: &str, roots_pem: String) -> Secret {
    let value =
        CertificateValidationContext { trusted_ca: Some(inline(roots_pem)), ..CertificateValidationContext::default() };
    Secret { name: name.to_owned(), r#type: Some(Type::ValidationContext(value)) }
}

/// Trusted roots with a list of what they have revoked.
pub(crate) fn revoking(mut roots: Secret, list_pem: String) -> Secret {
    if let Some(Type::ValidationContext(context)) = &mut roots.r#type {
        context.crl = Some(inline(list_pem));
    }
    roots
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())), ..DataSource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_gets_a_new_version_when_it_changes_and_only_then() {
        let table = SecretTable::default();
        let seen = table.subscribe();
        let version = || table.subscribe().borrow()[ROOTS].version;
        table.put(trust(ROOTS, "a".to_owned()));
        assert_eq!(version(), 1);
        table.put(trust(ROOTS, "b".to_owned()));
        assert_eq!(version(), 2);
        let mut again = table.subscribe();
        again.mark_unchanged();
        table.put(trust(ROOTS, "b".to_owned()));
        assert!(!again.has_changed().unwrap() && seen.has_changed().unwrap());
        assert_eq!(version(), 2);
    }
}
