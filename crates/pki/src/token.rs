use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};

use crate::PkiError;

/// The `iss` of every token, and the audience of those that are meant for the API server.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Claims of a bound service account token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims {
    /// Of the service account.
    pub namespace: String,
    /// The name of the service account.
    pub service_account: String,
    /// Its uid: a token outlives neither its account nor an account made again under the same name.
    pub service_account_uid: String,
    /// Name and uid of the pod that it is bound to.
    pub pod: Option<(String, String)>,
    /// Whom the token may be shown to.
    pub audiences: Vec<String>,
    /// Seconds since the epoch.
    pub issued_at: i64,
    /// Seconds since the epoch.
    pub expires_at: i64,
}

/// The claims as Kubernetes writes them into a token.
#[derive(Serialize, Deserialize)]
struct Wire {
    aud: Audiences,
    exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

/// RFC 7519 allows one audience to stand alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

#[derive(Serialize, Deserialize)]
struct Private {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pod: Option<Bound>,
    serviceaccount: Bound,
}

#[derive(Serialize, Deserialize)]
struct Bound {
    name: String,
    uid: String,
}

/// Signs and checks service account tokens (ES256).
pub struct TokenKey {
    pair: KeyPair,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl TokenKey {
    /// A new key, ECDSA P-256.
    pub fn generate() -> Result<TokenKey, PkiError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        TokenKey::of(pair.map_err(|e| PkiError::new("cannot make a token key", e))?)
    }

    /// Reads a key back from PKCS #8 PEM.
    pub fn load(key_pem: &str) -> Result<TokenKey, PkiError> {
        let pair = KeyPair::from_pem(key_pem).map_err(|e| PkiError::new("cannot read the token key", e))?;
        if !pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(PkiError("the token key is not ECDSA P-256".to_owned()));
        }
        TokenKey::of(pair)
    }

    fn of(pair: KeyPair) -> Result<TokenKey, PkiError> {
        let public = pair.public_key_pem();
        let verifying = DecodingKey::from_ec_pem(public.as_bytes()).map_err(|e| PkiError::new("token key", e))?;
        let signing = EncodingKey::from_ec_der(pair.serialized_der());
        Ok(TokenKey { pair, signing, verifying })
    }

    /// The key as PKCS #8 PEM.
    pub fn key_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// The JWT, issuer [`ISSUER`].
    pub fn sign(&self, claims: &TokenClaims) -> Result<String, PkiError> {
        let bound = |name: &str, uid: &str| Bound { name: name.to_owned(), uid: uid.to_owned() };
        let wire = Wire {
            aud: Audiences::Many(claims.audiences.clone()),
            exp: claims.expires_at,
            iat: claims.issued_at,
            nbf: claims.issued_at,
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account),
            private: Private {
                namespace: claims.namespace.clone(),
                pod: claims.pod.as_ref().map(|(name, uid)| bound(name, uid)),
                serviceaccount: bound(&claims.service_account, &claims.service_account_uid),
            },
        };
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &wire, &self.signing)
            .map_err(|e| PkiError::new("cannot sign the token", e))
    }

    /// Signature, issuer and validity at `now` (seconds since the epoch) are checked; audiences are the caller's business.
    pub fn verify(&self, token: &str, now: i64) -> Result<TokenClaims, PkiError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.validate_aud = false;
        // The library would read the clock itself; the caller's `now` decides, below.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Wire>(token, &self.verifying, &validation);
        let wire = decoded.map_err(|e| PkiError::new("invalid bearer token", e))?.claims;
        if now >= wire.exp || now < wire.nbf {
            return Err(PkiError("invalid bearer token: it has expired or is not yet valid".to_owned()));
        }
        Ok(TokenClaims {
            namespace: wire.private.namespace,
            service_account: wire.private.serviceaccount.name,
            service_account_uid: wire.private.serviceaccount.uid,
            pod: wire.private.pod.map(|pod| (pod.name, pod.uid)),
            audiences: match wire.aud {
                Audiences::Many(list) => list,
                Audiences::One(one) => vec![one],
            },
            issued_at: wire.iat,
            expires_at: wire.exp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> TokenClaims {
        TokenClaims {
            namespace: "default".to_owned(),
            service_account: "sleep".to_owned(),
            service_account_uid: "u1".to_owned(),
            pod: Some(("sleep-0".to_owned(), "u2".to_owned())),
            audiences: vec![ISSUER.to_owned()],
            issued_at: 1_000,
            expires_at: 4_600,
        }
    }

    #[test]
    fn a_token_says_what_was_signed_for_as_long_as_it_is_valid() {
        let key = TokenKey::generate().unwrap();
        let token = key.sign(&claims()).unwrap();
        let again = TokenKey::load(&key.key_pem()).unwrap();
        assert_eq!(again.verify(&token, 1_000).unwrap(), claims());
        assert!(again.verify(&token, 4_600).is_err(), "expired");
        assert!(again.verify(&token, 999).is_err(), "not yet valid");
    }

    #[test]
    fn a_token_of_another_key_or_without_a_signature_is_refused() {
        let (key, other) = (TokenKey::generate().unwrap(), TokenKey::generate().unwrap());
        let token = other.sign(&claims()).unwrap();
        assert!(key.verify(&token, 2_000).is_err());
        let (unsigned, _) = token.rsplit_once('.').unwrap();
        assert!(other.verify(&format!("{unsigned}."), 2_000).is_err());
        assert!(other.verify("", 2_000).is_err());
    }
}
