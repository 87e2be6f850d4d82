//! The HTTP filter that authenticates requests by their JWTs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3 as core;
use envoy::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy::envoy::extensions::filters::http::jwt_authn::v3;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{JwksSourceSpecifier, NormalizePayload};
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::per_route_config::RequirementSpecifier;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use http::{HeaderName, Uri};

use super::field::header_name;
use super::jwks::Jwks;
use super::route_match::RouteMatch;
use crate::config::data_source;
use crate::config::field::{Checked, Path, fields};

/// By how much clocks may differ if the provider does not say (Envoy 1.40).
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// How long fetched keys are good if the provider does not say (Envoy 1.40).
const CACHE_DURATION: Duration = Duration::from_secs(600);

/// The filter.
#[derive(Debug, Clone)]
pub struct JwtAuthn {
    /// Everybody whose tokens may be asked for, by name.
    pub providers: BTreeMap<Arc<str>, Arc<JwtProvider>>,
    /// What requests must have; the first rule that matches counts, and without one nothing is required.
    pub rules: Box<[JwtRule]>,
    /// What routes may ask for, by name.
    pub named: BTreeMap<Arc<str>, JwtRequirement>,
    /// Whether CORS preflights need no token.
    pub bypass_cors_preflight: bool,
    /// Whether the client is not told why it is refused.
    pub strip_failure: bool,
    /// Goes before the names of its statistics; may be empty.
    pub stat_prefix: Arc<str>,
}

/// What some requests must have.
#[derive(Debug, Clone)]
pub struct JwtRule {
    /// Which ones.
    pub matches: RouteMatch,
    /// What.
    pub requirement: JwtRequirement,
}

/// What a request must have.
#[derive(Debug, Clone)]
pub enum JwtRequirement {
    /// Valid tokens of a provider.
    Provider {
        /// The provider.
        provider: Arc<JwtProvider>,
        /// The audiences that are allowed instead of the provider's.
        audiences: Option<Box<[Box<str>]>>,
    },
    /// One of these.
    Any {
        /// Which; at least one, unless what is missing is allowed.
        of: Box<[JwtRequirement]>,
        /// Whether none of them is needed where there is no token.
        allow_missing: bool,
        /// Whether none of them is needed at all.
        allow_failed: bool,
    },
    /// All of these; none of them is nothing.
    All(Box<[JwtRequirement]>),
    /// Tokens must be valid, and each from one of the filter's providers, but there may be none.
    AllowMissing,
    /// Nothing; what tokens there are is looked at.
    AllowMissingOrFailed,
}

/// Whose tokens are accepted.
#[derive(Debug, Clone)]
pub struct JwtProvider {
    /// Its name.
    pub name: Arc<str>,
    /// Who must have issued the tokens; empty is anybody.
    pub issuer: Arc<str>,
    /// For whom they must be; empty is anybody.
    pub audiences: Box<[Box<str>]>,
    /// Where they are looked for.
    pub locations: Locations,
    /// Whether the token goes on to upstream.
    pub forward: bool,
    /// The header that tells upstream the token's payload, and whether it is padded.
    pub payload_header: Option<(HeaderName, bool)>,
    /// Headers that tell upstream single claims, each with the way to its claim.
    pub claim_headers: Box<[ClaimHeader]>,
    /// Where the payload is kept for later filters.
    pub payload_in_metadata: Option<Box<str>>,
    /// Where the token's header is kept for later filters.
    pub header_in_metadata: Option<Box<str>>,
    /// Claims that are kept as lists of what stands between their spaces.
    pub space_delimited_claims: Box<[Box<str>]>,
    /// By how much clocks may differ.
    pub clock_skew: Duration,
    /// Whether the route is chosen again with the headers that were added.
    pub clear_route_cache: bool,
    /// The keys.
    pub keys: JwksSource,
}

/// A header that tells a claim, and the way to the claim.
pub type ClaimHeader = (HeaderName, Box<[Box<str>]>);

/// Where a request may carry tokens.
#[derive(Debug, Clone, Default)]
pub struct Locations {
    /// Headers, each with what stands before the token.
    pub headers: Box<[(HeaderName, Box<str>)]>,
    /// Parameters of the query.
    pub params: Box<[Box<str>]>,
    /// Cookies.
    pub cookies: Box<[Box<str>]>,
}

/// Where a provider's keys come from.
#[derive(Debug, Clone)]
pub enum JwksSource {
    /// They came with the configuration. Bad keys are none, so that no token is valid, as in Envoy.
    Local(Arc<Jwks>),
    /// They are fetched.
    Remote(RemoteJwks),
}

/// How keys are fetched.
#[derive(Debug, Clone)]
pub struct RemoteJwks {
    /// From where.
    pub uri: Uri,
    /// Over which cluster.
    pub cluster: Arc<str>,
    /// How long that may take.
    pub timeout: Duration,
    /// How long they are good.
    pub cache_duration: Duration,
}

/// What a route changes.
#[derive(Debug, Clone)]
pub enum JwtOverride {
    /// Nothing is required.
    Disabled,
    /// What the filter has under this name.
    Named(Arc<str>),
}

impl JwtAuthn {
    pub(super) fn from_message(at: &Path<'_>, message: v3::JwtAuthentication) -> Checked<JwtAuthn> {
        fields!(at, message => v3::JwtAuthentication { providers, rules, bypass_cors_preflight, requirement_map,
                strip_failure_response, stat_prefix }
            refuse { filter_state_rules });
        let providers_at = at.field("providers");
        let providers = providers.into_iter().map(|(name, provider)| {
            let name: Arc<str> = name.into();
            let provider = JwtProvider::from_message(&providers_at.key(&name), &name, provider)?;
            Ok((name.clone(), Arc::new(provider)))
        });
        let providers: BTreeMap<_, _> = providers.collect::<Checked<_>>()?;
        let (named_at, rules_at) = (at.field("requirement_map"), at.field("rules"));
        let named = requirement_map.into_iter().map(|(name, requirement)| {
            let requirement = JwtRequirement::from_message(&named_at.key(&name), &providers, requirement)?;
            Ok((name.into(), requirement))
        });
        let named: BTreeMap<Arc<str>, JwtRequirement> = named.collect::<Checked<_>>()?;
        let rules = rules.into_iter().enumerate();
        let rule = |(i, rule)| JwtRule::from_message(&rules_at.index(i), &providers, &named, rule);
        Ok(JwtAuthn {
            rules: rules.map(rule).collect::<Checked<_>>()?,
            providers,
            named,
            bypass_cors_preflight,
            strip_failure: strip_failure_response,
            stat_prefix: stat_prefix.into(),
        })
    }
}

impl JwtRule {
    fn from_message(
        at: &Path<'_>,
        providers: &BTreeMap<Arc<str>, Arc<JwtProvider>>,
        named: &BTreeMap<Arc<str>, JwtRequirement>,
        message: v3::RequirementRule,
    ) -> Checked<JwtRule> {
        let v3::RequirementRule { r#match, requirement_type } = message;
        let match_at = at.field("match");
        let requirement = match requirement_type {
            None => JwtRequirement::All(Box::default()),
            Some(RequirementType::Requires(requirement)) => {
                JwtRequirement::from_message(&at.field("requires"), providers, requirement)?
            }
            Some(RequirementType::RequirementName(name)) => {
                let found = named.get(name.as_str()).cloned();
                found.ok_or_else(|| at.field("requirement_name").reject("is not in requirement_map"))?
            }
        };
        Ok(JwtRule { matches: RouteMatch::from_message(&match_at, match_at.required(r#match)?)?, requirement })
    }
}

impl JwtRequirement {
    fn from_message(
        at: &Path<'_>,
        providers: &BTreeMap<Arc<str>, Arc<JwtProvider>>,
        message: v3::JwtRequirement,
    ) -> Checked<JwtRequirement> {
        let provider = |at: &Path<'_>, name: &str| {
            providers.get(name).cloned().ok_or_else(|| at.reject(format_args!("there is no provider {name:?}")))
        };
        Ok(match message.requires_type {
            None => JwtRequirement::All(Box::default()),
            Some(RequiresType::ProviderName(name)) => {
                JwtRequirement::Provider { provider: provider(&at.field("provider_name"), &name)?, audiences: None }
            }
            Some(RequiresType::ProviderAndAudiences(v3::ProviderWithAudiences { provider_name, audiences })) => {
                let at = at.field("provider_and_audiences");
                JwtRequirement::Provider {
                    provider: provider(&at.field("provider_name"), &provider_name)?,
                    audiences: (!audiences.is_empty()).then(|| audiences.into_iter().map(Box::from).collect()),
                }
            }
            Some(RequiresType::RequiresAny(list)) => {
                let at = at.field("requires_any");
                let of = each(&at.field("requirements"), providers, list.requirements)?;
                JwtRequirement::any(of).ok_or_else(|| at.reject("must not be empty"))?
            }
            Some(RequiresType::RequiresAll(list)) => {
                let at = at.field("requires_all");
                JwtRequirement::All(each(&at.field("requirements"), providers, list.requirements)?.into())
            }
            Some(RequiresType::AllowMissing(())) => JwtRequirement::AllowMissing,
            Some(RequiresType::AllowMissingOrFailed(())) => JwtRequirement::AllowMissingOrFailed,
            Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
                return Err(at.field("extract_only_without_validation").reject("is not supported"));
            }
        })
    }

    /// What allows something to be missing says that of the others, unless it is alone.
    fn any(mut of: Vec<JwtRequirement>) -> Option<JwtRequirement> {
        let missing = |r: &JwtRequirement| matches!(r, JwtRequirement::AllowMissing);
        let failed = |r: &JwtRequirement| matches!(r, JwtRequirement::AllowMissingOrFailed);
        let (allow_missing, allow_failed) = (of.iter().any(missing), of.iter().any(failed));
        of.retain(|r| !missing(r) && !failed(r));
        match (of.is_empty(), allow_failed, allow_missing) {
            (true, true, _) => Some(JwtRequirement::AllowMissingOrFailed),
            (true, false, true) => Some(JwtRequirement::AllowMissing),
            (true, false, false) => None,
            (false, ..) => Some(JwtRequirement::Any { of: of.into(), allow_missing, allow_failed }),
        }
    }
}

fn each(
    at: &Path<'_>,
    providers: &BTreeMap<Arc<str>, Arc<JwtProvider>>,
    messages: Vec<v3::JwtRequirement>,
) -> Checked<Vec<JwtRequirement>> {
    let messages = messages.into_iter().enumerate();
    messages.map(|(i, message)| JwtRequirement::from_message(&at.index(i), providers, message)).collect()
}

impl JwtProvider {
    fn from_message(at: &Path<'_>, name: &Arc<str>, message: v3::JwtProvider) -> Checked<JwtProvider> {
        // Tokens are checked each time: a cache of those that were good would change nothing but the time it takes.
        fields!(at, message => v3::JwtProvider { issuer, audiences, forward, from_headers, from_params, from_cookies,
                forward_payload_header, pad_forward_payload_header, payload_in_metadata,
                normalize_payload_in_metadata, header_in_metadata, clock_skew_seconds, claim_to_headers,
                clear_route_cache, jwks_source_specifier }
            refuse { subjects, require_expiration, max_lifetime, failed_status_in_metadata } ignore { jwt_cache_config });
        let payload_at = at.field("forward_payload_header");
        let claims_at = at.field("claim_to_headers");
        let claims = claim_to_headers.into_iter().enumerate();
        let text = |text: String| (!text.is_empty()).then(|| text.into());
        let NormalizePayload { space_delimited_claims } = normalize_payload_in_metadata.unwrap_or_default();
        Ok(JwtProvider {
            name: name.clone(),
            issuer: issuer.into(),
            audiences: audiences.into_iter().map(Box::from).collect(),
            locations: Locations::new(at, from_headers, from_params, from_cookies)?,
            forward,
            payload_header: match forward_payload_header.as_str() {
                "" => None,
                name => Some((header_name(&payload_at, name)?, pad_forward_payload_header)),
            },
            claim_headers: claims.map(|(i, c)| claim_header(&claims_at.index(i), c)).collect::<Checked<_>>()?,
            payload_in_metadata: text(payload_in_metadata),
            header_in_metadata: text(header_in_metadata),
            space_delimited_claims: space_delimited_claims.into_iter().map(Box::from).collect(),
            clock_skew: match clock_skew_seconds {
                0 => CLOCK_SKEW,
                seconds => Duration::from_secs(seconds.into()),
            },
            clear_route_cache,
            keys: match at.field("jwks_source_specifier").required(jwks_source_specifier)? {
                JwksSourceSpecifier::LocalJwks(source) => {
                    let text = data_source::bytes(&at.field("local_jwks"), source)?;
                    JwksSource::Local(Arc::new(Jwks::parse(&text).unwrap_or_default()))
                }
                JwksSourceSpecifier::RemoteJwks(remote) => {
                    JwksSource::Remote(RemoteJwks::from_message(&at.field("remote_jwks"), remote)?)
                }
            },
        })
    }
}

impl Locations {
    /// Where nothing is said, tokens are where RFC 6750 has them.
    fn new(
        at: &Path<'_>,
        headers: Vec<v3::JwtHeader>,
        params: Vec<String>,
        cookies: Vec<String>,
    ) -> Checked<Locations> {
        if headers.is_empty() && params.is_empty() && cookies.is_empty() {
            return Ok(Locations {
                headers: [(http::header::AUTHORIZATION, "Bearer ".into())].into(),
                params: ["access_token".into()].into(),
                cookies: Box::default(),
            });
        }
        let headers_at = at.field("from_headers");
        let header = |(i, v3::JwtHeader { name, value_prefix }): (usize, v3::JwtHeader)| {
            let at = headers_at.index(i);
            Ok((header_name(&at.field("name"), &name)?, value_prefix.into()))
        };
        Ok(Locations {
            headers: headers.into_iter().enumerate().map(header).collect::<Checked<_>>()?,
            params: params.into_iter().map(Box::from).collect(),
            cookies: cookies.into_iter().map(Box::from).collect(),
        })
    }
}

fn claim_header(at: &Path<'_>, message: v3::JwtClaimToHeader) -> Checked<ClaimHeader> {
    let v3::JwtClaimToHeader { header_name: name, claim_name, claim_path } = message;
    at.unset("claim_path", &claim_path)?;
    let header = header_name(&at.field("header_name"), &name)?;
    let claim_at = at.field("claim_name");
    Ok((header, claim_at.named(&claim_name)?.split('.').map(Box::from).collect()))
}

impl RemoteJwks {
    fn from_message(at: &Path<'_>, message: v3::RemoteJwks) -> Checked<RemoteJwks> {
        // The first request with a token waits for the keys, so that nobody has to fetch them ahead.
        fields!(at, message => v3::RemoteJwks { http_uri, cache_duration } refuse { retry_policy }
            ignore { async_fetch });
        let at = at.field("http_uri");
        fields!(&at, at.required(http_uri)? => core::HttpUri { uri, timeout, http_upstream_type });
        let uri_at = at.field("uri");
        let cluster = match http_upstream_type {
            Some(HttpUpstreamType::Cluster(cluster)) => cluster,
            None => String::new(),
        };
        Ok(RemoteJwks {
            uri: uri.parse().map_err(|e| uri_at.reject(format_args!("is not a URI: {e}")))?,
            cluster: at.field("cluster").named(&cluster)?.into(),
            timeout: at.field("timeout").duration(timeout)?.unwrap_or(Duration::from_secs(1)),
            cache_duration: at
                .field("cache_duration")
                .timeout(cache_duration, Some(CACHE_DURATION))?
                .unwrap_or_default(),
        })
    }
}

impl JwtOverride {
    pub(super) fn from_message(at: &Path<'_>, message: v3::PerRouteConfig) -> Checked<JwtOverride> {
        match at.required(message.requirement_specifier)? {
            RequirementSpecifier::Disabled(true) => Ok(JwtOverride::Disabled),
            RequirementSpecifier::Disabled(false) => Err(at.field("disabled").reject("must be true")),
            RequirementSpecifier::RequirementName(name) => {
                Ok(JwtOverride::Named(at.field("requirement_name").named(&name)?.into()))
            }
        }
    }
}
