//! Resources written as YAML, as Envoy's documentation has them.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use envoy::TypeUrl;
use envoy::envoy::config::core::v3::Node;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;

use crate::admin::Loggers;
use crate::config::Rejected;
use crate::metrics::Workload;
use crate::{Offered, Options, Proxy, Settings, Snapshot, Update};

pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(envoy::DESCRIPTORS).expect("the descriptors are whole"));

/// The message that `yaml` describes.
pub(crate) fn message(type_url: TypeUrl, yaml: &str) -> Any {
    let name = type_url.as_str().trim_start_matches("type.googleapis.com/");
    let descriptor = POOL.get_message_by_name(name).unwrap();
    let json: serde_json::Value = serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    let message = DynamicMessage::deserialize(descriptor, json).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }
}

/// A resource by name.
pub(crate) fn offered(type_url: TypeUrl, name: &str, yaml: &str) -> Offered {
    Offered { name: name.to_owned(), version: "1".to_owned(), message: Some(message(type_url, yaml)) }
}

/// An update with one resource, whose name is in its first line: `name: x` or `cluster_name: x`.
pub(crate) fn update(type_url: TypeUrl, yaml: &str) -> Update {
    let first = yaml.trim_start().lines().next().unwrap_or_default();
    let name = first.split_once(": ").map(|(_, name)| name.trim().trim_matches('"')).unwrap_or_default();
    Update { type_url, resources: vec![offered(type_url, name, yaml)], removed: Vec::new() }
}

/// `snapshot` after one resource that must be accepted.
pub(crate) fn accept(snapshot: &Snapshot, type_url: TypeUrl, yaml: &str) -> Snapshot {
    let (next, refused) = snapshot.apply(update(type_url, yaml));
    assert_eq!(refused, [], "{yaml}");
    next
}

/// Why an empty snapshot refuses a resource.
pub(crate) fn refuse(type_url: TypeUrl, yaml: &str) -> Rejected {
    let (_, refused) = Snapshot::default().apply(update(type_url, yaml));
    refused.into_iter().next().unwrap_or_else(|| panic!("accepted:\n{yaml}")).1
}

/// A fresh certificate and its key, both PEM.
pub(crate) fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["workload".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A secret with a certificate.
pub(crate) fn certificate_secret(name: &str) -> String {
    let (chain, key) = certificate();
    format!(
        "name: {name}\ntls_certificate:\n  certificate_chain: {{inline_string: {chain:?}}}\n  \
         private_key: {{inline_string: {key:?}}}\n"
    )
}

/// A proxy without configuration.
pub(crate) fn proxy(initial_fetch_timeout: Duration) -> Proxy {
    let workload = Arc::new(Workload::default());
    let data_plane = Options { workers: NonZeroUsize::MIN, drain_time: Duration::ZERO, workload };
    let node = Node { id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".to_owned(), ..Node::default() };
    Proxy::start(node, Settings { data_plane, initial_fetch_timeout, loggers: Loggers::new(|_| {}) }).unwrap()
}
