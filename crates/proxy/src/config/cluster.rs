//! Clusters: where connections go, and how they get there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::cluster::v3;
use envoy::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as Budget;
use envoy::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy::envoy::config::core::v3::{RoutingPriority, TransportSocket};
use prost_types::Struct;

use super::address;
use super::discovery::{self, Discovery};
use super::endpoint::{Endpoint, LoadAssignment};
use super::field::{Checked, Path, Rejected, fields};
use super::filter_chain::socket_config;
use super::health_check::{self, HealthCheck};
use super::http::{HttpProtocolOptions, UpstreamProtocol};
use super::listener::BUFFER_LIMIT;
use super::load_balancer::{CommonBalancing, LoadBalancer};
use super::metadata::Metadata;
use super::outlier::{self, OutlierDetection};
use super::tcp_proxy::Keepalive;
use super::tls::{self, SecretRef, UpstreamTls};

/// How long a connection to upstream may take if the cluster does not say (Envoy 1.40).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Every limit of circuit breakers that the cluster does not give (Envoy 1.40), but retries.
const LIMIT: u32 = 1024;
/// The limit on retries that the cluster does not give (Envoy 1.40).
const RETRIES: u32 = 3;
/// The retries that a budget allows for the requests under way if it does not say, in percent (Envoy 1.40).
const BUDGET: f64 = 20.0;
/// Where endpoints carry the facts that choose a transport socket.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// A cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name, unique among clusters.
    pub name: Arc<str>,
    /// What its statistics are called.
    pub stat_name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How one of the endpoints is chosen.
    pub load_balancer: LoadBalancer,
    /// How long a connection to an endpoint may take, its TLS handshake included.
    pub connect_timeout: Duration,
    /// What may be buffered for one connection, in bytes.
    pub buffer_limit: u32,
    /// How much may be under way at once.
    pub limits: Limits,
    /// When endpoints are taken out of rotation for their failures.
    pub outlier_detection: Option<OutlierDetection>,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<Arc<HealthCheck>>,
    /// Sockets for the endpoints whose metadata match, the first match first.
    pub socket_matches: Box<[SocketMatch]>,
    /// The socket for all other endpoints.
    pub socket: Socket,
    /// Where connections come from; a port of zero leaves the port to the kernel.
    pub source: Option<SocketAddr>,
    /// What else decides among the endpoints.
    pub balancing: CommonBalancing,
    /// Keep-alive probes on upstream connections.
    pub keepalive: Option<Keepalive>,
    /// Whether connections end when an endpoint is removed or ejected.
    pub close_on_unhealthy: bool,
    /// How HTTP is spoken to its endpoints.
    pub http: Arc<HttpProtocolOptions>,
    /// Opaque facts.
    pub metadata: Metadata,
}

/// The limits of the circuit breaker of default priority.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Open connections.
    pub max_connections: u32,
    /// Connections that wait for an upstream connection.
    pub max_pending: u32,
    /// Requests.
    pub max_requests: u32,
    /// Retries.
    pub max_retries: u32,
    /// What limits retries instead of `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// A limit on retries that grows with the requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// How many retries there may be for the requests that are under way, in percent.
    pub percent: f64,
    /// How many there may be in any case.
    pub min_concurrency: u32,
}

/// How bytes travel to an endpoint.
#[derive(Debug, Clone)]
pub enum Socket {
    /// As they are.
    Raw,
    /// In TLS.
    Tls(Arc<UpstreamTls>),
}

/// A socket for certain endpoints.
#[derive(Debug, Clone)]
pub struct SocketMatch {
    /// Its name, for statistics.
    pub name: Arc<str>,
    /// What an endpoint's metadata must include; nothing matches every endpoint.
    pub criteria: Struct,
    /// The socket.
    pub socket: Socket,
}

impl Cluster {
    /// The socket for connections to an endpoint, with the name of the match that chose it.
    pub fn socket_for(&self, endpoint: &Endpoint) -> (&Socket, Option<&Arc<str>>) {
        let matches = |m: &&SocketMatch| endpoint.metadata.includes(SOCKET_MATCH, &m.criteria);
        self.socket_matches.iter().find(matches).map_or((&self.socket, None), |m| (&m.socket, Some(&m.name)))
    }

    /// All sockets: those of the matches in their order, and then the one for all other endpoints.
    pub fn sockets(&self) -> impl Iterator<Item = &Socket> {
        self.socket_matches.iter().map(|m| &m.socket).chain([&self.socket])
    }

    /// The endpoints that the cluster itself brings.
    pub fn own_endpoints(&self) -> Option<&Arc<LoadAssignment>> {
        match &self.discovery {
            Discovery::Static(endpoints) | Discovery::StrictDns(endpoints, _) | Discovery::LogicalDns(endpoints, _) => {
                Some(endpoints)
            }
            Discovery::Eds(_) | Discovery::OriginalDst { .. } => None,
        }
    }

    /// The secrets that its TLS contexts name.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        let tls = self.sockets().filter_map(|s| match s {
            Socket::Raw => None,
            Socket::Tls(tls) => Some(tls),
        });
        tls.flat_map(|t| t.settings.secrets())
    }
}

impl TryFrom<v3::Cluster> for Cluster {
    type Error = Rejected;

    fn try_from(message: v3::Cluster) -> Checked<Cluster> {
        let at = &Path::ROOT;
        let mut message = message;
        let discovery = discovery::take(at, &mut message)?;
        // The statistics of budgets and sizes are of HTTP, and a removed endpoint goes, whatever it answers.
        // Every cluster waits for its endpoints when it warms.
        fields!(at, message => v3::Cluster { transport_socket_matches, name, alt_stat_name, connect_timeout,
                per_connection_buffer_limit_bytes, lb_policy, circuit_breakers, outlier_detection,
                health_checks, upstream_bind_config, common_lb_config, transport_socket, metadata, upstream_connection_options,
                close_connections_on_host_health_failure, lb_config, typed_extension_protocol_options }
            refuse { transport_socket_matcher, stats_matcher, eds_cluster_config,
                per_connection_buffer_high_watermark_timeout, load_assignment,
                max_requests_per_connection, upstream_http_protocol_options, common_http_protocol_options,
                http_protocol_options, http2_protocol_options, dns_refresh_rate,
                dns_jitter, dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, dns_resolvers,
                use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config, cleanup_interval,
                lb_subset_config, protocol_selection, filters, load_balancing_policy, lrs_server,
                lrs_report_endpoint_metrics, upstream_config, preconnect_policy,
                connection_pool_per_downstream_connection, queuing_policies, cluster_discovery_type }
            ignore { wait_for_warm_on_init, ignore_health_on_host_removal, track_timeout_budgets,
                track_cluster_stats });
        let name: Arc<str> = at.field("name").named(&name)?.into();
        let connect = at.field("connect_timeout");
        let connect_timeout = connect.duration(connect_timeout)?.unwrap_or(CONNECT_TIMEOUT);
        if connect_timeout.is_zero() {
            return Err(connect.reject("must be more than zero"));
        }
        let http = Arc::new(HttpProtocolOptions::from_messages(
            &at.field("typed_extension_protocol_options"),
            typed_extension_protocol_options,
        )?);
        let speaks_http2 = http.protocol == UpstreamProtocol::Http2;
        let health_check = health_check::take(&at.field("health_checks"), health_checks, speaks_http2)?;
        let load_balancer = LoadBalancer::from_message(at, lb_policy, lb_config, &discovery)?;
        let matches_at = at.field("transport_socket_matches");
        let matches = transport_socket_matches.into_iter().enumerate();
        Ok(Cluster {
            stat_name: if alt_stat_name.is_empty() { name.clone() } else { alt_stat_name.into() },
            name,
            discovery,
            load_balancer,
            connect_timeout,
            buffer_limit: per_connection_buffer_limit_bytes.unwrap_or(BUFFER_LIMIT),
            limits: limits(&at.field("circuit_breakers"), circuit_breakers.unwrap_or_default())?,
            outlier_detection: outlier_detection
                .map(|o| outlier::from_message(&at.field("outlier_detection"), o))
                .transpose()?,
            health_check: health_check.map(Arc::new),
            socket_matches: matches.map(|(i, m)| socket_match(&matches_at.index(i), m)).collect::<Checked<_>>()?,
            socket: socket(&at.field("transport_socket"), transport_socket)?,
            source: upstream_bind_config
                .map(|b| address::source(&at.field("upstream_bind_config"), b))
                .transpose()?
                .flatten(),
            balancing: CommonBalancing::from_message(&at.field("common_lb_config"), common_lb_config)?,
            keepalive: keepalive(&at.field("upstream_connection_options"), upstream_connection_options)?,
            close_on_unhealthy: close_connections_on_host_health_failure,
            http,
            metadata: Metadata::from_message(metadata),
        })
    }
}

fn limits(at: &Path<'_>, message: v3::CircuitBreakers) -> Checked<Limits> {
    fields!(at, message => v3::CircuitBreakers { thresholds } refuse { per_host_thresholds });
    let mut limits = Limits {
        max_connections: LIMIT,
        max_pending: LIMIT,
        max_requests: LIMIT,
        max_retries: RETRIES,
        retry_budget: None,
    };
    for (i, thresholds) in thresholds.into_iter().enumerate() {
        let at = at.field("thresholds");
        let at = at.index(i);
        // What remains is always counted. Connections are not pooled on L4.
        fields!(at, thresholds => Thresholds { priority, max_connections, max_pending_requests, max_requests,
                max_retries, retry_budget }
            ignore { track_remaining, max_connection_pools });
        if at.field("priority").enumeration::<RoutingPriority>(priority)? == RoutingPriority::High {
            return Err(at.field("priority").reject("only DEFAULT is supported"));
        }
        limits = Limits {
            max_connections: max_connections.unwrap_or(LIMIT),
            max_pending: max_pending_requests.unwrap_or(LIMIT),
            max_requests: max_requests.unwrap_or(LIMIT),
            max_retries: max_retries.unwrap_or(RETRIES),
            retry_budget: retry_budget.map(|b| budget(&at.field("retry_budget"), b)).transpose()?,
        };
    }
    Ok(limits)
}

fn budget(at: &Path<'_>, message: Budget) -> Checked<RetryBudget> {
    fields!(at, message => Budget { budget_percent, min_retry_concurrency } refuse { budget_interval });
    let percent = budget_percent.map_or(BUDGET, |p| p.value);
    if !(0.0..=100.0).contains(&percent) {
        return Err(at.field("budget_percent").reject("must be from 0 to 100"));
    }
    Ok(RetryBudget { percent, min_concurrency: min_retry_concurrency.unwrap_or(RETRIES) })
}

fn socket_match(at: &Path<'_>, message: TransportSocketMatch) -> Checked<SocketMatch> {
    let TransportSocketMatch { name, r#match, transport_socket } = message;
    Ok(SocketMatch {
        name: at.field("name").named(&name)?.into(),
        criteria: r#match.unwrap_or_default(),
        socket: socket(&at.field("transport_socket"), transport_socket)?,
    })
}

fn socket(at: &Path<'_>, message: Option<TransportSocket>) -> Checked<Socket> {
    let Some(any) = message.map(|m| socket_config(at, m)).transpose()?.flatten() else { return Ok(Socket::Raw) };
    let at = at.field("typed_config");
    match any.type_url.as_str() {
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            Ok(Socket::Tls(Arc::new(tls::upstream(&at, at.decode(&any)?)?)))
        }
        _ => Err(at.unknown_type(&any)),
    }
}

fn keepalive(at: &Path<'_>, message: Option<v3::UpstreamConnectionOptions>) -> Checked<Option<Keepalive>> {
    fields!(at, message.unwrap_or_default() => v3::UpstreamConnectionOptions { tcp_keepalive }
        refuse { set_local_interface_name_on_upstream_connections, happy_eyeballs_config });
    Ok(tcp_keepalive.map(Keepalive::from))
}
