//! Authentication as it was up to Istio 1.5 (authentication.istio.io/v1alpha1).

use serde::Deserialize;

use super::Spec;

/// What services of a namespace accept. One without targets is named `default`, and is for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    /// The services; none is all.
    pub targets: Vec<Target>,
    /// How callers show who they are; none is in plaintext.
    pub peers: Vec<Peer>,
    /// Whether callers may go without.
    #[serde(alias = "peer_is_optional")]
    pub peer_is_optional: bool,
    /// How users show who they are.
    pub origins: Vec<Origin>,
    /// Whether users may go without.
    #[serde(alias = "origin_is_optional")]
    pub origin_is_optional: bool,
    /// Who is taken for the one who asks.
    #[serde(alias = "principal_binding")]
    pub principal_binding: PrincipalBinding,
}

impl Spec for Policy {
    const GROUP: &'static str = "authentication.istio.io";
    const KIND: &'static str = "Policy";
}

/// The same for the whole mesh, named `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MeshPolicy(pub Policy);

impl Spec for MeshPolicy {
    const GROUP: &'static str = "authentication.istio.io";
    const KIND: &'static str = "MeshPolicy";
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Its short name.
    pub name: String,
    /// Its ports; none is all.
    pub ports: Vec<PolicyPort>,
}

/// A port of a service, by one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyPort {
    /// The number; 0 is unset.
    pub number: u16,
    /// The name.
    pub name: String,
}

/// How callers show who they are: by mutual TLS, which is all that there is. `mtls: {}` and `mtls:` with nothing are the
/// same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Mutual TLS.
    pub mtls: PolicyTls,
}

/// Mutual TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyTls {
    /// Whether plaintext is taken, too.
    pub mode: PolicyTlsMode,
    /// Whether a caller may have no certificate.
    #[serde(alias = "allow_tls")]
    pub allow_tls: bool,
}

/// Whether plaintext is taken, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyTlsMode {
    /// It is not.
    #[default]
    Strict,
    /// It is.
    Permissive,
}

/// How users show who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// By a token.
    pub jwt: Option<PolicyJwt>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyJwt {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// The claim `aud` must have one of them, if there are any.
    pub audiences: Vec<String>,
    /// Where the keys are.
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: String,
    /// The keys themselves.
    pub jwks: String,
    /// The headers in which a token may be.
    #[serde(alias = "jwt_headers")]
    pub jwt_headers: Vec<String>,
    /// The query parameters in which a token may be.
    #[serde(alias = "jwt_params")]
    pub jwt_params: Vec<String>,
    /// The requests that need a token; none is all.
    #[serde(alias = "trigger_rules")]
    pub trigger_rules: Vec<TriggerRule>,
}

/// Requests that need a token: those whose path no `excluded` and, if there are some, an `included` matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TriggerRule {
    /// Paths that do not.
    #[serde(alias = "excluded_paths")]
    pub excluded_paths: Vec<PathMatch>,
    /// Paths that do.
    #[serde(alias = "included_paths")]
    pub included_paths: Vec<PathMatch>,
}

/// A path; one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// All of it.
    pub exact: Option<String>,
    /// How it begins.
    pub prefix: Option<String>,
    /// How it ends.
    pub suffix: Option<String>,
    /// A regular expression for all of it.
    pub regex: Option<String>,
}

/// Who is taken for the one who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PrincipalBinding {
    /// The caller.
    #[default]
    UsePeer,
    /// The user.
    UseOrigin,
}
