//! What the network sees of an API server: two lists, and watches that stay open until there is something new.
//! A change ends every watch with 410, upon which clients list again.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

#[derive(Default)]
struct State {
    version: u64,
    services: Vec<Value>,
    slices: Vec<Value>,
}

/// An API server of Services and EndpointSlices.
pub(crate) struct Api {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Api {
    /// Serves on a free port, and writes the kubeconfig that leads there.
    pub(crate) fn serve(kubeconfig: &Path) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        std::fs::write(kubeconfig, config.to_string()).expect("a kubeconfig");
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let served = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.expect("a connection"), served.clone());
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Api { state }
    }

    /// Replaces everything.
    pub(crate) fn set(&self, services: Vec<Value>, slices: Vec<Value>) {
        let mut state = self.state.0.lock().expect("no panic");
        *state = State { version: state.version + 1, services, slices };
        self.state.1.notify_all();
    }
}

/// Answers one request; a client that has gone away needs no answer.
fn answer(mut stream: TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let state = state.lock().expect("no panic");
    let body = if request.contains("watch=") {
        let seen = request.split(['?', '&', ' ']).find_map(|part| part.strip_prefix("resourceVersion="));
        let seen: u64 = seen.and_then(|version| version.parse().ok()).expect("a watch begins somewhere");
        drop(changed.wait_while(state, |state| state.version == seen).expect("no panic"));
        json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "code": 410, "reason": "Expired", "message": "too old resource version"}})
    } else {
        let (kind, items) = match request.contains("endpointslices") {
            true => ("EndpointSliceList", &state.slices),
            false => ("ServiceList", &state.services),
        };
        let version = state.version.to_string();
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
    };
    let body = format!("{body}\n");
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    drop(write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}"));
}

/// A Service of the namespace `default` with one TCP port, named `tcp`; `more` is merged into its spec.
pub(crate) fn service(name: &str, address: &str, port: u16, more: Value) -> Value {
    let mut spec = json!({
        "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
        "ports": [{"name": "tcp", "port": port, "protocol": "TCP"}],
    });
    let Value::Object(more) = more else { panic!("a spec is an object") };
    spec.as_object_mut().expect("an object").extend(more);
    let load_balancer = spec.as_object_mut().expect("an object").remove("loadBalancer").unwrap_or(json!({}));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
           "spec": spec, "status": {"loadBalancer": load_balancer}})
}

/// The EndpointSlice of such a service, with one ready endpoint for each address.
pub(crate) fn slice(service: &str, port: u16, addresses: &[std::net::Ipv4Addr]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
           "metadata": {"name": format!("{service}-x"), "namespace": "default",
                        "labels": {"kubernetes.io/service-name": service}},
           "ports": [{"name": "tcp", "port": port, "protocol": "TCP"}], "endpoints": endpoints})
}
