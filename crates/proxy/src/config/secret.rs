//! Secrets: certificates with their keys, and demands on certificates, that SDS delivers.

use std::fmt;
use std::sync::Arc;

use envoy::envoy::extensions::transport_sockets::tls::v3;
use envoy::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::data_source::{bytes, pem_items};
use super::field::{Checked, Path, Rejected, fields};
use super::validation::{self, ValidationContext};

/// A secret.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Its name, unique among secrets.
    pub name: Arc<str>,
    /// What it holds.
    pub value: SecretValue,
}

/// What a secret holds.
#[derive(Debug, Clone)]
pub enum SecretValue {
    /// A certificate with its key.
    Certificate(TlsCertificate),
    /// Demands on a peer's certificate.
    Validation(Arc<ValidationContext>),
}

/// A certificate chain with the key of its leaf; the two were seen to belong together.
#[derive(Clone)]
pub struct TlsCertificate {
    /// The chain and its key, ready for use.
    pub certified: Arc<CertifiedKey>,
}

impl fmt::Debug for TlsCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsCertificate({} certificates, key redacted)", self.certified.cert.len())
    }
}

impl TryFrom<v3::Secret> for Secret {
    type Error = Rejected;

    fn try_from(message: v3::Secret) -> Checked<Secret> {
        let at = &Path::ROOT;
        let v3::Secret { name, r#type } = message;
        let value = match at.required(r#type)? {
            Type::TlsCertificate(message) => {
                SecretValue::Certificate(certificate(&at.field("tls_certificate"), message)?)
            }
            Type::ValidationContext(message) => {
                let at = at.field("validation_context");
                let context = validation::context(&at, message)?;
                if context.takes_anybody() {
                    return Err(at.field("trusted_ca").reject("is required: without it any certificate would do"));
                }
                SecretValue::Validation(Arc::new(context))
            }
            Type::SessionTicketKeys(_) => return Err(at.field("session_ticket_keys").reject("is not supported")),
            Type::GenericSecret(_) => return Err(at.field("generic_secret").reject("is not supported")),
        };
        Ok(Secret { name: at.field("name").named(&name)?.into(), value })
    }
}

pub(super) fn certificate(at: &Path<'_>, message: v3::TlsCertificate) -> Checked<TlsCertificate> {
    fields!(at, message => v3::TlsCertificate { certificate_chain, private_key }
        refuse { pkcs12, watched_directory, private_key_provider, password, ocsp_staple,
            signed_certificate_timestamp, tls_params });
    let (chain_at, key_at) = (at.field("certificate_chain"), at.field("private_key"));
    let chain: Vec<CertificateDer<'static>> = pem_items(&chain_at, chain_at.required(certificate_chain)?)?;
    let text = bytes(&key_at, key_at.required(private_key)?)?;
    // The cause is not repeated: it might quote the key.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| key_at.reject("is not a private key in PEM"))?;
    let certified = pki::certified_key(chain, key)
        .map_err(|e| key_at.reject(format_args!("cannot be used with the certificate: {e}")))?;
    Ok(TlsCertificate { certified: Arc::new(certified) })
}
