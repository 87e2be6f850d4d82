//! What the proxy makes of connections, given resources.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy::TypeUrl;
use prost::Message;
use prost_types::Any;
use proxy::config::Direction;
use proxy::inspect::Hello;
use proxy::select::{Arrival, Connection, Outcome, Selection, select};
use proxy::{Offered, Snapshot, Update};
use xds::Resources;

use crate::certificates::{SERVER, authority};

/// The proxy's own form of the resources, none of which it refuses.
pub(crate) fn snapshot(resources: &Resources) -> Snapshot {
    let snapshot = offer(&Snapshot::default(), TypeUrl::Cluster, &resources.clusters);
    let snapshot = offer(&snapshot, TypeUrl::Endpoint, &resources.endpoints);
    let snapshot = offer(&snapshot, TypeUrl::Listener, &resources.listeners);
    let snapshot = offer(&snapshot, TypeUrl::Route, &resources.routes);
    let secrets = resources.secrets.iter().map(|name| (name.clone(), secret(name))).collect();
    offer(&snapshot, TypeUrl::Secret, &secrets)
}

fn offer(snapshot: &Snapshot, type_url: TypeUrl, messages: &BTreeMap<String, impl Message>) -> Snapshot {
    let offered = messages.iter().map(|(name, message)| Offered {
        name: name.clone(),
        version: "1".to_owned(),
        message: Some(Any { type_url: type_url.as_str().to_owned(), value: message.encode_to_vec() }),
    });
    let update = Update { type_url, resources: offered.collect(), removed: Vec::new() };
    let (next, refused) = snapshot.apply(update);
    assert!(refused.is_empty(), "{refused:?}");
    next
}

pub(crate) fn secret(name: &str) -> envoy::envoy::extensions::transport_sockets::tls::v3::Secret {
    use envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
    use envoy::envoy::extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret::Type,
    };
    let source = |text: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..DataSource::default() })
    };
    let is_authority = name == "ROOTCA" || name.starts_with("file-root:") || name.ends_with("-cacert");
    let content = if is_authority {
        let trusted_ca = source(authority());
        Type::ValidationContext(CertificateValidationContext { trusted_ca, ..CertificateValidationContext::default() })
    } else {
        let (chain, key) = &*SERVER;
        let (certificate_chain, private_key) = (source(chain), source(key));
        Type::TlsCertificate(TlsCertificate { certificate_chain, private_key, ..TlsCertificate::default() })
    };
    Secret { name: name.to_owned(), r#type: Some(content) }
}

/// Who calls, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The identity of its proxy; without one it speaks plaintext.
    pub(crate) identity: Option<&'static str>,
    /// The server name of TLS that it speaks itself.
    pub(crate) sni: Option<&'static str>,
    /// Its address, if it is not 10.0.0.1.
    pub(crate) from: Option<&'static str>,
}

/// A proxy of the mesh with this identity.
pub(crate) fn proxied(identity: &'static str) -> Caller {
    Caller { identity: Some(identity), ..Caller::default() }
}

/// What becomes of a connection to the workload.
pub(crate) fn arrive(snapshot: &Snapshot, port: u16, caller: &Caller) -> String {
    connect(snapshot, Direction::Inbound, &format!("10.0.0.2:{port}"), caller)
}

/// Whether the chain that takes a connection to the workload ends TLS.
pub(crate) fn ends_tls(snapshot: &Snapshot, port: u16, caller: &Caller) -> bool {
    let chain = |selection: &Selection<'_>| selection.chain.is_some_and(|chain| chain.tls.is_some());
    follow(snapshot, Direction::Inbound, &format!("10.0.0.2:{port}"), caller, chain)
}

/// What becomes of a connection from the workload.
pub(crate) fn leave(snapshot: &Snapshot, destination: &str, sni: Option<&'static str>) -> String {
    connect(snapshot, Direction::Outbound, destination, &Caller { sni, ..Caller::default() })
}

fn connect(snapshot: &Snapshot, direction: Direction, destination: &str, caller: &Caller) -> String {
    follow(snapshot, direction, destination, caller, outcome)
}

fn follow<T>(
    snapshot: &Snapshot,
    direction: Direction,
    destination: &str,
    caller: &Caller,
    of: impl FnOnce(&Selection<'_>) -> T,
) -> T {
    let names: &[&str] = if caller.identity.is_some() { &["istio-peer-exchange", "istio"] } else { &[] };
    let hello = Hello {
        server_name: caller.sni.map(Into::into),
        application_protocols: names.iter().map(|n| (*n).into()).collect(),
    };
    let identities: Vec<Arc<str>> = caller.identity.into_iter().map(Into::into).collect();
    let connection = Connection {
        arrival: Arrival::Captured(direction),
        destination: destination.parse().unwrap(),
        source: SocketAddr::new(caller.from.unwrap_or("10.0.0.1").parse().unwrap(), 40000),
        spoken: None,
        hello: (caller.identity.is_some() || caller.sni.is_some()).then_some(&hello),
        identities: &identities,
        random: 0,
    };
    of(&select(snapshot, &connection))
}

/// The cluster with the endpoints and the socket, or else in a word why there is none.
pub(crate) fn outcome(selection: &Selection<'_>) -> String {
    match &selection.outcome {
        Outcome::Proxied { cluster, targets } => {
            let target = &targets[0];
            let by = target.chosen_by.map(|name| format!(" {name}")).unwrap_or_default();
            format!("{} {:?}{by}", cluster.name, target.address)
        }
        Outcome::NoListener => "no listener".to_owned(),
        Outcome::NoChain => "no chain".to_owned(),
        Outcome::TlsRefused(refusal) => format!("tls: {refusal}"),
        Outcome::Http(connections) => format!("HTTP {}", connections.stat_prefix),
        Outcome::Denied(verdict) => format!("denied by {}", verdict.policy.map_or("none", |p| p)),
        Outcome::NoCluster(name) => format!("no cluster {name}"),
        Outcome::NoEndpoint(cluster) => format!("no endpoint in {}", cluster.name),
    }
}
