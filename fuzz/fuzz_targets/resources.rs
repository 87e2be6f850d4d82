//! Any bytes may come as a resource. They are refused, or they can be lived with: connections are followed through what
//! was accepted.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl;
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy::envoy::config::listener::v3::Listener;
use envoy::envoy::config::route::v3::RouteConfiguration;
use envoy::envoy::extensions::transport_sockets::tls::v3::Secret;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::Any;
use proxy::config::http::HttpConnectionManager;
use proxy::inspect::Hello;
use proxy::select::{Arrival, Call, Connection, Outcome, prepared, request, select};
use proxy::{DynamicMetadata, Offered, Snapshot, Update};

const TYPES: [TypeUrl; 5] = [TypeUrl::Cluster, TypeUrl::Endpoint, TypeUrl::Secret, TypeUrl::Listener, TypeUrl::Route];

fuzz_target!(|bytes: &[u8]| {
    // Resources, each after its type and its length, so that one input can have several that belong together.
    let mut snapshot = Snapshot::default();
    let mut rest = bytes;
    while let [kind, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (value, tail) = tail.split_at(length);
        let type_url = TYPES[usize::from(*kind) % TYPES.len()];
        let message = Any { type_url: type_url.as_str().to_owned(), value: value.to_vec() };
        let name = name(type_url, value);
        let resource = Offered { name, version: String::new(), message: Some(message) };
        let update = Update { type_url, resources: vec![resource], removed: Vec::new() };
        let (next, refused) = snapshot.apply(update);
        assert!(refused.iter().all(|(_, why)| !why.reason.is_empty()));
        snapshot = next.without_endpoints(Duration::ZERO, |_, _| Duration::MAX);
        rest = tail;
    }
    follow(&snapshot);
});

/// The name in a message, so that the resource is not refused for being under another.
fn name(type_url: TypeUrl, value: &[u8]) -> String {
    match type_url {
        TypeUrl::Cluster => Cluster::decode(value).map(|m| m.name),
        TypeUrl::Endpoint => ClusterLoadAssignment::decode(value).map(|m| m.cluster_name),
        TypeUrl::Secret => Secret::decode(value).map(|m| m.name),
        TypeUrl::Listener => Listener::decode(value).map(|m| m.name),
        TypeUrl::Route => RouteConfiguration::decode(value).map(|m| m.name),
    }
    .unwrap_or_default()
}

/// Follows connections into every listener, with and without TLS.
fn follow(snapshot: &Snapshot) {
    let hello = Hello { server_name: Some("a.b".into()), application_protocols: ["istio".into()].into() };
    let identities: [Arc<str>; 1] = ["spiffe://cluster.local/ns/foo/sa/sleep".into()];
    for listener in snapshot.listeners().into_values() {
        for (hello, random) in [(None, 0), (Some(&hello), u64::MAX / 3), (Some(&hello), u64::MAX)] {
            let connection = Connection {
                arrival: Arrival::At(listener.config.address),
                destination: listener.config.address,
                source: ([10, 0, 0, 1], 40000).into(),
                spoken: None,
                hello,
                identities: &identities,
                random,
            };
            let selection = select(snapshot, &connection);
            assert!(selection.to_string().ends_with('.'));
            if let Outcome::Http(config) = selection.outcome {
                ask(snapshot, connection, config);
            }
        }
    }
}

/// Asks for something on a connection that speaks HTTP.
fn ask(snapshot: &Snapshot, connection: Connection<'_>, config: &HttpConnectionManager) {
    for (method, target) in [("GET", "http://a.b/x/../y?z=1"), ("CONNECT", "a.b:80")] {
        let asked = http::Request::builder().method(method).uri(target).header("end-user", "jason").body(());
        let (parts, ()) = asked.expect("it is a request").into_parts();
        let Ok(parts) = prepared(parts, config) else { continue };
        let metadata = DynamicMetadata::default();
        let remote = connection.source.ip();
        drop(request(snapshot, &Call { connection, parts: &parts, remote, metadata: &metadata, time: Duration::ZERO }));
    }
}
