//! Who the users of requests are, by their tokens.

use serde::Deserialize;

use super::{Duration, Spec, WorkloadSelector};

/// Says which JSON Web Tokens workloads accept: of the mesh in the root namespace, of a namespace, or of what is selected.
/// A request with a token that is not valid is refused; one without a token has no request principal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestAuthentication {
    /// The workloads; absent or empty is the whole scope.
    pub selector: Option<WorkloadSelector>,
    /// The issuers that are believed.
    #[serde(alias = "jwt_rules")]
    pub jwt_rules: Vec<JwtRule>,
}

impl Spec for RequestAuthentication {
    const GROUP: &'static str = "security.istio.io";
    const KIND: &'static str = "RequestAuthentication";
}

/// An issuer, and where its tokens and keys are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtRule {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// The claim `aud` must have one of them, if there are any.
    pub audiences: Vec<String>,
    /// Where the keys are.
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: String,
    /// The keys themselves, as a JSON Web Key Set.
    pub jwks: String,
    /// The headers in which a token may be.
    #[serde(alias = "from_headers")]
    pub from_headers: Vec<JwtHeader>,
    /// The query parameters in which a token may be.
    #[serde(alias = "from_params")]
    pub from_params: Vec<String>,
    /// The cookies in which a token may be.
    #[serde(alias = "from_cookies")]
    pub from_cookies: Vec<String>,
    /// A header that tells the application the token's claims, in base64url.
    #[serde(alias = "output_payload_to_header")]
    pub output_payload_to_header: String,
    /// Headers that tell the application single claims.
    #[serde(alias = "output_claim_to_headers")]
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the application gets the token, too.
    #[serde(alias = "forward_original_token")]
    pub forward_original_token: bool,
    /// How long fetching the keys may take.
    pub timeout: Option<Duration>,
    /// Claims whose text is a list of words.
    #[serde(alias = "space_delimited_claims")]
    pub space_delimited_claims: Vec<String>,
}

/// A header in which a token may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JwtHeader {
    /// Its name.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// A header for a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClaimToHeader {
    /// The header.
    pub header: String,
    /// The claim; `a.b` is the claim `b` inside `a`.
    pub claim: String,
}
