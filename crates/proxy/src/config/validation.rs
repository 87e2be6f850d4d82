//! What is demanded of a peer's certificate.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use envoy::envoy::config::core::v3::TypedExtensionConfig;
use envoy::envoy::extensions::transport_sockets::tls::v3;
use envoy::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config as spiffe;
use envoy::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::data_source::pem_items;
use super::field::{Checked, Path, fields};
use super::secret::{Secret, SecretValue};
use super::string_match::StringMatch;
use super::tls::{SecretRef, secret_ref};

/// Where the demands come from: the context itself, a secret, or both together.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// What the context itself demands.
    pub own: Option<Arc<ValidationContext>>,
    /// The secret whose demands are added.
    pub secret: Option<SecretRef>,
}

/// Demands on a peer's certificate.
#[derive(Debug, Clone, Default)]
pub struct ValidationContext {
    /// Whom it must come from.
    pub trust: Trust,
    /// Names of which its leaf must have one; empty for no demand.
    pub names: Box<[SanMatch]>,
    /// Leaves of which it must be one, whoever issued it; empty for no demand.
    pub pins: Box<[Pin]>,
    /// Lists of certificates that have been revoked.
    pub revoked: Arc<[CertificateRevocationListDer<'static>]>,
    /// Whether revocation is looked up for the leaf alone; otherwise for the whole chain.
    pub revocation_of_leaf_only: bool,
    /// Whether it may have expired.
    pub allow_expired: bool,
    /// Whether a certificate that does not hold is taken all the same, if there is one; its names then say nothing.
    pub accept_untrusted: bool,
}

/// Whom a certificate must come from.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Anybody: nothing is verified.
    #[default]
    Anybody,
    /// One of these authorities.
    Roots(Arc<[CertificateDer<'static>]>),
    /// The authorities of the trust domain in its SPIFFE ID, and no others.
    Spiffe(Arc<[TrustDomain]>),
}

/// A trust domain, with the authorities that vouch for its identities.
#[derive(Debug, Clone)]
pub struct TrustDomain {
    /// Its name, such as `cluster.local`.
    pub name: Arc<str>,
    /// Its authorities.
    pub roots: Box<[CertificateDer<'static>]>,
}

/// A leaf that is known beforehand, by a SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Of the certificate.
    Certificate([u8; 32]),
    /// Of its public key, as it stands in the certificate (`subjectPublicKeyInfo`).
    Key([u8; 32]),
}

/// A subject alternative name to match.
#[derive(Debug, Clone)]
pub struct SanMatch {
    /// Its kind.
    pub kind: SanKind,
    /// Its value; an IP address is compared in its usual text form.
    pub matcher: StringMatch,
}

/// A kind of subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// A DNS name.
    Dns,
    /// A URI, such as a SPIFFE ID.
    Uri,
    /// A mail address.
    Email,
    /// An IP address.
    Ip,
}

impl Validation {
    /// The demands themselves; `None` if they are in a secret that is missing or is something else.
    pub fn with(&self, secret: Option<&Secret>) -> Option<Arc<ValidationContext>> {
        if self.secret.is_none() {
            return Some(self.own.clone().unwrap_or_default());
        }
        match (&secret?.value, &self.own) {
            (SecretValue::Validation(added), Some(own)) => Some(Arc::new(own.merged(added))),
            (SecretValue::Validation(added), None) => Some(added.clone()),
            (SecretValue::Certificate(_), _) => None,
        }
    }

    /// Whether anything is demanded, or will be.
    pub fn is_set(&self) -> bool {
        self.own.is_some() || self.secret.is_some()
    }

    /// Whether there are demands that everybody meets, whoever issued the certificate, and no secret adds to them.
    pub(super) fn takes_anybody(&self) -> bool {
        self.secret.is_none() && self.own.as_ref().is_some_and(|own| own.takes_anybody())
    }
}

impl ValidationContext {
    /// Whether the issuer of a certificate does not matter, though nothing says that it need not.
    pub(super) fn takes_anybody(&self) -> bool {
        matches!(self.trust, Trust::Anybody) && !self.accept_untrusted
    }

    /// Adds the demands of a secret, as Envoy merges a dynamic context into the default one: what the secret sets
    /// replaces, and names and lists add up.
    pub fn merged(&self, secret: &ValidationContext) -> ValidationContext {
        ValidationContext {
            trust: if matches!(secret.trust, Trust::Anybody) { &self.trust } else { &secret.trust }.clone(),
            names: self.names.iter().chain(&secret.names).cloned().collect(),
            pins: self.pins.iter().chain(&secret.pins).copied().collect(),
            revoked: self.revoked.iter().chain(secret.revoked.iter()).cloned().collect(),
            revocation_of_leaf_only: self.revocation_of_leaf_only || secret.revocation_of_leaf_only,
            allow_expired: self.allow_expired || secret.allow_expired,
            accept_untrusted: self.accept_untrusted || secret.accept_untrusted,
        }
    }
}

impl SanMatch {
    /// Whether a name of the given kind matches.
    pub fn matches(&self, kind: SanKind, name: &str) -> bool {
        self.kind == kind && self.matcher.matches(name)
    }

    /// Whether an IP address matches.
    pub fn matches_ip(&self, ip: IpAddr) -> bool {
        self.kind == SanKind::Ip && self.matcher.matches(&ip.to_string())
    }
}

pub(super) fn from_message(at: &Path<'_>, message: Option<ValidationContextType>) -> Checked<Validation> {
    match message {
        None => Ok(Validation::default()),
        Some(ValidationContextType::ValidationContext(own)) => {
            let at = at.field("validation_context");
            let own = context(&at, own)?;
            if !own.pins.is_empty() && own.takes_anybody() {
                let reason = "is required beside hashes of certificates";
                return Err(at.field("trusted_ca").reject(reason));
            }
            if !own.names.is_empty() && matches!(own.trust, Trust::Anybody) {
                let reason = "without trusted_ca anybody could issue these names";
                return Err(at.field("match_typed_subject_alt_names").reject(reason));
            }
            Ok(Validation { own: Some(Arc::new(own)), secret: None })
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            let secret = secret_ref(&at.field("validation_context_sds_secret_config"), secret)?;
            Ok(Validation { own: None, secret: Some(secret) })
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            self::combined(&at.field("combined_validation_context"), combined)
        }
        Some(ValidationContextType::ValidationContextCertificateProvider(_)) => {
            Err(at.field("validation_context_certificate_provider").reject("is not supported"))
        }
        Some(ValidationContextType::ValidationContextCertificateProviderInstance(_)) => {
            Err(at.field("validation_context_certificate_provider_instance").reject("is not supported"))
        }
    }
}

fn combined(at: &Path<'_>, message: CombinedCertificateValidationContext) -> Checked<Validation> {
    fields!(at, message => CombinedCertificateValidationContext { default_validation_context,
            validation_context_sds_secret_config }
        refuse { validation_context_certificate_provider, validation_context_certificate_provider_instance });
    let (own_at, secret_at) =
        (at.field("default_validation_context"), at.field("validation_context_sds_secret_config"));
    Ok(Validation {
        own: Some(Arc::new(context(&own_at, own_at.required(default_validation_context)?)?)),
        secret: Some(secret_ref(&secret_at, secret_at.required(validation_context_sds_secret_config)?)?),
    })
}

pub(super) fn context(at: &Path<'_>, message: v3::CertificateValidationContext) -> Checked<ValidationContext> {
    // Inline data is not watched; the list of CAs that a server sends is a hint to the client.
    fields!(at, message => v3::CertificateValidationContext { trusted_ca, match_typed_subject_alt_names,
            require_signed_certificate_timestamp, crl, allow_expired_certificate, trust_chain_verification,
            custom_validator_config, only_verify_leaf_cert_crl, verify_certificate_spki, verify_certificate_hash }
        refuse { ca_certificate_provider_instance, system_root_certs, watched_directory, match_subject_alt_names,
            max_verify_depth }
        ignore { suppress_client_ca_list });
    at.field("require_signed_certificate_timestamp").off(require_signed_certificate_timestamp)?;
    let trust_at = at.field("custom_validator_config");
    let trust = match (trusted_ca, custom_validator_config) {
        (None, None) => Trust::Anybody,
        (Some(roots), None) => Trust::Roots(pem_items(&at.field("trusted_ca"), roots)?.into()),
        (None, Some(spiffe)) => spiffe_domains(&trust_at, spiffe)?,
        (Some(_), Some(_)) => return Err(trust_at.reject("must not be set beside trusted_ca")),
    };
    let names_at = at.field("match_typed_subject_alt_names");
    let names = match_typed_subject_alt_names.into_iter().enumerate();
    let accept_untrusted =
        at.field("trust_chain_verification").enumeration::<TrustChainVerification>(trust_chain_verification)?
            == TrustChainVerification::AcceptUntrusted;
    let names: Box<[SanMatch]> = names.map(|(i, n)| san_match(&names_at.index(i), n)).collect::<Checked<_>>()?;
    Ok(ValidationContext {
        trust,
        names,
        pins: pins(at, &verify_certificate_spki, &verify_certificate_hash)?,
        revoked: crl.map(|c| pem_items(&at.field("crl"), c)).transpose()?.unwrap_or_default().into(),
        revocation_of_leaf_only: only_verify_leaf_cert_crl,
        allow_expired: allow_expired_certificate,
        accept_untrusted,
    })
}

/// Hashes as Envoy writes them: of keys in Base64, of certificates in hexadecimal digits, with colons or without.
fn pins(at: &Path<'_>, keys: &[String], certificates: &[String]) -> Checked<Box<[Pin]>> {
    let (keys_at, certificates_at) = (at.field("verify_certificate_spki"), at.field("verify_certificate_hash"));
    let key = |(i, text): (usize, &String)| {
        let hash = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        hash.map(Pin::Key).ok_or_else(|| keys_at.index(i).reject("is not a SHA-256 hash in Base64"))
    };
    let certificate = |(i, text): (usize, &String)| {
        let hash = from_hex(text).and_then(|bytes| bytes.try_into().ok());
        hash.map(Pin::Certificate)
            .ok_or_else(|| certificates_at.index(i).reject("is not a SHA-256 hash in hexadecimal digits"))
    };
    keys.iter().enumerate().map(key).chain(certificates.iter().enumerate().map(certificate)).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}

fn san_match(at: &Path<'_>, message: v3::SubjectAltNameMatcher) -> Checked<SanMatch> {
    fields!(at, message => v3::SubjectAltNameMatcher { san_type, matcher } refuse { oid });
    let kind = match at.field("san_type").enumeration(san_type)? {
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::Email => SanKind::Email,
        SanType::IpAddress => SanKind::Ip,
        SanType::Unspecified => return Err(at.field("san_type").reject("is required")),
        SanType::OtherName => return Err(at.field("san_type").reject("OTHER_NAME is not supported")),
    };
    let at = at.field("matcher");
    Ok(SanMatch { kind, matcher: StringMatch::from_message(&at, at.required(matcher)?)? })
}

/// The validator that keeps trust domains apart: each vouches for its own identities alone.
fn spiffe_domains(at: &Path<'_>, message: TypedExtensionConfig) -> Checked<Trust> {
    // The name of an extension is free text.
    let TypedExtensionConfig { name: _, typed_config } = message;
    let at = at.field("typed_config");
    let any = at.required(typed_config)?;
    if any.type_url != "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig" {
        return Err(at.unknown_type(&any));
    }
    let config: v3::SpiffeCertValidatorConfig = at.decode(&any)?;
    fields!(at, config => v3::SpiffeCertValidatorConfig { trust_domains } refuse { trust_bundles });
    let at = at.field("trust_domains");
    if trust_domains.is_empty() {
        return Err(at.reject("must not be empty"));
    }
    let mut domains: Vec<TrustDomain> = Vec::with_capacity(trust_domains.len());
    for (i, domain) in trust_domains.into_iter().enumerate() {
        let at = at.index(i);
        fields!(at, domain => spiffe::TrustDomain { name, trust_bundle } refuse { workload_trust_domain });
        let name = at.field("name").named(&name)?;
        if domains.iter().any(|other| *other.name == *name) {
            return Err(at.field("name").reject(format_args!("{name:?} is there already")));
        }
        let bundle_at = at.field("trust_bundle");
        let roots = pem_items(&bundle_at, bundle_at.required(trust_bundle)?)?;
        domains.push(TrustDomain { name: name.into(), roots: roots.into() });
    }
    Ok(Trust::Spiffe(domains.into()))
}
