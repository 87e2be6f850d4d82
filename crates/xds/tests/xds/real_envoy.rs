//! The judgement of a real Envoy.

use std::path::Path;
use std::process::Command;

use envoy::envoy::config::bootstrap::v3::Bootstrap;
use envoy::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::core::v3::api_config_source::ApiType;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier};
use envoy::envoy::config::core::v3::{ApiConfigSource, ApiVersion, GrpcService, Node};
use envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use prost::Message;
use prost_types::Any;
use xds::Resources;

use crate::world::{case, cases, told};

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// The resources as what Envoy starts with. What they leave to ADS it would ask for later.
fn bootstrap(resources: &Resources) -> Bootstrap {
    let [ads, agent] = ["ads", "sds-grpc"].map(|name| Cluster { name: name.to_owned(), ..Cluster::default() });
    let service = EnvoyGrpc { cluster_name: ads.name.clone(), ..EnvoyGrpc::default() };
    let source = ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(service)),
            ..GrpcService::default()
        }],
        ..ApiConfigSource::default()
    };
    Bootstrap {
        node: Some(Node { id: "test".to_owned(), cluster: "test".to_owned(), ..Node::default() }),
        static_resources: Some(StaticResources {
            listeners: resources.listeners.values().cloned().chain(routed(resources)).collect(),
            clusters: resources.clusters.values().cloned().chain([ads, agent]).collect(),
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources { ads_config: Some(source), ..DynamicResources::default() }),
        ..Bootstrap::default()
    }
}

/// For each table of routes a listener that has it inside, since Envoy would ask for it later, too.
fn routed(resources: &Resources) -> impl Iterator<Item = Listener> {
    let Some(manager) = resources.listeners.values().flat_map(managers).next() else {
        return None.into_iter().flatten();
    };
    let listeners = resources.routes.values().enumerate().map(move |(i, table)| {
        let manager = HttpConnectionManager {
            route_specifier: Some(RouteSpecifier::RouteConfig(table.clone())),
            ..manager.clone()
        };
        let any = Any { type_url: format!("type.googleapis.com/{MANAGER}"), value: manager.encode_to_vec() };
        let filter = Filter { name: "http".to_owned(), config_type: Some(ConfigType::TypedConfig(any)) };
        let port = u32::try_from(20000 + i).unwrap();
        let address = SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        };
        Listener {
            name: format!("table {}", table.name),
            address: Some(Address { address: Some(address::Address::SocketAddress(address)) }),
            filter_chains: vec![FilterChain { filters: vec![filter], ..FilterChain::default() }],
            ..Listener::default()
        }
    });
    Some(listeners).into_iter().flatten()
}

/// What takes requests off the connections of a listener.
fn managers(listener: &Listener) -> impl Iterator<Item = HttpConnectionManager> {
    let chains = listener.filter_chains.iter().filter(|_| listener.name != "virtualInbound");
    chains.flat_map(|chain| &chain.filters).filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(MANAGER) => {
            Some(HttpConnectionManager::decode(any.value.as_slice()).unwrap())
        }
        _ => None,
    })
}

/// What Envoy says of resources, if it refuses them.
fn refusal(envoy: &Path, name: &str, resources: &Resources) -> Option<String> {
    let path = std::env::temp_dir().join(format!("isthmus-{}-{name}.pb", std::process::id()));
    std::fs::write(&path, bootstrap(resources).encode_to_vec()).unwrap();
    let output = Command::new(envoy).args(["--mode", "validate", "-l", "warning", "-c"]).arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    (!output.status.success()).then(|| format!("{name}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_case_is_accepted() {
    let Some(envoy) = testkit::envoy() else { return };
    let mut all = String::new();
    let mut refused = Vec::new();
    for folder in cases() {
        let (_, resources) = case(&folder);
        refused.extend(refusal(&envoy, &folder.file_name().unwrap().to_string_lossy(), &resources));
        all += "---\n";
        all += &std::fs::read_to_string(folder.join("in.yaml")).unwrap();
    }
    refused.extend(refusal(&envoy, "sleep", &told("sleep", &all)));
    refused.extend(refusal(&envoy, "tcp-echo", &told("tcp-echo", &all)));
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn a_mistake_is_noticed() {
    let Some(envoy) = testkit::envoy() else { return };
    let mut resources = told("sleep", "");
    let listener = resources.listeners.get_mut("virtualInbound").unwrap();
    let twice = listener.filter_chains[0].clone();
    listener.filter_chains.push(twice);
    assert!(refusal(&envoy, "mistake", &resources).is_some());
}
