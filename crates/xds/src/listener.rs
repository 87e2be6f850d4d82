//! Where proxies listen.

pub(crate) mod branch;
pub(crate) mod claims;
mod inbound;
mod outbound;
mod tcp_route;

pub(crate) use inbound::build as inbound;
pub(crate) use outbound::build as outbound;

use api::istio::MeshConfig;
use envoy::envoy::config::core::v3::{Metadata, TrafficDirection};
use envoy::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy::envoy::config::listener::v3::{
    FilterChain, FilterChainMatch, Listener, ListenerFilter, ListenerFilterChainMatchPredicate,
};
use envoy::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use crate::filter::tcp_proxy::{Target, tcp_proxy};
use crate::{ObjectRef, wire};

/// The protocols that are found out of plaintext.
const SNIFFED: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];
/// Where outgoing connections are captured to.
const OUTBOUND_PORT: u16 = 15001;
/// Where incoming connections are captured to.
const INBOUND_PORT: u16 = 15006;

/// A listener at an address, without chains.
pub(crate) fn listener(
    mesh: &MeshConfig,
    name: String,
    host: &str,
    port: u16,
    direction: TrafficDirection,
) -> Listener {
    Listener {
        name,
        address: Some(wire::address(host, port)),
        traffic_direction: direction.into(),
        listener_filters_timeout: Some(wire::duration(mesh.protocol_detection_timeout)),
        continue_on_listener_filters_timeout: true,
        access_log: crate::access_log::refused(mesh),
        ..Listener::default()
    }
}

/// A chain that carries bytes to a cluster.
pub(crate) fn chain(mesh: &MeshConfig, name: &str, condition: FilterChainMatch, target: &Target) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: (condition != FilterChainMatch::default()).then_some(condition),
        filters: vec![tcp_proxy(mesh, target)],
        metadata: target.by.as_ref().map(written_by),
        ..FilterChain::default()
    }
}

fn written_by(object: &ObjectRef) -> Metadata {
    wire::metadata("istio", wire::fields([("config", wire::made_of("virtual-service", object))]))
}

/// A condition on plaintext in one of these protocols.
fn spoken(protocols: &[&str]) -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: protocols.iter().map(|name| (*name).to_owned()).collect(),
        ..FilterChainMatch::default()
    }
}

/// A connection to the capturing port itself would come back to it for ever.
fn loop_guard(mesh: &MeshConfig, name: &str, port: u16) -> FilterChain {
    let condition = FilterChainMatch { destination_port: Some(port.into()), ..FilterChainMatch::default() };
    chain(mesh, name, condition, &Target::cluster(crate::cluster::BLACK_HOLE))
}

fn original_dst() -> ListenerFilter {
    let config = wire::any("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", &OriginalDst::default());
    ListenerFilter {
        name: "envoy.filters.listener.original_dst".to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

fn http_inspector(filter_disabled: Option<ListenerFilterChainMatchPredicate>) -> ListenerFilter {
    let name = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector";
    ListenerFilter {
        name: "envoy.filters.listener.http_inspector".to_owned(),
        filter_disabled,
        config_type: Some(ConfigType::TypedConfig(wire::any(name, &HttpInspector::default()))),
    }
}

pub(crate) fn tls_inspector(filter_disabled: Option<ListenerFilterChainMatchPredicate>) -> ListenerFilter {
    let config = wire::any("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", &TlsInspector::default());
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        filter_disabled,
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}
