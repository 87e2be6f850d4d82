//! Any YAML may be stored as objects. It never fails a build, equal objects build equal resources, and whatever is
//! built from them is configuration that the proxy takes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::selector::Labels;
use envoy::TypeUrl;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::Any;
use proxy::{Offered, Snapshot, Update};
use serde_json::Value;
use xds::{Locality, Mesh, Node, Objects, Resources, Role};

/// Two namespaces with a client and a server, for the objects to be about.
static BASE: LazyLock<Vec<Value>> = LazyLock::new(|| {
    serde_saphyr::from_multiple(include_str!("../../crates/xds/testdata/base.yaml")).expect("the file is YAML")
});

fuzz_target!(|text: &str| {
    let Ok(documents) = serde_saphyr::from_multiple::<Value>(text) else { return };
    let mut objects = Objects::default();
    for document in BASE.iter().chain(&documents) {
        objects.insert(document.clone());
    }
    let mesh = Mesh::new(&objects);
    for (name, role) in [("client", Role::Sidecar), ("server", Role::Sidecar), ("gateway", Role::Router)] {
        let labels = ["app", "istio"].map(|key| (key.to_owned(), name.to_owned()));
        let labels = Labels::from(labels);
        let locality = Locality::parse("eu/a");
        let node = Node { name: name.to_owned(), namespace: "foo".to_owned(), role, labels, locality };
        let resources = xds::build(&mesh, &node);
        assert_eq!(resources, xds::build(&Mesh::new(&objects), &node));
        accepted(&resources);
    }
});

fn accepted(resources: &Resources) {
    let mut snapshot = Snapshot::default();
    for (type_url, encoded) in [
        (TypeUrl::Cluster, encode(&resources.clusters)),
        (TypeUrl::Endpoint, encode(&resources.endpoints)),
        (TypeUrl::Listener, encode(&resources.listeners)),
        (TypeUrl::Route, encode(&resources.routes)),
    ] {
        let offered = encoded.into_iter().map(|(name, value)| Offered {
            name,
            version: String::new(),
            message: Some(Any { type_url: type_url.as_str().to_owned(), value }),
        });
        let update = Update { type_url, resources: offered.collect(), removed: Vec::new() };
        let (next, refused) = snapshot.apply(update);
        assert!(refused.is_empty(), "{refused:?}");
        snapshot = next;
    }
}

fn encode(messages: &BTreeMap<String, impl Message>) -> Vec<(String, Vec<u8>)> {
    messages.iter().map(|(name, message)| (name.clone(), message.encode_to_vec())).collect()
}
