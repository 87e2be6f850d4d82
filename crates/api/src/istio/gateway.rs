//! Doors of the mesh.

use serde::Deserialize;

use super::{ServicePort, Spec};
use crate::selector::Labels;

/// What gateway workloads listen for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// The labels of the gateway's pods.
    pub selector: Labels,
    /// What is listened for.
    pub servers: Vec<Server>,
}

impl Spec for Gateway {
    const GROUP: &'static str = "networking.istio.io";
    const KIND: &'static str = "Gateway";
}

/// One port with the hosts that it serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// The service's port.
    pub port: ServicePort,
    /// The address that is bound; empty is any.
    pub bind: String,
    /// The hosts, each possibly as `NAMESPACE/HOST`.
    pub hosts: Vec<String>,
    /// TLS.
    pub tls: Option<ServerTls>,
    /// Where traffic goes without a route. Istio has never read it.
    #[serde(alias = "default_endpoint")]
    pub default_endpoint: String,
    /// Its own name, which says nothing.
    pub name: String,
}

/// How a gateway's server speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerTls {
    /// Whether requests in plaintext are sent to HTTPS.
    #[serde(alias = "https_redirect")]
    pub https_redirect: bool,
    /// Whether TLS ends here, and who must have a certificate.
    pub mode: ServerTlsMode,
    /// The file of the certificate chain.
    #[serde(alias = "server_certificate")]
    pub server_certificate: String,
    /// The file of the key.
    #[serde(alias = "private_key")]
    pub private_key: String,
    /// The file of the authorities that clients' certificates must come from.
    #[serde(alias = "ca_certificates")]
    pub ca_certificates: String,
    /// The file of what these authorities have revoked.
    #[serde(alias = "ca_crl")]
    pub ca_crl: String,
    /// The name of a secret, instead of files.
    #[serde(alias = "credential_name")]
    pub credential_name: String,
    /// The names of secrets with different kinds of keys.
    #[serde(alias = "credential_names")]
    pub credential_names: Vec<String>,
    /// The name of a secret with the authorities alone.
    #[serde(alias = "ca_cert_credential_name")]
    pub ca_cert_credential_name: String,
    /// Files of certificates with different kinds of keys.
    #[serde(alias = "tls_certificates")]
    pub tls_certificates: Vec<CertificateFiles>,
    /// Names of which a client's certificate must have one.
    #[serde(alias = "subject_alt_names")]
    pub subject_alt_names: Vec<String>,
    /// Hashes of keys of which a client's certificate must have one, in Base64.
    #[serde(alias = "verify_certificate_spki")]
    pub verify_certificate_spki: Vec<String>,
    /// Hashes of certificates of which a client must have one, in hexadecimal digits.
    #[serde(alias = "verify_certificate_hash")]
    pub verify_certificate_hash: Vec<String>,
    /// The least version of TLS.
    #[serde(alias = "min_protocol_version")]
    pub min_protocol_version: TlsVersion,
    /// The greatest version of TLS.
    #[serde(alias = "max_protocol_version")]
    pub max_protocol_version: TlsVersion,
    /// The cipher suites, if not the usual ones.
    #[serde(alias = "cipher_suites")]
    pub cipher_suites: Vec<String>,
    /// Whether clients' certificates are taken unverified.
    #[serde(alias = "insecure_skip_verify")]
    pub insecure_skip_verify: Option<bool>,
}

/// The files of one certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CertificateFiles {
    /// The chain.
    #[serde(alias = "server_certificate")]
    pub server_certificate: String,
    /// The key.
    #[serde(alias = "private_key")]
    pub private_key: String,
    /// Not used by Istio either.
    #[serde(alias = "ca_certificates")]
    pub ca_certificates: String,
}

/// Whether TLS ends at a gateway, and who must have a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerTlsMode {
    /// It passes, to where routes by server name say.
    #[default]
    Passthrough,
    /// The gateway has a certificate.
    Simple,
    /// Clients must have one, too.
    Mutual,
    /// It passes, to the service that the server name itself says.
    AutoPassthrough,
    /// Both are the mesh's own.
    IstioMutual,
    /// Clients may have one.
    OptionalMutual,
}

impl ServerTlsMode {
    /// Whether TLS does not end at the gateway.
    pub fn passes(self) -> bool {
        matches!(self, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    /// What is usual.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// 1.0.
    #[serde(rename = "TLSV1_0")]
    V1_0,
    /// 1.1.
    #[serde(rename = "TLSV1_1")]
    V1_1,
    /// 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}
