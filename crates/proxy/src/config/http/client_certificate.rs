//! What upstream is told of the certificates that clients showed: the header `x-forwarded-client-cert`.

use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, SetCurrentClientCertDetails,
};

use crate::config::field::{Checked, Path, fields};

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate {
    /// What is done with the header.
    pub forward: ForwardClientCertificate,
    /// What is told of the client of this connection.
    pub details: CertificateDetails,
}

/// What is done with the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCertificate {
    /// It is removed.
    Sanitize,
    /// It passes over mutual TLS, and is removed otherwise.
    ForwardOnly,
    /// Over mutual TLS the client of this connection is added; it is removed otherwise.
    AppendForward,
    /// Over mutual TLS the client of this connection takes its place; it is removed otherwise.
    SanitizeSet,
    /// It passes.
    AlwaysForwardOnly,
}

/// What is told of a client, beside the hash of its certificate and the identity of this proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CertificateDetails {
    /// The subject of its certificate.
    pub subject: bool,
    /// Its certificate.
    pub certificate: bool,
    /// Its certificate and those that vouch for it.
    pub chain: bool,
    /// The DNS names in its certificate.
    pub dns: bool,
    /// The URIs in its certificate.
    pub uri: bool,
}

impl ClientCertificate {
    pub(super) fn from_messages(
        at: &Path<'_>,
        forward: i32,
        details: Option<SetCurrentClientCertDetails>,
    ) -> Checked<ClientCertificate> {
        let forward = match at.field("forward_client_cert_details").enumeration(forward)? {
            ForwardClientCertDetails::Sanitize => ForwardClientCertificate::Sanitize,
            ForwardClientCertDetails::ForwardOnly => ForwardClientCertificate::ForwardOnly,
            ForwardClientCertDetails::AppendForward => ForwardClientCertificate::AppendForward,
            ForwardClientCertDetails::SanitizeSet => ForwardClientCertificate::SanitizeSet,
            ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCertificate::AlwaysForwardOnly,
        };
        let at = at.field("set_current_client_cert_details");
        fields!(at, details.unwrap_or_default() => SetCurrentClientCertDetails { subject, cert, chain, dns, uri }
            refuse { issuer, format });
        let subject = subject.unwrap_or(false);
        Ok(ClientCertificate { forward, details: CertificateDetails { subject, certificate: cert, chain, dns, uri } })
    }
}
