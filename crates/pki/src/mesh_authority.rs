use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SerialNumber};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;

use crate::authority::{self, AUTHORITY_LIFETIME, Authority, Certificate};
use crate::signing_request::{self, SigningRequest};
use crate::{PkiError, SpiffeId, tls};

/// How long a workload's certificate is valid if the request does not say.
pub const WORKLOAD_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a request may ask for.
const LONGEST_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Workloads' certificates are valid from a little before they are made, for peers whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(2 * 60);
/// The subject by which an authority that is given from outside is tried.
const PROBE: [&str; 3] = ["probe", "probe", "probe"];

/// What an authority that is given from outside consists of, under the names that its Secret (`cacerts`) has for it.
#[derive(Clone, PartialEq, Eq)]
pub struct CaCerts {
    /// `ca-cert.pem`: the certificate that signs.
    pub ca_cert: String,
    /// `ca-key.pem`: its key.
    pub ca_key: String,
    /// `cert-chain.pem`: what leads from it to the root, itself included. Empty if it is the root.
    pub cert_chain: String,
    /// `root-cert.pem`: the certificates that the mesh trusts.
    pub root_cert: String,
}

/// The CA of a mesh: it certifies who workloads are.
pub struct MeshAuthority {
    authority: Authority,
    chain_pem: String,
    roots_pem: String,
    /// Nothing that it signs is valid for longer.
    not_after: SystemTime,
}

impl MeshAuthority {
    /// A new self-signed CA, valid for ten years.
    pub fn generate(trust_domain: &str) -> Result<MeshAuthority, PkiError> {
        let mut params = authority::params(DnType::OrganizationName, trust_domain, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = Authority::self_signed(params)?;
        MeshAuthority::load(authority.certificate_pem(), &authority.key_pem())
    }

    /// Reads a self-signed CA back.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<MeshAuthority, PkiError> {
        MeshAuthority::from_cacerts(&CaCerts {
            ca_cert: certificate_pem.to_owned(),
            ca_key: key_pem.to_owned(),
            cert_chain: String::new(),
            root_cert: certificate_pem.to_owned(),
        })
    }

    /// A CA that somebody else vouches for. It must be able to sign what the roots lead to; an error names the key.
    pub fn from_cacerts(given: &CaCerts) -> Result<MeshAuthority, PkiError> {
        let CaCerts { ca_cert, ca_key, cert_chain, root_cert } = given;
        let named = |key: &str| {
            let key = key.to_owned();
            move |e: PkiError| PkiError(format!("{key}: {e}"))
        };
        let own = tls::certificates(ca_cert).map_err(named("ca-cert.pem"))?;
        if let [_, _, ..] = own.as_slice() {
            let many = "there are several certificates; those above the CA belong into cert-chain.pem";
            return Err(named("ca-cert.pem")(PkiError(many.to_owned())));
        }
        let not_after = authority::not_after(&own[0]).map_err(named("ca-cert.pem"))?;
        rcgen::KeyPair::from_pem(ca_key)
            .map_err(|_| named("ca-key.pem")(PkiError("there is no usable private key in the PEM text".to_owned())))?;
        let authority = Authority::load(ca_cert, ca_key).map_err(named("ca-cert.pem and ca-key.pem"))?;
        if !cert_chain.trim().is_empty() {
            tls::certificates(cert_chain).map_err(named("cert-chain.pem"))?;
        }
        tls::roots(root_cert).map_err(named("root-cert.pem"))?;
        let (chain_pem, roots_pem) = (lines(cert_chain), lines(root_cert));
        let mesh = MeshAuthority { authority, chain_pem, roots_pem, not_after };
        mesh.probe().map_err(|e| {
            PkiError(format!("root-cert.pem does not lead to ca-cert.pem by way of cert-chain.pem: {e}"))
        })?;
        Ok(mesh)
    }

    /// Signs something and verifies it as a peer would: links, names, validity and constraints in one.
    fn probe(&self) -> Result<(), PkiError> {
        let [trust_domain, namespace, account] = PROBE;
        let own = signing_request::OwnRequest::generate(&SpiffeId::new(trust_domain, namespace, account)?)?;
        let request = SigningRequest::parse(own.request_pem())?;
        let id = SpiffeId::new(trust_domain, namespace, account)?;
        let chain = tls::certificates(&self.sign(&request, &id, None)?.concat())?;
        let roots = Arc::new(tls::roots(&self.roots_pem)?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::new(aws_lc_rs::default_provider())).build();
        let verifier = verifier.map_err(|e| PkiError(e.to_string()))?;
        let verified = verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now());
        verified.map(|_| ()).map_err(|e| PkiError(e.to_string()))
    }

    /// The CA's own certificate.
    pub fn certificate_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The CA's key (PKCS #8).
    pub fn key_pem(&self) -> String {
        self.authority.key_pem()
    }

    /// The certificates that everybody in the mesh trusts.
    pub fn root_bundle_pem(&self) -> &str {
        &self.roots_pem
    }

    /// Certifies that the requester's key is that of `id`, for `lifetime` as far as it is allowed. What the request
    /// says about its subject does not count.
    ///
    /// The answer is a chain in PEM: the certificate, the intermediates if there are any, the roots.
    pub fn sign(
        &self,
        request: &SigningRequest,
        id: &SpiffeId,
        lifetime: Option<Duration>,
    ) -> Result<Vec<String>, PkiError> {
        let mut params = signing_request::params(id)?;
        let now = SystemTime::now();
        let lifetime = lifetime.unwrap_or(WORKLOAD_LIFETIME).min(LONGEST_LIFETIME);
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + lifetime).min(self.not_after).into();
        params.serial_number = Some(random_serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.custom_extensions = vec![not_a_ca()];
        let leaf = self.authority.sign(&params, &request.key)?;
        let chain = [leaf, self.chain_pem.clone(), self.roots_pem.clone()];
        Ok(chain.into_iter().filter(|pem| !pem.is_empty()).collect())
    }

    /// A server certificate for these DNS names, valid for one year at most, with the intermediates.
    pub fn issue_server(&self, dns: &[&str]) -> Result<Certificate, PkiError> {
        let mut server = self.authority.issue_server_until(dns, self.not_after)?;
        server.chain_pem.push_str(&self.chain_pem);
        Ok(server)
    }
}

/// PEM text that more PEM text may follow.
fn lines(pem: &str) -> String {
    let pem = pem.trim();
    if pem.is_empty() { String::new() } else { format!("{pem}\n") }
}

/// Basic constraints (RFC 5280, 4.2.1.9), critical: an empty sequence, which is CA:FALSE.
fn not_a_ca() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x00]);
    extension.set_criticality(true);
    extension
}

/// A key may be certified more than once, so its hash would not do.
fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| PkiError("there are no random numbers to be had".to_owned()))?;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests;
