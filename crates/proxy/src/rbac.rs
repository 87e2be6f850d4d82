//! Authorization of connections and of requests.
//!
//! Rules are prepared when the configuration is converted; a verdict allocates nothing. The meaning is that of Envoy's
//! RBAC engine: policies are tried in the order of their names, and the first that matches decides.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::request::Parts;
use ipnet::IpNet;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::DynamicMetadata;
use crate::config::http::{HeaderMatch, HttpRbac};
use crate::config::{MetadataMatch, RbacFilter, StringMatch, UriTemplate};
use crate::routing;

/// Under which name filters note what rules say that are only counted.
const NOTED_AS: &str = "envoy.filters.http.rbac";

/// What is done with a connection that a policy matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is allowed, and every other is denied.
    Allow,
    /// It is denied, and every other is allowed.
    Deny,
    /// Nothing but a mark.
    Log,
}

/// A set of policies with one action.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// The policies, in the order of their names.
    pub policies: Box<[Policy]>,
}

/// A policy: it matches if both sides do.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// What is asked for.
    pub permission: Expression<Permission>,
    /// Who asks.
    pub principal: Expression<Principal>,
}

/// A condition made of conditions.
#[derive(Debug, Clone)]
pub enum Expression<T> {
    /// Holds for every connection.
    Always,
    /// Holds if all hold.
    All(Box<[Expression<T>]>),
    /// Holds if one of them holds.
    OneOf(Box<[Expression<T>]>),
    /// Holds if the other does not.
    Not(Box<Expression<T>>),
    /// A single fact.
    Is(T),
}

/// A fact about what is asked for.
#[derive(Debug, Clone)]
pub enum Permission {
    /// The destination is in the prefix.
    DestinationIp(IpNet),
    /// The destination has the port.
    DestinationPort(u16),
    /// The destination's port is from the first up to, not including, the second.
    DestinationPorts(i32, i32),
    /// The server name of the ClientHello matches; it is empty if there was none.
    ServerName(StringMatch),
    /// Something of a request.
    Request(RequestFact),
}

/// A fact about a request of HTTP. It holds for no connection.
#[derive(Debug, Clone)]
pub enum RequestFact {
    /// A header is what it must be.
    Header(HeaderMatch),
    /// The path matches, without its query.
    Path(StringMatch),
    /// The path matches a template, without its query.
    Template(UriTemplate),
    /// What filters noted is what it must be.
    Metadata(MetadataMatch),
}

/// A fact about who asks.
#[derive(Debug, Clone)]
pub enum Principal {
    /// The peer came over TLS, and one of its identities matches if there is a matcher.
    Authenticated(Option<StringMatch>),
    /// The peer's address is in the prefix. On L4 `source_ip`, `direct_remote_ip` and `remote_ip` are the same.
    Source(IpNet),
    /// The address that a request is said to come from is in the prefix.
    Remote(IpNet),
    /// Something of a request.
    Request(RequestFact),
}

/// What is known of a connection when it is authorized. An IPv4 address must not be in its IPv6 form.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Where it was going before it was captured.
    pub destination: SocketAddr,
    /// Where it comes from.
    pub source: IpAddr,
    /// The server name of its ClientHello; empty if there was none.
    pub server_name: &'a str,
    /// Whether TLS was terminated here.
    pub tls: bool,
    /// The URI SANs of the certificate that was verified.
    pub identities: &'a [Arc<str>],
}

/// What is known of a request when it is authorized.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Its connection.
    pub peer: Peer<'a>,
    /// Where it is said to come from, after what `x-forwarded-for` says as far as that is trusted.
    pub remote: IpAddr,
    /// Its head, normalised.
    pub parts: &'a Parts,
    /// What filters noted of it.
    pub metadata: &'a DynamicMetadata,
}

/// What a set of rules says to a connection or request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'r> {
    /// Whether the connection may go on.
    pub allowed: bool,
    /// What a match means in these rules.
    pub action: Action,
    /// The policy that matched.
    pub policy: Option<&'r Arc<str>>,
}

impl<T> Expression<T> {
    fn holds(&self, fact: &impl Fn(&T) -> bool) -> bool {
        match self {
            Expression::Always => true,
            Expression::All(all) => all.iter().all(|e| e.holds(fact)),
            Expression::OneOf(any) => any.iter().any(|e| e.holds(fact)),
            Expression::Not(other) => !other.holds(fact),
            Expression::Is(single) => fact(single),
        }
    }
}

impl Permission {
    fn holds(&self, peer: &Peer<'_>, asking: Option<&Asking<'_>>) -> bool {
        match self {
            Permission::Request(fact) => asking.is_some_and(|asking| fact.holds(asking)),
            Permission::DestinationIp(net) => net.contains(&peer.destination.ip()),
            Permission::DestinationPort(port) => peer.destination.port() == *port,
            Permission::DestinationPorts(start, end) => (*start..*end).contains(&i32::from(peer.destination.port())),
            Permission::ServerName(matcher) => matcher.matches(peer.server_name),
        }
    }
}

impl Principal {
    fn holds(&self, peer: &Peer<'_>, asking: Option<&Asking<'_>>) -> bool {
        match self {
            Principal::Request(fact) => asking.is_some_and(|asking| fact.holds(asking)),
            Principal::Remote(net) => net.contains(&asking.map_or(peer.source, |asking| asking.remote)),
            Principal::Authenticated(None) => peer.tls,
            Principal::Authenticated(Some(matcher)) => peer.tls && peer.identities.iter().any(|i| matcher.matches(i)),
            Principal::Source(net) => net.contains(&peer.source),
        }
    }
}

impl Rules {
    /// What these rules say to a connection.
    pub fn verdict(&self, peer: &Peer<'_>) -> Verdict<'_> {
        self.decide(peer, None)
    }

    /// What these rules say to a request.
    pub fn verdict_of(&self, asking: &Asking<'_>) -> Verdict<'_> {
        self.decide(&asking.peer, Some(asking))
    }

    fn decide(&self, peer: &Peer<'_>, asking: Option<&Asking<'_>>) -> Verdict<'_> {
        let matches = |policy: &&Policy| {
            policy.permission.holds(&|p: &Permission| p.holds(peer, asking))
                && policy.principal.holds(&|p: &Principal| p.holds(peer, asking))
        };
        let policy = self.policies.iter().find(matches).map(|p| &p.name);
        let allowed = match self.action {
            Action::Allow => policy.is_some(),
            Action::Deny => policy.is_none(),
            Action::Log => true,
        };
        Verdict { allowed, action: self.action, policy }
    }
}

impl RequestFact {
    fn holds(&self, asking: &Asking<'_>) -> bool {
        match self {
            RequestFact::Header(header) => header.holds(asking.parts),
            RequestFact::Path(path) => path.matches(routing::path(asking.parts)),
            RequestFact::Template(template) => template.matches(routing::path(asking.parts)),
            RequestFact::Metadata(metadata) => metadata.holds(asking.metadata),
        }
    }
}

impl HttpRbac {
    /// What the enforced rules say; a filter without rules lets everything pass.
    pub fn verdict(&self, asking: &Asking<'_>) -> Option<Verdict<'_>> {
        self.rules.as_ref().map(|r| r.verdict_of(asking))
    }

    /// What the rules say that are only counted.
    pub fn shadow_verdict(&self, asking: &Asking<'_>) -> Option<Verdict<'_>> {
        self.shadow.as_ref().map(|r| r.verdict_of(asking))
    }

    /// Notes what the rules say that are only counted, for filters that follow: it is by this that external
    /// authorization knows which requests it is to be asked about. The names are Envoy's, whatever the filter is called.
    pub fn note(&self, shadow: &Verdict<'_>, metadata: &mut DynamicMetadata) {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let prefix = &self.shadow_stat_prefix;
        let result = text(if shadow.allowed { "allowed" } else { "denied" });
        let policy = shadow.policy.map(|policy| (format!("{prefix}shadow_effective_policy_id"), text(policy)));
        let facts = policy.into_iter().chain([(format!("{prefix}shadow_engine_result"), result)]);
        metadata.add(NOTED_AS, Struct { fields: facts.collect() });
    }
}

impl RbacFilter {
    /// What the enforced rules say; a filter without rules lets everything pass.
    pub fn verdict(&self, peer: &Peer<'_>) -> Option<Verdict<'_>> {
        self.rules.as_ref().map(|r| r.verdict(peer))
    }

    /// What the rules say that are only counted.
    pub fn shadow_verdict(&self, peer: &Peer<'_>) -> Option<Verdict<'_>> {
        self.shadow.as_ref().map(|r| r.verdict(peer))
    }
}

/// Envoy's connection termination details of a denial, as the access log shows them.
impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.allowed { "allowed" } else { "denied" };
        let policy = self.policy.map_or("none", |p| &**p);
        write!(f, "rbac_access_{outcome}_matched_policy[{policy}]")
    }
}

#[cfg(test)]
mod tests;
