//! Who may call a workload.

use serde::Deserialize;

use super::{Spec, WorkloadSelector};

/// Says who may do what to workloads: of the mesh in the root namespace, of a namespace, or of what is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    /// The workloads; absent or empty is the whole scope.
    pub selector: Option<WorkloadSelector>,
    /// What happens to calls that a rule matches.
    pub action: Action,
    /// The rules; a call matches if one of them does. No rules match nothing.
    pub rules: Vec<Rule>,
    /// Who decides if the action is CUSTOM.
    pub provider: Provider,
}

impl Spec for AuthorizationPolicy {
    const GROUP: &'static str = "security.istio.io";
    const KIND: &'static str = "AuthorizationPolicy";
}

/// One of the mesh's extension providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// Its name.
    pub name: String,
}

/// What happens to matching calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// They are let in, and calls that no ALLOW policy matches are not.
    #[default]
    Allow,
    /// They are refused.
    Deny,
    /// They are marked for the audit log.
    Audit,
    /// Another service decides.
    Custom,
}

/// Matches if a `from`, a `to`, and every `when` does; an absent list matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Callers.
    pub from: Vec<From>,
    /// Operations.
    pub to: Vec<To>,
    /// Further conditions.
    pub when: Vec<Condition>,
}

/// A source, wrapped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct From {
    /// The source.
    pub source: Source,
}

/// Matches a caller if each list that is not empty does; a list matches if one of its values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Source {
    /// Identities from the peer's certificate: `cluster.local/ns/default/sa/sleep`.
    pub principals: Vec<String>,
    /// Identities that do not match.
    #[serde(alias = "not_principals")]
    pub not_principals: Vec<String>,
    /// Identities from a request's token (HTTP).
    #[serde(alias = "request_principals")]
    pub request_principals: Vec<String>,
    /// Identities from a request's token that do not match (HTTP).
    #[serde(alias = "not_request_principals")]
    pub not_request_principals: Vec<String>,
    /// Namespaces of the peer's identity.
    pub namespaces: Vec<String>,
    /// Namespaces that do not match.
    #[serde(alias = "not_namespaces")]
    pub not_namespaces: Vec<String>,
    /// Service accounts of the peer's identity: `NAMESPACE/NAME`, or `NAME` in the policy's namespace.
    #[serde(alias = "service_accounts")]
    pub service_accounts: Vec<String>,
    /// Service accounts that do not match.
    #[serde(alias = "not_service_accounts")]
    pub not_service_accounts: Vec<String>,
    /// Trust domains of the peer's identity.
    #[serde(alias = "trust_domains")]
    pub trust_domains: Vec<String>,
    /// Trust domains that do not match.
    #[serde(alias = "not_trust_domains")]
    pub not_trust_domains: Vec<String>,
    /// Addresses or CIDRs of the peer.
    #[serde(alias = "ip_blocks")]
    pub ip_blocks: Vec<String>,
    /// Addresses or CIDRs that do not match.
    #[serde(alias = "not_ip_blocks")]
    pub not_ip_blocks: Vec<String>,
    /// Addresses or CIDRs of the original client, as trusted proxies report it.
    #[serde(alias = "remote_ip_blocks")]
    pub remote_ip_blocks: Vec<String>,
    /// Addresses or CIDRs of the original client that do not match.
    #[serde(alias = "not_remote_ip_blocks")]
    pub not_remote_ip_blocks: Vec<String>,
}

/// An operation, wrapped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct To {
    /// The operation.
    pub operation: Operation,
}

/// Matches an operation if each list that is not empty does; a list matches if one of its values does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Operation {
    /// Hosts (HTTP).
    pub hosts: Vec<String>,
    /// Hosts that do not match (HTTP).
    #[serde(alias = "not_hosts")]
    pub not_hosts: Vec<String>,
    /// The workload's ports, as decimal text.
    pub ports: Vec<String>,
    /// Ports that do not match.
    #[serde(alias = "not_ports")]
    pub not_ports: Vec<String>,
    /// Methods (HTTP).
    pub methods: Vec<String>,
    /// Methods that do not match (HTTP).
    #[serde(alias = "not_methods")]
    pub not_methods: Vec<String>,
    /// Paths (HTTP).
    pub paths: Vec<String>,
    /// Paths that do not match (HTTP).
    #[serde(alias = "not_paths")]
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// The attribute: `source.ip`, `destination.port`, `connection.sni`, …
    pub key: String,
    /// One of them must match, if there are any.
    pub values: Vec<String>,
    /// None of them may match.
    #[serde(alias = "not_values")]
    pub not_values: Vec<String>,
}
