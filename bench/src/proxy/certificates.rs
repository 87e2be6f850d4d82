//! One CA, an identity for each side, and those of the servers of a gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{ClientConfig, Resumption};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// The sort of keys that workloads have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Ecdsa,
    Rsa,
}

/// A CA and two identities under it.
pub(crate) struct Certificates {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) ca: String,
    pub(crate) client: Identity,
    pub(crate) server: Identity,
}

/// PEM texts of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The servers of a gateway, each with a name and a certificate of its own.
pub(crate) struct Hosts {
    pub(crate) certificates: Certificates,
    pub(crate) identities: Vec<Identity>,
    /// Whether clients must show a certificate, too.
    pub(crate) mutual: bool,
    /// The control plane that brings the certificates; if there is none, they are in the configuration.
    pub(crate) secrets: Option<SocketAddr>,
}

pub(crate) const CLIENT: &str = "spiffe://cluster.local/ns/bench/sa/client";
pub(crate) const SERVER: &str = "spiffe://cluster.local/ns/bench/sa/server";

/// The name of the `n`th server of a gateway.
pub(crate) fn host(n: usize) -> String {
    format!("host-{n}.bench.example")
}

impl Hosts {
    pub(crate) fn generate(count: usize, mutual: bool) -> anyhow::Result<Hosts> {
        let certificates = Certificates::generate(Keys::Ecdsa)?;
        let identities = certificates.hosts(count)?;
        Ok(Hosts { certificates, identities, mutual, secrets: None })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        (0..self.identities.len()).map(host).collect()
    }
}

impl Certificates {
    pub(crate) fn generate(keys: Keys) -> anyhow::Result<Certificates> {
        let ca_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        let ca = params.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(params, ca_key);
        let client = identity(&issuer, keys, SanType::URI(CLIENT.try_into()?))?;
        let server = identity(&issuer, keys, SanType::URI(SERVER.try_into()?))?;
        Ok(Certificates { issuer, ca, client, server })
    }

    /// New certificates for so many servers of a gateway.
    pub(crate) fn hosts(&self, count: usize) -> anyhow::Result<Vec<Identity>> {
        let name = |n| anyhow::Ok(SanType::DnsName(host(n).try_into()?));
        (0..count).map(|n| identity(&self.issuer, Keys::Ecdsa, name(n)?)).collect()
    }

    /// A client that shows its identity, resumes nothing, and trusts anybody: the proxy's work is measured.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> anyhow::Result<Arc<ClientConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = CertificateDer::pem_slice_iter(self.client.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.client.key.as_bytes())?;
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        let mut config = builder.with_client_auth_cert(chain, key).context("the client's key and certificate")?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn identity(issuer: &Issuer<'_, KeyPair>, keys: Keys, name: SanType) -> anyhow::Result<Identity> {
    let key = match keys {
        Keys::Ecdsa => KeyPair::generate()?,
        Keys::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?,
    };
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![name];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
