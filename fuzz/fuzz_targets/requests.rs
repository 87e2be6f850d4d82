//! Any head may come as a request. It is refused, or it becomes one that stays as it is when it is made ready again; a path
//! that is denied is denied however it is written.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use envoy::TypeUrl;
use envoy::envoy::config::cluster::v3::Cluster;
use envoy::envoy::config::listener::v3::Listener;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Version};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::Any;
use proxy::config::http::HttpConnectionManager;
use proxy::select::{Arrival, Call, Connection, Fate, Outcome, prepared, request, select};
use proxy::{DynamicMetadata, Offered, Snapshot, Update};
use serde_json::Value;

/// A listener for each way in which paths are normalised, with a policy that denies `/admin`.
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(envoy::DESCRIPTORS).expect("the descriptors are whole");
    let resource = |yaml: &Value, type_url: TypeUrl| {
        let name = type_url.as_str().trim_start_matches("type.googleapis.com/");
        let kind = pool.get_message_by_name(name).expect("the kind is known");
        let message = DynamicMessage::deserialize(kind, yaml).expect("the file is of this kind");
        Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }
    };
    let world: Value = serde_saphyr::from_str(include_str!("requests.yaml")).expect("the file is YAML");
    let mut snapshot = Snapshot::default();
    for (kind, type_url) in [("clusters", TypeUrl::Cluster), ("listeners", TypeUrl::Listener)] {
        for yaml in world[kind].as_array().expect("it is a list") {
            let message = resource(yaml, type_url);
            let name = match type_url {
                TypeUrl::Cluster => Cluster::decode(&*message.value).expect("it was just encoded").name,
                _ => Listener::decode(&*message.value).expect("it was just encoded").name,
            };
            let offered = Offered { name, version: String::new(), message: Some(message) };
            let (next, refused) = snapshot.apply(Update { type_url, resources: vec![offered], removed: Vec::new() });
            assert!(refused.is_empty(), "{refused:?}");
            snapshot = next;
        }
    }
    snapshot
});

fuzz_target!(|bytes: &[u8]| {
    let Some(parts) = head(bytes) else { return };
    for listener in SNAPSHOT.listeners().into_values() {
        let connection = Connection {
            arrival: Arrival::At(listener.config.address),
            destination: listener.config.address,
            source: ([10, 0, 0, 1], 40000).into(),
            spoken: None,
            hello: None,
            identities: &[],
            random: bytes.len() as u64,
        };
        let Outcome::Http(config) = select(&SNAPSHOT, &connection).outcome else { unreachable!("all speak HTTP") };
        follow(&listener.config.name, connection, config, &parts);
    }
});

fn follow(listener: &str, connection: Connection<'_>, config: &HttpConnectionManager, parts: &Parts) {
    let Ok(ready) = prepared(parts.clone(), config) else { return };
    let path = ready.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let again = prepared(ready.clone(), config);
    let again = again.ok().and_then(|parts| parts.uri.path_and_query().map(|path| path.as_str().to_owned()));
    // A path whose escapes are decoded may have new ones, which are for upstream, and dots before parameters that were
    // escaped are dots only afterwards.
    if listener != "decode" && !path.contains(';') && ready.method != Method::CONNECT {
        assert_eq!(again.as_deref(), Some(&*path), "{listener}: normalising twice makes another path");
    }
    let metadata = DynamicMetadata::default();
    let remote = connection.source.ip();
    let fate = request(&SNAPSHOT, &Call { connection, parts: &ready, remote, metadata: &metadata, time: Duration::ZERO }).fate;
    let plain = path.split('?').next().unwrap_or_default();
    if plain.starts_with("/admin") {
        assert!(matches!(&fate, Fate::Answered(reply) if reply.status == 403), "{listener}: {path} is let through");
    }
    if listener != "none" {
        assert!(!plain.split('/').any(|segment| segment == ".."), "{listener}: {path} goes up");
    }
}

/// A head: the method and the target, the version, and headers, each in a line.
fn head(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|b| *b == b'\n');
    let mut start = lines.next()?.splitn(3, |b| *b == b' ');
    let request = Request::builder().method(start.next()?).uri(start.next()?);
    let version = match start.next().unwrap_or_default() {
        b"2" => Version::HTTP_2,
        b"1.0" => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let (mut parts, ()) = request.version(version).body(()).ok()?.into_parts();
    for line in lines {
        let mut pair = line.splitn(2, |b| *b == b':');
        let name = HeaderName::from_bytes(pair.next()?).ok()?;
        let value = HeaderValue::from_bytes(pair.next()?.trim_ascii()).ok()?;
        parts.headers.append(name, value);
    }
    Some(parts)
}
