//! Listeners: where connections arrive, and what is learnt of them before a chain is chosen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::core::v3::TrafficDirection;
use envoy::envoy::config::listener::v3::listener_filter::ConfigType;
use envoy::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use envoy::envoy::config::listener::v3::{self, ListenerFilterChainMatchPredicate};
use envoy::envoy::extensions::filters::listener::http_inspector::v3 as wire;
use envoy::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy::envoy::extensions::filters::listener::tls_inspector::v3 as inspector;
use prost_types::Any;

use super::access_log::{self, AccessLog};
use super::chain_index::ChainIndex;
use super::field::{Checked, Path, Rejected, fields};
use super::filter_chain::{FilterChain, Terminal};
use super::metadata::Metadata;
use super::tls::SecretRef;
use super::{address, filter_chain};

/// How long listener filters may take if the listener does not say (Envoy 1.40).
const LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
/// What may be buffered for one connection if the listener does not say, in bytes (Envoy 1.40).
pub(super) const BUFFER_LIMIT: u32 = 1 << 20;
/// The longest ClientHello, in bytes, that Envoy's inspector reads.
const CLIENT_HELLO_LIMIT: u32 = 16 << 10;

/// A listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name, unique among listeners.
    pub name: Arc<str>,
    /// What its statistics are called: `stat_prefix`, or else the address with `_` between host and port.
    pub stat_prefix: Arc<str>,
    /// Where it listens, and what original destinations it takes over from another listener.
    pub address: SocketAddr,
    /// Whether it has a socket of its own; if not, its connections come from a listener with `use_original_dst`.
    pub bind_to_port: bool,
    /// Whether a connection is handed over to the listener at its original destination, if there is one.
    pub use_original_dst: bool,
    /// Which way its traffic goes.
    pub direction: Direction,
    /// Whether the kernel's original destination replaces the local address of a connection.
    /// It does with `use_original_dst`, too.
    pub original_dst: bool,
    /// Reads the ClientHello before a chain is chosen.
    pub tls_inspector: Option<TlsInspector>,
    /// Reads the beginning of what is not TLS before a chain is chosen.
    pub http_inspector: Option<HttpInspector>,
    /// How long the listener filters may take; `None` is for ever.
    pub listener_filters_timeout: Option<Duration>,
    /// Whether the connection goes on when they took too long; otherwise it is closed.
    pub continue_on_timeout: bool,
    /// What may be buffered for one connection, in bytes.
    pub buffer_limit: u32,
    /// Logs of connections that no chain took.
    pub access_logs: Box<[AccessLog]>,
    /// The chains, in the order of the configuration.
    pub chains: Box<[Arc<FilterChain>]>,
    /// The chain of a connection that matches no other.
    pub default_chain: Option<Arc<FilterChain>>,
    /// Finds the chain of a connection.
    pub index: ChainIndex,
    /// Opaque facts.
    pub metadata: Metadata,
}

/// Which way the traffic of a listener goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The configuration does not say.
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// The listener filter that learns server name and protocols from a ClientHello.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsInspector {
    /// The longest ClientHello that is read, in bytes.
    pub max_client_hello: usize,
    /// Whether a connection with a malformed ClientHello is closed; otherwise it counts as not TLS.
    pub close_on_error: bool,
    /// Original destination ports on which it does not run.
    pub disabled: Option<PortPredicate>,
}

/// The listener filter that learns from the first bytes whether HTTP is spoken, and which.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpInspector {
    /// Original destination ports on which it does not run.
    pub disabled: Option<PortPredicate>,
}

/// A condition on the original destination port.
#[derive(Debug, Clone, PartialEq)]
pub enum PortPredicate {
    /// Holds for every port.
    Any,
    /// Holds from the first port up to, not including, the second.
    Range(i32, i32),
    /// Holds if all of them hold.
    All(Box<[PortPredicate]>),
    /// Holds if one of them holds.
    AnyOf(Box<[PortPredicate]>),
    /// Holds if the other does not.
    Not(Box<PortPredicate>),
}

impl PortPredicate {
    /// Whether it holds for `port`.
    pub fn holds(&self, port: u16) -> bool {
        match self {
            PortPredicate::Any => true,
            PortPredicate::Range(start, end) => (*start..*end).contains(&i32::from(port)),
            PortPredicate::All(all) => all.iter().all(|p| p.holds(port)),
            PortPredicate::AnyOf(any) => any.iter().any(|p| p.holds(port)),
            PortPredicate::Not(other) => !other.holds(port),
        }
    }

    fn from_message(at: &Path<'_>, message: ListenerFilterChainMatchPredicate) -> Checked<PortPredicate> {
        let set = |name: &str, rules: Vec<ListenerFilterChainMatchPredicate>| -> Checked<Box<[PortPredicate]>> {
            let (at, rules) = (at.field(name), rules.into_iter().enumerate());
            rules.map(|(i, rule)| PortPredicate::from_message(&at.field("rules").index(i), rule)).collect()
        };
        Ok(match at.required(message.rule)? {
            Rule::OrMatch(rules) => PortPredicate::AnyOf(set("or_match", rules.rules)?),
            Rule::AndMatch(rules) => PortPredicate::All(set("and_match", rules.rules)?),
            Rule::NotMatch(rule) => {
                PortPredicate::Not(Box::new(PortPredicate::from_message(&at.field("not_match"), *rule)?))
            }
            Rule::AnyMatch(true) => PortPredicate::Any,
            Rule::AnyMatch(false) => return Err(at.field("any_match").reject("must be true")),
            Rule::DestinationPortRange(range) => PortPredicate::Range(range.start, range.end),
        })
    }
}

impl Listener {
    /// The names of the route tables that its chains get by RDS; some may be there several times.
    pub fn route_tables(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all_chains().filter_map(|chain| match &chain.terminal {
            Terminal::Http(connections) => connections.routes.name(),
            Terminal::Tcp(_) => None,
        })
    }

    /// Every chain, the one for all other connections last.
    fn all_chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The secrets that its chains' TLS contexts name.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let tls = self.all_chains().filter_map(|c| c.tls.as_deref());
        tls.flat_map(|t| t.settings.secrets())
    }
}

impl TryFrom<v3::Listener> for Listener {
    type Error = Rejected;

    fn try_from(message: v3::Listener) -> Checked<Listener> {
        let at = &Path::ROOT;
        // The kernel spreads connections over the workers, whatever `connection_balance_config` says; and a proxy that ends
        // takes all of its connections with it, whatever `drain_type` says.
        // `reuse_port` and `enable_reuse_port`: every worker has a socket of its own in any case. The backlog, TCP fast
        // open and the number of accepts per wake-up tune a kernel or a loop and change no connection; the limits of
        // `ignore_global_conn_limit` and `bypass_overload_manager` do not exist here.
        fields!(at, message => v3::Listener { name, address, stat_prefix, filter_chains, use_original_dst,
                default_filter_chain, per_connection_buffer_limit_bytes, metadata, deprecated_v1,
                listener_filters, listener_filters_timeout, continue_on_listener_filters_timeout, transparent,
                freebind, traffic_direction, access_log, bind_to_port }
            refuse { additional_addresses, stats_matcher, fcds_config, filter_chain_matcher,
                per_connection_buffer_high_watermark_timeout, socket_options, udp_listener_config, api_listener,
                enable_mptcp, tcp_keepalive, listener_specifier }
            ignore { connection_balance_config, drain_type, reuse_port, enable_reuse_port, tcp_fast_open_queue_length, tcp_backlog_size,
                max_connections_to_accept_per_socket_event, ignore_global_conn_limit, bypass_overload_manager });
        at.field("transparent").off(transparent)?;
        at.field("freebind").off(freebind)?;
        let address = address::socket_addr(&at.field("address"), address)?;
        let direction = match at.field("traffic_direction").enumeration(traffic_direction)? {
            TrafficDirection::Unspecified => Direction::Unspecified,
            TrafficDirection::Inbound => Direction::Inbound,
            TrafficDirection::Outbound => Direction::Outbound,
        };
        let filters = ListenerFilters::from_messages(&at.field("listener_filters"), listener_filters)?;
        let (chains, default_chain, index) = chains(filter_chains, default_filter_chain)?;
        let timeout = at.field("listener_filters_timeout");
        Ok(Listener {
            name: at.field("name").named(&name)?.into(),
            stat_prefix: match stat_prefix.as_str() {
                "" => format!("{}_{}", address.ip(), address.port()).into(),
                prefix => prefix.into(),
            },
            address,
            bind_to_port: bind_to_port.or(deprecated_v1.and_then(|d| d.bind_to_port)).unwrap_or(true),
            use_original_dst: use_original_dst.unwrap_or(false),
            direction,
            original_dst: filters.original_dst || use_original_dst == Some(true),
            tls_inspector: filters.tls_inspector,
            http_inspector: filters.http_inspector,
            listener_filters_timeout: timeout.timeout(listener_filters_timeout, Some(LISTENER_FILTERS_TIMEOUT))?,
            continue_on_timeout: continue_on_listener_filters_timeout,
            buffer_limit: per_connection_buffer_limit_bytes.unwrap_or(BUFFER_LIMIT),
            access_logs: access_log::from_messages(&at.field("access_log"), access_log)?,
            chains,
            default_chain,
            index,
            metadata: Metadata::from_message(metadata),
        })
    }
}

/// The chains of a listener, the one for all other connections, and the index over them.
type Chains = (Box<[Arc<FilterChain>]>, Option<Arc<FilterChain>>, ChainIndex);

fn chains(chains: Vec<v3::FilterChain>, default: Option<v3::FilterChain>) -> Checked<Chains> {
    let at = Path::ROOT.field("filter_chains");
    if chains.is_empty() && default.is_none() {
        return Err(at.reject("a listener needs a filter chain"));
    }
    let chains: Box<[Arc<FilterChain>]> = chains
        .into_iter()
        .enumerate()
        .map(|(i, chain)| filter_chain::from_message(&at.index(i), chain).map(Arc::new))
        .collect::<Checked<_>>()?;
    let default_at = Path::ROOT.field("default_filter_chain");
    if default.as_ref().is_some_and(|d| d.filter_chain_match.as_ref().is_some_and(|m| *m != Default::default())) {
        return Err(default_at.field("filter_chain_match").reject("the default chain takes what no other matches"));
    }
    let default = default.map(|d| filter_chain::from_message(&default_at, d).map(Arc::new)).transpose()?;
    let index = ChainIndex::new(&chains).map_err(|clash| {
        let same = format!("matches the same connections as filter_chains[{}]", clash.earlier);
        at.index(clash.later).field("filter_chain_match").reject(same)
    })?;
    Ok((chains, default, index))
}

#[derive(Default)]
struct ListenerFilters {
    original_dst: bool,
    tls_inspector: Option<TlsInspector>,
    http_inspector: Option<HttpInspector>,
}

impl ListenerFilters {
    fn from_messages(at: &Path<'_>, messages: Vec<v3::ListenerFilter>) -> Checked<ListenerFilters> {
        let mut filters = ListenerFilters::default();
        for (i, message) in messages.into_iter().enumerate() {
            let at = at.index(i);
            // The name of a filter is free text.
            fields!(at, message => v3::ListenerFilter { filter_disabled, config_type } ignore { name });
            let disabled_at = at.field("filter_disabled");
            let disabled = filter_disabled.map(|d| PortPredicate::from_message(&disabled_at, d)).transpose()?;
            let at = at.field("typed_config");
            let any = match at.required(config_type)? {
                ConfigType::TypedConfig(any) => any,
                ConfigType::ConfigDiscovery(_) => return Err(at.reject("config_discovery is not supported")),
            };
            filters.add(&at, &any, disabled)?;
        }
        Ok(filters)
    }

    fn add(&mut self, at: &Path<'_>, any: &Any, disabled: Option<PortPredicate>) -> Checked<()> {
        match any.type_url.as_str() {
            "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => {
                let OriginalDst {} = at.decode(any)?;
                if disabled.is_some() {
                    return Err(at.reject("original_dst cannot be disabled by port"));
                }
                self.original_dst = true;
            }
            "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => {
                if self.tls_inspector.replace(tls_inspector(at, at.decode(any)?, disabled)?).is_some() {
                    return Err(at.reject("there is a tls_inspector already"));
                }
            }
            "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => {
                let wire::HttpInspector {} = at.decode(any)?;
                if self.http_inspector.replace(HttpInspector { disabled }).is_some() {
                    return Err(at.reject("there is an http_inspector already"));
                }
            }
            _ => return Err(at.unknown_type(any)),
        }
        Ok(())
    }
}

fn tls_inspector(
    at: &Path<'_>,
    message: inspector::TlsInspector,
    disabled: Option<PortPredicate>,
) -> Checked<TlsInspector> {
    // The size of the first read changes nothing that can be seen.
    fields!(at, message => inspector::TlsInspector { enable_ja3_fingerprinting, enable_ja4_fingerprinting,
            close_connection_on_client_hello_parsing_errors, max_client_hello_size }
        ignore { initial_read_buffer_size });
    at.field("enable_ja3_fingerprinting").off(enable_ja3_fingerprinting)?;
    at.field("enable_ja4_fingerprinting").off(enable_ja4_fingerprinting)?;
    let limit = max_client_hello_size.unwrap_or(CLIENT_HELLO_LIMIT);
    if !(1..=CLIENT_HELLO_LIMIT).contains(&limit) {
        return Err(at.field("max_client_hello_size").reject(format_args!("must be from 1 to {CLIENT_HELLO_LIMIT}")));
    }
    Ok(TlsInspector {
        max_client_hello: usize::try_from(limit).unwrap_or(usize::MAX),
        close_on_error: close_connection_on_client_hello_parsing_errors,
        disabled,
    })
}
