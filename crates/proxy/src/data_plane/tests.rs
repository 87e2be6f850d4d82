//! A data plane between real sockets.

mod authority;
mod boundary;
mod changes;
mod cookies;
mod copies;
mod corpus;
mod filters;
mod floods;
mod health;
mod http;
mod interop;
mod limits;
mod mutual;
mod plain;
mod refusals;
mod reports;
mod rest;
mod timing;
mod traces;
mod trailers;
mod tunnels;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use envoy::TypeUrl;
use tempfile::TempDir;
use testkit::until;

use super::{DataPlane, Options, Unbound};
use crate::Snapshot;
use crate::metrics::{Scope, Workload, collect};
use crate::tests::accept;

/// More than anything takes.
const LIMIT: Duration = Duration::from_secs(30);

const FORMAT: &str = "%RESPONSE_FLAGS% %CONNECTION_TERMINATION_DETAILS%; up: %UPSTREAM_TRANSPORT_FAILURE_REASON%; \
    down: %DOWNSTREAM_TRANSPORT_FAILURE_REASON%; peer: %DOWNSTREAM_PEER_URI_SAN%; %BYTES_RECEIVED%/%BYTES_SENT% \
    %UPSTREAM_CLUSTER% %REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION%\n";

/// A data plane, the configuration that it is to have, and its log.
struct Plane {
    plane: DataPlane,
    snapshot: Snapshot,
    folder: TempDir,
}

impl Plane {
    fn start() -> Plane {
        Plane::with_drain_time(LIMIT)
    }

    fn with_drain_time(drain_time: Duration) -> Plane {
        Plane::of(drain_time, Workload::default())
    }

    fn of(drain_time: Duration, workload: Workload) -> Plane {
        let workers = NonZeroUsize::new(2).unwrap();
        let plane = DataPlane::start(Options { workers, drain_time, workload: Arc::new(workload) }).unwrap();
        Plane { plane, snapshot: Snapshot::default(), folder: tempfile::tempdir().unwrap() }
    }

    fn set(&mut self, type_url: TypeUrl, yaml: &str) -> &mut Plane {
        self.snapshot = accept(&self.snapshot, type_url, yaml);
        self
    }

    fn listener(&mut self, yaml: &str) -> &mut Plane {
        self.set(TypeUrl::Listener, yaml)
    }

    /// A cluster without encryption.
    fn cluster(&mut self, name: &str, endpoints: &[SocketAddr], rest: &str) -> &mut Plane {
        self.set(TypeUrl::Cluster, &cluster(name, endpoints, rest))
    }

    fn secret(&mut self, yaml: &str) -> &mut Plane {
        self.set(TypeUrl::Secret, yaml)
    }

    fn install(&mut self) -> Vec<Unbound> {
        self.plane.install(Arc::new(self.snapshot.clone()))
    }

    /// Installs what must not fail, and tells where the listener `in` listens.
    fn go(&mut self) -> SocketAddr {
        let unbound = self.install();
        assert!(unbound.is_empty(), "{unbound:?}");
        self.plane.addresses()["in"]
    }

    fn log_path(&self) -> String {
        self.folder.path().join("log").display().to_string()
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The line of the log that has `part` in it.
    fn logged(&self, part: &str) -> String {
        let find = || self.log().into_iter().find(|line| line.contains(part));
        until(&format!("{part:?} in the log"), LIMIT, find)
    }

    fn number(&self, scope: &Scope, name: &str) -> u64 {
        let samples = collect(&self.plane.metrics());
        samples.iter().filter(|s| s.scope == *scope && s.name == name).map(|s| s.value).sum()
    }

    /// Waits for a number of a cluster.
    fn reaches(&self, cluster: &str, name: &str, value: u64) {
        let scope = Scope::Cluster(cluster.into());
        until(&format!("{name} of {cluster} to be {value}"), LIMIT, || {
            (self.number(&scope, name) == value).then_some(())
        });
    }

    /// A TCP proxy to `cluster` that writes to the log.
    fn tcp(&self, cluster: &str, rest: &str) -> String {
        let log = self.log_path();
        format!(
            "{{name: tcp, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, {cluster}, \
             access_log: [{{name: file, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {log:?}, log_format: \
             {{text_format_source: {{inline_string: {FORMAT:?}}}}}}}}}]{rest}}}}}"
        )
    }

    /// A listener `in` with one chain: `tls` for its transport socket, `filters` before the TCP proxy to `cluster`.
    fn simple(&mut self, tls: &str, filters: &str, cluster: &str) -> &mut Plane {
        let tcp = self.tcp(&format!("cluster: {cluster:?}"), "");
        self.listener(&listener("in", "127.0.0.1", "", &[format!("{{name: chain, {tls}filters: [{filters}{tcp}]}}")]))
    }
}

/// What a test that has failed would like to know.
impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The log was: {:#?}", self.log());
        }
    }
}

fn cluster(name: &str, endpoints: &[SocketAddr], rest: &str) -> String {
    let endpoint = |address: &SocketAddr| {
        let (ip, port) = (address.ip(), address.port());
        format!("{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}}}")
    };
    let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
    format!(
        "name: {name}\nload_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{}]}}]}}\n{rest}\n",
        endpoints.join(", ")
    )
}

/// A listener at a port that the kernel chooses.
fn listener(name: &str, address: &str, rest: &str, chains: &[String]) -> String {
    format!(
        "name: {name}\naddress: {{socket_address: {{address: {address}, port_value: 0}}}}\n{rest}\nfilter_chains: [{}]\n",
        chains.join(", ")
    )
}

const INSPECTOR: &str = "listener_filters: [{name: tls_inspector, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}]";

/// A server that does `serve` with every connection.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A server that sends back what it gets, `prefix` first, until nothing follows.
fn echo(prefix: &'static str) -> SocketAddr {
    server(move |mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let _ = stream.write_all(prefix.as_bytes());
        let _ = std::io::copy(&mut reader, &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// A server that says something only when it has heard all.
fn summary() -> SocketAddr {
    server(|mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            let _ = write!(stream, "{} bytes", all.len());
        }
    })
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Says `text` and nothing more; returns the whole answer, or what came of it before the connection broke.
fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(text.as_bytes());
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Says `text` and reads an answer of this length; the connection stays open.
fn talk(stream: &mut TcpStream, text: &str, length: usize) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Whether nothing follows, because the connection was ended or reset.
fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
