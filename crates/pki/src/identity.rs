use x509_parser::prelude::{FromDer, X509Certificate};

/// The user and the groups (CN and Os) of a verified client certificate, DER; `None` without a CN.
pub fn client_identity(der: &[u8]) -> Option<(String, Vec<String>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok().filter(|user| !user.is_empty())?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some((user, groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    #[test]
    fn a_client_certificate_names_its_user_and_group() {
        let authority = Authority::generate("ca").unwrap();
        let certificate = authority.issue_client("kubernetes-admin", &["system:masters"]).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.chain_pem.as_bytes()).unwrap();
        let identity = client_identity(&pem.contents);
        assert_eq!(identity, Some(("kubernetes-admin".to_owned(), vec!["system:masters".to_owned()])));
        assert_eq!(client_identity(b"no certificate"), None);
    }
}
