use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The user and the groups (CN and Os) of a verified client certificate, DER; `None` without a CN.
pub fn client_identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok().filter(|user| !user.is_empty())?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some((user, groups))
}

/// The URIs among the names of a certificate, DER.
pub fn uris(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

/// Whether a chain, its leaf first, leads to one of `roots`. Only signatures are looked at, not times, usages and names.
pub fn leads_to(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'_>]) -> bool {
    let signed = |subject: &CertificateDer<'_>, issuer: &CertificateDer<'_>| {
        let (Ok((_, subject)), Ok((_, issuer))) =
            (X509Certificate::from_der(subject), X509Certificate::from_der(issuer))
        else {
            return false;
        };
        subject.issuer() == issuer.subject() && subject.verify_signature(Some(issuer.public_key())).is_ok()
    };
    for (position, certificate) in chain.iter().enumerate() {
        if roots.iter().any(|root| root == certificate || signed(certificate, root)) {
            return true;
        }
        if !chain.get(position + 1).is_some_and(|issuer| signed(certificate, issuer)) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_client_certificate_names_its_user_and_group() {
        let authority = Authority::generate("ca").unwrap();
        let certificate = authority.issue_client("kubernetes-admin", &["system:masters"]).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.chain_pem.as_bytes()).unwrap();
        let identity = client_identity(&pem.contents);
        assert_eq!(identity, Some(("kubernetes-admin".to_owned(), vec!["system:masters".to_owned()])));
        assert_eq!(client_identity(b"no certificate"), None);
    }

    #[test]
    fn a_chain_leads_to_the_authority_that_signed_it_and_to_no_other() {
        let der = |pem: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
        };
        let [own, other] = ["ca", "ca"].map(|name| Authority::generate(name).unwrap());
        let id = "spiffe://c1.example.com/gateway";
        let chain = der(&own.issue_peer("c1", id, crate::PeerEnd::Client).unwrap().chain_pem);
        assert!(leads_to(&chain, &der(own.certificate_pem())) && !leads_to(&chain, &der(other.certificate_pem())));
        assert!(!leads_to(&[], &der(own.certificate_pem())));
        assert_eq!((uris(&chain[0]), uris(b"")), (vec![id.to_owned()], Vec::new()));
    }
}
