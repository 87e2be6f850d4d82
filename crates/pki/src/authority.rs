use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};

use crate::PkiError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
const LEAF_LIFETIME: Duration = DAY.saturating_mul(365);
/// Certificates are valid from a little before they are made, for peers whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A certificate chain and its key, both PEM. `Debug` does not print the key.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, followed by its issuers where there are intermediates.
    pub chain_pem: String,
    /// The private key (PKCS #8), unless only the public half is known.
    pub key_pem: Option<String>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key_pem.as_ref().map(|_| "[redacted]");
        f.debug_struct("Certificate").field("chain_pem", &self.chain_pem).field("key_pem", &key).finish()
    }
}

/// Which end of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEnd {
    /// The one that connects.
    Client,
    /// The one that is connected to.
    Server,
}

/// A certificate authority with its key.
///
/// Every certificate has a key pair of its own, and serial numbers are derived from it (a SHA-256 hash of the public
/// key), so they are as random as the key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new self-signed CA, valid for ten years, ECDSA P-256.
    pub fn generate(common_name: &str) -> Result<Authority, PkiError> {
        let mut params = params(DnType::CommonName, common_name, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        Authority::self_signed(params)
    }

    pub(crate) fn self_signed(params: CertificateParams) -> Result<Authority, PkiError> {
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(|e| PkiError::new("cannot sign the CA certificate", e))?;
        Ok(Authority { certificate_pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// Reads a CA back. The key must be the certificate's.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::new("cannot read the CA key", e))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|e| PkiError::new("cannot read the CA certificate", e))?;
        let certificate = pem.parse_x509().map_err(|e| PkiError::new("cannot read the CA certificate", e))?;
        if !certificate.is_ca() {
            return Err(PkiError("the CA certificate is not one of a certificate authority".to_owned()));
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(PkiError("the CA key does not belong to the CA certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key)
            .map_err(|e| PkiError::new("cannot read the CA certificate", e))?;
        Ok(Authority { certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// The CA's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's key (PKCS #8).
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server certificate, valid for one year, for these DNS names and addresses.
    pub fn issue_server(&self, dns: &[&str], ips: &[IpAddr]) -> Result<Certificate, PkiError> {
        self.issue(server_params(dns, ips)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Like [`Authority::issue_server`], but valid no longer than until `end`.
    pub(crate) fn issue_server_until(&self, dns: &[&str], end: SystemTime) -> Result<Certificate, PkiError> {
        let mut params = server_params(dns, &[])?;
        params.not_after = params.not_after.min(end.into());
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate, valid for one year: the user is the CN, the group is the O.
    ///
    /// At most one group: the certificate writer cannot repeat an attribute of a name.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<Certificate, PkiError> {
        let mut params = params(DnType::CommonName, user, LEAF_LIFETIME)?;
        match groups {
            [] => {}
            [group] => params.distinguished_name.push(DnType::OrganizationName, *group),
            many => return Err(PkiError(format!("a client certificate holds one group, not {}", many.len()))),
        }
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for one end of connections between meshes, valid for one year: whoever shows it is `uri`, whatever its
    /// common name.
    pub fn issue_peer(&self, common_name: &str, uri: &str, end: PeerEnd) -> Result<Certificate, PkiError> {
        let mut params = params(DnType::CommonName, common_name, LEAF_LIFETIME)?;
        let uri = uri.try_into().map_err(|e| PkiError::new(&format!("{uri:?} is no URI"), e))?;
        params.subject_alt_names.push(SanType::URI(uri));
        let usage = match end {
            PeerEnd::Client => ExtendedKeyUsagePurpose::ClientAuth,
            PeerEnd::Server => ExtendedKeyUsagePurpose::ServerAuth,
        };
        self.issue(params, usage)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Certificate, PkiError> {
        let key = new_key()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let signed =
            params.signed_by(&key, &self.issuer).map_err(|e| PkiError::new("cannot sign the certificate", e))?;
        Ok(Certificate { chain_pem: signed.pem(), key_pem: Some(key.serialize_pem()) })
    }

    /// Signs a certificate for somebody else's key; PEM.
    pub(crate) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<String, PkiError> {
        let signed = params.signed_by(key, &self.issuer);
        signed.map(|signed| signed.pem()).map_err(|e| PkiError::new("cannot sign the certificate", e))
    }
}

fn server_params(dns: &[&str], ips: &[IpAddr]) -> Result<CertificateParams, PkiError> {
    let first_address = ips.first().map(IpAddr::to_string).unwrap_or_default();
    let common_name = dns.first().map_or(first_address.as_str(), |name| *name);
    let mut params = params(DnType::CommonName, common_name, LEAF_LIFETIME)?;
    for name in dns {
        let name = (*name).try_into().map_err(|e| PkiError::new(&format!("{name:?} is no DNS name"), e))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(params)
}

pub(crate) fn new_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| PkiError::new("cannot make a key", e))
}

/// Parameters for a subject of one attribute, valid from a little before now for `lifetime`.
pub(crate) fn params(attribute: DnType, name: &str, lifetime: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|e| PkiError::new("cannot describe", e))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(attribute, name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + lifetime).into();
    Ok(params)
}

/// When a certificate, DER, ends to be valid.
pub(crate) fn not_after(der: &[u8]) -> Result<SystemTime, PkiError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|e| PkiError::new("cannot read the certificate", e))?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(certificate: &Certificate) -> Vec<u8> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.chain_pem.as_bytes()).unwrap();
        pem.parse_x509().unwrap().raw_serial().to_vec()
    }

    #[test]
    fn a_loaded_authority_issues_what_the_first_one_vouches_for() {
        let first = Authority::generate("one").unwrap();
        let again = Authority::load(first.certificate_pem(), &first.key_pem()).unwrap();
        let server = again.issue_server(&["localhost"], &["127.0.0.1".parse().unwrap()]).unwrap();
        let (_, ca) = x509_parser::pem::parse_x509_pem(first.certificate_pem().as_bytes()).unwrap();
        let (_, leaf) = x509_parser::pem::parse_x509_pem(server.chain_pem.as_bytes()).unwrap();
        let (ca, leaf) = (ca.parse_x509().unwrap(), leaf.parse_x509().unwrap());
        leaf.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(leaf.validity().is_valid() && !leaf.is_ca());
    }

    #[test]
    fn a_peers_certificate_says_who_it_is_and_which_end_it_may_be() {
        let authority = Authority::generate("one").unwrap();
        let of = |end| authority.issue_peer("c1", "spiffe://c1.example.com/gateway", end).unwrap();
        let usage = |certificate: &Certificate| {
            let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.chain_pem.as_bytes()).unwrap();
            let leaf = pem.parse_x509().unwrap();
            let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
            assert!(format!("{names:?}").contains("spiffe://c1.example.com/gateway"), "{names:?}");
            let usage = leaf.extended_key_usage().unwrap().unwrap().value;
            (usage.client_auth, usage.server_auth)
        };
        assert_eq!((usage(&of(PeerEnd::Client)), usage(&of(PeerEnd::Server))), ((true, false), (false, true)));
    }

    #[test]
    fn a_key_that_is_not_the_authoritys_is_refused() {
        let (one, two) = (Authority::generate("one").unwrap(), Authority::generate("two").unwrap());
        let error = Authority::load(one.certificate_pem(), &two.key_pem()).err().unwrap();
        assert_eq!(error.to_string(), "the CA key does not belong to the CA certificate");
        let leaf = one.issue_client("a", &[]).unwrap();
        assert!(Authority::load(&leaf.chain_pem, &leaf.key_pem.unwrap()).is_err());
    }

    #[test]
    fn serial_numbers_differ_and_debug_output_has_no_key() {
        let authority = Authority::generate("one").unwrap();
        let (a, b) = (authority.issue_client("a", &[]).unwrap(), authority.issue_client("a", &[]).unwrap());
        assert_ne!(serial(&a), serial(&b));
        assert!(!format!("{a:?}").contains("PRIVATE"));
    }
}
