//! The two data planes. What differs between them is only how they are fed: ours takes resources as they are; Envoy
//! gets from its start what it would else ask ADS for. For both, each table of routes has a listener of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy::envoy::config::core::v3::{
    Address, DataSource, Node, SocketAddress, SubstitutionFormatString, TransportSocket, address, data_source,
    socket_address::PortSpecifier, substitution_format_string, transport_socket,
};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy::envoy::extensions::transport_sockets::tls::v3::{SdsSecretConfig, UpstreamTlsContext};
use prost::Message;
use prost_types::Any;
use proxy::{DataPlane, Options};
use tempfile::TempDir;
use testkit::RealEnvoy;
use xds::Resources;

use crate::call::{secret, snapshot};

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const FORMAT: &str = "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER%\n";

/// Something that carries requests.
pub(super) trait Plane {
    /// Where the requests of a table are taken.
    fn table(&self, name: &str) -> SocketAddr;
    /// The lines of its log.
    fn log(&self) -> Vec<String>;
}

pub(super) struct OurPlane {
    addresses: BTreeMap<Arc<str>, SocketAddr>,
    _plane: DataPlane,
    folder: TempDir,
}

pub(super) struct EnvoyPlane(RealEnvoy, TempDir);

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn lines(folder: &Path) -> Vec<String> {
    std::fs::read_to_string(log_of(folder)).unwrap_or_default().lines().map(str::to_owned).collect()
}

impl OurPlane {
    pub(super) fn start(resources: &Resources) -> OurPlane {
        let folder = tempfile::tempdir().unwrap();
        let listeners = of_tables(resources, &log_of(folder.path()));
        let listeners = listeners.into_iter().map(|listener| (listener.name.clone(), listener)).collect();
        let offered = Resources { listeners, ..resources.clone() };
        let options = Options { workers: NonZeroUsize::MIN, drain_time: Duration::ZERO, workload: Arc::default() };
        let plane = DataPlane::start(options).unwrap();
        let unbound = plane.install(Arc::new(snapshot(&offered)));
        assert!(unbound.is_empty(), "{unbound:?}");
        OurPlane { addresses: plane.addresses(), _plane: plane, folder }
    }
}

impl Plane for OurPlane {
    fn table(&self, name: &str) -> SocketAddr {
        *self.addresses.get(name).unwrap_or_else(|| panic!("{name} is not in {:?}", self.addresses))
    }

    fn log(&self) -> Vec<String> {
        lines(self.folder.path())
    }
}

impl EnvoyPlane {
    pub(super) fn start(resources: &Resources) -> EnvoyPlane {
        let folder = tempfile::tempdir().unwrap();
        let mut listeners = of_tables(resources, &log_of(folder.path()));
        for listener in &mut listeners {
            of_manager(listener, |manager| {
                let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else { panic!("{manager:?}") };
                let table = resources.routes[&rds.route_config_name].clone();
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(table));
            });
        }
        let count = listeners.len();
        let bootstrap = Bootstrap {
            node: Some(Node { id: "test".to_owned(), cluster: "test".to_owned(), ..Node::default() }),
            admin: Some(Admin { address: Some(anywhere(1)), ..Admin::default() }),
            static_resources: Some(StaticResources {
                listeners,
                clusters: resources.clusters.values().map(|cluster| known(cluster, resources)).collect(),
                secrets: resources.secrets.iter().map(|name| secret(name)).collect(),
            }),
            ..Bootstrap::default()
        };
        let envoy = RealEnvoy::start_encoded(&bootstrap.encode_to_vec(), count).unwrap();
        EnvoyPlane(envoy, folder)
    }
}

impl Plane for EnvoyPlane {
    fn table(&self, name: &str) -> SocketAddr {
        self.0.listener(name)
    }

    fn log(&self) -> Vec<String> {
        lines(self.1.path())
    }
}

/// An address of the machine itself, at which the kernel chooses a port.
fn anywhere(number: usize) -> Address {
    let address = SocketAddress {
        address: format!("127.0.3.{number}"),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..SocketAddress::default()
    };
    Address { address: Some(address::Address::SocketAddress(address)) }
}

/// For each table of routes a listener, with the connection manager that the node has for it, and a log.
fn of_tables(resources: &Resources, log: &Path) -> Vec<Listener> {
    let mut found = BTreeMap::new();
    for chain in resources.listeners.values().flat_map(|listener| &listener.filter_chains) {
        for filter in &chain.filters {
            if let Some(manager) = manager(filter)
                && let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier
            {
                found.insert(rds.route_config_name.clone(), filter.clone());
            }
        }
    }
    let listener = |(number, (name, filter)): (usize, (String, Filter))| {
        let mut listener = Listener {
            name,
            address: Some(anywhere(number + 2)),
            filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
            ..Listener::default()
        };
        of_manager(&mut listener, |manager| manager.access_log = vec![file_log(log)]);
        listener
    };
    found.into_iter().enumerate().map(listener).collect()
}

fn manager(filter: &Filter) -> Option<HttpConnectionManager> {
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) if any.type_url == MANAGER => {
            Some(HttpConnectionManager::decode(any.value.as_slice()).unwrap())
        }
        _ => None,
    }
}

/// Changes the connection manager of a listener.
fn of_manager(listener: &mut Listener, change: impl FnOnce(&mut HttpConnectionManager)) {
    let filter = &mut listener.filter_chains[0].filters[0];
    let mut manager = manager(filter).unwrap();
    change(&mut manager);
    let any = Any { type_url: MANAGER.to_owned(), value: manager.encode_to_vec() };
    filter.config_type = Some(filter::ConfigType::TypedConfig(any));
}

fn file_log(path: &Path) -> AccessLog {
    let text = DataSource {
        specifier: Some(data_source::Specifier::InlineString(FORMAT.to_owned())),
        ..DataSource::default()
    };
    let format = SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(text)),
        ..SubstitutionFormatString::default()
    };
    let log = FileAccessLog {
        path: path.display().to_string(),
        access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
    };
    let any = Any { type_url: FILE_LOG.to_owned(), value: log.encode_to_vec() };
    AccessLog {
        name: "file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any)),
        ..AccessLog::default()
    }
}

/// A cluster with its endpoints, whose secrets are those of the bootstrap.
fn known(cluster: &Cluster, resources: &Resources) -> Cluster {
    let mut cluster = cluster.clone();
    if let Some(eds) = cluster.eds_cluster_config.take() {
        let name = if eds.service_name.is_empty() { &cluster.name } else { &eds.service_name };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        let mut assignment = resources.endpoints.get(name).cloned().unwrap_or_default();
        assignment.cluster_name.clone_from(&cluster.name);
        cluster.load_assignment = Some(assignment);
    }
    let matches = cluster.transport_socket_matches.iter_mut().filter_map(|m| m.transport_socket.as_mut());
    cluster.transport_socket.iter_mut().chain(matches).for_each(with_known_secrets);
    cluster
}

fn with_known_secrets(socket: &mut TransportSocket) {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else { return };
    if !any.type_url.ends_with("UpstreamTlsContext") {
        return;
    }
    let mut context = UpstreamTlsContext::decode(any.value.as_slice()).unwrap();
    let tls = context.common_tls_context.as_mut().unwrap();
    let known = |config: &mut SdsSecretConfig| config.sds_config = None;
    tls.tls_certificate_sds_secret_configs.iter_mut().for_each(known);
    match &mut tls.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => known(config),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.iter_mut().for_each(known);
        }
        _ => {}
    }
    any.value = context.encode_to_vec();
}
