//! Authenticates requests by their JWTs.
//!
//! What a request must have is decided at once, by the keys that are there; those of remote providers are looked for
//! before. What was true of the tokens is kept as metadata for the filters that follow.

mod keys;
mod location;
#[cfg(test)]
mod tests;
mod token;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::{Map, Value};

use crate::config::http::{Jwks, JwksSource, JwtAuthn, JwtOverride, JwtProvider, JwtRequirement};
use crate::dynamic_metadata::DynamicMetadata;
use crate::http::reply::Reply;
use crate::metrics::JwtAuthnStats;
use crate::routing;
use crate::upstream::Establish;
pub(crate) use keys::KeyStore;
use location::{Carried, carried};
use token::{Problem, Token};

/// Under which name the filter notes what it learns.
pub(crate) const NAME: &str = "envoy.filters.http.jwt_authn";
/// How much of a path the client is told.
const LONGEST_PATH: usize = 256;

/// What was learnt of a request.
#[derive(Debug, Default)]
pub(crate) struct Authenticated {
    /// What filters that follow may ask for, under the name of this filter.
    pub(crate) facts: Struct,
    /// Whether the route is to be chosen again.
    pub(crate) clear_route_cache: bool,
}

/// Asks a filter about a request, which it changes. Keys that are missing are fetched over the clusters that `cluster`
/// knows. Returns whether the route is to be chosen again.
pub(crate) async fn ask(
    config: &JwtAuthn,
    requirement: &JwtRequirement,
    parts: &mut Parts,
    metadata: &mut DynamicMetadata,
    stats: &JwtAuthnStats,
    (store, cluster): (&KeyStore, impl Fn(&Arc<str>) -> Option<Rc<Establish>>),
) -> Result<bool, Reply> {
    for provider in config.wanted(requirement, parts) {
        if let JwksSource::Remote(remote) = &provider.keys {
            store.fetch(remote, cluster(&remote.cluster), stats).await;
        }
    }
    let keys = |provider: &JwtProvider| match &provider.keys {
        JwksSource::Remote(remote) => store.get(remote),
        JwksSource::Local(keys) => Some(keys.clone()),
    };
    // A clock that is set before the epoch is wrong in any case.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (learnt, result) = config.authenticate(requirement, parts, now, &keys);
    if !learnt.facts.fields.is_empty() {
        metadata.add(NAME, learnt.facts);
    }
    result.map(|()| learnt.clear_route_cache)
}

/// The keys of remote providers, as far as they are there.
pub(crate) type Keys<'a> = &'a dyn Fn(&JwtProvider) -> Option<Arc<Jwks>>;

impl JwtAuthn {
    /// Whether a request is a question of a browser, which has no token with it, and goes on.
    pub(crate) fn bypasses(&self, parts: &Parts) -> bool {
        self.bypass_cors_preflight && is_preflight(parts)
    }

    /// What a request must have; `None` is nothing. The rules are asked only if its route does not say otherwise.
    pub(crate) fn requirement<'c>(
        &'c self,
        request: &routing::Request<'_>,
        change: Option<&JwtOverride>,
    ) -> Result<Option<&'c JwtRequirement>, Reply> {
        match change {
            Some(JwtOverride::Disabled) => Ok(None),
            Some(JwtOverride::Named(name)) => match self.named.get(name) {
                Some(requirement) => Ok(Some(requirement)),
                None => Err(self.unknown(name)),
            },
            None => Ok(self.rules.iter().find(|rule| rule.matches.holds(request)).map(|rule| &rule.requirement)),
        }
    }

    fn unknown(&self, name: &str) -> Reply {
        let reason = format!("Wrong requirement_name: {name}. It should be one of [{}]", self.names());
        let body = if self.strip_failure { String::new() } else { format!("Failed JWT authentication: {reason}") };
        Reply::new(StatusCode::FORBIDDEN, details(&reason)).body(body)
    }

    fn names(&self) -> String {
        self.named.keys().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
    }

    /// The providers whose keys must be fetched before it can be said whether a request has what it must have.
    pub(crate) fn wanted<'c>(&'c self, requirement: &'c JwtRequirement, parts: &Parts) -> Vec<&'c Arc<JwtProvider>> {
        let mut providers = Vec::new();
        self.named_by(requirement, &mut providers);
        providers.retain(|provider| {
            let is_of = |carried: &Carried<'_>| {
                Token::parse(&carried.token).is_ok_and(|t| provider.issuer.is_empty() || *t.issuer == *provider.issuer)
            };
            matches!(provider.keys, JwksSource::Remote(_)) && carried(&[*provider], parts).iter().any(is_of)
        });
        providers
    }

    fn named_by<'c>(&'c self, requirement: &'c JwtRequirement, providers: &mut Vec<&'c Arc<JwtProvider>>) {
        match requirement {
            JwtRequirement::Provider { provider, .. } => providers.push(provider),
            JwtRequirement::Any { of, .. } | JwtRequirement::All(of) => {
                of.iter().for_each(|requirement| self.named_by(requirement, providers));
            }
            JwtRequirement::AllowMissing | JwtRequirement::AllowMissingOrFailed => {
                providers.extend(self.providers.values());
            }
        }
    }

    /// Whether a request has what it must have, at a time counted from the epoch. It is changed as the providers want.
    /// Even of one that is refused something may be learnt.
    pub(crate) fn authenticate(
        &self,
        requirement: &JwtRequirement,
        parts: &mut Parts,
        now: Duration,
        keys: Keys<'_>,
    ) -> (Authenticated, Result<(), Reply>) {
        let realm = realm(parts);
        let mut check = Check { config: self, parts, now, keys, learnt: Authenticated::default() };
        let result = check.fulfils(requirement);
        (check.learnt, result.map_err(|problem| self.refusal(problem, &realm)))
    }

    fn refusal(&self, problem: Problem, realm: &str) -> Reply {
        let status = match problem {
            Problem::AudienceNotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        };
        let text = problem.to_string();
        let details = details(&text);
        if self.strip_failure {
            return Reply::new(status, details);
        }
        let error = if problem == Problem::Missing { "" } else { ", error=\"invalid_token\"" };
        let challenge = HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}"));
        let reply = Reply::new(status, details).body(text);
        match challenge {
            Ok(challenge) => reply.header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => reply,
        }
    }
}

/// Why a request is refused, as the access log has it.
fn details(reason: &str) -> String {
    format!("jwt_authn_access_denied{{{}}}", reason.split_whitespace().collect::<Vec<_>>().join("_"))
}

fn is_preflight(parts: &Parts) -> bool {
    let there = |name: HeaderName| parts.headers.get(name).is_some_and(|value| !value.is_empty());
    parts.method == Method::OPTIONS && there(header::ORIGIN) && there(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the client asked for.
fn realm(parts: &Parts) -> String {
    let original = parts.headers.get("x-envoy-original-path").and_then(|value| value.to_str().ok());
    let path = original.unwrap_or_else(|| routing::full_path(parts));
    let path: String = path.chars().take(LONGEST_PATH).collect();
    format!("{}://{}{path}", routing::scheme(parts), routing::authority(parts))
}

/// A request that is being checked.
struct Check<'a> {
    config: &'a JwtAuthn,
    parts: &'a mut Parts,
    now: Duration,
    keys: Keys<'a>,
    learnt: Authenticated,
}

impl Check<'_> {
    fn fulfils(&mut self, requirement: &JwtRequirement) -> Result<(), Problem> {
        match requirement {
            JwtRequirement::Provider { provider, audiences } => {
                self.sanitize(&[provider]);
                self.tokens_of(provider, audiences.as_deref().unwrap_or(&provider.audiences))
            }
            JwtRequirement::Any { of, allow_missing, allow_failed } => match self.fulfils_any(of) {
                Err(_) if *allow_failed => Ok(()),
                Err(Problem::Missing) if *allow_missing => Ok(()),
                result => result,
            },
            JwtRequirement::All(of) => of.iter().try_for_each(|requirement| self.fulfils(requirement)),
            JwtRequirement::AllowMissing => match self.tokens_of_all() {
                Err(Problem::Missing) => Ok(()),
                result => result,
            },
            JwtRequirement::AllowMissingOrFailed => {
                // What is wrong with them does not matter.
                self.tokens_of_all().or(Ok(()))
            }
        }
    }

    /// If nothing is fulfilled, a problem with a token tells more than that there is none, or of somebody else.
    fn fulfils_any(&mut self, of: &[JwtRequirement]) -> Result<(), Problem> {
        let mut told = Problem::Missing;
        for requirement in of {
            let Err(problem) = self.fulfils(requirement) else { return Ok(()) };
            if told == Problem::Missing || !matches!(problem, Problem::Missing | Problem::UnknownIssuer) {
                told = problem;
            }
        }
        Err(told)
    }

    /// Nobody but this filter may say what tokens say.
    fn sanitize(&mut self, providers: &[&Arc<JwtProvider>]) {
        for provider in providers {
            let names = provider.payload_header.iter().map(|(name, _)| name);
            for name in names.chain(provider.claim_headers.iter().map(|(name, _)| name)) {
                while self.parts.headers.remove(name).is_some() {}
            }
        }
    }

    /// A request with a good token and a bad one is refused: upstream might take the bad one.
    fn tokens_of(&mut self, provider: &Arc<JwtProvider>, audiences: &[Box<str>]) -> Result<(), Problem> {
        let tokens = carried(&[provider], self.parts);
        if tokens.is_empty() {
            return Err(Problem::Missing);
        }
        tokens.iter().rev().try_for_each(|carried| {
            let token = Token::parse(&carried.token)?;
            if !carried.may_be_of(&token.issuer) {
                return Err(Problem::UnknownIssuer);
            }
            self.verify(carried, &token, provider, audiences)
        })
    }

    /// Tokens may be of any provider; the last one that is looked at decides, as in Envoy.
    fn tokens_of_all(&mut self) -> Result<(), Problem> {
        let providers: Vec<&Arc<JwtProvider>> = self.config.providers.values().collect();
        self.sanitize(&providers);
        let tokens = carried(&providers, self.parts);
        let mut last = Err(Problem::Missing);
        for carried in tokens.iter().rev() {
            last = Token::parse(&carried.token).and_then(|token| {
                let of_issuer = providers.iter().find(|p| *p.issuer == *token.issuer && !p.issuer.is_empty());
                let provider = of_issuer.or_else(|| providers.iter().find(|p| p.issuer.is_empty()));
                let provider = provider.filter(|_| carried.may_be_of(&token.issuer)).ok_or(Problem::UnknownIssuer)?;
                self.verify(carried, &token, provider, &provider.audiences)
            });
        }
        last
    }

    fn verify(
        &mut self,
        carried: &Carried<'_>,
        token: &Token,
        provider: &JwtProvider,
        audiences: &[Box<str>],
    ) -> Result<(), Problem> {
        token.check_time(self.now, provider.clock_skew)?;
        token.check_audience(audiences)?;
        match &provider.keys {
            JwksSource::Local(keys) => token.check_signature(keys)?,
            JwksSource::Remote(_) => token.check_signature(&*(self.keys)(provider).ok_or(Problem::FetchFailed)?)?,
        }
        self.tell_upstream(token, provider);
        if !provider.forward {
            carried.remove(self.parts);
        }
        self.learn(token, provider);
        Ok(())
    }

    fn tell_upstream(&mut self, token: &Token, provider: &JwtProvider) {
        if let Some((name, padded)) = &provider.payload_header {
            let missing = if *padded { (4 - token.encoded_payload.len() % 4) % 4 } else { 0 };
            let value = format!("{}{}", token.encoded_payload, "=".repeat(missing));
            self.add(name, &value);
        }
        for (name, way) in &provider.claim_headers {
            let claim = way.iter().try_fold(None::<&Value>, |at, step| {
                let map = at.map_or(Some(&token.payload), Value::as_object)?;
                map.get(&**step).map(Some)
            });
            if let Some(text) = claim.flatten().and_then(claim_text) {
                self.add(name, &text);
            }
        }
        self.learnt.clear_route_cache |=
            provider.clear_route_cache && (provider.payload_header.is_some() || !provider.claim_headers.is_empty());
    }

    fn add(&mut self, name: &HeaderName, value: &str) {
        // A claim that no header can hold is not told.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.parts.headers.append(name, value);
        }
    }

    fn learn(&mut self, token: &Token, provider: &JwtProvider) {
        let facts = &mut self.learnt.facts.fields;
        if let Some(key) = &provider.header_in_metadata {
            facts.insert(key.to_string(), fact(Kind::StructValue(structure(&token.header))));
        }
        if let Some(key) = &provider.payload_in_metadata {
            let mut payload = structure(&token.payload);
            for claim in &provider.space_delimited_claims {
                if let Some(value) = payload.fields.get_mut(&**claim)
                    && let Some(Kind::StringValue(text)) = &value.kind
                {
                    let parts = text.split(' ').filter(|part| !part.is_empty());
                    let values = parts.map(|part| fact(Kind::StringValue(part.to_owned()))).collect();
                    *value = fact(Kind::ListValue(ListValue { values }));
                }
            }
            facts.insert(key.to_string(), fact(Kind::StructValue(payload)));
        }
    }
}

fn fact(kind: Kind) -> prost_types::Value {
    prost_types::Value { kind: Some(kind) }
}

/// What a token says, as filters note it.
fn structure(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), noted(value))).collect() }
}

fn noted(value: &Value) -> prost_types::Value {
    fact(match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(noted).collect() }),
        Value::Object(object) => Kind::StructValue(structure(object)),
    })
}

/// A claim as a header has it; `None` if there is nothing to tell.
fn claim_text(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(integer), _) => integer.to_string(),
            (None, Some(float)) if float >= 0.0 && float.fract() == 0.0 && float < 2_f64.powi(64) => {
                format!("{float:.0}")
            }
            (None, Some(float)) => format!("{float:.6}"),
            (None, None) => return None,
        },
        Value::Array(_) | Value::Object(_) => BASE64_STANDARD.encode(claim.to_string()),
    };
    (!text.is_empty()).then_some(text)
}
