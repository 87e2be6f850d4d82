//! Routes for requests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Destination;
use crate::istio::{Duration, StringMatch};
use crate::selector::Labels;

/// A route for requests: an answer, a redirect, another object's routes, or destinations.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRoute {
    /// The name, for logs.
    pub name: String,
    /// One of them must match; none match everything.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// Where requests go, by weight.
    pub route: Vec<HttpDestination>,
    /// An answer that sends the caller elsewhere.
    pub redirect: Option<Redirect>,
    /// An answer without asking anybody.
    #[serde(alias = "direct_response")]
    pub direct_response: Option<DirectResponse>,
    /// Another virtual service that has the routes.
    pub delegate: Option<Delegate>,
    /// What is changed in requests.
    pub rewrite: Option<Rewrite>,
    /// How long a request may take.
    pub timeout: Option<Duration>,
    /// What happens to requests that fail.
    pub retries: Option<Retries>,
    /// Faults that are made on purpose.
    pub fault: Option<Fault>,
    /// Where copies of requests go.
    pub mirror: Option<Destination>,
    /// The same, for several.
    pub mirrors: Vec<Mirror>,
    /// Percent of requests that `mirror` gets; the old form.
    #[serde(alias = "mirror_percent")]
    pub mirror_percent: Option<u32>,
    /// The share of requests that `mirror` gets; unset is all.
    #[serde(alias = "mirror_percentage")]
    pub mirror_percentage: Option<Percent>,
    /// Which pages of other origins may call.
    #[serde(alias = "cors_policy")]
    pub cors_policy: Option<CorsPolicy>,
    /// Changes of headers.
    pub headers: Option<Headers>,
}

/// Matches a request if everything that is set does.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMatch {
    /// The name, for logs.
    pub name: String,
    /// The path without its query.
    pub uri: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The host.
    pub authority: Option<StringMatch>,
    /// Headers.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match; one that is not there is taken for empty.
    #[serde(alias = "without_headers")]
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Parameters in the query.
    #[serde(alias = "query_params")]
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether the path's case does not matter.
    #[serde(alias = "ignore_uri_case")]
    pub ignore_uri_case: bool,
    /// The service's port, or the server's of a gateway.
    pub port: Option<u16>,
    /// Labels of the caller.
    #[serde(alias = "source_labels")]
    pub source_labels: Labels,
    /// The gateways, if not those of the object.
    pub gateways: Vec<String>,
    /// The caller's namespace.
    #[serde(alias = "source_namespace")]
    pub source_namespace: String,
    /// Begins the names of the route's metrics.
    #[serde(alias = "stat_prefix")]
    pub stat_prefix: String,
}

/// A destination with its share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HttpDestination {
    /// The destination.
    pub destination: Destination,
    /// Its share relative to the others; of a single one it has no meaning.
    pub weight: u32,
    /// Changes of headers of what goes there.
    pub headers: Option<Headers>,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Headers {
    /// In requests.
    pub request: Option<HeaderOperations>,
    /// In responses.
    pub response: Option<HeaderOperations>,
}

/// Changes of headers in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeaderOperations {
    /// Headers that get a value in place of those that they have.
    pub set: BTreeMap<String, String>,
    /// Headers that get a value beside those that they have.
    pub add: BTreeMap<String, String>,
    /// Headers that are removed.
    pub remove: Vec<String>,
}

/// An answer that sends the caller elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Redirect {
    /// The path there; empty is the same.
    pub uri: String,
    /// What replaces the matched prefix of the path.
    #[serde(alias = "prefix_rewrite")]
    pub prefix_rewrite: String,
    /// The host there; empty is the same.
    pub authority: String,
    /// The port there.
    pub port: Option<u32>,
    /// Where the port is from, if none is given.
    #[serde(alias = "derive_port")]
    pub derive_port: Option<DerivePort>,
    /// The scheme there; empty is the same.
    pub scheme: String,
    /// The status; 0 is 301.
    #[serde(alias = "redirect_code")]
    pub redirect_code: u32,
}

/// Where the port of a redirect is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DerivePort {
    /// It is that of the scheme.
    FromProtocolDefault,
    /// It is that of the request.
    FromRequestPort,
}

/// An answer without asking anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DirectResponse {
    /// The status.
    pub status: u32,
    /// The body.
    pub body: Option<Body>,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Body {
    /// As text.
    String(String),
    /// In base64.
    Bytes(String),
}

/// Another virtual service that has the routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; empty is the object's own.
    pub namespace: String,
}

/// What is changed in requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rewrite {
    /// The path, or what of it was matched by a prefix; empty changes nothing.
    pub uri: String,
    /// The host; empty changes nothing.
    pub authority: String,
    /// The path by a regular expression.
    #[serde(alias = "uri_regex_rewrite")]
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// What replaces that which a regular expression matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RegexRewrite {
    /// The expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What replaces it, with `\1` for groups.
    pub rewrite: String,
}

/// What happens to requests that fail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retries {
    /// How often they are tried again; 0 is not at all.
    pub attempts: u32,
    /// How long one try may take.
    #[serde(alias = "per_try_timeout")]
    pub per_try_timeout: Option<Duration>,
    /// Which failures count, by Envoy's names and statuses; empty is the mesh's default.
    #[serde(alias = "retry_on")]
    pub retry_on: String,
    /// Whether endpoints in other places are tried.
    #[serde(alias = "retry_remote_localities")]
    pub retry_remote_localities: Option<bool>,
    /// Whether endpoints that failed are avoided; they are unless this says no.
    #[serde(alias = "retry_ignore_previous_hosts")]
    pub retry_ignore_previous_hosts: Option<bool>,
    /// The least time between tries.
    pub backoff: Option<Duration>,
}

/// Faults that are made on purpose.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Requests that are held back.
    pub delay: Option<Delay>,
    /// Requests that are refused.
    pub abort: Option<Abort>,
}

/// Requests that are held back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Delay {
    /// How many; unset is none.
    pub percentage: Option<Percent>,
    /// How many in percent; the old form.
    pub percent: u32,
    /// For how long.
    #[serde(alias = "fixed_delay")]
    pub fixed_delay: Option<Duration>,
    /// Reserved by Istio.
    #[serde(alias = "exponential_delay")]
    pub exponential_delay: Option<Duration>,
}

/// Requests that are refused.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Abort {
    /// How many; unset is none.
    pub percentage: Option<Percent>,
    /// How many in percent; the old form.
    pub percent: u32,
    /// With this status.
    #[serde(alias = "http_status")]
    pub http_status: Option<u32>,
    /// With this status of gRPC, by name or number.
    #[serde(alias = "grpc_status")]
    pub grpc_status: Option<String>,
    /// Reserved by Istio.
    #[serde(alias = "http2_error")]
    pub http2_error: Option<String>,
}

/// Where copies of requests go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// The destination.
    pub destination: Destination,
    /// How many; unset is all.
    pub percentage: Option<Percent>,
}

/// A share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Percent {
    /// Percent.
    pub value: f64,
}

/// Which pages of other origins may call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Origins, each in full or `*`; the old form.
    #[serde(alias = "allow_origin")]
    pub allow_origin: Vec<String>,
    /// Origins.
    #[serde(alias = "allow_origins")]
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    #[serde(alias = "allow_methods")]
    pub allow_methods: Vec<String>,
    /// Headers of requests.
    #[serde(alias = "allow_headers")]
    pub allow_headers: Vec<String>,
    /// Headers of responses that pages may see.
    #[serde(alias = "expose_headers")]
    pub expose_headers: Vec<String>,
    /// How long the answer to a preflight holds.
    #[serde(alias = "max_age")]
    pub max_age: Option<Duration>,
    /// Whether pages may send credentials.
    #[serde(alias = "allow_credentials")]
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    #[serde(alias = "unmatched_preflights")]
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What happens to preflights of origins that are not allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As FORWARD.
    #[default]
    Unspecified,
    /// They reach the service.
    Forward,
    /// They are answered without leave.
    Ignore,
}
