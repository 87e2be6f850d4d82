use std::time::SystemTime;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as Parsed;

use crate::{Certificate, PkiError, SpiffeId, authority, peer_identity, tls};

/// What an RSA key must at least have, in bits.
const RSA_BITS: usize = 2048;

/// A workload's key, and its request to have it certified.
pub struct OwnRequest {
    id: SpiffeId,
    key: KeyPair,
    request_pem: String,
}

impl OwnRequest {
    /// Makes a new key, ECDSA P-256, and a request for `id`.
    pub fn generate(id: &SpiffeId) -> Result<OwnRequest, PkiError> {
        let key = authority::new_key()?;
        let request = params(id)?.serialize_request(&key).and_then(|request| request.pem());
        let request_pem = request.map_err(|e| PkiError::new("cannot write a certificate request", e))?;
        Ok(OwnRequest { id: id.clone(), key, request_pem })
    }

    /// The request (PKCS #10) in PEM. The key is not in it, and stays with its maker.
    pub fn request_pem(&self) -> &str {
        &self.request_pem
    }

    /// The answer, a chain in PEM, with the key; and when it ends. It must be for the key and the identity.
    pub fn answered(&self, chain_pem: String) -> Result<(Certificate, SystemTime), PkiError> {
        let chain = tls::certificates(&chain_pem)?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|e| PkiError::new("cannot read the certificate", e))?;
        if leaf.public_key().subject_public_key.data.as_ref() != self.key.public_key_raw() {
            return Err(PkiError("the certificate is for another key".to_owned()));
        }
        if peer_identity(&chain).as_ref() != Some(&self.id) {
            return Err(PkiError(format!("the certificate is not for {}", self.id)));
        }
        let end = authority::not_after(&chain[0])?;
        Ok((Certificate { chain_pem, key_pem: Some(self.key.serialize_pem()) }, end))
    }
}

/// Parameters with nothing but an identity in them.
pub(crate) fn params(id: &SpiffeId) -> Result<CertificateParams, PkiError> {
    let uri = id.to_string().try_into().map_err(|e| PkiError::new("cannot write the identity", e))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

/// Somebody's request to have a key certified: its signature proves that they hold the key.
pub struct SigningRequest {
    pub(crate) key: SubjectPublicKeyInfo,
    /// The URIs it asks for.
    pub uris: Vec<String>,
}

impl SigningRequest {
    /// Reads and checks a request in PEM. The key must be ECDSA on P-256 or P-384, or RSA with at least 2048 bits.
    pub fn parse(pem: &str) -> Result<SigningRequest, PkiError> {
        let refused = |why: &dyn std::fmt::Display| PkiError(format!("the certificate request {why}"));
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| refused(&"is not PEM"))?;
        if !matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(refused(&format_args!("is PEM of something else: {:?}", block.label)));
        }
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|e| refused(&format_args!("cannot be read: {e}")))?;
        if !rest.is_empty() {
            return Err(refused(&"has bytes behind its end"));
        }
        let key = &request.certification_request_info.subject_pki;
        strong(key).map_err(|why| refused(&why))?;
        request.verify_signature().map_err(|_| refused(&"is not signed with the key that it is for"))?;
        let key = SubjectPublicKeyInfo::from_der(key.raw)
            .map_err(|e| refused(&format_args!("has a key of an unknown kind: {e}")))?;
        Ok(SigningRequest { key, uris: uris(&request) })
    }
}

fn strong(key: &Parsed<'_>) -> Result<(), String> {
    match key.parsed() {
        Ok(PublicKey::EC(point)) if matches!(point.key_size(), 256 | 384) => Ok(()),
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= RSA_BITS => Ok(()),
        Ok(PublicKey::RSA(rsa)) => {
            Err(format!("has an RSA key of {} bits; at least {RSA_BITS} are needed", rsa.key_size()))
        }
        _ => Err("has a key that is neither ECDSA (P-256, P-384) nor RSA".to_owned()),
    }
}

fn uris(request: &X509CertificationRequest<'_>) -> Vec<String> {
    let extensions = request.requested_extensions().into_iter().flatten();
    let names = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    names.flatten().filter_map(uri).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MeshAuthority;

    fn id() -> SpiffeId {
        SpiffeId::new("cluster.local", "default", "sleep").unwrap()
    }

    fn refusal(pem: &str) -> String {
        SigningRequest::parse(pem).err().unwrap().to_string()
    }

    #[test]
    fn an_own_request_is_accepted_and_names_its_identity() {
        let own = OwnRequest::generate(&id()).unwrap();
        let request = SigningRequest::parse(&own.request_pem).unwrap();
        assert_eq!(request.uris, ["spiffe://cluster.local/ns/default/sa/sleep"]);
        assert!(!own.request_pem.contains("PRIVATE"));
    }

    #[test]
    fn an_answer_must_be_for_the_key_and_the_identity() {
        let authority = MeshAuthority::generate("cluster.local").unwrap();
        let (own, other) = (OwnRequest::generate(&id()).unwrap(), OwnRequest::generate(&id()).unwrap());
        let answer = |request: &OwnRequest, id: &SpiffeId| {
            authority.sign(&SigningRequest::parse(&request.request_pem).unwrap(), id, None).unwrap().concat()
        };
        let refusal = |answer: String| own.answered(answer).err().unwrap().to_string();
        let (certificate, end) = own.answered(answer(&own, &id())).unwrap();
        assert!(certificate.key_pem.is_some() && end > SystemTime::now());
        assert_eq!(refusal(answer(&other, &id())), "the certificate is for another key");
        let admin = SpiffeId::new("cluster.local", "default", "admin").unwrap();
        assert_eq!(
            refusal(answer(&own, &admin)),
            "the certificate is not for spiffe://cluster.local/ns/default/sa/sleep"
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        assert_eq!(refusal("garbage"), "the certificate request is not PEM");
        assert_eq!(refusal(""), "the certificate request is not PEM");
        let key = OwnRequest::generate(&id()).unwrap().key.serialize_pem();
        assert_eq!(refusal(&key), "the certificate request is PEM of something else: \"PRIVATE KEY\"");
        let empty = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
        assert!(refusal(empty).starts_with("the certificate request cannot be read"));
    }

    #[test]
    fn a_request_for_somebody_elses_key_is_refused() {
        let (mine, theirs) = (OwnRequest::generate(&id()).unwrap(), OwnRequest::generate(&id()).unwrap());
        let der = |pem: &str| x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
        let (mine, theirs) = (der(&mine.request_pem), der(&theirs.request_pem));
        let key = |der: &[u8]| {
            let (_, request) = X509CertificationRequest::from_der(der).unwrap();
            request.certification_request_info.subject_pki.subject_public_key.data.to_vec()
        };
        let (own, other) = (key(&mine), key(&theirs));
        let at = mine.windows(own.len()).position(|window| window == own).unwrap();
        let mut forged = mine.clone();
        forged[at..at + own.len()].copy_from_slice(&other);
        let pem = as_pem(&forged);
        assert_eq!(refusal(&pem), "the certificate request is not signed with the key that it is for");
    }

    /// PEM of any bytes, sound or not.
    fn as_pem(der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    #[test]
    fn weak_and_odd_keys_are_refused() {
        for (alg, fine) in [
            (&rcgen::PKCS_ECDSA_P384_SHA384, true),
            (&rcgen::PKCS_RSA_SHA256, true),
            (&rcgen::PKCS_ED25519, false),
            (&rcgen::PKCS_ECDSA_P521_SHA512, false),
        ] {
            let key = KeyPair::generate_for(alg).unwrap();
            let pem = params(&id()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
            assert_eq!(SigningRequest::parse(&pem).is_ok(), fine, "{alg:?}");
        }
        // `openssl req -new -newkey rsa:1024 -nodes -subj / -keyout /dev/null`
        let weak = include_str!("../testdata/rsa1024.csr");
        assert_eq!(refusal(weak), "the certificate request has an RSA key of 1024 bits; at least 2048 are needed");
    }
}
