//! What upstream is told of the certificate that a client has shown.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::address::append;
use super::names;
use crate::config::http::{CertificateDetails, ClientCertificate, ForwardClientCertificate};

/// A client's certificate, read once for all its requests.
#[derive(Debug)]
pub(crate) struct PeerCertificate {
    /// The SHA-256 of the certificate, in hexadecimal.
    pub(crate) fingerprint: Box<str>,
    /// Its subject, as RFC 2253 writes it.
    pub(crate) subject: Box<str>,
    /// Its element of `x-forwarded-client-cert`.
    element: Option<HeaderValue>,
}

impl PeerCertificate {
    /// Reads the certificates that a client has shown, its own first. `own` is the identity that it was shown.
    pub(crate) fn read(chain: &[CertificateDer<'_>], own: Option<&str>, config: &ClientCertificate) -> Option<Self> {
        let der = chain.first()?;
        let mut fingerprint = String::with_capacity(64);
        for byte in Sha256::digest(der) {
            write!(fingerprint, "{byte:02x}").expect("a buffer in memory takes all");
        }
        let parsed = X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
        let subject = parsed.as_ref().map(subject).unwrap_or_default();
        let told =
            matches!(config.forward, ForwardClientCertificate::AppendForward | ForwardClientCertificate::SanitizeSet);
        let element = told.then(|| element(chain, parsed.as_ref(), &fingerprint, &subject, own, config.details));
        Some(PeerCertificate {
            fingerprint: fingerprint.into(),
            subject: subject.into(),
            element: element.and_then(|text| HeaderValue::try_from(text).ok()),
        })
    }
}

/// Does with `x-forwarded-client-cert` what the connection manager says. `client` is there over mutual TLS only.
pub(crate) fn forward(headers: &mut HeaderMap, client: Option<&PeerCertificate>, config: &ClientCertificate) {
    let name = names::X_FORWARDED_CLIENT_CERT;
    match (config.forward, client) {
        (ForwardClientCertificate::AlwaysForwardOnly, _) | (ForwardClientCertificate::ForwardOnly, Some(_)) => {}
        (ForwardClientCertificate::Sanitize, _) | (_, None) => {
            headers.remove(name);
        }
        (ForwardClientCertificate::AppendForward, Some(client)) if headers.contains_key(&name) => {
            let element = client.element.as_ref().and_then(|e| e.to_str().ok());
            append(headers, name, element.unwrap_or_default());
        }
        (ForwardClientCertificate::AppendForward | ForwardClientCertificate::SanitizeSet, Some(client)) => {
            match &client.element {
                Some(element) => headers.insert(name, element.clone()),
                None => headers.remove(name),
            };
        }
    }
}

fn element(
    chain: &[CertificateDer<'_>],
    parsed: Option<&X509Certificate<'_>>,
    fingerprint: &str,
    subject: &str,
    own: Option<&str>,
    details: CertificateDetails,
) -> String {
    let CertificateDetails { subject: tell_subject, certificate, chain: whole_chain, dns, uri } = details;
    let mut parts = Vec::new();
    parts.extend(own.map(|own| format!("By={own}")));
    parts.push(format!("Hash={fingerprint}"));
    if certificate {
        parts.push(format!("Cert=\"{}\"", chain.first().map(pem).unwrap_or_default()));
    }
    if whole_chain {
        parts.push(format!("Chain=\"{}\"", chain.iter().map(pem).collect::<String>()));
    }
    if tell_subject {
        parts.push(format!("Subject=\"{}\"", subject.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    let names = parsed.map(alternative_names).unwrap_or_default();
    if uri {
        let uris: Vec<String> =
            names.iter().filter(|(kind, _)| *kind == "URI").map(|(_, n)| format!("URI={n}")).collect();
        parts.push(if uris.is_empty() { "URI=".to_owned() } else { uris.join(";") });
    }
    if dns {
        parts.extend(names.iter().filter(|(kind, _)| *kind == "DNS").map(|(_, name)| format!("DNS={name}")));
    }
    parts.join(";")
}

/// The names of a certificate that it has beside its subject.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<(&'static str, String)> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    let known = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(("URI", (*uri).to_owned())),
        GeneralName::DNSName(name) => Some(("DNS", (*name).to_owned())),
        _ => None,
    });
    known.collect()
}

/// The subject with its last part first, as RFC 2253 has it.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = Vec::new();
    for relative in certificate.subject().iter_rdn() {
        let attribute = |attribute: &x509_parser::prelude::AttributeTypeAndValue<'_>| {
            let kind = attribute.attr_type();
            let name = x509_parser::objects::oid2abbrev(kind, registry).map_or(kind.to_id_string(), str::to_owned);
            format!("{name}={}", escaped(attribute.as_str().unwrap_or_default()))
        };
        parts.push(relative.iter().map(attribute).collect::<Vec<_>>().join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// The value of a name's part, with a backslash before what would end it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for (i, c) in value.chars().enumerate() {
        let at_the_end = i == 0 || i + 1 == value.chars().count();
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') || (at_the_end && c == ' ') || (i == 0 && c == '#') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A certificate as PEM, with everything escaped that is not allowed in a URI.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = BASE64_STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (i, c) in encoded.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            out.push_str("%0A");
        }
        match c {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            c => out.push(c),
        }
    }
    out + "%0A-----END%20CERTIFICATE-----%0A"
}
