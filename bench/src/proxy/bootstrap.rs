//! Envoy bootstraps, which our proxy and Envoy read.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::certificates::{CLIENT, Certificates, Hosts, Identity, SERVER, host};
use super::hop::{Hop, PASSED, Terminate, Work};
use super::requests;

/// The cluster of the control plane.
const CONTROL: &str = "control";

/// The bootstrap of a hop, whose access log is written to `log`.
pub(crate) fn of(hop: &Hop<'_>, log: &Path) -> Value {
    let (filter, http2) = match hop.work {
        Work::Bytes | Work::Passthrough => (bytes("out"), false),
        Work::Requests(requests) => (requests::filter(requests, log), requests.http2),
    };
    let chains: Vec<Value> = match hop.terminate {
        Some(Terminate::Hosts(hosts)) => {
            (0..hosts.identities.len()).map(|n| chain_of_host(hosts, n, &filter)).collect()
        }
        Some(Terminate::Mutual(certificates)) => {
            vec![json!({"filters": [filter], "transport_socket": downstream(&mutual(certificates), true)})]
        }
        None if matches!(hop.work, Work::Passthrough) => {
            vec![json!({"filters": [filter], "filter_chain_match": {"server_names": [PASSED]}})]
        }
        None => vec![json!({"filters": [filter]})],
    };
    let inspected = matches!(hop.work, Work::Passthrough) || matches!(hop.terminate, Some(Terminate::Hosts(_)));
    let inspector = json!({"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    }});
    let listener = json!({
        "name": "in", "address": address(hop.listen), "filter_chains": chains,
        "listener_filters": if inspected { vec![inspector] } else { Vec::new() },
    });
    let mut clusters = vec![cluster("out", hop.endpoint, hop.originate)];
    if http2 {
        speak_http2(&mut clusters[0]);
    }
    let Some(control) = secrets(hop) else { return bootstrap(&[listener], &clusters) };
    clusters.push(cluster(CONTROL, control, None));
    speak_http2(&mut clusters[1]);
    let mut bootstrap = bootstrap(&[listener], &clusters);
    bootstrap["dynamic_resources"] = json!({"ads_config": {
        "api_type": "DELTA_GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL}}],
    }});
    bootstrap
}

/// `count` services that nobody calls, as a sidecar has them: a listener for each, which is no socket, and a cluster.
pub(crate) fn services(listen: SocketAddr, endpoint: SocketAddr, count: u32) -> Value {
    let listener = |name: &str, address: Value, cluster: &str| json!({"name": name, "address": address, "filter_chains": [{"filters": [bytes(cluster)]}]});
    let mut listeners = vec![listener("in", address(listen), "out")];
    let mut clusters = vec![cluster("out", endpoint, None)];
    for n in 0..count {
        let name = format!("outbound|9000||service-{n}.bench.svc.cluster.local");
        let ip = std::net::Ipv4Addr::from(0x0a60_0000 + n);
        let mut listener = listener(&format!("{ip}_9000"), address((ip, 9000).into()), &name);
        listener["bind_to_port"] = false.into();
        listeners.push(listener);
        clusters.push(cluster(&name, endpoint, None));
    }
    bootstrap(&listeners, &clusters)
}

fn secrets(hop: &Hop<'_>) -> Option<SocketAddr> {
    match hop.terminate {
        Some(Terminate::Hosts(hosts)) => hosts.secrets,
        _ => None,
    }
}

fn bootstrap(listeners: &[Value], clusters: &[Value]) -> Value {
    json!({
        "node": {"id": "sidecar~127.0.0.1~bench.bench~bench.svc.cluster.local", "cluster": "bench"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn bytes(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "out", "cluster": cluster,
    }})
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

fn speak_http2(cluster: &mut Value) {
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }});
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

fn chain_of_host(hosts: &Hosts, n: usize, filter: &Value) -> Value {
    let mut common = json!({"alpn_protocols": ["http/1.1"]});
    match hosts.secrets {
        Some(_) => {
            let source = json!({"ads": {}, "resource_api_version": "V3"});
            common["tls_certificate_sds_secret_configs"] = json!([{"name": host(n), "sds_config": source}]);
        }
        None => common["tls_certificates"] = json!([certificate(&hosts.identities[n])]),
    }
    if hosts.mutual {
        common["validation_context"] = validation(&hosts.certificates, CLIENT);
    }
    json!({
        "filter_chain_match": {"server_names": [host(n)]}, "filters": [filter],
        "transport_socket": downstream(&common, hosts.mutual),
    })
}

fn downstream(common: &Value, mutual: bool) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": mutual, "common_tls_context": common,
    }})
}

fn upstream(certificates: &Certificates) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "outbound_.9000_._.server.bench.svc.cluster.local",
        "common_tls_context": common(certificates, &certificates.client, SERVER),
    }})
}

fn mutual(certificates: &Certificates) -> Value {
    common(certificates, &certificates.server, CLIENT)
}

fn common(certificates: &Certificates, own: &Identity, peer: &str) -> Value {
    json!({
        "tls_certificates": [certificate(own)],
        "validation_context": validation(certificates, peer),
        "alpn_protocols": ["istio-peer-exchange", "istio"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
    })
}

fn certificate(own: &Identity) -> Value {
    let inline = |text: &str| json!({"inline_string": text});
    json!({"certificate_chain": inline(&own.certificate), "private_key": inline(&own.key)})
}

fn validation(certificates: &Certificates, peer: &str) -> Value {
    json!({
        "trusted_ca": {"inline_string": certificates.ca},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
    })
}
