//! Filters of connections and of requests.

mod ext_authz;
pub(crate) mod jwt_authn;
mod policies;
pub(crate) mod rbac;
pub(crate) mod tcp_proxy;

pub(crate) use policies::{WorkloadPolicies, asked};

use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use prost_types::Any;

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
