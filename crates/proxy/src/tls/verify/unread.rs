//! Certificates that the TLS library does not read or has no rule for, and that Envoy takes: those of X.509 v1, as a plain
//! `openssl x509 -req` makes them, and those that a server has signed with its own key, as `openssl req -x509` does.
//!
//! They come straight from a trusted authority, or are trusted themselves; intermediates do not vouch for them.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_PKCS1_SHA1WITHRSA;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Refusal, Usage, Verifier, algorithms};
use crate::config::Trust;

impl Verifier {
    /// Whether such a certificate is from a trusted authority, still holds, and is for this purpose.
    pub(super) fn check_unread(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let certificate = parse(leaf)?;
        let Trust::Roots(roots) = &self.demands.trust else { return Err(Refusal::OldVersion.into()) };
        if !self.revoked.is_empty() {
            let why = "it is not one that the revocation lists can be asked about".to_owned();
            return Err(Refusal::Rule(why).into());
        }
        self.check_time(&certificate, now)?;
        self.check_extensions(&certificate)?;
        if roots.iter().any(|root| is_from(leaf, &certificate, root)) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn check_time(&self, certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
        let (validity, now) = (certificate.validity(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if now < validity.not_before.timestamp() {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now > validity.not_after.timestamp() && !self.demands.allow_expired {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(())
    }

    fn check_extensions(&self, certificate: &X509Certificate<'_>) -> Result<(), Error> {
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let fits = match self.usage {
                        Usage::Client => usage.client_auth,
                        Usage::Server => usage.server_auth,
                    };
                    if !fits {
                        return Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
                    }
                }
                ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. }
                    if extension.critical =>
                {
                    let why = format!("the critical extension {} is not known", extension.oid);
                    return Err(Refusal::Rule(why).into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|e| Refusal::Unreadable(e.to_string()).into())
}

/// Whether `root` is the certificate itself, or has signed it. SHA-1 can be forged.
fn is_from(leaf: &CertificateDer<'_>, certificate: &X509Certificate<'_>, root: &CertificateDer<'_>) -> bool {
    if leaf.as_ref() == root.as_ref() {
        return true;
    }
    let Ok((_, root)) = X509Certificate::from_der(root) else { return false };
    certificate.signature_algorithm.algorithm != OID_PKCS1_SHA1WITHRSA
        && certificate.issuer().as_raw() == root.subject().as_raw()
        && certificate.verify_signature(Some(root.public_key())).is_ok()
}

/// The key of a certificate that the library cannot read; `None` if it can.
fn key_beyond_reach(certificate: &CertificateDer<'_>) -> Result<Option<SubjectPublicKeyInfoDer<'static>>, Error> {
    match EndEntityCert::try_from(certificate) {
        Err(webpki::Error::UnsupportedCertVersion) => {
            let key = parse(certificate)?.public_key().raw.to_vec();
            Ok(Some(SubjectPublicKeyInfoDer::from(key)))
        }
        _ => Ok(None),
    }
}

/// Whether the peer has the key of its certificate, in TLS 1.3.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    match key_beyond_reach(certificate)? {
        None => rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms()),
        Some(key) => rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signature, algorithms()),
    }
}

/// Whether the peer has the key of its certificate, in TLS 1.2.
pub(super) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(key) = key_beyond_reach(certificate)? else {
        return rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms());
    };
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let entity = RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
    let candidates = algorithms().mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
    let mut candidates = candidates.flat_map(|(_, candidates)| candidates.iter());
    match candidates.any(|algorithm| entity.verify_signature(*algorithm, message, signature.signature()).is_ok()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(bad()),
    }
}
