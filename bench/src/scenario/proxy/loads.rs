//! The sorts of load.

use tokio_rustls::rustls::ClientConnection;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::comparison::{Load, Per};
use crate::proxy::certificates::{Certificates, Hosts, host};
use crate::proxy::client::{Kind, Secured, request, request_to_service};
use crate::proxy::hop::{PASSED, Requests, Terminate, Work, path};
use crate::proxy::upstream::{ANSWER, Upstream};

const MEGABYTE: usize = 1 << 20;
/// What is fetched on each connection where throughput is measured.
const FETCHED: usize = 32 * MEGABYTE;
const PEER_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];

/// What is to cost the same for many as for one: by the names of loads.
pub(super) const GROWTH: [(&str, &str); 5] = [
    ("gateway, 100 path routes", "HTTP/1.1"),
    ("gateway, 1,000 path routes", "HTTP/1.1"),
    ("gateway, requests to 1,000 TLS hosts", "gateway, requests to 1 TLS host"),
    ("gateway, handshakes of 1,000 TLS hosts", "gateway, handshakes of 1 TLS host"),
    ("gateway, handshakes of 1,000 mTLS hosts", "gateway, handshakes of 1 mTLS host"),
];

/// All of them. The `gateways` have one and many servers, then the same with mutual TLS.
pub(super) fn all<'a>(
    keys: &'a Certificates,
    rsa: &'a Certificates,
    gateways: &'a [Hosts; 4],
) -> anyhow::Result<Vec<Load<'a>>> {
    let mut loads = requests(keys);
    loads.extend(routes());
    let [one, many, one_mutual, many_mutual] = gateways;
    loads.push(hosts("gateway, requests to 1 TLS host", one, false)?);
    loads.push(hosts("gateway, requests to 1,000 TLS hosts", many, false)?);
    loads.push(hosts("gateway, handshakes of 1 TLS host", one, true)?);
    loads.push(hosts("gateway, handshakes of 1,000 TLS hosts", many, true)?);
    loads.push(hosts("gateway, handshakes of 1 mTLS host", one_mutual, true)?);
    loads.push(hosts("gateway, handshakes of 1,000 mTLS hosts", many_mutual, true)?);
    loads.extend(connections(keys, rsa)?);
    loads.extend(bytes(keys));
    Ok(loads)
}

fn requests(keys: &Certificates) -> Vec<Load<'_>> {
    let usual = |what| Load { work: Work::Requests(Requests::USUAL), ..plain(what, Per::Requests) };
    let bare = Work::Requests(Requests { features: false, ..Requests::USUAL });
    let http2 = |what| Load { lanes: 64, kind: Kind::Http2 { path: path(1) }, direct: false, ..usual(what) };
    let grpc = Requests { http2: true, ..Requests::USUAL };
    vec![
        Load { target: Some(0.45), ..usual("HTTP/1.1") },
        Load { work: bare, ..usual("HTTP/1.1, bare") },
        Load { target: Some(0.6), ..http2("HTTP/2") },
        Load { work: bare, ..http2("HTTP/2, bare") },
        Load {
            lanes: 64,
            kind: Kind::Grpc,
            upstream: Upstream::Grpc,
            work: Work::Requests(grpc),
            ..usual("gRPC, unary")
        },
        Load { between: Some(keys), target: Some(0.45), ..usual("mesh path") },
        Load { between: Some(keys), work: bare, ..usual("mesh path, bare") },
        Load { between: Some(keys), ..http2("mesh path, HTTP/2 to the first sidecar") },
    ]
}

/// A load in HTTP/1.1 without TLS and features, to begin with.
fn plain(what: &'static str, per: Per) -> Load<'static> {
    Load {
        what,
        per,
        target: None,
        lanes: 32,
        kind: Kind::Http1 { request: request_to_service(&path(1), 0), body: ANSWER.len() },
        upstream: Upstream::Answer(0),
        work: Work::Requests(Requests { features: false, ..Requests::USUAL }),
        terminate: None,
        tls: None,
        between: None,
        direct: true,
    }
}

fn routes() -> Vec<Load<'static>> {
    let load = |what, routes, target| Load {
        target,
        kind: Kind::Http1 { request: request_to_service(&path(routes), 0), body: ANSWER.len() },
        work: Work::Requests(Requests { routes, ..Requests::USUAL }),
        ..plain(what, Per::Requests)
    };
    vec![load("gateway, 100 path routes", 100, None), load("gateway, 1,000 path routes", 1000, Some(0.4))]
}

/// Requests on connections that stay, or on one each, to the servers of a gateway in turn.
fn hosts<'a>(what: &'static str, hosts: &'a Hosts, handshakes: bool) -> anyhow::Result<Load<'a>> {
    let config = hosts.certificates.client_config(&["http/1.1"])?;
    let asked = request(&path(1), &host(0), 0);
    let kind = match handshakes {
        true => Kind::Once { request: asked, body: ANSWER.len() },
        false => Kind::Http1 { request: asked, body: ANSWER.len() },
    };
    Ok(Load {
        kind,
        lanes: if handshakes { 16 } else { 64 },
        work: Work::Requests(Requests::USUAL),
        terminate: Some(Terminate::Hosts(hosts)),
        tls: Some(Secured::new(config, &hosts.names())?),
        direct: false,
        ..plain(what, if handshakes { Per::Connections } else { Per::Requests })
    })
}

fn connections<'a>(keys: &'a Certificates, rsa: &'a Certificates) -> anyhow::Result<Vec<Load<'a>>> {
    let plain = |what| Load {
        lanes: 16,
        kind: Kind::Connect { resumed: false },
        upstream: Upstream::Echo,
        work: Work::Bytes,
        ..plain(what, Per::Connections)
    };
    let name = ["outbound.server.bench".to_owned()];
    let mutual = |what, certificates: &'a Certificates| {
        let config = certificates.client_config(&PEER_ALPN)?;
        let terminate = Some(Terminate::Mutual(certificates));
        anyhow::Ok(Load { tls: Some(Secured::new(config, &name)?), terminate, direct: false, ..plain(what) })
    };
    let full = mutual("connections, full handshake", keys)?;
    let full_rsa = mutual("connections, full handshake, RSA", rsa)?;
    let resumed = mutual("connections, resumed", keys)?;
    Ok(vec![
        plain("connections, plain"),
        Load { target: Some(0.8), ..full },
        Load { target: Some(0.8), ..full_rsa },
        // A client keeps eight tickets for a server.
        Load { lanes: 4, kind: Kind::Connect { resumed: true }, ..resumed },
        Load { kind: Kind::Say(hello(keys)?.into()), work: Work::Passthrough, ..plain("SNI passthrough") },
    ])
}

/// What a client says first that asks for the passthrough.
fn hello(keys: &Certificates) -> anyhow::Result<Vec<u8>> {
    let config = keys.client_config(&["http/1.1"])?;
    let mut client = ClientConnection::new(config, ServerName::try_from(PASSED)?)?;
    let mut said = Vec::new();
    client.write_tls(&mut said)?;
    Ok(said)
}

fn bytes(keys: &Certificates) -> Vec<Load<'_>> {
    let work = Work::Bytes;
    let fetch = |what| Load {
        lanes: 2,
        kind: Kind::Fetch { bytes: FETCHED },
        upstream: Upstream::Send(FETCHED),
        work,
        ..plain(what, Per::Bytes(FETCHED))
    };
    let exchange = |what| Load { kind: Kind::Exchange, upstream: Upstream::Echo, work, ..plain(what, Per::Requests) };
    let body = |what| Load { lanes: 4, work: Work::Requests(Requests::USUAL), ..plain(what, Per::Bytes(MEGABYTE)) };
    let asked = request_to_service(&path(1), 0);
    vec![
        exchange("exchange of 64 bytes"),
        Load { between: Some(keys), ..exchange("exchange of 64 bytes, mTLS over two proxies") },
        Load { target: Some(0.92), ..fetch("throughput") },
        Load { between: Some(keys), target: Some(0.85), ..fetch("throughput, mTLS over two proxies") },
        Load {
            kind: Kind::Http1 { request: asked, body: MEGABYTE },
            upstream: Upstream::Answer(MEGABYTE),
            ..body("bodies of 1 MB, answered")
        },
        Load {
            kind: Kind::Http1 { request: request_to_service(&path(1), MEGABYTE), body: ANSWER.len() },
            ..body("bodies of 1 MB, sent")
        },
    ]
}
