//! The certificates of gateways: Secrets that their Gateways name, as resources of the secret discovery service.
//!
//! Istio's names: `kubernetes://NAME` is a chain with its key, `kubernetes://NAME-cacert` is whom clients' certificates
//! must come from. A Secret that cannot be read leaves in use what it last held.

mod content;
mod lacks;

use std::collections::{BTreeMap, BTreeSet};

use api::NamespacedName;
use envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::feed::Step;
use content::{Content, Held};

pub(super) use lacks::found as lacks;

/// What precedes the name of a Secret in that of a resource.
const PREFIX: &str = "kubernetes://";
/// What follows the name of a Secret with certificates where its authorities are meant.
const AUTHORITIES: &str = "-cacert";
/// Which Secrets are looked at: those of service accounts are none of ours, as for Istio.
pub(super) const SELECTED: &str = "type!=kubernetes.io/service-account-token";

/// The Secrets that have certificates or authorities, as they were last seen.
#[derive(Default)]
pub(super) struct Credentials {
    contents: BTreeMap<NamespacedName, Content>,
    listed: bool,
    changes: u64,
}

/// Why a gateway does not have what one of its servers names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// There is no Secret with it.
    Missing,
    /// The Secret cannot be read; whether an earlier state of it is in use.
    Unusable { why: String, earlier: bool },
}

impl Credentials {
    /// Takes a step in; whether anything that proxies are told may be another is returned.
    pub(super) fn take(&mut self, step: Step<Secret>) -> bool {
        let changed = self.follow(step);
        self.changes += u64::from(changed);
        changed
    }

    /// How often anything has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn follow(&mut self, step: Step<Secret>) -> bool {
        match step {
            Step::Listed(secrets, _) => {
                let mut old = std::mem::take(&mut self.contents);
                let first = !std::mem::replace(&mut self.listed, true);
                let before = old.len();
                let mut changed = first;
                for secret in secrets {
                    let name = name_of(&secret);
                    let last = old.remove(&name);
                    changed |= self.put(name, last, &secret);
                }
                changed || before != self.contents.len()
            }
            Step::Applied(secret) => {
                let name = name_of(&secret);
                let last = self.contents.remove(&name);
                self.put(name, last, &secret)
            }
            Step::Deleted(secret) => self.contents.remove(&name_of(&secret)).is_some(),
        }
    }

    fn put(&mut self, name: NamespacedName, last: Option<Content>, secret: &Secret) -> bool {
        let new = Content::read(secret, last.as_ref());
        let changed = new != last;
        if let Some(new) = new {
            self.contents.insert(name, new);
        }
        changed
    }

    /// Of names of resources, those that are out of Secrets; the others are for a pod's own agent to bring.
    pub(super) fn concerned(names: BTreeSet<String>) -> BTreeSet<String> {
        names.into_iter().filter(|name| name.starts_with(PREFIX)).collect()
    }

    /// Whether all Secrets have been listed.
    pub(super) fn is_complete(&self) -> bool {
        self.listed
    }

    /// The resources of these names that a namespace has.
    pub(super) fn of<'a>(
        &'a self,
        namespace: &'a str,
        names: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = (String, tls::Secret)> + 'a {
        names.iter().filter_map(|name| {
            let value = match self.find(namespace, name)? {
                Wanted::Certificate(held) => Type::TlsCertificate(held.value.clone()?),
                Wanted::Authorities(held) => Type::ValidationContext(held.value.clone()?),
            };
            Some((name.clone(), tls::Secret { name: name.clone(), r#type: Some(value) }))
        })
    }

    /// What is wrong with a resource that a server names; `None` if nothing is.
    pub(super) fn lack(&self, namespace: &str, name: &str) -> Option<Lack> {
        let (problem, has_value) = match self.find(namespace, name) {
            None => return name.starts_with(PREFIX).then_some(Lack::Missing),
            Some(Wanted::Certificate(held)) => (&held.problem, held.value.is_some()),
            Some(Wanted::Authorities(held)) => (&held.problem, held.value.is_some()),
        };
        match (problem, has_value) {
            (Some(why), earlier) => Some(Lack::Unusable { why: why.clone(), earlier }),
            (None, true) => None,
            (None, false) => Some(Lack::Missing),
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Option<Wanted<'_>> {
        let secret = name.strip_prefix(PREFIX)?;
        let content = |name: &str| self.contents.get(&NamespacedName::new(namespace, name));
        let authorities = |name| content(name).map(|c| &c.authorities).filter(|held| !held.is_empty());
        match secret.strip_suffix(AUTHORITIES) {
            // A Secret of that name comes before what is in the one with the certificate.
            Some(base) => authorities(secret).or_else(|| authorities(base)).map(Wanted::Authorities),
            None => content(secret).map(|c| &c.certificate).filter(|held| !held.is_empty()).map(Wanted::Certificate),
        }
    }
}

enum Wanted<'a> {
    Certificate(&'a Held<tls::TlsCertificate>),
    Authorities(&'a Held<tls::CertificateValidationContext>),
}

fn name_of(secret: &Secret) -> NamespacedName {
    NamespacedName::new(secret.namespace().unwrap_or_default(), secret.name_any())
}

#[cfg(test)]
mod tests;
