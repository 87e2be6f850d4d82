//! A chain and its key, made ready for TLS.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::PkiError;

/// Puts a chain and the private key of its leaf together. The leaf may be of X.509 v1, which the TLS library itself does
/// not read.
///
/// # Errors
/// There is no leaf, it or the key cannot be read, or they do not belong together. What is said never quotes the key.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, PkiError> {
    let leaf = chain.first().ok_or_else(|| PkiError("there is no certificate".to_owned()))?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|e| PkiError(format!("the certificate cannot be read: {e}")))?;
    // The cause might quote the key.
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| PkiError("the private key is of no kind that can be used".to_owned()))?;
    let same = key.public_key().is_none_or(|public| *public.as_ref() == *leaf.public_key().raw);
    if !same {
        return Err(PkiError("the private key is not the certificate's".to_owned()));
    }
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::Authority;

    #[test]
    fn a_key_belongs_to_its_certificate_alone() {
        let authority = Authority::generate("a").unwrap();
        let [one, other] = ["one", "other"].map(|name| authority.issue_server(&[name], &[]).unwrap());
        let chain = |of: &crate::Certificate| vec![CertificateDer::from_pem_slice(of.chain_pem.as_bytes()).unwrap()];
        let key =
            |of: &crate::Certificate| PrivateKeyDer::from_pem_slice(of.key_pem.as_ref().unwrap().as_bytes()).unwrap();
        assert!(certified_key(chain(&one), key(&one)).is_ok());
        let error = certified_key(chain(&one), key(&other)).err().unwrap();
        assert_eq!(error.0, "the private key is not the certificate's");
        assert!(certified_key(Vec::new(), key(&one)).is_err());
        assert!(certified_key(vec![vec![1, 2, 3].into()], key(&one)).is_err());
    }
}
