//! Certificates and tokens: the CAs of a cluster and of its mesh, what they issue, TLS configurations.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod authority;
mod identity;
mod mesh_authority;
mod pair;
mod signing_request;
mod spiffe;
mod tls;
mod token;

pub use authority::{Authority, Certificate, PeerEnd};
pub use identity::{client_identity, leads_to, uris};
pub use mesh_authority::{CaCerts, MeshAuthority, WORKLOAD_LIFETIME};
pub use pair::certified_key;
pub use signing_request::{OwnRequest, SigningRequest};
pub use spiffe::{SpiffeId, peer_identity};
pub use tls::{client_config, server_config};
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
