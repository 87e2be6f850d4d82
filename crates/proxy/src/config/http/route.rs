//! Routes: which requests, and what becomes of them.

use std::sync::Arc;

use envoy::envoy::config::route::v3;
use envoy::envoy::config::route::v3::route::Action as WireAction;

use super::action::{Action, DirectResponse, RouteAction};
use super::filter::Overrides;
use super::header::HeaderMutations;
use super::redirect::Redirect;
use super::route_match::RouteMatch;
use crate::config::field::{Checked, Path, fields};
use crate::config::metadata::Metadata;

/// A route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// The requests that it takes.
    pub matches: RouteMatch,
    /// What it does with them.
    pub action: Action,
    /// What changes in requests.
    pub request_headers: HeaderMutations,
    /// What changes in responses.
    pub response_headers: HeaderMutations,
    /// What filters do otherwise.
    pub overrides: Overrides,
    /// What traces call it.
    pub decorator: Option<Decorator>,
    /// Opaque facts.
    pub metadata: Metadata,
}

/// What traces call the requests of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decorator {
    /// The name.
    pub operation: Arc<str>,
    /// Whether upstream is told in `x-envoy-decorator-operation`.
    pub propagate: bool,
}

impl Route {
    /// `body_limit` is the largest body of a direct response, in bytes.
    pub(super) fn from_message(at: &Path<'_>, message: v3::Route, body_limit: usize) -> Checked<Route> {
        fields!(at, message => v3::Route { name, r#match, metadata, decorator, typed_per_filter_config,
                request_headers_to_add, request_headers_to_remove, response_headers_to_add,
                response_headers_to_remove, action }
            refuse { tracing, per_request_buffer_limit_bytes, stat_prefix, request_body_buffer_limit,
                route_specifiers });
        let match_at = at.field("match");
        Ok(Route {
            name: name.into(),
            matches: RouteMatch::from_message(&match_at, match_at.required(r#match)?)?,
            action: match at.field("action").required(action)? {
                WireAction::Route(message) => {
                    Action::Forward(Box::new(RouteAction::from_message(&at.field("route"), message)?))
                }
                WireAction::Redirect(message) => {
                    Action::Redirect(Redirect::from_message(&at.field("redirect"), message)?)
                }
                WireAction::DirectResponse(message) => {
                    Action::Respond(DirectResponse::from_message(&at.field("direct_response"), message, body_limit)?)
                }
                WireAction::FilterAction(_) => return Err(at.field("filter_action").reject("is not supported")),
                WireAction::NonForwardingAction(_) => {
                    return Err(at.field("non_forwarding_action").reject("is not supported"));
                }
            },
            request_headers: HeaderMutations::of_requests(at, request_headers_to_add, request_headers_to_remove)?,
            response_headers: HeaderMutations::of_responses(at, response_headers_to_add, response_headers_to_remove)?,
            overrides: Overrides::from_messages(&at.field("typed_per_filter_config"), typed_per_filter_config)?,
            decorator: decorator.map(|d| Decorator::from_message(&at.field("decorator"), d)).transpose()?,
            metadata: Metadata::from_message(metadata),
        })
    }
}

impl Decorator {
    fn from_message(at: &Path<'_>, message: v3::Decorator) -> Checked<Decorator> {
        let v3::Decorator { operation, propagate } = message;
        let operation = at.field("operation").named(&operation)?.into();
        Ok(Decorator { operation, propagate: propagate.unwrap_or(true) })
    }
}
