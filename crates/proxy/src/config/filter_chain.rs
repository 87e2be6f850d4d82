//! Filter chains: which connections they take, and what they do with them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::TransportSocket;
use envoy::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy::envoy::config::listener::v3;
use envoy::envoy::config::listener::v3::filter::ConfigType;
use envoy::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;
use envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use ipnet::IpNet;
use prost::Message;
use prost_types::Any;

use super::address::prefixes;
use super::field::{Checked, Path, fields};
use super::http::HttpConnectionManager;
use super::metadata::Metadata;
use super::rbac::{self, RbacFilter};
use super::tcp_proxy::{self, TcpProxy};
use super::tls::{self, DownstreamTls};

const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A filter chain.
#[derive(Debug, Clone)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// The connections that it takes.
    pub matches: ChainMatch,
    /// How it terminates TLS; `None` leaves the bytes as they are.
    pub tls: Option<Arc<DownstreamTls>>,
    /// How long the handshake may take; `None` is for ever.
    pub tls_timeout: Option<Duration>,
    /// The authorization filters, in order.
    pub rbac: Box<[RbacFilter]>,
    /// The filter at the end.
    pub terminal: Terminal,
    /// Opaque facts.
    pub metadata: Metadata,
    /// A hash of the message that it was made from: a chain of the same listener with the same hash is the same chain.
    pub fingerprint: u64,
}

/// The filter at the end of a chain.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// It joins a connection to one of a cluster's endpoints.
    Tcp(TcpProxy),
    /// It makes requests of a connection.
    Http(Arc<HttpConnectionManager>),
}

impl Terminal {
    /// Every cluster that it names itself; what RDS says comes on top.
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        match self {
            Terminal::Tcp(proxy) => proxy.cluster.clusters().map(|(name, _)| name).collect(),
            Terminal::Http(connections) => connections.own_routes().into_iter().flat_map(|t| t.clusters()).collect(),
        }
    }

    /// How long a connection may be silent; `None` is for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        match self {
            Terminal::Tcp(proxy) => proxy.idle_timeout,
            Terminal::Http(connections) => connections.connections.idle_timeout,
        }
    }

    /// What its statistics are called.
    pub fn stat_prefix(&self) -> &Arc<str> {
        match self {
            Terminal::Tcp(proxy) => &proxy.stat_prefix,
            Terminal::Http(connections) => &connections.stat_prefix,
        }
    }
}

/// The criteria of a chain. An empty list and `None` take everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChainMatch {
    /// The (original) destination port.
    pub destination_port: Option<u16>,
    /// Prefixes of the (original) destination.
    pub destination: Box<[IpNet]>,
    /// Server names of the ClientHello.
    pub server_names: Box<[ServerName]>,
    /// Whether the connection speaks TLS.
    pub transport_protocol: Option<TransportProtocol>,
    /// Application protocols (ALPN) of the ClientHello.
    pub application_protocols: Box<[Arc<str>]>,
    /// Prefixes of the peer's address.
    pub direct_source: Box<[IpNet]>,
    /// Whether the peer is on this host.
    pub source_type: SourceType,
    /// Prefixes of the source, which on L4 is the peer.
    pub source: Box<[IpNet]>,
    /// Ports of the source.
    pub source_ports: Box<[u16]>,
}

/// A server name to match, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// This name.
    Exact(Arc<str>),
    /// Every name that ends in this, which begins with a dot: `.example.com` for `*.example.com`.
    Suffix(Arc<str>),
}

/// What the listener filters found a connection to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportProtocol {
    /// It began with a ClientHello.
    Tls,
    /// Anything else.
    RawBuffer,
}

impl TransportProtocol {
    /// Envoy's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            TransportProtocol::Tls => "tls",
            TransportProtocol::RawBuffer => "raw_buffer",
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Anywhere.
    #[default]
    Any,
    /// The same address as the destination, or the loopback.
    Local,
    /// Anywhere else.
    External,
}

pub(super) fn from_message(at: &Path<'_>, message: v3::FilterChain) -> Checked<FilterChain> {
    let mut hasher = DefaultHasher::new();
    message.encode_to_vec().hash(&mut hasher);
    fields!(at, message => v3::FilterChain { filter_chain_match, filters, use_proxy_proto, metadata,
        transport_socket, transport_socket_connect_timeout, name });
    at.field("use_proxy_proto").off(use_proxy_proto)?;
    let (rbac, terminal) = network_filters(&at.field("filters"), filters)?;
    let tls_timeout = at.field("transport_socket_connect_timeout");
    Ok(FilterChain {
        name: name.into(),
        matches: chain_match(&at.field("filter_chain_match"), filter_chain_match.unwrap_or_default())?,
        tls: transport_socket.map(|s| downstream(&at.field("transport_socket"), s)).transpose()?.flatten(),
        tls_timeout: tls_timeout.timeout(transport_socket_connect_timeout, None)?,
        rbac,
        terminal,
        metadata: Metadata::from_message(metadata),
        fingerprint: hasher.finish(),
    })
}

fn chain_match(at: &Path<'_>, message: v3::FilterChainMatch) -> Checked<ChainMatch> {
    fields!(at, message => v3::FilterChainMatch { destination_port, prefix_ranges, direct_source_prefix_ranges,
            source_type, source_prefix_ranges, source_ports, server_names, transport_protocol,
            application_protocols }
        refuse { address_suffix, suffix_len });
    let transport = at.field("transport_protocol");
    let ports = at.field("source_ports");
    let names = at.field("server_names");
    Ok(ChainMatch {
        destination_port: destination_port.map(|p| at.field("destination_port").port(p)).transpose()?,
        destination: prefixes(&at.field("prefix_ranges"), prefix_ranges)?,
        server_names: server_names
            .iter()
            .enumerate()
            .map(|(i, name)| server_name(&names.index(i), name))
            .collect::<Checked<_>>()?,
        transport_protocol: match transport_protocol.as_str() {
            "" => None,
            "tls" => Some(TransportProtocol::Tls),
            "raw_buffer" => Some(TransportProtocol::RawBuffer),
            other => return Err(transport.reject(format_args!("{other:?} is not supported"))),
        },
        application_protocols: application_protocols.into_iter().map(Arc::from).collect(),
        direct_source: prefixes(&at.field("direct_source_prefix_ranges"), direct_source_prefix_ranges)?,
        source_type: match at.field("source_type").enumeration(source_type)? {
            ConnectionSourceType::Any => SourceType::Any,
            ConnectionSourceType::SameIpOrLoopback => SourceType::Local,
            ConnectionSourceType::External => SourceType::External,
        },
        source: prefixes(&at.field("source_prefix_ranges"), source_prefix_ranges)?,
        source_ports: source_ports
            .into_iter()
            .enumerate()
            .map(|(i, port)| ports.index(i).port(port))
            .collect::<Checked<_>>()?,
    })
}

fn server_name(at: &Path<'_>, name: &str) -> Checked<ServerName> {
    let name = at.named(name)?.to_ascii_lowercase();
    match name.strip_prefix('*') {
        None if name.contains('*') => Err(at.reject(format_args!("{name:?} has its wildcard inside"))),
        None => Ok(ServerName::Exact(name.into())),
        Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => Ok(ServerName::Suffix(suffix.into())),
        Some(_) => Err(at.reject(format_args!("{name:?} is not a wildcard of the form *.example.com"))),
    }
}

/// The authorization filters of a chain, and the filter that must end it.
fn network_filters(at: &Path<'_>, messages: Vec<v3::Filter>) -> Checked<(Box<[RbacFilter]>, Terminal)> {
    let mut rbac = Vec::new();
    let mut terminal = None;
    for (i, message) in messages.into_iter().enumerate() {
        let at = at.index(i);
        if terminal.is_some() {
            return Err(at.reject("no filter may follow the terminal filter"));
        }
        // The name of a filter is free text.
        fields!(at, message => v3::Filter { config_type } ignore { name });
        let at = at.field("typed_config");
        let any = match at.required(config_type)? {
            ConfigType::TypedConfig(any) => any,
            ConfigType::ConfigDiscovery(_) => return Err(at.reject("config_discovery is not supported")),
        };
        match any.type_url.as_str() {
            "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC" => {
                rbac.push(rbac::from_message(&at, at.decode(&any)?)?);
            }
            "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => {
                terminal = Some(Terminal::Tcp(tcp_proxy::from_message(&at, at.decode(&any)?)?));
            }
            HTTP_CONNECTION_MANAGER => {
                let connections = HttpConnectionManager::from_message(&at, at.decode(&any)?)?;
                terminal = Some(Terminal::Http(Arc::new(connections)));
            }
            _ => return Err(at.unknown_type(&any)),
        }
    }
    let terminal =
        terminal.ok_or_else(|| at.reject("must end in a terminal filter (tcp_proxy or http_connection_manager)"))?;
    Ok((rbac.into(), terminal))
}

/// The `Any` of a transport socket; a socket without one is Envoy's `raw_buffer`.
pub(super) fn socket_config(at: &Path<'_>, socket: TransportSocket) -> Checked<Option<Any>> {
    // The name of a socket is free text.
    let TransportSocket { name: _, config_type } = socket;
    match config_type {
        Some(SocketConfig::TypedConfig(any)) => {
            if any.type_url == "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" {
                let RawBuffer {} = at.field("typed_config").decode(&any)?;
                return Ok(None);
            }
            Ok(Some(any))
        }
        None => Err(at.field("typed_config").reject("is required")),
    }
}

fn downstream(at: &Path<'_>, socket: TransportSocket) -> Checked<Option<Arc<DownstreamTls>>> {
    let Some(any) = socket_config(at, socket)? else { return Ok(None) };
    let at = at.field("typed_config");
    match any.type_url.as_str() {
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => {
            tls::downstream(&at, &any).map(|t| Some(Arc::new(t)))
        }
        _ => Err(at.unknown_type(&any)),
    }
}
