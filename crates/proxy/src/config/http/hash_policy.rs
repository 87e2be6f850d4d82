//! What of a request chooses its endpoint, where the load balancer hashes.

use std::time::Duration;

use envoy::envoy::config::route::v3::route_action;
use envoy::envoy::config::route::v3::route_action::hash_policy::{self, PolicySpecifier};
use http::HeaderName;

use super::field::header_name;
use super::regex_rewrite::RegexRewrite;
use crate::config::field::{Checked, Path, fields};

/// One part of the hash of a request.
#[derive(Debug, Clone)]
pub struct HashPolicy {
    /// What is hashed.
    pub on: HashOn,
    /// Whether those that follow are left out once there is a hash.
    pub terminal: bool,
}

/// What is hashed.
#[derive(Debug, Clone)]
pub enum HashOn {
    /// The values of a header.
    Header(HeaderName, Option<RegexRewrite>),
    /// A cookie.
    Cookie(HashCookie),
    /// The source's address, without the port.
    SourceIp,
    /// The first value of a parameter of the query.
    QueryParameter(Box<str>),
}

/// A cookie to hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// If set, a request without the cookie gets one with this life; zero is as long as the browser runs.
    pub ttl: Option<Duration>,
    /// The path of a cookie that is made here; may be empty.
    pub path: Box<str>,
    /// Further attributes of a cookie that is made here; one without a value is a flag.
    pub attributes: Box<[(Box<str>, Box<str>)]>,
}

impl HashCookie {
    /// What a response says to give the client the cookie with this value, as Envoy has it.
    pub fn set(&self, value: &str) -> String {
        let HashCookie { name, ttl, path, attributes } = self;
        let mut text = format!("{name}=\"{value}\"");
        if let Some(ttl) = ttl.filter(|ttl| !ttl.is_zero()) {
            text += &format!("; Max-Age={}", ttl.as_secs());
        }
        if !path.is_empty() {
            text += &format!("; Path={path}");
        }
        for (name, value) in attributes {
            text += &if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") };
        }
        text + "; HttpOnly"
    }
}

impl HashPolicy {
    pub(super) fn from_messages(at: &Path<'_>, messages: Vec<route_action::HashPolicy>) -> Checked<Box<[HashPolicy]>> {
        messages.into_iter().enumerate().map(|(i, message)| HashPolicy::from_message(&at.index(i), message)).collect()
    }

    fn from_message(at: &Path<'_>, message: route_action::HashPolicy) -> Checked<HashPolicy> {
        fields!(at, message => route_action::HashPolicy { terminal, policy_specifier });
        let on = match at.required(policy_specifier)? {
            PolicySpecifier::Header(header) => {
                let at = at.field("header");
                let hash_policy::Header { header_name: name, regex_rewrite } = header;
                let rewrite = regex_rewrite.map(|r| RegexRewrite::from_message(&at.field("regex_rewrite"), r));
                HashOn::Header(header_name(&at.field("header_name"), &name)?, rewrite.transpose()?)
            }
            PolicySpecifier::Cookie(cookie) => HashOn::Cookie(cookie_from(&at.field("cookie"), cookie)?),
            PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties { source_ip: true }) => {
                HashOn::SourceIp
            }
            PolicySpecifier::ConnectionProperties(_) => {
                return Err(at.field("connection_properties").field("source_ip").reject("must be true"));
            }
            PolicySpecifier::QueryParameter(hash_policy::QueryParameter { name }) => {
                HashOn::QueryParameter(at.field("query_parameter").field("name").named(&name)?.into())
            }
            PolicySpecifier::FilterState(_) => return Err(at.field("filter_state").reject("is not supported")),
        };
        Ok(HashPolicy { on, terminal })
    }
}

fn cookie_from(at: &Path<'_>, message: hash_policy::Cookie) -> Checked<HashCookie> {
    fields!(at, message => hash_policy::Cookie { name, ttl, path, attributes });
    let attribute = |a: hash_policy::CookieAttribute| (a.name.into(), a.value.into());
    Ok(HashCookie {
        name: at.field("name").named(&name)?.into(),
        ttl: at.field("ttl").duration(ttl)?,
        path: path.into(),
        attributes: attributes.into_iter().map(attribute).collect(),
    })
}
