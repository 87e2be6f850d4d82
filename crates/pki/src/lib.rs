//! Certificates and tokens: a cluster's CA, what it issues, TLS configurations.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod authority;
mod identity;
mod tls;
mod token;

pub use authority::{Authority, Certificate};
pub use identity::client_identity;
pub use tls::server_config;
pub use token::{ISSUER, TokenClaims, TokenKey};

/// What a certificate, key or token was refused for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PkiError(pub String);

impl PkiError {
    fn new(what: &str, cause: impl std::fmt::Display) -> PkiError {
        PkiError(format!("{what}: {cause}"))
    }
}
