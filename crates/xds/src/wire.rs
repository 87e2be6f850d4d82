//! Small Envoy messages.

use std::net::IpAddr;

use api::istio;
use envoy::envoy::config::core::v3::api_config_source::ApiType;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, CidrRange, ConfigSource, GrpcService, Metadata,
    SocketAddress, TransportSocket, address, config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
    transport_socket,
};
use envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use ipnet::IpNet;
use prost::Message;
use prost_types::{Any, Struct, Value, value};

use crate::ObjectRef;

/// The cluster of a proxy's bootstrap that is the pod's own agent.
const AGENT: &str = "sds-grpc";

/// A message with the name of its type.
pub(crate) fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

pub(crate) fn socket_address(host: &str, port: u16) -> SocketAddress {
    SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    }
}

pub(crate) fn address(host: &str, port: u16) -> Address {
    Address { address: Some(address::Address::SocketAddress(socket_address(host, port))) }
}

pub(crate) fn cidr(net: IpNet) -> CidrRange {
    CidrRange { address_prefix: net.network().to_string(), prefix_len: Some(net.prefix_len().into()) }
}

/// Reads an address or a CIDR.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).ok()
}

pub(crate) fn duration(time: istio::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.0.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.0.subsec_nanos()).unwrap_or_default(),
    }
}

/// Whether a time is as long as Envoy wants one that is set: a millisecond.
pub(crate) fn is_some_time(time: &istio::Duration) -> bool {
    time.0.as_millis() > 0
}

/// Resources that come over the same stream as the one that names them. Waiting for the first answer never ends: a
/// proxy that gave up would serve without.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(prost_types::Duration::default()),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// Secrets that the pod's own agent serves: it alone has the keys.
pub(crate) fn agent() -> ConfigSource {
    let service = EnvoyGrpc { cluster_name: AGENT.to_owned(), ..EnvoyGrpc::default() };
    let service = GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(service)), ..GrpcService::default() };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![service],
        ..ApiConfigSource::default()
    };
    ConfigSource { config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)), ..ads() }
}

pub(crate) fn transport_socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(transport_socket::ConfigType::TypedConfig(config)) }
}

pub(crate) fn raw_buffer() -> TransportSocket {
    let config = any("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", &RawBuffer::default());
    transport_socket("envoy.transport_sockets.raw_buffer", config)
}

pub(crate) fn regex(regex: impl Into<String>) -> StringMatcher {
    matcher(MatchPattern::SafeRegex(RegexMatcher { regex: regex.into(), ..RegexMatcher::default() }))
}

pub(crate) fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.into())) }
}

pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

pub(crate) fn metadata(filter: &str, fields: Struct) -> Metadata {
    Metadata { filter_metadata: [(filter.to_owned(), fields)].into(), ..Metadata::default() }
}

/// The object that something is made of, as Istio says it. `kind` is in lower case, with hyphens.
pub(crate) fn made_of(kind: &str, object: &ObjectRef) -> Value {
    let ObjectRef { namespace, name, .. } = object;
    text(format!("/apis/networking.istio.io/v1/namespaces/{namespace}/{kind}/{name}"))
}
