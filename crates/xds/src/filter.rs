//! Network filters.

pub(crate) mod rbac;
pub(crate) mod tcp_proxy;

use envoy::envoy::config::listener::v3::{Filter, filter::ConfigType};
use prost_types::Any;

fn filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}
