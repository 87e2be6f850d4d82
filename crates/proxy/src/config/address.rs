//! Addresses and prefixes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use envoy::envoy::config::core::v3;
use envoy::envoy::config::core::v3::address::Address as Kind;
use envoy::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use ipnet::IpNet;

use super::endpoint::EndpointAddress;
use super::field::{Checked, Path, fields};

/// The address of a listener or source: an IP address and a TCP port.
pub(super) fn socket_addr(at: &Path<'_>, address: Option<v3::Address>) -> Checked<SocketAddr> {
    match endpoint(at, address)? {
        EndpointAddress::Ip(address) => Ok(address),
        EndpointAddress::Name { host, .. } => {
            let at = at.field("socket_address");
            Err(at.field("address").reject(format_args!("{host:?} is not an IP address")))
        }
    }
}

/// The address of an endpoint: an IP address or a name, and a TCP port.
pub(super) fn endpoint(at: &Path<'_>, address: Option<v3::Address>) -> Checked<EndpointAddress> {
    match at.required(address.and_then(|a| a.address))? {
        Kind::SocketAddress(address) => socket_address(&at.field("socket_address"), address),
        Kind::Pipe(_) => Err(at.field("pipe").reject("is not supported")),
        Kind::EnvoyInternalAddress(_) => Err(at.field("envoy_internal_address").reject("is not supported")),
    }
}

/// A socket address whose host may be a name.
fn socket_address(at: &Path<'_>, message: v3::SocketAddress) -> Checked<EndpointAddress> {
    fields!(at, message => v3::SocketAddress { protocol, address, port_specifier }
        refuse { resolver_name, ipv4_compat, network_namespace_filepath });
    if at.field("protocol").enumeration::<Protocol>(protocol)? != Protocol::Tcp {
        return Err(at.field("protocol").reject("only TCP is supported"));
    }
    let port = match port_specifier {
        Some(PortSpecifier::PortValue(port)) => at.field("port_value").port(port)?,
        Some(PortSpecifier::NamedPort(_)) => return Err(at.field("named_port").reject("is not supported")),
        None => return Err(at.field("port_value").reject("is required")),
    };
    let host = at.field("address").named(&address)?;
    Ok(match host.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Ip(SocketAddr::new(ip, port)),
        Err(_) => EndpointAddress::Name { host: Arc::from(host), port },
    })
}

/// The address that upstream connections come from; a port of zero leaves the port to the kernel.
pub(super) fn source(at: &Path<'_>, message: v3::BindConfig) -> Checked<Option<SocketAddr>> {
    fields!(at, message => v3::BindConfig { source_address, freebind }
        refuse { socket_options, extra_source_addresses, additional_source_addresses, local_address_selector,
            validate_network_namespaces });
    at.field("freebind").off(freebind)?;
    let at = at.field("source_address");
    match source_address.map(|s| socket_address(&at, s)).transpose()? {
        None => Ok(None),
        Some(EndpointAddress::Ip(address)) => Ok(Some(address)),
        Some(EndpointAddress::Name { host, .. }) => {
            Err(at.field("address").reject(format_args!("{host:?} is not an IP address")))
        }
    }
}

/// A prefix; bits below the prefix length are dropped, as Envoy does.
pub(super) fn prefix(at: &Path<'_>, range: v3::CidrRange) -> Checked<IpNet> {
    let v3::CidrRange { address_prefix, prefix_len } = range;
    let ip: IpAddr = address_prefix
        .parse()
        .map_err(|_| at.field("address_prefix").reject(format_args!("{address_prefix:?} is not an IP address")))?;
    let length = prefix_len.unwrap_or(0);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok())
        .map(|net| net.trunc())
        .ok_or_else(|| at.field("prefix_len").reject(format_args!("{length} is too long for {ip}")))
}

/// A list of prefixes.
pub(super) fn prefixes(at: &Path<'_>, ranges: Vec<v3::CidrRange>) -> Checked<Box<[IpNet]>> {
    ranges.into_iter().enumerate().map(|(i, range)| prefix(&at.index(i), range)).collect()
}
