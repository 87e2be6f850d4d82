//! What a Secret holds of certificates, under the keys that Istio knows.

use std::collections::BTreeMap;

use envoy::envoy::config::core::v3::DataSource;
use envoy::envoy::config::core::v3::data_source::Specifier;
use envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// The keys of a chain and its private key, those of generic Secrets first.
const CERTIFICATES: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// The keys of authorities, and of lists of what they have revoked.
const AUTHORITIES: [&str; 2] = ["cacert", "ca.crt"];
const REVOCATIONS: [&str; 2] = ["crl", "ca.crl"];

/// What a Secret holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) certificate: Held<tls::TlsCertificate>,
    pub(super) authorities: Held<tls::CertificateValidationContext>,
}

/// The last state of something that could be used, and what is wrong with a later one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held<T> {
    pub(super) value: Option<T>,
    pub(super) problem: Option<String>,
}

impl<T: Clone> Held<T> {
    /// `read` is `None` if there is nothing to read.
    fn new(read: Option<Result<T, String>>, last: Option<&Held<T>>) -> Held<T> {
        match read {
            None => Held { value: None, problem: None },
            Some(Ok(value)) => Held { value: Some(value), problem: None },
            Some(Err(why)) => Held { value: last.and_then(|last| last.value.clone()), problem: Some(why) },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value.is_none() && self.problem.is_none()
    }
}

type Items = BTreeMap<String, ByteString>;

impl Content {
    /// `last` is what the Secret held before; `None` if it has nothing to do with certificates.
    pub(super) fn read(secret: &Secret, last: Option<&Content>) -> Option<Content> {
        let items = secret.data.as_ref()?;
        let content = Content {
            certificate: Held::new(certificate(items), last.map(|last| &last.certificate)),
            authorities: Held::new(authorities(items), last.map(|last| &last.authorities)),
        };
        (!content.certificate.is_empty() || !content.authorities.is_empty()).then_some(content)
    }
}

fn certificate(items: &Items) -> Option<Result<tls::TlsCertificate, String>> {
    let pairs = CERTIFICATES.into_iter().filter(|(chain, key)| items.contains_key(*chain) || items.contains_key(*key));
    let (chain_name, key_name) = pairs.max_by_key(|(chain, key)| {
        // A whole pair comes before half of one, and otherwise the first: `max` takes the last of equals.
        (items.contains_key(*chain) && items.contains_key(*key), *chain == CERTIFICATES[0].0)
    })?;
    let item = |name: &str| items.get(name).map(|item| &item.0).filter(|item| !item.is_empty());
    let missing = |name: &str| format!("{name} is missing");
    let pair = item(chain_name).ok_or_else(|| missing(chain_name));
    let pair = pair.and_then(|chain| Ok((chain, item(key_name).ok_or_else(|| missing(key_name))?)));
    Some(pair.and_then(|(chain, key)| {
        check_pair((chain_name, chain), (key_name, key))?;
        Ok(tls::TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..tls::TlsCertificate::default()
        })
    }))
}

fn authorities(items: &Items) -> Option<Result<tls::CertificateValidationContext, String>> {
    let (name, roots) = AUTHORITIES.into_iter().find_map(|name| Some((name, &items.get(name)?.0)))?;
    let revoked = REVOCATIONS.into_iter().find_map(|name| Some((name, &items.get(name)?.0)));
    let checked = check::<CertificateDer<'_>>(name, roots)
        .and_then(|()| revoked.map_or(Ok(()), |(name, list)| check::<CertificateRevocationListDer<'_>>(name, list)));
    Some(checked.map(|()| tls::CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        crl: revoked.map(|(_, list)| inline(list)),
        ..tls::CertificateValidationContext::default()
    }))
}

/// What is said about a key never quotes it.
fn check_pair((chain_name, chain): (&str, &[u8]), (key_name, key): (&str, &[u8])) -> Result<(), String> {
    let chain = items::<CertificateDer<'static>>(chain_name, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| format!("{key_name} is not a private key in PEM"))?;
    pki::certified_key(chain, key).map(drop).map_err(|e| format!("{key_name} cannot be used with {chain_name}: {e}"))
}

fn check<T: PemObject>(name: &str, text: &[u8]) -> Result<(), String> {
    items::<T>(name, text).map(drop)
}

fn items<T: PemObject>(name: &str, text: &[u8]) -> Result<Vec<T>, String> {
    let items: Result<Vec<T>, _> = T::pem_slice_iter(text).collect();
    match items {
        Ok(items) if items.is_empty() => Err(format!("{name} has no such item in PEM")),
        Ok(items) => Ok(items),
        Err(e) => Err(format!("{name} is not PEM: {e}")),
    }
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..DataSource::default() }
}
