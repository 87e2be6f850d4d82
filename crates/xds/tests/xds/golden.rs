//! Whole resources, as text: `UPDATE=1` writes them anew.

use std::collections::BTreeMap;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use xds::{Mesh, Resources};

use crate::world::{case, cases};

fn yaml(mesh: &Mesh, resources: &Resources) -> String {
    let pool = DescriptorPool::decode(envoy::DESCRIPTORS).unwrap();
    let diagnostics = mesh.diagnostics().union(&resources.diagnostics).map(ToString::to_string).collect::<Vec<_>>();
    let value = json!({
        "clusters": messages(&pool, "envoy.config.cluster.v3.Cluster", &resources.clusters),
        "diagnostics": diagnostics,
        "endpoints": messages(&pool, "envoy.config.endpoint.v3.ClusterLoadAssignment", &resources.endpoints),
        "listeners": messages(&pool, "envoy.config.listener.v3.Listener", &resources.listeners),
        "routes": messages(&pool, "envoy.config.route.v3.RouteConfiguration", &resources.routes),
        "secrets": resources.secrets,
    });
    serde_saphyr::to_string(&value).unwrap()
}

fn messages(pool: &DescriptorPool, name: &str, messages: &BTreeMap<String, impl Message>) -> Vec<Value> {
    let kind = pool.get_message_by_name(name).unwrap();
    let value = |message: &_| {
        let bytes = Message::encode_to_vec(message);
        serde_json::to_value(DynamicMessage::decode(kind.clone(), bytes.as_slice()).unwrap()).unwrap()
    };
    messages.values().map(value).collect()
}

#[test]
fn resources_are_as_written() {
    let mut changed = Vec::new();
    for folder in cases() {
        let (mesh, resources) = case(&folder);
        let (path, actual) = (folder.join("out.yaml"), yaml(&mesh, &resources));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &actual).unwrap();
        } else if std::fs::read_to_string(&path).ok().as_ref() != Some(&actual) {
            changed.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(changed.is_empty(), "run with UPDATE=1 and read the difference:\n{}", changed.join("\n"));
}
