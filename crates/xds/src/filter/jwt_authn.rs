//! Tokens of requests.
//!
//! A request with a token that is not valid is refused; what a valid one says is left as metadata, by which rules know the
//! request's user. Keys are fetched by the proxy itself, not by the control plane as up to Istio 1.20: the control plane
//! has no way out of its own, and a proxy that fetches sees new keys within minutes, whether or not the control plane runs.

mod keys;

use std::collections::BTreeMap;

use api::istio::JwtRule;
use envoy::envoy::config::route::v3::RouteMatch;
use envoy::envoy::config::route::v3::route_match::PathSpecifier;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::NormalizePayload;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::requirement_rule::RequirementType;
use envoy::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
    JwtRequirementOrList, RequirementRule,
};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::mesh::Mesh;
use crate::policy::Authentication;
use crate::{OutboundClass, Resources, wire};
pub(super) use keys::host;

/// The name of the filter, under which its metadata is.
pub(crate) const FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where in the metadata the claims are.
pub(crate) const PAYLOAD: &str = "payload";
/// Claims that are lists of words, as OAuth has them.
const WORDS: [&str; 2] = ["scope", "permission"];

/// The filter for some authentications; none if there is nothing to check.
pub(super) fn filter<'a>(
    mesh: &Mesh,
    class: &OutboundClass,
    authentications: impl Iterator<Item = &'a Authentication>,
    resources: &mut Resources,
) -> Option<HttpFilter> {
    let mut rules: Vec<(&Authentication, usize, &JwtRule)> = Vec::new();
    for authentication in authentications {
        rules.extend(authentication.rules.iter().enumerate().map(|(i, rule)| (authentication, i, rule)));
    }
    if rules.is_empty() {
        return None;
    }
    rules.sort_by(|(_, _, a), (_, _, b)| a.issuer.cmp(&b.issuer));
    let mut providers = BTreeMap::new();
    for (index, (authentication, place, rule)) in rules.iter().enumerate() {
        let keys = keys::Keys { mesh, class, object: &authentication.object, field: authentication.field(*place) };
        providers.insert(provider_name(index), provider(rule, &keys, resources));
    }
    let required = rules.iter().any(|(authentication, _, _)| authentication.required);
    let names: Vec<String> = providers.keys().cloned().collect();
    let everywhere =
        RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let rule = RequirementRule {
        r#match: Some(everywhere),
        requirement_type: Some(RequirementType::Requires(requirement(&names, required))),
    };
    let config =
        JwtAuthentication { providers, rules: vec![rule], bypass_cors_preflight: true, ..JwtAuthentication::default() };
    let config = wire::any("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", &config);
    Some(super::http_filter(FILTER, config))
}

fn provider_name(index: usize) -> String {
    format!("origins-{index}")
}

/// A valid token of some issuer; or, if none is needed, no token that is not valid. Issuers whose tokens are at the same
/// place would each refuse the others', so one that is valid is enough.
fn requirement(providers: &[String], required: bool) -> JwtRequirement {
    let of = |kind| JwtRequirement { requires_type: Some(kind) };
    let any = |requirements: Vec<JwtRequirement>| match <[JwtRequirement; 1]>::try_from(requirements) {
        Ok([one]) => one,
        Err(requirements) => of(RequiresType::RequiresAny(JwtRequirementOrList { requirements })),
    };
    let valid = |name: &String| of(RequiresType::ProviderName(name.clone()));
    let missing = || of(RequiresType::AllowMissing(()));
    let some: Vec<JwtRequirement> = providers.iter().map(valid).collect();
    if required {
        return any(some);
    }
    let each: Vec<JwtRequirement> = providers.iter().map(|name| any(vec![valid(name), missing()])).collect();
    match <[JwtRequirement; 1]>::try_from(each) {
        Ok([one]) => one,
        Err(requirements) => {
            let all = of(RequiresType::RequiresAll(JwtRequirementAndList { requirements }));
            any(some.into_iter().chain([all]).collect())
        }
    }
}

fn provider(rule: &JwtRule, keys: &keys::Keys<'_>, resources: &mut Resources) -> JwtProvider {
    let JwtRule { issuer, audiences, jwks_uri: _, jwks: _, from_headers, from_params, from_cookies, .. } = rule;
    let JwtRule { output_payload_to_header, output_claim_to_headers, forward_original_token, .. } = rule;
    let JwtRule { timeout: _, space_delimited_claims, .. } = rule;
    let header =
        |header: &api::istio::JwtHeader| JwtHeader { name: header.name.clone(), value_prefix: header.prefix.clone() };
    let claim = |claim: &api::istio::ClaimToHeader| JwtClaimToHeader {
        header_name: claim.header.clone(),
        claim_name: claim.claim.clone(),
        ..JwtClaimToHeader::default()
    };
    let named = |header: &&api::istio::JwtHeader| !header.name.is_empty();
    let whole = |c: &&api::istio::ClaimToHeader| !c.header.is_empty() && !c.claim.is_empty();
    let words = WORDS.into_iter().chain(space_delimited_claims.iter().map(String::as_str));
    JwtProvider {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks_source_specifier: Some(keys.of(rule, resources)),
        forward: *forward_original_token,
        from_headers: from_headers.iter().filter(named).map(header).collect(),
        from_params: from_params.clone(),
        from_cookies: from_cookies.clone(),
        forward_payload_header: output_payload_to_header.clone(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: words.map(str::to_owned).collect(),
        }),
        claim_to_headers: output_claim_to_headers.iter().filter(whole).map(claim).collect(),
        ..JwtProvider::default()
    }
}
