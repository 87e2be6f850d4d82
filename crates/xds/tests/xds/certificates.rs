//! An authority of the mesh, and certificates of it.

use std::sync::LazyLock;

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};

static AUTHORITY: LazyLock<(Issuer<'static, KeyPair>, String)> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "mesh");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
});

/// What every server shows: it is a workload of the mesh, and goes by names that clients outside of it look for.
pub(crate) static SERVER: LazyLock<(String, String)> = LazyLock::new(|| {
    issue("spiffe://cluster.local/ns/foo/sa/guarded", &["guarded", "a.example", "b.example", "c.example"])
});

/// The authority's own certificate, PEM.
pub(crate) fn authority() -> &'static str {
    &AUTHORITY.1
}

/// A certificate with its key, both PEM.
pub(crate) fn issue(identity: &str, names: &[&str]) -> (String, String) {
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(text(identity))];
    params.subject_alt_names.extend(names.iter().map(|name| SanType::DnsName(text(name))));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &AUTHORITY.0).unwrap();
    (certificate.pem(), key.serialize_pem())
}
