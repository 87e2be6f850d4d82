//! Certificates and tokens: a cluster's CA, what it issues, TLS configurations.
//! CONTRACT STUB: signatures are what the others build on.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PkiError(pub String);

/// A certificate chain and its key, PEM. `Debug` must not print the key.
#[derive(Clone)]
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: Option<String>,
}

/// A certificate authority with its key.
pub struct Authority {}

impl Authority {
    /// A new self-signed CA, ten years, ECDSA P-256.
    pub fn generate(common_name: &str) -> Result<Authority, PkiError> {
        let _ = common_name;
        unimplemented!()
    }

    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let _ = (certificate_pem, key_pem);
        unimplemented!()
    }

    pub fn certificate_pem(&self) -> &str {
        unimplemented!()
    }

    pub fn key_pem(&self) -> String {
        unimplemented!()
    }

    /// A server certificate, one year.
    pub fn issue_server(&self, dns: &[&str], ips: &[IpAddr]) -> Result<Certificate, PkiError> {
        let _ = (dns, ips);
        unimplemented!()
    }

    /// A client certificate, one year: the user is the CN, the groups are the Os.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<Certificate, PkiError> {
        let _ = (user, groups);
        unimplemented!()
    }
}

/// The user and groups (CN, Os) of a verified client certificate, DER.
pub fn client_identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let _ = der;
    unimplemented!()
}

/// TLS for the API server: client certificates are optional, and checked against `client_ca` if sent. ALPN h2, http/1.1.
pub fn server_config(server: &Certificate, client_ca_pem: &str) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let _ = (server, client_ca_pem);
    unimplemented!()
}

/// Claims of a bound service account token (`kubernetes.io` private claims as Kubernetes writes them).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenClaims {
    pub namespace: String,
    pub service_account: String,
    pub service_account_uid: String,
    /// Name and uid of the pod it is bound to.
    pub pod: Option<(String, String)>,
    pub audiences: Vec<String>,
    /// Seconds since the epoch.
    pub issued_at: i64,
    pub expires_at: i64,
}

/// Signs and checks service account tokens (ES256).
pub struct TokenKey {}

impl TokenKey {
    pub fn generate() -> Result<TokenKey, PkiError> {
        unimplemented!()
    }

    pub fn load(key_pem: &str) -> Result<TokenKey, PkiError> {
        let _ = key_pem;
        unimplemented!()
    }

    pub fn key_pem(&self) -> String {
        unimplemented!()
    }

    /// The JWT, issuer `https://kubernetes.default.svc.cluster.local`.
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, PkiError> {
        let _ = claims;
        unimplemented!()
    }

    /// Signature, issuer and expiry (at `now`) are checked; audiences are the caller's business.
    pub fn verify(&self, token: &str, now: i64) -> Result<TokenClaims, PkiError> {
        let _ = (token, now);
        unimplemented!()
    }
}
