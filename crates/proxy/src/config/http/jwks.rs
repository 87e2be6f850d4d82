//! Keys that JWTs are signed with.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;

/// A set of keys (RFC 7517).
#[derive(Debug, Clone, Default)]
pub struct Jwks(Box<[Key]>);

/// A key of a set.
#[derive(Clone)]
struct Key {
    id: Option<Box<str>>,
    algorithm: Option<Box<str>>,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a secret.
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// What the keys of a set say of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// One of them made it.
    Good,
    /// None of those that could have made it did.
    Bad,
    /// None of them could have made it.
    NoKey,
}

impl Jwks {
    /// The keys of a set that are usable; `None` if it is no set.
    pub fn parse(text: &[u8]) -> Option<Jwks> {
        let set: Value = serde_json::from_slice(text).ok()?;
        let keys = set.get("keys")?.as_array()?;
        Some(Jwks(keys.iter().filter_map(Key::parse).collect()))
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a message was signed by one of these keys, with this algorithm. `signature` is in base64url.
    pub fn verify(&self, id: Option<&str>, algorithm: &str, message: &str, signature: &str) -> Signature {
        let mut found = Signature::NoKey;
        for key in self.0.iter().filter(|key| key.may_be(id, algorithm)) {
            found = Signature::Bad;
            let Ok(algorithm) = Algorithm::from_str(algorithm) else { continue };
            if crypto::verify(signature, message.as_bytes(), &key.key, algorithm).unwrap_or(false) {
                return Signature::Good;
            }
        }
        found
    }
}

impl Key {
    fn parse(value: &Value) -> Option<Key> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Box::from);
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        Some(Key { id: text("kid"), algorithm: text("alg"), key: DecodingKey::from_jwk(&jwk).ok()? })
    }

    fn may_be(&self, id: Option<&str>, algorithm: &str) -> bool {
        let same = |own: &Option<Box<str>>, other: Option<&str>| match (own.as_deref(), other) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        same(&self.id, id) && same(&self.algorithm, Some(algorithm))
    }
}
