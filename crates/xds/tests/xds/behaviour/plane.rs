//! The two data planes. What differs between them is only how they are fed: ours takes resources as they are; Envoy
//! gets from its start what it would else ask ADS for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envoy::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy::envoy::config::core::v3::{Node, TransportSocket, transport_socket};
use envoy::envoy::config::listener::v3::Listener;
use envoy::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
};
use prost::Message;
use proxy::{DataPlane, Options};
use tempfile::TempDir;
use testkit::RealEnvoy;
use xds::Resources;

use super::listeners::{anywhere, with_tables};
use crate::call::{secret, snapshot};

/// Something that carries requests.
pub(super) trait Plane {
    /// Where the requests of a table or a port are taken, if they are.
    fn table(&self, name: &str) -> Option<SocketAddr>;
    /// The lines of its log.
    fn log(&self) -> Vec<String>;
}

pub(super) struct OurPlane {
    addresses: BTreeMap<Arc<str>, SocketAddr>,
    _plane: DataPlane,
    log: Log,
}

pub(super) struct EnvoyPlane {
    envoy: RealEnvoy,
    names: BTreeSet<String>,
    log: Log,
}

/// A log in a folder of its own.
pub(super) struct Log(TempDir);

impl Log {
    pub(super) fn new() -> Log {
        Log(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(Path::new(&self.path())).unwrap_or_default();
        // A line whose end is not written yet is none.
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }
}

impl OurPlane {
    pub(super) fn start(resources: &Resources, listeners: Vec<Listener>, log: Log) -> OurPlane {
        let listeners = listeners.into_iter().map(|listener| (listener.name.clone(), listener)).collect();
        let offered = Resources { listeners, ..resources.clone() };
        let options = Options { workers: NonZeroUsize::MIN, drain_time: Duration::ZERO, workload: Arc::default() };
        let plane = DataPlane::start(options).unwrap();
        let unbound = plane.install(Arc::new(snapshot(&offered)));
        assert!(unbound.is_empty(), "{unbound:?}");
        OurPlane { addresses: plane.addresses(), _plane: plane, log }
    }
}

impl Plane for OurPlane {
    fn table(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    fn log(&self) -> Vec<String> {
        self.log.lines()
    }
}

impl EnvoyPlane {
    pub(super) fn start(resources: &Resources, mut listeners: Vec<Listener>, log: Log) -> EnvoyPlane {
        for listener in &mut listeners {
            with_tables(listener, resources);
            let sockets = listener.filter_chains.iter_mut().filter_map(|chain| chain.transport_socket.as_mut());
            sockets.for_each(with_known_secrets);
        }
        let names: BTreeSet<String> = listeners.iter().map(|listener| listener.name.clone()).collect();
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
        let envoy = RealEnvoy::start_encoded(&bootstrap.encode_to_vec(), names.len()).unwrap();
        EnvoyPlane { envoy, names, log }
    }
}

impl Plane for EnvoyPlane {
    fn table(&self, name: &str) -> Option<SocketAddr> {
        self.names.contains(name).then(|| self.envoy.listener(name))
    }

    fn log(&self) -> Vec<String> {
        self.log.lines()
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
    let context = any.value.as_slice();
    if any.type_url.ends_with(".UpstreamTlsContext") {
        let mut context = UpstreamTlsContext::decode(context).unwrap();
        context.common_tls_context.iter_mut().for_each(known_here);
        any.value = context.encode_to_vec();
    } else if any.type_url.ends_with(".DownstreamTlsContext") {
        let mut context = DownstreamTlsContext::decode(context).unwrap();
        context.common_tls_context.iter_mut().for_each(known_here);
        any.value = context.encode_to_vec();
    }
}

fn known_here(tls: &mut CommonTlsContext) {
    let known = |config: &mut SdsSecretConfig| config.sds_config = None;
    tls.tls_certificate_sds_secret_configs.iter_mut().for_each(known);
    match &mut tls.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => known(config),
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            combined.validation_context_sds_secret_config.iter_mut().for_each(known);
        }
        _ => {}
    }
}
