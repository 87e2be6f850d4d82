//! Envoy bootstraps, which both proxies read.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::certificates::{CLIENT, Certificates, Identity, SERVER};

/// One hop: a listener and the endpoint that it leads to, each plain or with mutual TLS.
pub(crate) struct Hop<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) endpoint: SocketAddr,
    /// Terminates TLS, as the server.
    pub(crate) terminate: Option<&'a Certificates>,
    /// Originates TLS, as the client.
    pub(crate) originate: Option<&'a Certificates>,
}

impl Hop<'_> {
    pub(crate) fn bootstrap(&self) -> Value {
        let listener = json!({
            "name": "in", "address": address(self.listen),
            "filter_chains": [{
                "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "out", "cluster": "out",
                }}],
                "transport_socket": self.terminate.map(downstream),
            }],
        });
        bootstrap(&[listener], &[cluster("out", self.endpoint, self.originate)])
    }
}

/// `count` services that nobody calls, as a sidecar has them: a listener for each, which is no socket, and a cluster.
pub(crate) fn services(listen: SocketAddr, endpoint: SocketAddr, count: u32) -> Value {
    let hop = Hop { listen, endpoint, terminate: None, originate: None }.bootstrap();
    let mut listeners = vec![hop["static_resources"]["listeners"][0].clone()];
    let mut clusters = vec![hop["static_resources"]["clusters"][0].clone()];
    for n in 0..count {
        let name = format!("outbound|9000||service-{n}.bench.svc.cluster.local");
        let ip = std::net::Ipv4Addr::from(0x0a60_0000 + n);
        let mut listener = listeners[0].clone();
        listener["name"] = format!("{ip}_9000").into();
        listener["address"] = address((ip, 9000).into());
        listener["bind_to_port"] = false.into();
        listener["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] = name.as_str().into();
        listeners.push(listener);
        clusters.push(cluster(&name, endpoint, None));
    }
    bootstrap(&listeners, &clusters)
}

fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {"id": "sidecar~127.0.0.1~bench.bench~bench.svc.cluster.local", "cluster": "bench"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn cluster(name: &str, endpoint: SocketAddr, originate: Option<&Certificates>) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(endpoint)}},
        ]}]},
        "transport_socket": originate.map(upstream),
    })
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn downstream(certificates: &Certificates) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": common(certificates, &certificates.server, CLIENT),
    }})
}

fn upstream(certificates: &Certificates) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "outbound_.9000_._.server.bench.svc.cluster.local",
        "common_tls_context": common(certificates, &certificates.client, SERVER),
    }})
}

fn common(certificates: &Certificates, own: &Identity, peer: &str) -> Value {
    let inline = |text: &str| json!({"inline_string": text});
    json!({
        "tls_certificates": [{"certificate_chain": inline(&own.certificate), "private_key": inline(&own.key)}],
        "validation_context": {
            "trusted_ca": inline(&certificates.ca),
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
        "alpn_protocols": ["istio-peer-exchange", "istio"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
    })
}
