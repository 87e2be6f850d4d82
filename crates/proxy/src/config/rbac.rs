//! The network filter that authorizes connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy::envoy::config::rbac::v3;
use envoy::envoy::config::rbac::v3::permission::Rule;
use envoy::envoy::config::rbac::v3::principal::{Authenticated, Identifier};
use envoy::envoy::config::rbac::v3::rbac::Action as WireAction;
use envoy::envoy::extensions::filters::network::rbac::v3 as filter;
use envoy::envoy::r#type::matcher::v3 as matcher;

use super::address::prefix;
use super::field::{Checked, Path, fields};
use super::http::HeaderMatch;
use super::metadata_match::MetadataMatch;
use super::string_match::StringMatch;
use super::uri_template::UriTemplate;
use crate::rbac::{Action, Expression, Permission, Policy, Principal, RequestFact, Rules};

/// The RBAC network filter.
#[derive(Debug, Clone)]
pub struct RbacFilter {
    /// Goes before the names of its statistics; may be empty.
    pub stat_prefix: Arc<str>,
    /// Goes before the names of the statistics of `shadow`; may be empty.
    pub shadow_stat_prefix: Arc<str>,
    /// What is enforced; `None` enforces nothing.
    pub rules: Option<Rules>,
    /// What is only counted and logged.
    pub shadow: Option<Rules>,
}

pub(super) fn from_message(at: &Path<'_>, message: filter::Rbac) -> Checked<RbacFilter> {
    // What is decided about a connection does not change as long as its filter chain is there.
    fields!(at, message => filter::Rbac { rules, shadow_rules, shadow_rules_stat_prefix, stat_prefix }
        refuse { matcher, shadow_matcher, delay_deny } ignore { enforcement_type });
    let convert = |name: &str, message: Option<v3::Rbac>| {
        message.map(|m| rules_from(&at.field(name), m, Layer::Connection)).transpose()
    };
    Ok(RbacFilter {
        stat_prefix: stat_prefix.into(),
        shadow_stat_prefix: shadow_rules_stat_prefix.into(),
        rules: convert("rules", rules)?,
        shadow: convert("shadow_rules", shadow_rules)?,
    })
}

/// What rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    /// Connections.
    Connection,
    /// Requests of HTTP.
    Request,
}

pub(super) fn rules_from(at: &Path<'_>, message: v3::Rbac, layer: Layer) -> Checked<Rules> {
    fields!(at, message => v3::Rbac { action, policies } refuse { audit_logging_options });
    let action = match at.field("action").enumeration(action)? {
        WireAction::Allow => Action::Allow,
        WireAction::Deny => Action::Deny,
        WireAction::Log => Action::Log,
    };
    Ok(Rules { action, policies: policies_from(&at.field("policies"), policies, layer)? })
}

fn policies_from(at: &Path<'_>, messages: BTreeMap<String, v3::Policy>, layer: Layer) -> Checked<Box<[Policy]>> {
    let convert = |(name, message): (String, v3::Policy)| {
        let at = at.key(&name);
        fields!(at, message => v3::Policy { permissions, principals }
            refuse { condition, checked_condition, cel_config });
        let (permissions_at, principals_at) = (at.field("permissions"), at.field("principals"));
        if permissions.is_empty() || principals.is_empty() {
            return Err(at.reject("permissions and principals must not be empty"));
        }
        Ok(Policy {
            permission: Expression::OneOf(each(&permissions_at, permissions, permission, layer)?),
            principal: Expression::OneOf(each(&principals_at, principals, principal, layer)?),
            name: name.as_str().into(),
        })
    };
    messages.into_iter().map(convert).collect()
}

/// Converts every message of a list.
fn each<M, T>(
    at: &Path<'_>,
    messages: Vec<M>,
    convert: fn(&Path<'_>, M, Layer) -> Checked<Expression<T>>,
    layer: Layer,
) -> Checked<Box<[Expression<T>]>> {
    messages.into_iter().enumerate().map(|(i, message)| convert(&at.index(i), message, layer)).collect()
}

/// The one value that `any` has.
fn any<T>(at: &Path<'_>, value: bool) -> Checked<Expression<T>> {
    if value { Ok(Expression::Always) } else { Err(at.field("any").reject("must be true")) }
}

fn permission(at: &Path<'_>, message: v3::Permission, layer: Layer) -> Checked<Expression<Permission>> {
    let http = |name: &str| Err(at.field(name).reject("is only known of HTTP requests, not of connections"));
    let unsupported = |name: &str| Err(at.field(name).reject("is not supported"));
    let connection = layer == Layer::Connection;
    Ok(match at.required(message.rule)? {
        Rule::AndRules(set) => {
            Expression::All(each(&at.field("and_rules").field("rules"), set.rules, permission, layer)?)
        }
        Rule::OrRules(set) => {
            Expression::OneOf(each(&at.field("or_rules").field("rules"), set.rules, permission, layer)?)
        }
        Rule::NotRule(rule) => Expression::Not(Box::new(permission(&at.field("not_rule"), *rule, layer)?)),
        Rule::Any(value) => any(at, value)?,
        Rule::DestinationIp(range) => {
            Expression::Is(Permission::DestinationIp(prefix(&at.field("destination_ip"), range)?))
        }
        Rule::DestinationPort(port) => {
            let port = at.field("destination_port").port(port)?;
            Expression::Is(Permission::DestinationPort(port))
        }
        Rule::DestinationPortRange(range) => {
            if range.start < 0 || range.start >= range.end || range.end > 65536 {
                return Err(at
                    .field("destination_port_range")
                    .reject(format_args!("[{}, {}) is not a range of ports", range.start, range.end)));
            }
            Expression::Is(Permission::DestinationPorts(range.start, range.end))
        }
        Rule::RequestedServerName(matcher) => {
            let at = at.field("requested_server_name");
            Expression::Is(Permission::ServerName(StringMatch::from_message(&at, matcher)?))
        }
        Rule::Header(_) if connection => return http("header"),
        Rule::UrlPath(_) if connection => return http("url_path"),
        Rule::UriTemplate(_) if connection => return http("uri_template"),
        Rule::Metadata(_) if connection => return http("metadata"),
        Rule::SourcedMetadata(_) if connection => return http("sourced_metadata"),
        Rule::Header(header) => Expression::Is(Permission::Request(RequestFact::Header(HeaderMatch::from_message(
            &at.field("header"),
            header,
        )?))),
        Rule::UrlPath(path) => Expression::Is(Permission::Request(url_path(&at.field("url_path"), path)?)),
        Rule::UriTemplate(template) => {
            let template = UriTemplate::from_message(&at.field("uri_template"), template)?;
            Expression::Is(Permission::Request(RequestFact::Template(template)))
        }
        Rule::Metadata(metadata) => {
            let metadata = MetadataMatch::from_message(&at.field("metadata"), metadata)?;
            Expression::Is(Permission::Request(RequestFact::Metadata(metadata)))
        }
        Rule::SourcedMetadata(metadata) => {
            Expression::Is(Permission::Request(sourced(&at.field("sourced_metadata"), metadata)?))
        }
        Rule::Matcher(_) => return unsupported("matcher"),
    })
}

fn principal(at: &Path<'_>, message: v3::Principal, layer: Layer) -> Checked<Expression<Principal>> {
    let http = |name: &str| Err(at.field(name).reject("is only known of HTTP requests, not of connections"));
    let unsupported = |name: &str| Err(at.field(name).reject("is not supported"));
    let source = |name: &str, range| Ok(Expression::Is(Principal::Source(prefix(&at.field(name), range)?)));
    let connection = layer == Layer::Connection;
    Ok(match at.required(message.identifier)? {
        Identifier::AndIds(set) => Expression::All(each(&at.field("and_ids").field("ids"), set.ids, principal, layer)?),
        Identifier::OrIds(set) => Expression::OneOf(each(&at.field("or_ids").field("ids"), set.ids, principal, layer)?),
        Identifier::NotId(id) => Expression::Not(Box::new(principal(&at.field("not_id"), *id, layer)?)),
        Identifier::Any(value) => any(at, value)?,
        Identifier::Authenticated(Authenticated { principal_name }) => {
            let at = at.field("authenticated");
            let name = principal_name.map(|m| StringMatch::from_message(&at.field("principal_name"), m));
            Expression::Is(Principal::Authenticated(name.transpose()?))
        }
        Identifier::SourceIp(range) => return source("source_ip", range),
        Identifier::DirectRemoteIp(range) => return source("direct_remote_ip", range),
        Identifier::RemoteIp(range) if connection => return source("remote_ip", range),
        Identifier::RemoteIp(range) => Expression::Is(Principal::Remote(prefix(&at.field("remote_ip"), range)?)),
        Identifier::Header(_) if connection => return http("header"),
        Identifier::UrlPath(_) if connection => return http("url_path"),
        Identifier::Metadata(_) if connection => return http("metadata"),
        Identifier::SourcedMetadata(_) if connection => return http("sourced_metadata"),
        Identifier::Header(header) => Expression::Is(Principal::Request(RequestFact::Header(
            HeaderMatch::from_message(&at.field("header"), header)?,
        ))),
        Identifier::UrlPath(path) => Expression::Is(Principal::Request(url_path(&at.field("url_path"), path)?)),
        Identifier::Metadata(metadata) => {
            let metadata = MetadataMatch::from_message(&at.field("metadata"), metadata)?;
            Expression::Is(Principal::Request(RequestFact::Metadata(metadata)))
        }
        Identifier::SourcedMetadata(metadata) => {
            Expression::Is(Principal::Request(sourced(&at.field("sourced_metadata"), metadata)?))
        }
        Identifier::FilterState(_) => return unsupported("filter_state"),
        Identifier::Custom(_) => return unsupported("custom"),
    })
}

fn url_path(at: &Path<'_>, message: matcher::PathMatcher) -> Checked<RequestFact> {
    let at = at.field("path");
    let matcher::path_matcher::Rule::Path(path) = at.required(message.rule)?;
    StringMatch::from_message(&at, path).map(RequestFact::Path)
}

/// What filters noted of a request; what its route says is not asked for by anybody.
fn sourced(at: &Path<'_>, message: v3::SourcedMetadata) -> Checked<RequestFact> {
    fields!(at, message => v3::SourcedMetadata { metadata_matcher, metadata_source });
    if at.field("metadata_source").enumeration::<v3::MetadataSource>(metadata_source)? != v3::MetadataSource::Dynamic {
        return Err(at.field("metadata_source").reject("only DYNAMIC is supported"));
    }
    let at = at.field("metadata_matcher");
    MetadataMatch::from_message(&at, at.required(metadata_matcher)?).map(RequestFact::Metadata)
}
