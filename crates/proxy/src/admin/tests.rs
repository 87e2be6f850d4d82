use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl::{Cluster, Endpoint, Listener, Secret};
use prost_reflect::DynamicMessage;
use serde_json::Value;
use testkit::until_async;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::tests::{POOL, certificate_secret, proxy, update};
use crate::{Proxy, Update};

const LIMIT: Duration = Duration::from_secs(20);
const EDS: &str = "name: c\ntype: EDS\neds_cluster_config: {eds_config: {ads: {}}}\n\
    metadata: {filter_metadata: {istio: {services: [{host: a.b}]}}}\n";
const ENDPOINTS: &str = "cluster_name: c\nendpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
    {address: 10.0.0.1, port_value: 80}}}}]}]\n";
const LISTENER: &str = "name: l\naddress: {socket_address: {address: 10.0.0.1, port_value: 1}}\nbind_to_port: false\n\
    filter_chains: [{transport_socket: {name: tls, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: \
    {tls_certificate_sds_secret_configs: [{name: default, sds_config: {api_config_source: {api_type: GRPC, \
    transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}]}}}, \
    filters: [{name: tcp, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}]}]\n";

/// A proxy with a bit of everything, and where its administration and its status are served.
struct World {
    proxy: Arc<Proxy>,
    admin: SocketAddr,
    status: SocketAddr,
}

/// A response: status and body.
struct Page(u16, String);

impl Page {
    fn json(&self) -> Value {
        serde_json::from_str(&self.1).unwrap_or_else(|e| panic!("{e}\n{}", self.1))
    }

    /// The body, if it is a message of this type as Envoy knows it.
    fn as_message(&self, name: &str) -> Value {
        let descriptor = POOL.get_message_by_name(name).unwrap();
        DynamicMessage::deserialize(descriptor, self.json()).unwrap_or_else(|e| panic!("{e}\n{}", self.1));
        self.json()
    }
}

async fn world() -> World {
    let proxy = Arc::new(proxy(LIMIT));
    let (admin, status) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let world =
        World { proxy: proxy.clone(), admin: admin.local_addr().unwrap(), status: status.local_addr().unwrap() };
    let other = proxy.clone();
    tokio::spawn(async move { proxy.serve_admin(admin).await });
    tokio::spawn(async move { other.serve_status(status).await });
    world
}

impl World {
    fn configure(&self) {
        for (type_url, yaml) in [(Secret, &*certificate_secret("default")), (Cluster, EDS), (Endpoint, ENDPOINTS)] {
            assert_eq!(self.proxy.apply(update(type_url, yaml)), []);
        }
        assert_eq!(self.proxy.apply(update(Listener, LISTENER)), []);
    }

    async fn get(&self, path: &str) -> Page {
        ask(self.admin, "GET", path).await
    }

    async fn post(&self, path: &str) -> Page {
        ask(self.admin, "POST", path).await
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Page {
    send(address, &format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await
}

async fn send(address: SocketAddr, request: &str) -> Page {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // A reset after the answer is no matter.
    let _ = stream.read_to_end(&mut response).await;
    let response = String::from_utf8(response).unwrap();
    let status = response.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Page(status, response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn the_dump_shows_what_is_in_force_and_no_keys() {
    let world = world().await;
    world.configure();
    let page = world.get("/config_dump?include_eds").await;
    let dump = page.as_message("envoy.admin.v3.ConfigDump");
    let types: Vec<&str> = dump["configs"].as_array().unwrap().iter().map(|c| c["@type"].as_str().unwrap()).collect();
    let names = ["Bootstrap", "Clusters", "Endpoints", "Listeners", "Routes", "Secrets"];
    assert_eq!(types, names.map(|n| format!("type.googleapis.com/envoy.admin.v3.{n}ConfigDump")));
    let cluster = &dump["configs"][1]["dynamic_active_clusters"][0];
    assert_eq!(cluster["cluster"]["metadata"]["filter_metadata"]["istio"]["services"][0]["host"], "a.b");
    assert_eq!(cluster["version_info"], "1");
    assert!(cluster["last_updated"].as_str().unwrap().ends_with('Z'));
    assert_eq!(dump["configs"][3]["dynamic_listeners"][0]["active_state"]["listener"]["name"], "l");
    let secret = &dump["configs"][5]["dynamic_active_secrets"][0]["secret"]["tls_certificate"];
    assert_eq!(secret["private_key"]["inline_string"], "[redacted]");
    assert!(secret["certificate_chain"]["inline_string"].as_str().unwrap().starts_with("-----BEGIN CERT"));
    assert!(!page.1.contains("PRIVATE KEY"));
    assert_eq!(world.get("/config_dump").await.json()["configs"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn the_dump_can_be_narrowed() {
    let world = world().await;
    world.configure();
    let page = world.get("/config_dump?resource=dynamic_listeners&name_regex=%5El$").await;
    let dump = page.as_message("envoy.admin.v3.ConfigDump");
    assert_eq!(dump["configs"][0]["@type"], "type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener");
    let none = world.get("/config_dump?resource=dynamic_active_secrets&name_regex=nobody").await;
    assert_eq!(none.json()["configs"], Value::Array(Vec::new()));
    assert_eq!(world.get("/config_dump?resource=nope").await.0, 404);
    assert_eq!(world.get("/config_dump?name_regex=%5B").await.0, 400);
    assert_eq!(world.get("/config_dump?mask=x").await.0, 400);
}

#[tokio::test]
async fn the_dump_shows_what_waits_and_what_was_refused() {
    let world = world().await;
    world.proxy.apply(update(Listener, LISTENER));
    world.proxy.apply(update(Listener, "name: m\n"));
    let dump = world.get("/config_dump").await.as_message("envoy.admin.v3.ConfigDump");
    let listeners = &dump["configs"][2]["dynamic_listeners"];
    assert_eq!(listeners[0]["warming_state"]["listener"]["name"], "l");
    assert_eq!(listeners[1]["name"], "m");
    assert!(listeners[1]["error_state"]["details"].as_str().unwrap().starts_with("address"), "{listeners}");
    assert_eq!(dump["configs"][4]["dynamic_warming_secrets"][0]["name"], "default");
}

#[tokio::test]
async fn pages_have_envoys_shapes() {
    let world = world().await;
    world.configure();
    assert_eq!(world.get("/listeners").await.1, "l::10.0.0.1:1\n");
    let listeners = world.get("/listeners?format=json").await.as_message("envoy.admin.v3.Listeners");
    assert_eq!(listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"], 1);
    let clusters = world.get("/clusters").await.1;
    assert!(clusters.contains("c::default_priority::max_connections::1024\nc::default_priority::max_pending"));
    let clusters = world.get("/clusters?format=json").await.as_message("envoy.admin.v3.Clusters");
    assert_eq!(clusters["cluster_statuses"][0]["eds_service_name"], "c");
    assert_eq!(world.get("/clusters?filter=nobody").await.1, "");
    let certs = world.get("/certs").await.as_message("envoy.admin.v3.Certificates");
    assert_eq!(certs["certificates"][0]["cert_chain"][0]["subject_alt_names"][0]["dns"], "workload");
    let info = world.get("/server_info").await.as_message("envoy.admin.v3.ServerInfo");
    assert_eq!(
        (info["state"].as_str(), info["node"]["id"].as_str()),
        (Some("LIVE"), Some("sidecar~10.0.0.1~a.b~b.svc.cluster.local"))
    );
    assert!(world.get("/memory").await.json()["total_physical_bytes"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    for path in ["/", "/help"] {
        assert!(world.get(path).await.1.starts_with("admin commands are:\n"));
    }
}

#[tokio::test]
async fn numbers_are_shown_in_three_forms_and_counters_begin_anew() {
    let world = world().await;
    world.configure();
    let text = world.get("/stats?filter=cds").await.1;
    assert_eq!(text, "cluster_manager.cds.update_rejected: 0\ncluster_manager.cds.update_success: 1\n");
    assert_eq!(world.get("/stats?filter=cds&usedonly").await.1, "cluster_manager.cds.update_success: 1\n");
    let json = world.get("/stats?filter=cds&usedonly&format=json").await.json();
    assert_eq!(json, serde_json::json!({"stats": [{"name": "cluster_manager.cds.update_success", "value": 1}]}));
    let metrics = world.get("/stats?format=prometheus&filter=server.live").await.1;
    assert_eq!(metrics, "# TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n");
    let breakers = world.get("/stats?filter=circuit_breakers.default.rq_pending_open|membership_total").await.1;
    assert_eq!(breakers, "cluster.c.circuit_breakers.default.rq_pending_open: 0\ncluster.c.membership_total: 1\n");
    assert_eq!(world.get("/stats?format=html").await.0, 400);
    assert_eq!(world.post("/reset_counters").await.1, "OK\n");
    assert_eq!(world.get("/stats?filter=cds.update_success").await.1, "cluster_manager.cds.update_success: 0\n");
    assert!(world.get("/stats/prometheus").await.1.contains("envoy_listener_manager_total_listeners_active{} 1\n"));
}

#[tokio::test]
async fn what_changes_something_is_for_post_alone() {
    let world = world().await;
    for path in ["/quitquitquit", "/logging", "/healthcheck/fail", "/drain_listeners", "/reset_counters"] {
        let Page(status, body) = world.get(path).await;
        assert_eq!((status, &*body), (405, "Method GET not allowed, POST required."), "{path}");
    }
    assert_eq!(ask(world.admin, "DELETE", "/certs").await.0, 405);
    assert_eq!(world.get("/nosuch").await.0, 404);
}

#[tokio::test]
async fn the_state_is_told_and_can_be_overruled() {
    let world = world().await;
    let Page(status, body) = world.get("/ready").await;
    assert_eq!((status, &*body), (503, "PRE_INITIALIZING\n"));
    assert_eq!(ask(world.status, "GET", "/healthz/ready").await.0, 503);
    world.configure();
    assert_eq!(world.get("/ready").await.1, "LIVE\n");
    assert_eq!(ask(world.status, "GET", "/healthz/ready").await.0, 200);
    world.post("/healthcheck/fail").await;
    assert_eq!(world.get("/ready").await.0, 503);
    world.post("/healthcheck/ok").await;
    assert_eq!(world.get("/ready").await.0, 200);
    world.post("/drain_listeners").await;
    assert_eq!(world.get("/ready").await.1, "DRAINING\n");
    world.post("/quitquitquit").await;
    world.proxy.quit_requested().await;
}

#[tokio::test]
async fn what_is_open_to_all_shows_little() {
    let world = world().await;
    world.configure();
    assert!(ask(world.status, "GET", "/stats/prometheus").await.1.contains("envoy_server_live{} 1\n"));
    for path in ["/", "/config_dump", "/certs", "/stats", "/server_info"] {
        assert_eq!(ask(world.status, "GET", path).await.0, 404, "{path}");
    }
    assert_eq!(ask(world.status, "POST", "/quitquitquit").await.0, 404);
}

#[tokio::test]
async fn loggers_change_one_by_one_or_all_or_not_at_all() {
    let world = world().await;
    assert!(world.post("/logging").await.1.starts_with("active loggers:\n  admin: info\n"));
    assert!(world.post("/logging?admin=debug").await.1.contains("  admin: debug\n"));
    assert!(
        world.post("/logging?paths=admin:error,config:trace").await.1.contains("  admin: error\n  config: trace\n")
    );
    let Page(status, body) = world.post("/logging?paths=admin:off,nobody:off").await;
    assert!(status == 400 && body.contains("unknown logger name \"nobody\"") && body.contains("  admin: error\n"));
    assert_eq!(world.post("/logging?level=loud").await.0, 400);
    assert!(
        world
            .post("/logging?level=warning")
            .await
            .1
            .contains("  admin: warning\n  config: warning\n  conn_handler: warning\n")
    );
}

#[tokio::test]
async fn hostile_requests_are_refused() {
    let world = world().await;
    let huge = format!("GET /ready HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(send(world.admin, &huge).await.0, 431);
    assert_eq!(send(world.admin, "\x16\x03\x01\x00\r\n\r\n").await.0, 400);
    assert_eq!(send(world.admin, "GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n").await.0, 404);
    let body = "POST /healthcheck/ok HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n";
    assert_eq!(send(world.admin, body).await.0, 200);
    let bomb = format!("/config_dump?name_regex={}", "(a%7B999%7D)%7B999%7D".repeat(2));
    assert_eq!(world.get(&bomb).await.0, 400);
    assert_eq!(world.get("/stats?filter=%FF").await.0, 200);
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out_for_long() {
    let world = world().await;
    let mut silent = Vec::new();
    for _ in 0..super::MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(world.admin).await.unwrap();
        stream.write_all(b"GET /ready HT").await.unwrap();
        silent.push(stream);
    }
    let answered = until_async("an answer", LIMIT, async || {
        let Page(status, _) = world.get("/ready").await;
        (status == 503).then_some(status)
    });
    answered.await;
    drop(silent);
}

#[tokio::test]
async fn a_resource_that_goes_is_no_longer_shown() {
    let world = world().await;
    world.configure();
    world.proxy.apply(Update { type_url: Listener, resources: Vec::new(), removed: vec!["l".to_owned()] });
    assert_eq!(world.get("/listeners").await.1, "");
}
