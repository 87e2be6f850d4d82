//! Filters of connections and of requests.

mod ext_authz;
pub(crate) mod http_connections;
pub(crate) mod jwt_authn;
mod policies;
pub(crate) mod rbac;
pub(crate) mod tcp_proxy;

pub(crate) use policies::{WorkloadPolicies, asked};

use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use prost_types::Any;

/// The names of filters of requests, by which routes configure them.
pub(crate) const CORS: &str = "envoy.filters.http.cors";
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
pub(crate) const ROUTER: &str = "envoy.filters.http.router";
pub(crate) const SET_FILTER_STATE: &str = "envoy.filters.http.set_filter_state";

fn filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

#[cfg(test)]
mod tests;
