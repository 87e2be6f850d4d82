//! What a rule asks of one attribute of a connection or a request.

use std::collections::BTreeSet;

use api::istio::{Condition, Operation, Source, TrustDomain};
use envoy::envoy::config::rbac::v3::permission::{self, Rule};
use envoy::envoy::config::rbac::v3::principal::{self, Authenticated, Identifier};
use envoy::envoy::config::rbac::v3::{Permission, Principal};
use envoy::envoy::r#type::matcher::v3::StringMatcher;

use super::{Layer, http, metadata, value};
use crate::{Code, wire};

/// Why something cannot be held against what a layer carries.
pub(super) type Unusable = (Code, String);

/// An attribute of a connection, or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Principal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    PeerIp,
    ClientIp,
    DestinationIp,
    DestinationPort,
    ServerName,
    /// What another filter has found out: its name, and the key.
    Metadata(String, String),
    /// Of a request.
    Http(http::Attribute),
}

impl Attribute {
    fn of_key(key: &str) -> Result<Attribute, Unusable> {
        Ok(match key {
            "source.principal" => Attribute::Principal,
            "source.namespace" => Attribute::Namespace,
            "source.serviceAccount" => Attribute::ServiceAccount,
            "source.trustDomain" => Attribute::TrustDomain,
            "source.ip" => Attribute::PeerIp,
            "remote.ip" => Attribute::ClientIp,
            "destination.ip" => Attribute::DestinationIp,
            "destination.port" => Attribute::DestinationPort,
            "connection.sni" => Attribute::ServerName,
            key => match key.strip_prefix("experimental.") {
                Some(key) => metadata::of_key(key)?,
                None => Attribute::Http(http::Attribute::of_key(key)?),
            },
        })
    }

    pub(super) fn is_of_caller(&self) -> bool {
        use Attribute::{ClientIp, Namespace, PeerIp, Principal, ServiceAccount, TrustDomain};
        match self {
            Principal | Namespace | ServiceAccount | TrustDomain | PeerIp | ClientIp => true,
            Attribute::Http(attribute) => attribute.is_of_caller(),
            _ => false,
        }
    }
}

/// One of the values must match, or none.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) field: String,
    pub(super) attribute: Attribute,
    values: Vec<String>,
    negated: bool,
}

impl Term {
    pub(super) fn of_source(field: &str, source: &Source) -> Vec<Term> {
        use Attribute::{ClientIp, Http, Namespace, PeerIp, Principal, ServiceAccount, TrustDomain};
        let lists = [
            ("principals", Principal, &source.principals, false),
            ("notPrincipals", Principal, &source.not_principals, true),
            ("requestPrincipals", Http(http::Attribute::Principal), &source.request_principals, false),
            ("notRequestPrincipals", Http(http::Attribute::Principal), &source.not_request_principals, true),
            ("namespaces", Namespace, &source.namespaces, false),
            ("notNamespaces", Namespace, &source.not_namespaces, true),
            ("serviceAccounts", ServiceAccount, &source.service_accounts, false),
            ("notServiceAccounts", ServiceAccount, &source.not_service_accounts, true),
            ("trustDomains", TrustDomain, &source.trust_domains, false),
            ("notTrustDomains", TrustDomain, &source.not_trust_domains, true),
            ("ipBlocks", PeerIp, &source.ip_blocks, false),
            ("notIpBlocks", PeerIp, &source.not_ip_blocks, true),
            ("remoteIpBlocks", ClientIp, &source.remote_ip_blocks, false),
            ("notRemoteIpBlocks", ClientIp, &source.not_remote_ip_blocks, true),
        ];
        Term::of_lists(field, lists)
    }

    pub(super) fn of_operation(field: &str, operation: &Operation) -> Vec<Term> {
        use Attribute::{DestinationPort, Http};
        use http::Attribute::{Host, Method, Path};
        let lists = [
            ("hosts", Http(Host), &operation.hosts, false),
            ("notHosts", Http(Host), &operation.not_hosts, true),
            ("ports", DestinationPort, &operation.ports, false),
            ("notPorts", DestinationPort, &operation.not_ports, true),
            ("methods", Http(Method), &operation.methods, false),
            ("notMethods", Http(Method), &operation.not_methods, true),
            ("paths", Http(Path), &operation.paths, false),
            ("notPaths", Http(Path), &operation.not_paths, true),
        ];
        Term::of_lists(field, lists)
    }

    pub(super) fn of_condition(field: &str, condition: &Condition) -> Result<Vec<Term>, Unusable> {
        let attribute = Attribute::of_key(&condition.key)?;
        if condition.values.is_empty() && condition.not_values.is_empty() {
            let message = format!("at least one of values or notValues must be set for key {}", condition.key);
            return Err((Code::InvalidValue, message));
        }
        let lists = [
            ("values", attribute.clone(), &condition.values, false),
            ("notValues", attribute, &condition.not_values, true),
        ];
        Ok(Term::of_lists(field, lists))
    }

    fn of_lists<const N: usize>(field: &str, lists: [(&str, Attribute, &Vec<String>, bool); N]) -> Vec<Term> {
        let given = lists.into_iter().filter(|(_, _, values, _)| !values.is_empty());
        let term = |(name, attribute, values, negated): (&str, Attribute, &Vec<String>, bool)| Term {
            field: format!("{field}.{name}"),
            attribute,
            values: values.clone(),
            negated,
        };
        given.map(term).collect()
    }

    /// The ports that the term asks for, if it is for ports.
    pub(super) fn ports(&self) -> Option<BTreeSet<u16>> {
        let asks = self.attribute == Attribute::DestinationPort && !self.negated;
        asks.then(|| self.values.iter().filter_map(|port| port.parse().ok()).collect())
    }

    /// The term as a condition on the caller. `namespace` is the policy's; `domains` stand for one another.
    pub(super) fn principal(
        &self,
        layer: Layer,
        namespace: &str,
        domains: &BTreeSet<&TrustDomain>,
    ) -> Result<Principal, Unusable> {
        let mut any = Vec::new();
        for text in &self.values {
            match &self.attribute {
                Attribute::Principal => {
                    any.extend(same_identities(text, domains).iter().map(|v| authenticated(identity(v))));
                }
                Attribute::Namespace => {
                    any.push(authenticated(wire::regex(format!(".*/ns/{}/.*", value::pattern(text)))));
                }
                Attribute::TrustDomain => {
                    any.push(authenticated(wire::regex(format!("spiffe://{}/.*", value::pattern(text)))));
                }
                Attribute::ServiceAccount => any.push(authenticated(account(text, namespace)?)),
                Attribute::PeerIp => any.push(caller(Identifier::DirectRemoteIp(cidr(text)?))),
                Attribute::ClientIp => any.push(caller(Identifier::RemoteIp(cidr(text)?))),
                Attribute::Http(attribute) if layer == Layer::Requests => any.push(attribute.principal(text)?),
                _ => return Err(only_http()),
            }
        }
        let any = any_principal(any);
        Ok(if self.negated { not_principal(any) } else { any })
    }

    /// The term as a condition on the destination.
    pub(super) fn permission(&self, layer: Layer) -> Result<Permission, Unusable> {
        let mut any = Vec::new();
        for text in &self.values {
            any.push(match &self.attribute {
                Attribute::DestinationPort => operation(Rule::DestinationPort(port(text)?)),
                Attribute::DestinationIp => operation(Rule::DestinationIp(cidr(text)?)),
                Attribute::ServerName => operation(Rule::RequestedServerName(value::text(text, ""))),
                // No filter of connections leaves any.
                Attribute::Metadata(filter, key) if layer == Layer::Requests => metadata::permission(filter, key, text),
                Attribute::Http(attribute) if layer == Layer::Requests => attribute.permission(text)?,
                _ => return Err(only_http()),
            });
        }
        let any = any_permission(any);
        Ok(if self.negated { not_permission(any) } else { any })
    }
}

fn only_http() -> Unusable {
    (Code::OnlyHttp, "is for HTTP requests, which connections are not".to_owned())
}

/// A principal with its trust domain replaced by each that stands for it. `cluster.local` always stands for the mesh's.
fn same_identities(value: &str, domains: &BTreeSet<&TrustDomain>) -> BTreeSet<String> {
    let own = |domain: &str| domain == "cluster.local" || domains.iter().any(|d| d.0 == domain);
    match value.split_once('/') {
        Some((domain, path)) if own(domain) && path.split('/').count() == 4 => {
            domains.iter().map(|d| format!("{d}/{path}")).chain([value.to_owned()]).collect()
        }
        _ => [value.to_owned()].into(),
    }
}

fn identity(value: &str) -> StringMatcher {
    value::text(value, "spiffe://")
}

fn account(value: &str, namespace: &str) -> Result<StringMatcher, Unusable> {
    let (namespace, name) = value.split_once('/').unwrap_or((namespace, value));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        let message = format!("{value:?} is not a service account: NAMESPACE/NAME, or NAME");
        return Err((Code::InvalidValue, message));
    }
    let (namespace, name) = (value::pattern(namespace), value::pattern(name));
    Ok(wire::regex(format!("spiffe://[^/]+/ns/{namespace}/sa/{name}")))
}

fn cidr(value: &str) -> Result<envoy::envoy::config::core::v3::CidrRange, Unusable> {
    let unusable = || (Code::InvalidValue, format!("{value:?} is neither an address nor a CIDR"));
    wire::network(value).map(wire::cidr).ok_or_else(unusable)
}

fn port(value: &str) -> Result<u32, Unusable> {
    let port = value.parse::<u16>().ok().filter(|p| *p != 0);
    port.map(u32::from).ok_or_else(|| (Code::InvalidValue, format!("bad port ({value})")))
}

fn authenticated(name: StringMatcher) -> Principal {
    caller(Identifier::Authenticated(Authenticated { principal_name: Some(name) }))
}

pub(super) fn caller(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

pub(super) fn operation(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

pub(super) fn not_principal(principal: Principal) -> Principal {
    caller(Identifier::NotId(Box::new(principal)))
}

pub(super) fn not_permission(permission: Permission) -> Permission {
    operation(Rule::NotRule(Box::new(permission)))
}

/// One of these at least; there are some.
pub(super) fn any_principal(conditions: Vec<Principal>) -> Principal {
    match <[Principal; 1]>::try_from(conditions) {
        Ok([one]) => one,
        Err(ids) => caller(Identifier::OrIds(principal::Set { ids })),
    }
}

/// One of these at least; there are some.
pub(super) fn any_permission(conditions: Vec<Permission>) -> Permission {
    match <[Permission; 1]>::try_from(conditions) {
        Ok([one]) => one,
        Err(rules) => operation(Rule::OrRules(permission::Set { rules })),
    }
}

/// Every condition; no condition holds for everybody.
pub(super) fn all_principals(conditions: Vec<Principal>) -> Principal {
    match <[Principal; 1]>::try_from(conditions) {
        Ok([one]) => one,
        Err(none) if none.is_empty() => caller(Identifier::Any(true)),
        Err(ids) => caller(Identifier::AndIds(principal::Set { ids })),
    }
}

/// Every condition; no condition holds for everything.
pub(super) fn all_permissions(conditions: Vec<Permission>) -> Permission {
    match <[Permission; 1]>::try_from(conditions) {
        Ok([one]) => one,
        Err(none) if none.is_empty() => operation(Rule::Any(true)),
        Err(rules) => operation(Rule::AndRules(permission::Set { rules })),
    }
}
