//! Whether a peer's certificate is what the configuration demands.
//!
//! An identity is a URI name of a certificate whose chain was verified. A common name is never one, and no host name is
//! compared unless the configuration asks for it.

mod unread;

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::{CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{FailureKind, PROVIDER, TlsFailure};
use crate::config::{Pin, SanKind, Trust, ValidationContext};

/// At how many expired certificates of a chain may be winked.
const LONGEST_CHAIN: usize = 8;

/// Which end a certificate belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Client,
    Server,
}

/// Whose certificates are trusted.
#[derive(Debug)]
enum Anchors {
    Anybody,
    Roots(Box<[TrustAnchor<'static>]>),
    Spiffe(Box<[Domain]>),
}

/// A trust domain, with those who vouch for its identities.
type Domain = (Arc<str>, Box<[TrustAnchor<'static>]>);

/// Verifies certificates of peers.
pub(super) struct Verifier {
    usage: Usage,
    demands: Arc<ValidationContext>,
    anchors: Anchors,
    revoked: Box<[CertRevocationList<'static>]>,
    mandatory: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("usage", &self.usage).field("demands", &self.demands).finish_non_exhaustive()
    }
}

/// Why a certificate is refused, where the library has no word for it.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// It is of a version that has no place for an identity, and one is demanded.
    OldVersion,
    /// It is none of those that are demanded.
    NotPinned,
    /// It cannot be read.
    Unreadable(String),
    /// It has none of the names that are demanded; these it has.
    WrongName(Vec<Arc<str>>),
    /// It names a trust domain that is not known here, or none.
    TrustDomain(Option<Arc<str>>),
    /// It breaks a rule of its issuer or of X.509.
    Rule(String),
}

impl Refusal {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Refusal::WrongName(_) => FailureKind::WrongName,
            Refusal::NotPinned => FailureKind::WrongHash,
            _ => FailureKind::Untrusted,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OldVersion => {
                f.write_str("the peer's certificate is X.509 v1, which has no place for an identity")
            }
            Refusal::NotPinned => f.write_str("the peer's certificate is none of those that are demanded by hash"),
            Refusal::Unreadable(why) => write!(f, "the peer's certificate cannot be read: {why}"),
            Refusal::WrongName(names) if names.is_empty() => {
                f.write_str("the peer's certificate has no identity (no name in a URI)")
            }
            Refusal::WrongName(names) => write!(f, "the peer's identity is not accepted: {}", names.join(", ")),
            Refusal::TrustDomain(Some(domain)) => write!(f, "the trust domain {domain} is not known"),
            Refusal::TrustDomain(None) => f.write_str("the peer's certificate has no SPIFFE ID"),
            Refusal::Rule(why) => write!(f, "the peer's certificate is not valid: {why}"),
        }
    }
}

impl StdError for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

impl Verifier {
    pub(super) fn new(usage: Usage, demands: Arc<ValidationContext>, mandatory: bool) -> Result<Verifier, TlsFailure> {
        let anchors = match &demands.trust {
            Trust::Anybody => Anchors::Anybody,
            Trust::Roots(roots) => Anchors::Roots(trust_anchors(roots)?),
            Trust::Spiffe(domains) => {
                let domain = |d: &crate::config::TrustDomain| Ok((d.name.clone(), trust_anchors(&d.roots)?));
                Anchors::Spiffe(domains.iter().map(domain).collect::<Result<_, TlsFailure>>()?)
            }
        };
        let list = |list: &rustls::pki_types::CertificateRevocationListDer<'_>| {
            OwnedCertRevocationList::from_der(list)
                .map(CertRevocationList::from)
                .map_err(|e| TlsFailure::other(&format!("a revocation list cannot be read: {e:?}")))
        };
        let revoked = demands.revoked.iter().map(list).collect::<Result<_, _>>()?;
        Ok(Verifier { usage, demands, anchors, revoked, mandatory })
    }

    /// The identities of a peer whose handshake is done.
    pub(super) fn identities(&self, chain: &[CertificateDer<'_>], resumed: bool) -> Result<Box<[Arc<str>]>, Error> {
        let Some((leaf, others)) = chain.split_first() else { return Ok(Box::default()) };
        if matches!(self.anchors, Anchors::Anybody) {
            return Ok(Box::default());
        }
        if self.demands.accept_untrusted && self.check(leaf, others, UnixTime::now()).is_err() {
            return Ok(Box::default());
        }
        if resumed && !self.demands.allow_expired && has_expired(leaf, UnixTime::now()) {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(uri_names(leaf).into())
    }

    fn verify(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        if matches!(self.anchors, Anchors::Anybody) || self.demands.accept_untrusted {
            return Ok(());
        }
        self.check(leaf, others, now)
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let certificate = match EndEntityCert::try_from(leaf) {
            Ok(certificate) => certificate,
            // What the library does not read has no names that could be demanded.
            Err(webpki::Error::UnsupportedCertVersion) if self.demands.names.is_empty() => {
                self.check_unread(leaf, now)?;
                return self.check_pins(leaf);
            }
            Err(e) => return Err(problem(e)),
        };
        let anchors = match &self.anchors {
            Anchors::Anybody => return Ok(()),
            Anchors::Roots(roots) => roots,
            Anchors::Spiffe(domains) => anchors_of(domains, &certificate)?,
        };
        match self.check_chain(&certificate, anchors, others, now) {
            Ok(()) => {}
            // A server that signed its own certificate, and is trusted by that.
            Err(webpki::Error::CaUsedAsEndEntity) => self.check_unread(leaf, now)?,
            Err(e) => return Err(problem(e)),
        }
        self.check_names(&certificate, leaf)?;
        self.check_pins(leaf)
    }

    /// Whether the leaf is one of those that are demanded by hash.
    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let pins = &self.demands.pins;
        if pins.is_empty() {
            return Ok(());
        }
        let own = Pin::Certificate(Sha256::digest(leaf).into());
        let parsed = X509Certificate::from_der(leaf);
        let key = parsed.map(|(_, certificate)| Pin::Key(Sha256::digest(certificate.public_key().raw).into()));
        match pins.contains(&own) || key.is_ok_and(|key| pins.contains(&key)) {
            true => Ok(()),
            false => Err(Refusal::NotPinned.into()),
        }
    }

    fn check_chain(
        &self,
        certificate: &EndEntityCert<'_>,
        anchors: &[TrustAnchor<'_>],
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let mut time = now;
        let mut last = webpki::Error::MaximumPathDepthExceeded;
        for _ in 0..LONGEST_CHAIN {
            let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
            let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
                let depth = match self.demands.revocation_of_leaf_only {
                    true => webpki::RevocationCheckDepth::EndEntity,
                    false => webpki::RevocationCheckDepth::Chain,
                };
                // Authorities without a list revoke nothing.
                builder.with_depth(depth).with_status_policy(webpki::UnknownStatusPolicy::Allow).build()
            });
            let usage = match self.usage {
                Usage::Client => KeyUsage::client_auth(),
                Usage::Server => KeyUsage::server_auth(),
            };
            let algorithms = PROVIDER.signature_verification_algorithms.all;
            match certificate.verify_for_usage(algorithms, anchors, others, time, usage, revocation, None) {
                Ok(_) => return Ok(()),
                // Looked at when it was still valid.
                Err(webpki::Error::CertExpired { not_after, .. }) if self.demands.allow_expired && not_after < time => {
                    last = webpki::Error::CertExpired { time, not_after };
                    time = not_after;
                }
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    fn check_names(&self, certificate: &EndEntityCert<'_>, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let names = &self.demands.names;
        let accepted = |kind: SanKind, name: &str| names.iter().any(|n| n.matches(kind, name));
        if names.is_empty()
            || certificate.valid_uri_names().any(|name| accepted(SanKind::Uri, name))
            || certificate.valid_dns_names().any(|name| accepted(SanKind::Dns, name))
        {
            return Ok(());
        }
        let rare = names.iter().any(|n| matches!(n.kind, SanKind::Email | SanKind::Ip));
        if rare && self.has_rare_name(leaf) {
            return Ok(());
        }
        Err(Refusal::WrongName(certificate.valid_uri_names().map(Arc::from).collect()).into())
    }

    /// Whether the certificate of a peer has the name of a server.
    pub(super) fn check_name(&self, chain: &[CertificateDer<'_>], name: &str) -> Result<(), Error> {
        let Some(leaf) = chain.first().filter(|_| !matches!(self.anchors, Anchors::Anybody)) else { return Ok(()) };
        let certificate = EndEntityCert::try_from(leaf).map_err(problem)?;
        let valid =
            ServerName::try_from(name).is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok());
        let names = || certificate.valid_dns_names().map(Arc::from).collect();
        if valid { Ok(()) } else { Err(Refusal::WrongName(names()).into()) }
    }

    /// Whether a mail or IP address is among the names that are demanded.
    fn has_rare_name(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return false };
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return false };
        alternatives.value.general_names.iter().any(|name| match name {
            GeneralName::RFC822Name(mail) => self.demands.names.iter().any(|n| n.matches(SanKind::Email, mail)),
            GeneralName::IPAddress(bytes) => {
                ip_address(bytes).is_some_and(|ip| self.demands.names.iter().any(|n| n.matches_ip(ip)))
            }
            _ => false,
        })
    }
}

/// The authorities of the trust domain in a certificate's only SPIFFE ID.
fn anchors_of<'d>(domains: &'d [Domain], certificate: &EndEntityCert<'_>) -> Result<&'d [TrustAnchor<'static>], Error> {
    let mut names = certificate.valid_uri_names();
    let domain = match (names.next(), names.next()) {
        (Some(only), None) => only.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()),
        _ => None,
    };
    let domain = domain.ok_or(Refusal::TrustDomain(None))?;
    let known = domains.iter().find(|(name, _)| **name == *domain);
    known.map(|(_, anchors)| &**anchors).ok_or_else(|| Refusal::TrustDomain(Some(domain.into())).into())
}

fn trust_anchors(roots: &[CertificateDer<'static>]) -> Result<Box<[TrustAnchor<'static>]>, TlsFailure> {
    let anchor = |root: &CertificateDer<'static>| {
        webpki::anchor_from_trusted_cert(root)
            .map(|anchor| anchor.to_owned())
            .map_err(|e| TlsFailure::other(&format!("a trusted certificate cannot be read: {e:?}")))
    };
    roots.iter().map(anchor).collect()
}

/// The library's word for a problem, which decides on the alert, or ours.
fn problem(error: webpki::Error) -> Error {
    let known = match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::UnsupportedCertVersion => return Refusal::OldVersion.into(),
        e @ (webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_)) => {
            return Refusal::Unreadable(format!("{e:?}")).into();
        }
        other => return Refusal::Rule(format!("{other:?}")).into(),
    };
    Error::InvalidCertificate(known)
}

/// The URI names of a certificate.
pub(super) fn uri_names(leaf: &CertificateDer<'_>) -> Vec<Arc<str>> {
    let certificate = EndEntityCert::try_from(leaf);
    certificate.map(|c| c.valid_uri_names().map(Arc::from).collect()).unwrap_or_default()
}

fn has_expired(leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return true };
    u64::try_from(certificate.validity().not_after.timestamp()).is_ok_and(|end| end < now.as_secs())
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn algorithms() -> &'static WebPkiSupportedAlgorithms {
    &PROVIDER.signature_verification_algorithms
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client of the mesh has one certificate, so there is nothing to hint at.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, others, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unread::verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unread::verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, others, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unread::verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unread::verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
