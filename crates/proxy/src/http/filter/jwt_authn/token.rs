//! JWTs, as requests bring them.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::config::http::{Jwks, Signature};

/// Base64url, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The algorithms that are known.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
];

/// What is wrong with a request's tokens, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    NotYetValid,
    Expired,
    BadFormat,
    HeaderBadBase64,
    HeaderBadJson,
    HeaderBadAlgorithm,
    HeaderUnknownAlgorithm,
    HeaderBadKeyId,
    PayloadBadBase64,
    PayloadBadJson,
    ClaimNotText(&'static str),
    ClaimNotInteger(&'static str),
    ClaimOutOfRange(&'static str),
    AudienceNotText,
    SignatureBadBase64,
    UnknownIssuer,
    AudienceNotAllowed,
    BadSignature,
    NoKeys,
    NoMatchingKey,
    FetchFailed,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Problem::Missing => "Jwt is missing",
            Problem::NotYetValid => "Jwt not yet valid",
            Problem::Expired => "Jwt is expired",
            Problem::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Problem::HeaderBadBase64 => "Jwt header is an invalid Base64url encoded",
            Problem::HeaderBadJson => "Jwt header is an invalid JSON",
            Problem::HeaderBadAlgorithm => "Jwt header [alg] field is required and must be a string",
            Problem::HeaderUnknownAlgorithm => "Jwt header [alg] is not supported",
            Problem::HeaderBadKeyId => "Jwt header [kid] field is not a string",
            Problem::PayloadBadBase64 => "Jwt payload is an invalid Base64url encoded",
            Problem::PayloadBadJson => "Jwt payload is an invalid JSON",
            Problem::ClaimNotText(claim) => return write!(f, "Jwt payload [{claim}] field is not a string"),
            Problem::ClaimNotInteger(claim) => return write!(f, "Jwt payload [{claim}] field is not an integer"),
            Problem::ClaimOutOfRange(claim) => {
                return write!(f, "Jwt payload [{claim}] field is not a positive 64 bit integer");
            }
            Problem::AudienceNotText => "Jwt payload [aud] field is not a string or string list",
            Problem::SignatureBadBase64 => "Jwt signature is an invalid Base64url encoded",
            Problem::UnknownIssuer => "Jwt issuer is not configured",
            Problem::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Problem::BadSignature => "Jwt verification fails",
            Problem::NoKeys => "Jwks doesn't have any valid public key",
            Problem::NoMatchingKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Problem::FetchFailed => "Jwks remote fetch is failed",
        })
    }
}

/// A token, taken apart but not verified.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) issuer: String,
    pub(crate) header: Map<String, Value>,
    pub(crate) payload: Map<String, Value>,
    /// The payload as it was sent.
    pub(crate) encoded_payload: String,
    audiences: Vec<String>,
    algorithm: String,
    key_id: Option<String>,
    not_before: u64,
    expires: u64,
    /// Header and payload, as they were signed.
    signed: String,
    /// In base64url without padding.
    signature: String,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Token, Problem> {
        let parts: Vec<&str> = text.split('.').collect();
        let [header, payload, signature] = *parts.as_slice() else { return Err(Problem::BadFormat) };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Problem::BadFormat);
        }
        let encoded_payload = payload;
        let signed = text.get(..header.len() + 1 + payload.len()).unwrap_or_default().to_owned();
        let header = BASE64.decode(header).map_err(|_| Problem::HeaderBadBase64)?;
        let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| Problem::HeaderBadJson)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Problem::HeaderBadAlgorithm)?.to_owned();
        if !ALGORITHMS.contains(&algorithm.as_str()) {
            return Err(Problem::HeaderUnknownAlgorithm);
        }
        let key_id = header.get("kid").map(|kid| kid.as_str().map(str::to_owned).ok_or(Problem::HeaderBadKeyId));
        let key_id = key_id.transpose()?.filter(|kid| !kid.is_empty());
        let payload = BASE64.decode(payload).map_err(|_| Problem::PayloadBadBase64)?;
        let payload: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| Problem::PayloadBadJson)?;
        let issuer = text_of(&payload, "iss")?;
        text_of(&payload, "sub")?;
        integer_of(&payload, "iat")?;
        let not_before = integer_of(&payload, "nbf")?;
        let expires = integer_of(&payload, "exp")?;
        text_of(&payload, "jti")?;
        let audiences = audiences_of(&payload)?;
        let signature = BASE64.decode(signature).map_err(|_| Problem::SignatureBadBase64)?;
        Ok(Token {
            issuer,
            header,
            encoded_payload: encoded_payload.to_owned(),
            payload,
            audiences,
            algorithm,
            key_id,
            not_before,
            expires,
            signed,
            signature: BASE64.encode(signature),
        })
    }

    /// Whether the token is good at a time, which is counted from the epoch.
    pub(crate) fn check_time(&self, now: Duration, skew: Duration) -> Result<(), Problem> {
        let (now, skew) = (now.as_secs(), skew.as_secs());
        if now.saturating_add(skew) < self.not_before {
            return Err(Problem::NotYetValid);
        }
        if self.expires > 0 && now > self.expires.saturating_add(skew) {
            return Err(Problem::Expired);
        }
        Ok(())
    }

    /// Whether the token is for one of these; nobody is everybody. Neither its scheme nor a slash at its end tells a URL
    /// from another.
    pub(crate) fn check_audience(&self, allowed: &[Box<str>]) -> Result<(), Problem> {
        let found = self.audiences.iter().any(|own| allowed.iter().any(|other| plain(own) == plain(other)));
        if allowed.is_empty() || found { Ok(()) } else { Err(Problem::AudienceNotAllowed) }
    }

    /// Whether one of the keys made its signature.
    pub(crate) fn check_signature(&self, keys: &Jwks) -> Result<(), Problem> {
        if keys.is_empty() {
            return Err(Problem::NoKeys);
        }
        match keys.verify(self.key_id.as_deref(), &self.algorithm, &self.signed, &self.signature) {
            Signature::Good => Ok(()),
            Signature::Bad => Err(Problem::BadSignature),
            Signature::NoKey => Err(Problem::NoMatchingKey),
        }
    }
}

fn plain(audience: &str) -> &str {
    let audience = audience.strip_prefix("https://").or(audience.strip_prefix("http://")).unwrap_or(audience);
    audience.strip_suffix('/').unwrap_or(audience)
}

fn text_of(payload: &Map<String, Value>, claim: &'static str) -> Result<String, Problem> {
    match payload.get(claim) {
        None => Ok(String::new()),
        Some(value) => value.as_str().map(str::to_owned).ok_or(Problem::ClaimNotText(claim)),
    }
}

/// A number, of which what is behind the point does not count; zero if there is none.
fn integer_of(payload: &Map<String, Value>, claim: &'static str) -> Result<u64, Problem> {
    let Some(value) = payload.get(claim) else { return Ok(0) };
    if let Some(integer) = value.as_u64() {
        return Ok(integer);
    }
    let number = value.as_f64().ok_or(Problem::ClaimNotInteger(claim))?;
    if number < 0.0 || number >= 2_f64.powi(63) {
        return Err(Problem::ClaimOutOfRange(claim));
    }
    Ok(Duration::try_from_secs_f64(number).map_or(0, |d| d.as_secs()))
}

fn audiences_of(payload: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(Problem::AudienceNotText);
    match payload.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(value) => text(value).map(|text| vec![text]),
    }
}
