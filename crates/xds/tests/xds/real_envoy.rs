//! The judgement of a real Envoy.

use std::path::Path;
use std::process::Command;

use envoy::envoy::config::bootstrap::v3::Bootstrap;
use envoy::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::core::v3::api_config_source::ApiType;
use envoy::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy::envoy::config::core::v3::{ApiConfigSource, ApiVersion, GrpcService, Node};
use prost::Message;
use xds::Resources;

use crate::world::{case, cases, told};

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
            listeners: resources.listeners.values().cloned().collect(),
            clusters: resources.clusters.values().cloned().chain([ads, agent]).collect(),
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources { ads_config: Some(source), ..DynamicResources::default() }),
        ..Bootstrap::default()
    }
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
